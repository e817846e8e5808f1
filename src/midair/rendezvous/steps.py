"""What the meeting's machine is told (events, in the past tense) and what it orders (commands).

These are msgspec structs because there are many: making a dataclass costs a millisecond at every start of the program,
a struct thirty microseconds.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

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


class _Step(msgspec.Struct, frozen=True):
    """None shows what is in it: codes, keys and messages go through here."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Started(_Step, frozen=True, kw_only=True):
    """The driver is ready for commands."""


class Connected(_Step, frozen=True, kw_only=True):
    """The WebSocket that ``Connect`` asked for is open."""


class ConnectFailed(_Step, frozen=True, kw_only=True):
    """It could not be opened; ``error`` says why, for a person."""

    error: MidairError


class Disconnected(_Step, frozen=True, kw_only=True):
    """The open WebSocket is gone."""

    reason: str
    violated: bool = False
    """Whether that is because the server breaks the WebSocket protocol, so that another try would be no better."""


class Received(_Step, frozen=True, kw_only=True):
    """The server sent a frame."""

    frame: wire.ServerFrame | wire.Unknown


class Violated(_Step, frozen=True, kw_only=True):
    """The server sent something that is no frame."""

    reason: str


class SendRequested(_Step, frozen=True, kw_only=True):
    """The user has a message for the other side."""

    message: bytes


class CloseRequested(_Step, frozen=True, kw_only=True):
    """The user wants to leave."""

    mood: Mood


class TimePassed(_Step, frozen=True, kw_only=True):
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


class Connect(_Step, frozen=True, kw_only=True):
    """Open a WebSocket; answered by ``Connected`` or ``ConnectFailed``."""


class Drop(_Step, frozen=True, kw_only=True):
    """Give this WebSocket up without ceremony; answered by ``Disconnected``."""


class Transmit(_Step, frozen=True, kw_only=True):
    """Send a frame, after those before it."""

    frame: wire.ClientFrame


class Announce(_Step, frozen=True, kw_only=True):
    """The number is ours: the other side can now come with this code."""

    code: str


class Met(_Step, frozen=True, kw_only=True):
    """The other side has proved that it knows the code."""

    key: bytes
    peer_versions: dict[str, Any]


class Deliver(_Step, frozen=True, kw_only=True):
    """The next message of the other side, in order."""

    message: bytes


class Fail(_Step, frozen=True, kw_only=True):
    """The meeting is over for this reason; what follows only tidies up."""

    error: MidairError


class Finish(_Step, frozen=True, kw_only=True):
    """Close the WebSocket, if any; nothing more will be ordered."""


Command = Connect | Drop | Transmit | Announce | Met | Deliver | Fail | Finish
