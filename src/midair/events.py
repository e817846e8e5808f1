"""The story of a session as typed facts; the progress bar, ``--json``, the lab and bug reports all read it.

An event is something that has happened. :func:`to_dict` gives its form for scripts: ``event`` and ``time`` (seconds
since the start) and then the fields, which are a contract (docs/reference/events.md). Fields may be
added, never renamed.

They are msgspec structs because there are many: making a dataclass costs a millisecond at every start of the program, a
struct thirty microseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import msgspec

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


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The root; ``name`` is what scripts see as ``event``."""

    name: ClassVar[str] = "event"


class Status(Event, frozen=True, kw_only=True):
    """What is being waited for or was noticed, in words for a person."""

    name = "status"
    text: str


class CodeReady(Event, frozen=True, kw_only=True):
    """The sender has a code to hand on."""

    name = "code"
    code: str
    command: str
    """The receiver's whole command."""


class Met(Event, frozen=True, kw_only=True):
    """Both sides have proved that they know the code."""

    name = "met"
    resumed: bool = False
    """True when it is not the first meeting of this run."""


class Reflected(Event, frozen=True, kw_only=True):
    """The server told us from which public endpoint our port is seen."""

    name = "reflected"
    local: str
    mapped: str


class Attempted(Event, frozen=True, kw_only=True):
    """One dial or accept ended; ``result`` is ok, stranger, or the errno's name."""

    name = "attempt"
    how: Literal["dial", "accept"]
    remote: str
    result: str
    count: int = 1
    """How many times in a row this has been the result."""


class PathChosen(Event, frozen=True, kw_only=True):
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


class OfferSeen(Event, frozen=True, kw_only=True):
    """What is to be sent or received, before anything of it is accepted. Names are already escaped."""

    name = "offer"
    files: int
    directories: int
    bytes: int
    names: tuple[str, ...]
    """The top-level names, at most 20."""


class Resumed(Event, frozen=True, kw_only=True):
    """Part of the content was already durable here; it is neither sent nor hashed again."""

    name = "resumed"
    bytes: int


class Progress(Event, frozen=True, kw_only=True):
    """Bytes the receiver has durably accepted, the same number on both ends."""

    name = "progress"
    bytes: int
    total: int
    rate: float
    """Bytes a second, smoothed over some seconds."""


class FileFinished(Event, frozen=True, kw_only=True):
    """One file has its outcome."""

    name = "file"
    file: str
    bytes: int
    blake3: str | None
    """Hex BLAKE3 of the whole content; None where no single run of this program hashed all of it (a resumed file)."""
    outcome: str
    """received, or why not."""


class ConnectionLost(Event, frozen=True, kw_only=True):
    """The connection broke in mid-transfer; both sides try to meet again."""

    name = "lost"
    text: str


class Done(Event, frozen=True, kw_only=True):
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
    for field in event.__struct_fields__:
        value = getattr(event, field)
        if value is None and field in optional:
            continue
        result[renames.get(field, field)] = value
    return result
