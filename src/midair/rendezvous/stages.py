"""How far a meeting is, what may follow what, and how long each thing may take."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

__all__ = [
    "ANSWER_SECONDS",
    "BACKOFF_SECONDS",
    "CLOSE_SECONDS",
    "CONFIRM_SECONDS",
    "NEXT",
    "OF_ONE_CONNECTION",
    "OUTAGE_SECONDS",
    "PING_SECONDS",
    "PONG_SECONDS",
    "PROOF_SECONDS",
    "Stage",
    "Timer",
]

ANSWER_SECONDS: Final = 15.0
"""From an open WebSocket to the end of the mailbox's playback."""
PING_SECONDS: Final = 30.0
"""Between pings; NATs and proxies forget an idle TCP connection after a minute at the earliest in practice."""
PONG_SECONDS: Final = 15.0
"""From a ping until the connection counts as dead."""
BACKOFF_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Before each attempt to reconnect; the last is repeated."""
OUTAGE_SECONDS: Final = 60.0
"""How long the server may be away in the middle of a meeting."""
CONFIRM_SECONDS: Final = 60.0
"""From the other side's first message to the proof that it knows the code; it may first have to notice, by a ping, that
its connection died while it waited."""
PROOF_SECONDS: Final = 5.0
"""The same for a sender, to which the proof comes first: the receiver had our message before it spoke, and says both at
once. Only where both come at the same time it is a round trip."""
CLOSE_SECONDS: Final = 1.2
"""How long the server may take to confirm that we leave."""


class Stage(Enum):
    """How far the meeting is, whether or not a connection is open just now."""

    ALLOCATING = auto()
    """A free number is asked for."""
    CLAIMING = auto()
    """The number is known, its mailbox is asked for."""
    WAITING = auto()
    """The mailbox is known; nobody else was heard in it."""
    CONFIRMING = auto()
    """Somebody was heard, and has yet to prove that they know the code."""
    MET = auto()
    CLOSING = auto()
    """The server is told that we leave."""
    OVER = auto()


NEXT: Final[dict[Stage, frozenset[Stage]]] = {
    Stage.ALLOCATING: frozenset({Stage.CLAIMING, Stage.CLOSING, Stage.OVER}),
    Stage.CLAIMING: frozenset({Stage.WAITING, Stage.CLOSING, Stage.OVER}),
    Stage.WAITING: frozenset({Stage.CONFIRMING, Stage.CLOSING, Stage.OVER}),
    Stage.CONFIRMING: frozenset({Stage.MET, Stage.CLOSING, Stage.OVER}),
    Stage.MET: frozenset({Stage.CLOSING, Stage.OVER}),
    Stage.CLOSING: frozenset({Stage.OVER}),
    Stage.OVER: frozenset(),
}


class Timer(Enum):
    ANSWER = auto()
    PING = auto()
    PONG = auto()
    RECONNECT = auto()
    OUTAGE = auto()
    ARRIVAL = auto()
    CONFIRM = auto()
    CLOSE = auto()


OF_ONE_CONNECTION = (Timer.ANSWER, Timer.PING, Timer.PONG)
