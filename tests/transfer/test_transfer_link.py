"""What a link takes for the other side's being gone, and what it does not."""

from __future__ import annotations

import threading
import time

import pytest
from transfer_support import channels

from midair.errors import ConnectionLostError
from midair.transfer import link as module
from midair.transfer import wire
from midair.transfer.link import Link, LinkLimits

LIMITS = LinkLimits(ping=60.0, silence=0.3, suspicion=0.1, silence_of_records=0.6)
"""No pings, so that only what a test sends is heard."""


def test_a_record_that_comes_slower_than_the_limit_for_silence_is_no_silence() -> None:
    with channels() as (a, b):
        link = Link(b, LIMITS)
        link.start()
        record = a._sealer.seal(wire.MESSAGE, bytes(1000))

        def trickle() -> None:
            for position in range(0, len(record), 40):
                a.sock.sendall(record[position : position + 40])
                threading.Event().wait(0.04)

        sending = threading.Thread(target=trickle)
        sending.start()
        began = time.monotonic()
        assert len(link.receive().payload) == 1000
        assert time.monotonic() - began > 2 * LIMITS.silence
        sending.join()
        with pytest.raises(ConnectionLostError, match=r"nothing came from the other side for 0\.3 s"):
            link.receive()
        link.close()


def test_where_the_system_cannot_tell_when_the_last_byte_came_records_are_waited_for_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "seconds_since_heard", lambda sock: None)
    with channels() as (_, b):
        link = Link(b, LIMITS)
        link.start()
        began = time.monotonic()
        with pytest.raises(ConnectionLostError, match=r"nothing came from the other side for 0\.6 s"):
            link.receive()
        assert time.monotonic() - began >= LIMITS.silence_of_records
        link.close()


def test_a_silence_in_which_our_own_address_has_gone_is_not_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = threading.Event()
    monkeypatch.setattr(module, "is_own_address", lambda address: not gone.is_set())
    with channels() as (_, b):
        link = Link(b, LinkLimits(ping=60.0, silence=10.0, suspicion=0.1))
        link.start()
        gone.set()
        began = time.monotonic()
        with pytest.raises(ConnectionLostError, match="the address of this computer has changed"):
            link.receive()
        assert time.monotonic() - began < 2.0
        link.close()


def test_an_address_that_never_looked_like_ours_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_own_address", lambda address: False)
    with channels() as (_, b):
        link = Link(b, LIMITS)
        link.start()
        with pytest.raises(ConnectionLostError, match="nothing came"):
            link.receive()
        link.close()
