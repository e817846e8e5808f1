"""Congestion control, and the pace of a connection, by real sockets."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from midair.errors import UsageError
from midair.port import (
    check_congestion_control,
    check_pacing,
    congestion,
    congestion_control_of,
    congestion_controls,
    pace,
    read_path,
    use_congestion_control,
)
from support import wait_until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        yield near, far


def test_one_that_is_there_is_used_and_told(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    before = congestion_control_of(far)
    assert "reno" in congestion_controls()  # every kernel has it, and allows it
    assert use_congestion_control(near, "reno")
    assert congestion_control_of(near) == "reno"
    assert congestion_control_of(far) == before
    check_congestion_control("reno")


@pytest.mark.parametrize("name", ["nothing", "", "reno\0", "renorenorenoreno", "ränö", "../reno"])
def test_one_that_is_not_there_changes_nothing_and_what_is_there_is_told(
    name: str, pair: tuple[socket.socket, socket.socket]
) -> None:
    before = congestion_control_of(pair[0])
    assert not use_congestion_control(pair[0], name)
    assert congestion_control_of(pair[0]) == before
    with pytest.raises(UsageError, match="there is no congestion control") as caught:
        check_congestion_control(name)
    assert all(there in caught.value.hint for there in congestion_controls())


def test_one_that_this_user_may_not_have_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """root may have them all, so the refusal itself has to be made."""
    monkeypatch.setattr(congestion, "_set", lambda sock, name: 1)
    with pytest.raises(UsageError, match="this user may not choose") as caught:
        check_congestion_control("vegas")
    assert "reno" in caught.value.hint


def test_a_system_that_has_no_such_choice_says_so(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    monkeypatch.setattr(congestion, "_TCP_CONGESTION", None)
    monkeypatch.setattr(congestion, "_ALLOWED", Path("/nowhere"))
    assert congestion_controls() == ()
    assert congestion_control_of(pair[0]) is None
    assert not use_congestion_control(pair[0], "reno")
    with pytest.raises(UsageError, match="does not let a program choose"):
        check_congestion_control("reno")


def test_of_a_closed_socket_nothing_is_known() -> None:
    sock = socket.socket()
    sock.close()
    assert congestion_control_of(sock) is None
    assert not use_congestion_control(sock, "reno")
    assert read_path(sock) is None
    pace(sock, 1000.0)


def test_a_path_is_read(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    near.sendall(bytes(100_000))
    left = 100_000
    while left:
        left -= len(far.recv(left))
    wait_until(lambda: (read := read_path(near)) is not None and read.acknowledged >= 100_000, "it is acknowledged")
    reading = read_path(near)
    assert reading is not None
    assert 0 < reading.shortest <= reading.round_trip < 5
    assert 500 <= reading.segment <= 65536
    assert reading.repeated == 0


def test_a_paced_connection_keeps_to_its_rate_until_it_is_let_go(pair: tuple[socket.socket, socket.socket]) -> None:
    check_pacing()
    near, far = pair
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    pace(near, 1e6)
    content = bytes(1_000_000)
    sending = threading.Thread(target=near.sendall, args=(content,))
    began = time.monotonic()
    sending.start()
    left = len(content)
    while left:
        left -= len(far.recv(left))
    assert time.monotonic() - began > 0.3
    sending.join()
    pace(near, None)
    sending = threading.Thread(target=near.sendall, args=(content * 20,))
    began = time.monotonic()
    sending.start()
    left = 20 * len(content)
    while left:
        left -= len(far.recv(left))
    assert time.monotonic() - began < 5
    sending.join()
