"""What the agent is told (events, in the past tense) and what it orders (commands). An id is one connection's."""

from __future__ import annotations

from dataclasses import dataclass

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
    "Tick",
    "WakeAt",
]


@dataclass(frozen=True, slots=True)
class Started:
    """The agreed moment has come; time is counted from here."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The time of the last WakeAt has come."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A dial became a connection."""

    id: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A dial came to nothing; its socket is closed."""

    id: str
    failure: ConnectFailure
    name: str
    """The errno's name."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Somebody connected to our port; the driver has given it an id."""

    id: str
    remote: Endpoint


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The peer is at the other end."""

    id: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The other end has not proved the key; its socket is closed. ``suspicion`` is the channel's word for it."""

    id: str
    suspicion: str


@dataclass(frozen=True, slots=True)
class Nominated:
    """The controlling peer has nominated this connection."""

    id: str


@dataclass(frozen=True, slots=True)
class NominationAcked:
    """The controlled peer has answered our nomination."""

    id: str


@dataclass(frozen=True, slots=True)
class AcknowledgementSent:
    """Our answer to a nomination is on its way."""

    id: str


@dataclass(frozen=True, slots=True)
class ConnectionDied:
    """An authenticated connection is gone; its socket is closed."""

    id: str


@dataclass(frozen=True, slots=True)
class RelayReady:
    """The relay leg is open, and the peer is at the other end of it."""

    id: str


@dataclass(frozen=True, slots=True)
class RelayFailed:
    """There will be no relay leg; ``text`` says why, for a person."""

    text: str


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
)


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect from our port; answered by Opened or Failed."""

    id: str
    remote: Endpoint


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Find out who is there; answered by Authenticated or Rejected."""

    id: str


@dataclass(frozen=True, slots=True)
class Nominate:
    """Tell the peer that this is the one; answered by NominationAcked or ConnectionDied, or never."""

    id: str


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Answer the peer's nomination; answered by AcknowledgementSent or ConnectionDied."""

    id: str


@dataclass(frozen=True, slots=True)
class Retire:
    """It is not needed: call off the dial, or close the connection without a RST."""

    id: str


@dataclass(frozen=True, slots=True)
class Choose:
    """The end: this one."""

    id: str
    reason: str | None
    """For the relay: why not a direct one."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The end: none."""

    reason: str


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send a Tick at this time, whatever WakeAt said before."""

    at: float


Command = Dial | Authenticate | Nominate | Acknowledge | Retire | Choose | Fail | WakeAt
