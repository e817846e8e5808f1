"""One line of a NAT's table, and how far a TCP connection has come. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from midair.lab.packet import ACK, FIN, ICMP, ICMP6, SYN, TCP, UDP, address_text

if TYPE_CHECKING:
    from midair.lab.nat.binding import Binding

__all__ = ["Connection", "FlowKey", "NatEntry", "Phase"]

FlowKey = tuple[int, bytes, int, bytes, int]
"""Protocol, the endpoint on this side (inside, or outside) of the NAT, the remote endpoint."""

_SYN_OUT: Final = 1
_SYN_IN: Final = 2
_ACK_OUT: Final = 4
_ACK_IN: Final = 8
_FIN_OUT: Final = 16
_FIN_IN: Final = 32
_HANDSHAKE: Final = _SYN_OUT | _SYN_IN | _ACK_OUT | _ACK_IN
_FINS: Final = _FIN_OUT | _FIN_IN
_PROTOCOLS: Final = {TCP: "TCP", UDP: "UDP", ICMP: "ICMP", ICMP6: "ICMPv6"}


class Phase(StrEnum):
    """How far a connection has come; each has a timer."""

    OPENING = "opening"
    ESTABLISHED = "established"
    CLOSING = "closing"
    """A FIN has passed both ways, or a RST."""
    DATAGRAMS = "datagrams"
    """UDP and ICMP echo have no phases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NatEntry:
    """A connection as a table dump shows it. Endpoints are an address and a port, of ICMP echo the identifier."""

    protocol: str
    inside: tuple[str, int] | None
    """None for the host that does not answer."""
    outside: tuple[str, int]
    remote: tuple[str, int]
    state: str
    seconds_left: float


class Connection:
    """One line of the table."""

    __slots__ = (
        "alive",
        "binding",
        "crossed",
        "hairpin",
        "initial_sequence",
        "inside",
        "inside_port",
        "last_seen",
        "outside",
        "outside_port",
        "phase",
        "port",
        "protocol",
        "remote",
        "remote_port",
        "scheduled",
        "seen",
        "settled",
        "swallowed",
        "translated",
    )

    def __init__(
        self,
        protocol: int,
        inside: tuple[bytes, int],
        outside: tuple[bytes, int],
        remote: tuple[bytes, int],
        *,
        port: int,
        now: float,
        binding: Binding | None = None,
        swallowed: bool = False,
        hairpin: bool = False,
    ) -> None:
        self.protocol = protocol
        self.inside, self.inside_port = inside
        self.outside, self.outside_port = outside
        self.remote, self.remote_port = remote
        self.port = port
        """Of the NAT, by which the inside endpoint is reached."""
        self.binding = binding
        """None for an inbound connection that no binding let in."""
        self.swallowed = swallowed
        """It goes to a host that does not answer."""
        self.hairpin = hairpin
        """Its remote endpoint is an outside endpoint of the same NAT."""
        self.translated = inside != outside
        self.phase = Phase.OPENING if protocol == TCP else Phase.DATAGRAMS
        self.settled = False
        """Packets without SYN, FIN and RST are translated and sent on, and nothing else: the fast path."""
        self.seen = 0
        self.crossed = False
        """An inbound SYN has passed after the outbound one, in a NAT that cannot translate the answer to it."""
        self.initial_sequence: int | None = None
        """Of the last outbound SYN without ACK; None when there was none."""
        self.last_seen = now
        self.scheduled = 0.0
        """When the table looks next whether it has expired."""
        self.alive = True

    @property
    def outward_key(self) -> FlowKey:
        """What its outbound packets have in their headers."""
        return (self.protocol, self.inside, self.inside_port, self.remote, self.remote_port)

    @property
    def inward_key(self) -> FlowKey:
        """The same as seen from outside."""
        return (self.protocol, self.outside, self.outside_port, self.remote, self.remote_port)

    @property
    def awaits_answer(self) -> bool:
        """Whether an outbound SYN has passed, and the connection was never established: an inbound SYN now is a
        simultaneous open (RFC 9293 3.5)."""
        return self.initial_sequence is not None and self.seen & _HANDSHAKE != _HANDSHAKE

    def reopen(self) -> None:
        """It was over, and begins anew."""
        self.seen = 0
        self.crossed = False
        self.initial_sequence = None

    def track(self, flags: int, sequence: int, *, outbound: bool) -> Phase:
        """Takes note of a TCP segment without RST that passes; returns the phase the connection is in thereby."""
        if outbound:
            if flags & (SYN | ACK) == SYN:
                if sequence != self.initial_sequence:  # another socket: what was acknowledged is void
                    self.seen &= ~(_ACK_OUT | _ACK_IN)
                self.initial_sequence = sequence
            self.seen |= (flags & SYN and _SYN_OUT) | (flags & ACK and _ACK_OUT) | (flags & FIN and _FIN_OUT)
        else:
            self.seen |= (flags & SYN and _SYN_IN) | (flags & ACK and _ACK_IN) | (flags & FIN and _FIN_IN)
        if self.phase is Phase.CLOSING or self.seen & _FINS == _FINS:
            return Phase.CLOSING
        return Phase.ESTABLISHED if self.seen & _HANDSHAKE == _HANDSHAKE else Phase.OPENING

    def entry(self, expires: float, now: float) -> NatEntry:
        """For a dump."""
        return NatEntry(
            protocol=_PROTOCOLS[self.protocol],
            inside=None if self.swallowed else (address_text(self.inside), self.inside_port),
            outside=(address_text(self.outside), self.outside_port),
            remote=(address_text(self.remote), self.remote_port),
            state=self.phase.value,
            seconds_left=max(0.0, expires - now),
        )
