"""The packets of a play on paper: as little of TCP as it takes to see whether a connection comes to be. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = ["NOBODY", "Endpoint", "Kind", "Packet"]

Endpoint = tuple[str, int]
"""Whose address it is, and which of its ports: 0 is the one that the server has seen, every other one is a surprise.
The address is "a" or "b", or "a?" when it is another one of a pool."""

NOBODY: Final = -1
"""A port that no host uses."""


class Kind(Enum):
    """Of a packet, as it is spoken of."""

    SYN = "SYN"
    SYN_ACK = "SYN-ACK"
    ACK = "ACK"
    RST = "RST"
    ICMP = "ICMP error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """Between the two outermost gates."""

    kind: Kind
    source: Endpoint
    destination: Endpoint
    sequence: int = 0
    """The sender's initial sequence number; of a RST or an ICMP error that of what it answers."""
    acknowledges: int = 0
    """The receiver's initial sequence number, in a SYN-ACK and in an ACK."""
    from_host: bool = True
    """Not made by a NAT: what a NAT makes knows no sequence number but the SYN's."""

    def answered(self, kind: Kind) -> Packet:
        """What a NAT or a router says to this SYN: as if from the endpoint it was sent to, so that every gate on the
        way back knows what it belongs to.
        """
        return Packet(
            kind=kind,
            source=self.destination,
            destination=self.source,
            sequence=self.sequence,
            from_host=False,
        )
