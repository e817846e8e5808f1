"""What Linux takes for the first round trip where SYNs cross, on which a choice of ours rests (docs/adr/0017)."""

from __future__ import annotations

import socket
import time

import pytest
from lab_sockets import tcp_socket

from midair.lab import Lab
from midair.port import read_path
from support import wait_until

pytestmark = pytest.mark.lab

ONE_WAY = 0.05
"""Seconds."""
HEAD_START = 0.02


def shortest(sock: socket.socket) -> float:
    wait_until(lambda: read_path(sock) is not None, "the connection is open and measured")
    reading = read_path(sock)
    assert reading is not None
    return reading.shortest


def test_where_syns_cross_whoever_began_first_is_told_less_than_half_a_round_trip() -> None:
    """The time from its own SYN-ACK to the other's; whoever began later is told more than half of it."""
    with (
        Lab("none x none", delay=ONE_WAY) as lab,
        tcp_socket(lab.a, lab.a.address, 5000) as first,
        tcp_socket(lab.b, lab.b.address, 5000) as second,
    ):
        for sock in (first, second):
            sock.setblocking(False)
        first.connect_ex((lab.b.address, 5000))
        time.sleep(HEAD_START)  # not to wait for anything: it is how far apart they begin
        second.connect_ex((lab.a.address, 5000))
        assert shortest(first) < 0.9 * ONE_WAY
        assert ONE_WAY < shortest(second) < 2 * ONE_WAY
