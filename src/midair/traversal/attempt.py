"""One attempt: the life of one TCP connection, dialled, accepted or relayed, until it is chosen or ended.

The table is everything that can happen to it, and does not know which side we are: NOMINATED is reached on the
controlling side by sending the nomination, on the other by receiving it; ACKNOWLEDGED the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from midair.endpoint import Endpoint

__all__ = ["TRANSITIONS", "Attempt", "Happening", "Stage", "table"]


class Stage(Enum):
    """How far a connection has come."""

    DIALLING = "dialling"
    PROVING = "proving"
    """Open; who is at the other end is not known."""
    READY = "ready"
    """The peer is at the other end."""
    NOMINATED = "nominated"
    """The controlling side wants this one."""
    CHOSEN = "chosen"
    ENDED = "ended"


class Happening(Enum):
    """What moves it on."""

    OPENED = "opened"
    FAILED = "failed"
    AUTHENTICATED = "authenticated"
    REJECTED = "rejected"
    NOMINATED = "nominated"
    ACKNOWLEDGED = "acknowledged"
    DIED = "died"
    RETIRED = "retired"


TRANSITIONS: dict[Stage, dict[Happening, Stage]] = {
    Stage.DIALLING: {
        Happening.OPENED: Stage.PROVING,
        Happening.FAILED: Stage.ENDED,
        Happening.RETIRED: Stage.ENDED,
    },
    Stage.PROVING: {
        Happening.AUTHENTICATED: Stage.READY,
        Happening.REJECTED: Stage.ENDED,
        Happening.RETIRED: Stage.ENDED,
    },
    Stage.READY: {
        Happening.NOMINATED: Stage.NOMINATED,
        Happening.DIED: Stage.ENDED,
        Happening.RETIRED: Stage.ENDED,
    },
    Stage.NOMINATED: {
        Happening.ACKNOWLEDGED: Stage.CHOSEN,
        Happening.DIED: Stage.ENDED,
        Happening.RETIRED: Stage.ENDED,
    },
    Stage.CHOSEN: {},
    Stage.ENDED: {},
}


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One connection and its stage."""

    id: str
    how: Literal["dial", "accept", "relay"]
    remote: Endpoint | None
    """None for the relay: there the peer's endpoint is nobody's concern."""
    stage: Stage

    def move(self, happening: Happening) -> bool:
        """False, and nothing changes, when that cannot happen at this stage."""
        following = TRANSITIONS[self.stage].get(happening)
        if following is None:
            return False
        self.stage = following
        return True


def table() -> str:
    """The transitions, for people."""
    lines = [
        f"{stage.value:<10} {happening.value:<14} {following.value}"
        for stage, moves in TRANSITIONS.items()
        for happening, following in moves.items()
    ]
    return "\n".join(lines)
