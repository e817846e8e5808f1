"""How a session goes on after a broken connection, and when it stops trying. The rounds themselves are scripted."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from midair import events
from midair.channel import Conversation
from midair.config import ServerURL, TraversalOptions
from midair.errors import (
    ConnectionLostError,
    MidairError,
    PeerLostError,
    ServerUnreachableError,
    UnknownCodeError,
)
from midair.rendezvous import Meeting
from midair.session import ReceiveSession, rounds
from midair.session.rounds import Session
from midair.transfer import Receiver

Round = Callable[["Scripted"], None]


class Scripted(Session[Receiver]):
    """Each round does what the next function says."""

    role: ClassVar[Literal["send", "receive"]] = "receive"

    def __init__(self, *rounds: Round) -> None:
        self.seen: list[events.Event] = []
        server = ServerURL(secure=False, host="127.0.0.1", port=1)
        super().__init__(server, on_event=self.seen.append, traversal=TraversalOptions(), rejoin=1.0)
        self._script = list(rounds)

    async def _round(self, lost_at: float | None) -> None:
        self._script.pop(0)(self)

    async def _meet(self, *, again_within: float | None) -> Meeting:
        raise NotImplementedError

    def _party(self, channel: Conversation) -> Receiver:
        raise NotImplementedError


class ScriptedSender(Scripted):
    role = "send"


def ends_well(session: Scripted) -> None:
    """Nothing more to do."""


def breaks(session: Scripted) -> None:
    raise ConnectionLostError("it broke")


def breaks_after_some(session: Scripted) -> None:
    session.summary.bytes_crossed += 1
    raise ConnectionLostError("it broke")


def breaks_when_all_is_committed(session: Scripted) -> None:
    session.summary.committed = True
    raise ConnectionLostError("it broke")


def peer_stays_away(session: Scripted) -> None:
    raise PeerLostError("it did not come back")


async def test_a_broken_connection_is_followed_by_another_round() -> None:
    session = Scripted(breaks, breaks, ends_well)
    await session.run()
    assert [event.name for event in session.seen] == ["lost", "lost"]


async def test_what_never_gets_anything_across_is_given_up() -> None:
    session = Scripted(*[breaks] * 5)
    with pytest.raises(PeerLostError, match="5 times in a row"):
        await session.run()


async def test_what_gets_something_across_each_time_goes_on() -> None:
    await Scripted(*[breaks_after_some] * 12, ends_well).run()


async def test_a_receiver_that_has_everything_ends_well_although_the_sender_never_heard_of_it() -> None:
    session = Scripted(breaks_when_all_is_committed, peer_stays_away)
    summary = await session.run()
    assert summary.done(seconds=1.0).ok


async def test_a_sender_that_never_heard_does_not() -> None:
    session = ScriptedSender(breaks_when_all_is_committed, peer_stays_away)
    with pytest.raises(PeerLostError):
        await session.run()


def test_the_last_event_says_how_it_ended() -> None:
    error: MidairError = PeerLostError("gone")
    done = Scripted().summary.done(seconds=0.5, error=error)
    assert (done.ok, done.exit_code, done.reason, done.error) == (False, 8, "peer-lost", "gone")


class Alone(ReceiveSession):
    """Its meetings end as the next of ``answers`` does, after the time it would take."""

    def __init__(self, folder: Path, *answers: type[MidairError], rejoin: float | None = None) -> None:
        server = ServerURL(secure=False, host="127.0.0.1", port=1)
        super().__init__("7-acorn-volcano", server, folder, accept=lambda offer: True, rejoin=rejoin)
        self.answers = list(answers)
        self.waited: list[float] = []

    async def _meet(self, *, again_within: float | None) -> Meeting:
        assert again_within is not None
        self.waited.append(again_within)
        raise self.answers.pop(0)("not yet")


async def test_a_receiver_that_waits_alone_at_a_server_that_answers_is_told_soon(tmp_path: Path) -> None:
    session = Alone(tmp_path, UnknownCodeError)
    with pytest.raises(PeerLostError, match="did not come back in 10 s"):
        await session._meet_again(time.monotonic())
    assert session.waited == [10.0]


async def test_a_server_that_is_away_does_not_count_for_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_RETRY_SECONDS", 0.0)
    session = Alone(tmp_path, ServerUnreachableError, PeerLostError, UnknownCodeError)
    with pytest.raises(PeerLostError, match="in 10 s"):
        await session._meet_again(time.monotonic())
    assert session.waited == [10.0] * 3


async def test_who_said_how_long_to_wait_is_taken_at_their_word(tmp_path: Path) -> None:
    session = Alone(tmp_path, UnknownCodeError, rejoin=0.05)
    with pytest.raises(PeerLostError, match="in 0 s"):
        await session._meet_again(time.monotonic())
    assert session.waited == [pytest.approx(0.05, abs=0.05)]
