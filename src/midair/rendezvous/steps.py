"""What the meeting's machine is told (events, in the past tense) and what it orders (commands)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from midair.errors import MidairError
from midair.rendezvous import wire

__all__ = [
    "Announce",
    "CloseRequested",
    "Command",
    "Connect",
    "ConnectFailed",
    "Connected",
    "Deliver",
    "Disconnected",
    "Drop",
    "Event",
    "Fail",
    "Finish",
    "Met",
    "Mood",
    "Received",
    "SendRequested",
    "Started",
    "TimePassed",
    "Transmit",
    "Violated",
]

Mood = Literal["happy", "lonely", "scary", "errory"]
"""How a side leaves its mailbox: content, without having met anybody, after a wrong key, after another error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The driver is ready for commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """The WebSocket that ``Connect`` asked for is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectFailed:
    """It could not be opened; ``error`` says why, for a person."""

    error: MidairError


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected:
    """The open WebSocket is gone."""

    reason: str
    violated: bool = False
    """Whether that is because the server breaks the WebSocket protocol, so that another try would be no better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """The server sent a frame."""

    frame: wire.ServerFrame | wire.Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Violated:
    """The server sent something that is no frame."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRequested:
    """The user has a message for the other side."""

    message: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseRequested:
    """The user wants to leave."""

    mood: Mood


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePassed:
    """``deadline`` has come."""


Event = (
    Started
    | Connected
    | ConnectFailed
    | Disconnected
    | Received
    | Violated
    | SendRequested
    | CloseRequested
    | TimePassed
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """Open a WebSocket; answered by ``Connected`` or ``ConnectFailed``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Give this WebSocket up without ceremony; answered by ``Disconnected``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transmit:
    """Send a frame, after those before it."""

    frame: wire.ClientFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Announce:
    """The number is ours: the other side can now come with this code."""

    code: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """The other side has proved that it knows the code."""

    key: bytes = field(repr=False)
    peer_versions: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """The next message of the other side, in order."""

    message: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """The meeting is over for this reason; what follows only tidies up."""

    error: MidairError


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Close the WebSocket, if any; nothing more will be ordered."""


Command = Connect | Drop | Transmit | Announce | Met | Deliver | Fail | Finish
