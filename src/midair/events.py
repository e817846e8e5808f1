"""The story of a session as typed facts; the progress bar, ``--json``, the lab and bug reports all read it.

An event is something that has happened. :func:`to_dict` gives its form for scripts: ``event`` and ``time`` (seconds
since the start) and then the fields, which are a contract (docs/reference/events.md). Fields may be
added, never renamed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

__all__ = [
    "Attempted",
    "CodeReady",
    "ConnectionLost",
    "Done",
    "Event",
    "FileFinished",
    "Listener",
    "Met",
    "OfferSeen",
    "PathChosen",
    "Progress",
    "Reflected",
    "Resumed",
    "Status",
    "to_dict",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The root; ``name`` is what scripts see as ``event``."""

    name: ClassVar[str] = "event"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Event):
    """What is being waited for or was noticed, in words for a person."""

    name = "status"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeReady(Event):
    """The sender has a code to hand on."""

    name = "code"
    code: str
    command: str
    """The receiver's whole command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Met(Event):
    """Both sides have proved that they know the code."""

    name = "met"
    resumed: bool = False
    """True when it is not the first meeting of this run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reflected(Event):
    """The server told us from which public endpoint our port is seen."""

    name = "reflected"
    local: str
    mapped: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted(Event):
    """One dial or accept ended; ``result`` is ok, stranger, or the errno's name."""

    name = "attempt"
    how: Literal["dial", "accept"]
    remote: str
    result: str
    count: int = 1
    """How many times in a row this has been the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathChosen(Event):
    """One authenticated connection was chosen on both sides."""

    name = "path"
    path: Literal["direct", "relay"]
    how: Literal["dial", "accept", "relay"]
    local: str
    remote: str
    attempts: int
    """SYNs dialled on this side, retries among them."""
    seconds: float
    """From both sides ready (candidates exchanged) to this choice."""
    reason: str | None = None
    """When relayed: why not direct."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferSeen(Event):
    """What is to be sent or received, before anything of it is accepted. Names are already escaped."""

    name = "offer"
    files: int
    directories: int
    bytes: int
    names: tuple[str, ...]
    """The top-level names, at most 20."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Event):
    """Part of the content was already durable here; it is neither sent nor hashed again."""

    name = "resumed"
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Event):
    """Bytes the receiver has durably accepted, the same number on both ends."""

    name = "progress"
    bytes: int
    total: int
    rate: float
    """Bytes a second, smoothed over some seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFinished(Event):
    """One file has its outcome."""

    name = "file"
    file: str
    bytes: int
    blake3: str | None
    """Hex BLAKE3 of the whole content; None where no single run of this program hashed all of it (a resumed file)."""
    outcome: str
    """received, or why not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLost(Event):
    """The connection broke in mid-transfer; both sides try to meet again."""

    name = "lost"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Event):
    """The end; always the last event."""

    name = "done"
    ok: bool
    path: str | None
    bytes: int
    """Bytes of content the receiver has committed under their final names."""
    bytes_sent: int
    """Bytes of content that crossed the connection on this side in this run, in all."""
    bytes_hashed: int
    """Bytes of content this side hashed in this run."""
    seconds: float
    exit_code: int
    error: str | None = None
    reason: str | None = None


Listener = Callable[[Event], None]
"""Called for each event, from any thread; it must be quick and must not raise."""

_JSON_NAMES = {"file": {"file": "name"}}


def to_dict(event: Event, time: float) -> dict[str, Any]:
    """``event`` as scripts see it; ``time`` is seconds since the start. Optional fields that are None are left out."""
    renames = _JSON_NAMES.get(event.name, {})
    result: dict[str, Any] = {"event": event.name, "time": round(time, 6)}
    optional = {"error", "reason"}
    for field in fields(event):
        value = getattr(event, field.name)
        if value is None and field.name in optional:
            continue
        result[renames.get(field.name, field.name)] = value
    return result
