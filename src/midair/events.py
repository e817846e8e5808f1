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
    "Mapped",
    "Met",
    "OfferKind",
    "OfferSeen",
    "PathChosen",
    "Progress",
    "Reflected",
    "Resumed",
    "Status",
    "TextReceived",
    "Tuned",
    "TunedBecause",
    "Waiting",
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


class Mapped(Event, frozen=True, kw_only=True):
    """The home router gave us a port that leads to ours; it has it back when the session is over."""

    name = "mapped"
    local: str
    external: str
    protocol: str
    """pcp, nat-pmp or upnp."""


class Attempted(Event, frozen=True, kw_only=True):
    """One dial or accept ended; ``result`` is ok, stranger, or the errno's name."""

    name = "attempt"
    how: Literal["dial", "accept"]
    remote: str
    result: str
    count: int = 1
    """How many times in a row this has been the result."""


class PathChosen(Event, frozen=True, kw_only=True):
    """One authenticated connection is in use on both sides."""

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
    searching: bool = False
    """When relayed: a direct one is still being looked for. There will be another event, when it is found and in use,
    or when the relay stays."""
    later: bool = False
    """It follows such an event: what had begun on the relay goes on here, or stays there."""


TunedBecause = Literal["system", "chosen", "losses", "crossing", "background"]
"""system: it is the system's own; chosen: by a person; losses: the system's own would take losses on a real path for
congestion; crossing: SYNs that crossed have given the kernel a wrong round trip, on which BBR relies; background: there
it has to take losses for congestion."""


class Tuned(Event, frozen=True, kw_only=True):
    """A connection that content is sent over is set up: which congestion control it runs."""

    name = "tuned"
    remote: str
    congestion_control: str | None
    """None where the system does not tell."""
    because: TunedBecause
    background: bool = False
    """It gives way to other traffic."""


OfferKind = Literal["files", "stream", "text"]


class OfferSeen(Event, frozen=True, kw_only=True):
    """What is to be sent or received, before anything of it is accepted. Names are already escaped."""

    name = "offer"
    kind: OfferKind = "files"
    files: int
    """Files and links; of a stream or a text, 1."""
    directories: int
    bytes: int | None
    """None when nobody knows: a stream."""
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
    total: int | None
    """None when nobody knows: a stream that has not come to its end."""
    rate: float
    """Bytes a second, smoothed over some seconds."""


class Waiting(Event, frozen=True, kw_only=True):
    """Nothing that brings the transfer forward has come from the other side for some seconds; it is not over."""

    name = "waiting"
    seconds: float


class TextReceived(Event, frozen=True, kw_only=True):
    """A text for the person, whole and verified. Not safe to show unescaped."""

    name = "text"
    text: str


class FileFinished(Event, frozen=True, kw_only=True):
    """One file has its outcome."""

    name = "file"
    file: str
    bytes: int
    blake3: str | None
    """Hex BLAKE3 of the whole content; None where no single run of this program hashed all of it (a resumed file)."""
    outcome: str
    """received; identical, it was there already; kept, something else was there and stays; omitted, such things are not
    sent; source-changed or local-io, the sender could not read it to its end; unsupported, the receiver's file system
    cannot bear it."""
    stored_as: str | None = None
    """The path it is stored under, when that is another."""
    detail: str | None = None
    """Why it is not stored, in words from the other side perhaps: not safe to show unescaped."""


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
    """Bytes of content the receiver has under their final names, what was there already among them."""
    bytes_sent: int
    """Bytes of content that crossed the connection on this side in this run, in all."""
    bytes_hashed: int
    """Bytes of content this side hashed in this run."""
    seconds: float
    exit_code: int
    outcomes: dict[str, int] = {}
    """How many files had which outcome; see FileFinished."""
    bytes_saved: int = 0
    """So many bytes fewer went out for ``bytes_sent``, because they were compressed; the sending side knows."""
    carried: dict[str, int] = {}
    """Bytes that both sides have said to each other over which kind of path, in all connections of this run."""
    error: str | None = None
    reason: str | None = None


Listener = Callable[[Event], None]
"""Called for each event, from any thread; it must be quick and must not raise."""

_JSON_NAMES = {"file": {"file": "name"}}


def to_dict(event: Event, time: float) -> dict[str, Any]:
    """``event`` as scripts see it; ``time`` is seconds since the start. Optional fields that are None are left out."""
    renames = _JSON_NAMES.get(event.name, {})
    result: dict[str, Any] = {"event": event.name, "time": round(time, 6)}
    optional = {"error", "reason", "stored_as", "detail"}
    for field in event.__struct_fields__:
        value = getattr(event, field)
        if value is None and field in optional:
            continue
        result[renames.get(field, field)] = value
    return result
