"""What a punch came to, and how it went at each end. Pure values, which a result file can hold as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["EndStory", "Note", "Punch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One thing that happened at an end."""

    at: float
    """Seconds since this end's start."""
    what: str
    """dialled, opened, accepted, failed, heard, met a stranger, gave up"""
    id: str = ""
    """Of the connection."""
    error: str = ""
    """The errno's name, of what failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndStory:
    """One end."""

    name: str
    started: float
    """Seconds after the first end's start."""
    local: str
    """Its own endpoint, ``10.1.0.2:40000``."""
    seen: str
    """Where the server saw it, which is what the peer dials; empty when it did not reach the server."""
    towards_peer: tuple[str, ...] | None = None
    """From where its SYNs to the peer came, outside of all NATs; None when nobody looked."""
    syns: int = 0
    """SYNs that its dials have sent, the system's repetitions among them. Where SYNs have crossed, the SYN-ACK that
    follows does not count, but its repetitions do."""
    notes: tuple[Note, ...] = ()
    heard: tuple[tuple[str, str], ...] = ()
    """The connections on which the peer said hello: our id and the peer's."""

    @property
    def dials(self) -> int:
        """How often it called connect()."""
        return sum(note.what == "dialled" for note in self.notes)

    @property
    def errors(self) -> tuple[str, ...]:
        """The errnos' names, in order."""
        return tuple(note.error for note in self.notes if note.what == "failed")

    @property
    def opened(self) -> bool:
        """Whether any connection came about, as seen from here."""
        return any(note.what in ("opened", "accepted") for note in self.notes)

    def heard_at(self, connection: str) -> float:
        """When the peer said hello on a connection, on the clock of ``started``. Raises: StopIteration."""
        at = next(note.at for note in self.notes if note.what == "heard" and note.id == connection)
        return self.started + at


@dataclass(frozen=True, slots=True, kw_only=True)
class Punch:
    """One try of a pair."""

    a: EndStory
    b: EndStory

    @property
    def connection(self) -> tuple[str, str] | None:
        """The connection on which bytes went both ways: the ids of a and of b. None: there is none."""
        return next((pair for pair in self.a.heard if pair[::-1] in self.b.heard), None)

    @property
    def through(self) -> bool:
        """Whether it worked."""
        return self.connection is not None

    @property
    def seconds(self) -> float | None:
        """From the first start until both ends had heard each other."""
        if (connection := self.connection) is None:
            return None
        return max(end.heard_at(key) for end, key in zip((self.a, self.b), connection, strict=True))

    @property
    def how(self) -> tuple[Literal["connect", "accept"], Literal["connect", "accept"]] | None:
        """How a and b got the connection."""
        if (connection := self.connection) is None:
            return None
        a, b = connection
        return ("connect" if a.startswith("dial") else "accept"), ("connect" if b.startswith("dial") else "accept")

    @property
    def syns(self) -> int:
        """Of both ends."""
        return self.a.syns + self.b.syns
