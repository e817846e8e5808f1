"""What the agent is told (events, in the past tense) and what it orders (commands). An id is one connection's.

These are msgspec structs because there are many: making a dataclass costs a millisecond at every start of the program,
a struct thirty microseconds.
"""

from __future__ import annotations

import msgspec

from midair.endpoint import Endpoint
from midair.port.failures import ConnectFailure

__all__ = [
    "Accepted",
    "Acknowledge",
    "AcknowledgementSent",
    "AgentEvent",
    "Authenticate",
    "Authenticated",
    "Choose",
    "Command",
    "ConnectionDied",
    "Dial",
    "Fail",
    "Failed",
    "Nominate",
    "Nominated",
    "NominationAcked",
    "Opened",
    "Rejected",
    "RelayFailed",
    "RelayReady",
    "Retire",
    "Started",
    "Stopped",
    "Tick",
    "Use",
    "WakeAt",
]


class Started(msgspec.Struct, frozen=True):
    """The agreed moment has come; time is counted from here."""


class Stopped(msgspec.Struct, frozen=True):
    """What has begun on the relay is over: nothing better is needed any more."""


class Tick(msgspec.Struct, frozen=True):
    """The time of the last WakeAt has come."""


class Opened(msgspec.Struct, frozen=True):
    """A dial became a connection."""

    id: str


class Failed(msgspec.Struct, frozen=True):
    """A dial came to nothing; its socket is closed."""

    id: str
    failure: ConnectFailure
    name: str
    """The errno's name."""


class Accepted(msgspec.Struct, frozen=True):
    """Somebody connected to our port; the driver has given it an id."""

    id: str
    remote: Endpoint


class Authenticated(msgspec.Struct, frozen=True):
    """The peer is at the other end."""

    id: str


class Rejected(msgspec.Struct, frozen=True):
    """The other end has not proved the key; its socket is closed. ``suspicion`` is the channel's word for it."""

    id: str
    suspicion: str


class Nominated(msgspec.Struct, frozen=True):
    """The controlling peer has nominated this connection."""

    id: str
    begun: bool = False
    """It has begun on the relay before, and would move here."""


class NominationAcked(msgspec.Struct, frozen=True):
    """The controlled peer has answered our nomination."""

    id: str


class AcknowledgementSent(msgspec.Struct, frozen=True):
    """Our answer to a nomination is on its way."""

    id: str


class ConnectionDied(msgspec.Struct, frozen=True):
    """An authenticated connection is gone; its socket is closed."""

    id: str


class RelayReady(msgspec.Struct, frozen=True):
    """The relay leg is open, and the peer is at the other end of it."""

    id: str


class RelayFailed(msgspec.Struct, frozen=True):
    """There will be no relay leg; ``text`` says why, for a person."""

    text: str
    broke: bool = False
    """It was ready."""


AgentEvent = (
    Started
    | Tick
    | Opened
    | Failed
    | Accepted
    | Authenticated
    | Rejected
    | Nominated
    | NominationAcked
    | AcknowledgementSent
    | ConnectionDied
    | RelayReady
    | RelayFailed
    | Stopped
)


class Dial(msgspec.Struct, frozen=True):
    """Connect from one of our ports; answered by Opened or Failed."""

    id: str
    remote: Endpoint
    local: int = 0
    """0 for the port that listens too, else the number of one of the fan's."""


class Authenticate(msgspec.Struct, frozen=True):
    """Find out who is there; answered by Authenticated or Rejected."""

    id: str


class Nominate(msgspec.Struct, frozen=True):
    """Tell the peer that this is the one; answered by NominationAcked or ConnectionDied, or never."""

    id: str
    begun: bool = False
    """As in Nominated."""


class Acknowledge(msgspec.Struct, frozen=True):
    """Answer the peer's nomination; answered by AcknowledgementSent or ConnectionDied."""

    id: str


class Retire(msgspec.Struct, frozen=True):
    """It is not needed: call off the dial, or close the connection without a RST."""

    id: str


class Use(msgspec.Struct, frozen=True):
    """Begin on this one, the relay's, which the controlling side tells the peer by a nomination. The search for a
    direct one goes on, and ends in Choose."""

    id: str


class Choose(msgspec.Struct, frozen=True):
    """The end: this one."""

    id: str
    reason: str | None
    """For the relay: why not a direct one."""


class Fail(msgspec.Struct, frozen=True):
    """The end: none."""

    reason: str
    broken: bool = False
    """There was one, the relay's, and it broke before it was used: both sides may try all of it again."""


class WakeAt(msgspec.Struct, frozen=True):
    """Send a Tick at this time, whatever WakeAt said before."""

    at: float


Command = Dial | Authenticate | Nominate | Acknowledge | Retire | Use | Choose | Fail | WakeAt
