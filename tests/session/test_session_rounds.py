"""How a session goes on after a broken connection, and when it stops trying. The rounds themselves are scripted."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import pytest

from midair import events
from midair.channel import Conversation
from midair.config import ServerURL, TraversalOptions
from midair.errors import ConnectionLostError, MidairError, PeerLostError
from midair.rendezvous import Meeting
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
