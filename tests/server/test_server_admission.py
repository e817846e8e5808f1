"""Who may connect, and what a connection speaks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from midair.config import ServerLimits
from midair.endpoint import Endpoint
from midair.server.admission import SURPLUS, SURPLUS_PER_ADDRESS, Admission, Entry, owner_of
from midair.server.first_bytes import Kind, classify

LIMITS = ServerLimits()


def test_an_ipv4_address_counts_for_itself_and_an_ipv6_address_for_its_64() -> None:
    assert owner_of(Endpoint.parse("192.0.2.1:5")) == "192.0.2.1"
    assert owner_of(Endpoint.parse("[2001:db8:1:2:3::4]:5")) == "2001:db8:1:2::/64"
    assert owner_of(Endpoint.parse("[2001:db8:1:2:ffff::]:6")) == "2001:db8:1:2::/64"
    assert owner_of(Endpoint.of("::ffff:192.0.2.1", 5)) == "192.0.2.1"


def test_an_address_above_its_limit_is_told_so_and_then_dropped() -> None:
    admission = Admission(replace(LIMITS, connections_per_address=2))
    entries = [admission.enter("x") for _ in range(2 + SURPLUS_PER_ADDRESS + 1)]
    assert entries == [Entry.ADMITTED] * 2 + [Entry.TOLD_TOO_MANY] * SURPLUS_PER_ADDRESS + [Entry.DROPPED]
    assert admission.enter("y") is Entry.ADMITTED


def test_a_full_server_says_so_and_then_drops() -> None:
    admission = Admission(replace(LIMITS, connections=1))
    entries = [admission.enter(str(n)) for n in range(1 + SURPLUS + 1)]
    assert entries == [Entry.ADMITTED] + [Entry.TOLD_FULL] * SURPLUS + [Entry.DROPPED]


def test_who_leaves_makes_room_and_leaves_nothing_behind() -> None:
    admission = Admission(replace(LIMITS, connections=1, connections_per_address=1))
    for owner in ("x", "y", "x"):
        assert admission.enter(owner) is Entry.ADMITTED
        admission.leave(owner)
    assert admission.total == 0
    assert not admission._owners


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (b"\x00\x01", Kind.STUN),
        (b"\x01", Kind.STUN),
        (b"\x16\x03\x01", Kind.TLS),
        (b"MIDAIR-RELAY/1 ", Kind.RELAY),
        (b"MIDAIR-RELAY/2 ", Kind.RELAY),
        (b"M", None),
        (b"MIDAIR-RELAY/1", None),
        (b"MIDAIR-RELAY/3 ", Kind.HTTP),
        (b"MOVE / HTTP/1.1", Kind.HTTP),
        (b"GET / HTTP/1.1", Kind.HTTP),
        (b"\xff", Kind.HTTP),
    ],
)
def test_the_first_bytes_tell_what_is_spoken(first: bytes, kind: Kind | None) -> None:
    assert classify(first) is kind
