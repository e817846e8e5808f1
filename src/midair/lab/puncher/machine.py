"""One end of a punch: events in, commands out. Pure; driven by :mod:`midair.lab.puncher.simulated` and
:mod:`midair.lab.puncher.real` with what happens to sockets, and by the clock.

On every connection that opens each end says hello, a line that names the pair, the end and the connection. An end has
got through when it has heard the other's hello on a connection on which it has said its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from midair.lab.puncher.story import Note

__all__ = [
    "PATIENCE",
    "PAUSE",
    "Accepted",
    "Command",
    "Dial",
    "Event",
    "Failed",
    "Listen",
    "Opened",
    "Puncher",
    "Received",
    "Send",
    "Started",
    "Stop",
    "Tick",
    "WakeAt",
]

PAUSE: Final = 0.2
"""Seconds after an error until the next dial. Fixed: both ends keep their phase difference."""
PATIENCE: Final = 3.5
"""Seconds from an end's start until it gives up."""
LONGEST_HELLO: Final = 200


@dataclass(frozen=True, slots=True)
class Started:
    """The time has come."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A dial became a connection."""

    id: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """Somebody connected to our port; the driver has given it an id."""

    id: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A dial came to nothing, or a connection died; its socket is closed."""

    id: str
    error: str
    """The errno's name, or ``closed`` for one that the other end has closed."""


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes have come."""

    id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Tick:
    """The time of the last WakeAt has come."""


Event = Started | Opened | Accepted | Failed | Received | Tick


@dataclass(frozen=True, slots=True)
class Listen:
    """Listen on our port, from now on."""


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to the peer from our port; answered by Opened or Failed."""

    id: str


@dataclass(frozen=True, slots=True)
class Send:
    """Send bytes on a connection."""

    id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send a Tick at this time, whatever WakeAt said before."""

    at: float


@dataclass(frozen=True, slots=True)
class Stop:
    """It has given up: close everything."""


Command = Listen | Dial | Send | WakeAt | Stop


class Puncher:
    """``handle`` takes every event with the time in seconds, and returns commands to be carried out in this order."""

    def __init__(self, pair: str, name: str, *, pause: float = PAUSE, patience: float = PATIENCE) -> None:
        self.pair = pair
        self.name = name
        self.notes: list[Note] = []
        """What has happened so far, in order."""
        self.heard: dict[str, str] = {}
        """Of each connection on which the peer said hello, the peer's id of it."""
        self._pause = pause
        self._patience = patience
        self._started_at = 0.0
        self._dials = 0
        self._next_at: float | None = None
        """When to dial; None while a dial or a connection of ours is there."""
        self._lines: dict[str, bytes] = {}
        self._over = False

    @property
    def through(self) -> bool:
        """Whether this end has got through."""
        return bool(self.heard)

    @property
    def over(self) -> bool:
        """Whether it has got through or given up."""
        return self._over or self.through

    def handle(self, event: Event, now: float) -> list[Command]:
        """What to do about it."""
        if self._over:
            return []
        match event:
            case Started():
                self._started_at = now
                return [Listen(), *self._dial(now)]
            case Opened(id=key):
                self._note(now, "opened", key)
                return self._greet(key)
            case Accepted(id=key):
                self._note(now, "accepted", key)
                return self._greet(key)
            case Failed(id=key, error=error):
                return self._failed(key, error, now)
            case Received(id=key, data=data):
                self._listen_to(key, data, now)
                return []
            case Tick():
                return self._due(now)

    def _due(self, now: float) -> list[Command]:
        if self.through:
            return []
        if now >= self._started_at + self._patience:
            self._over = True
            self._note(now, "gave up")
            return [Stop()]
        if self._next_at is not None and now >= self._next_at:
            return self._dial(now)
        return [self._wake()]

    def _dial(self, now: float) -> list[Command]:
        self._next_at = None
        self._dials += 1
        key = f"dial-{self._dials}"
        self._note(now, "dialled", key)
        return [self._wake(), Dial(key)]  # in this order: a dial may fail while it is being carried out

    def _failed(self, key: str, error: str, now: float) -> list[Command]:
        self._note(now, "failed", key, error)
        if not key.startswith("dial-"):
            return []
        self._next_at = now + self._pause
        return [self._wake()]

    def _wake(self) -> WakeAt:
        deadline = self._started_at + self._patience
        return WakeAt(deadline if self._next_at is None else min(self._next_at, deadline))

    def _greet(self, key: str) -> list[Command]:
        return [Send(key, f"{self.pair} {self.name} {key}\n".encode())]

    def _listen_to(self, key: str, data: bytes, now: float) -> None:
        line = self._lines.pop(key, b"") + data
        if not line.endswith(b"\n"):
            self._lines[key] = line[:LONGEST_HELLO]
            return
        match line.decode(errors="replace").split():
            case [pair, name, theirs] if pair == self.pair and name != self.name:
                if key not in self.heard:
                    self._note(now, "heard", key)
                    self.heard[key] = theirs
            case _:
                self._note(now, "met a stranger", key)

    def _note(self, now: float, what: str, key: str = "", error: str = "") -> None:
        self.notes.append(Note(at=now - self._started_at, what=what, id=key, error=error))
