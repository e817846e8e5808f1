"""What a NAT answers to a SYN that it does not let in (RFC 5382 4.3). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from midair.lab.behaviour import Unsolicited
from midair.lab.node import NEVER
from midair.lab.packet import ACK, FIN, RST, SYN, IcmpReason, tcp_packet

if TYPE_CHECKING:
    from midair.lab.nat.connection import FlowKey
    from midair.lab.packet import Packet

__all__ = ["REASONS", "LateAnswers", "reset_for"]

REASONS: Final = {
    Unsolicited.ICMP_HOST: IcmpReason.HOST_UNREACHABLE,
    Unsolicited.ICMP_PORT: IcmpReason.PORT_UNREACHABLE,
    Unsolicited.ICMP_ADMIN: IcmpReason.ADMIN_PROHIBITED,
}
_PATIENCE: Final = 6.0
"""Seconds (RFC 5382 REQ-4)."""
_HELD_AT_MOST: Final = 4096
"""What comes beyond is not answered."""


def reset_for(packet: Packet) -> Packet:
    """The RST that answers a segment without ACK (RFC 9293 3.10.7.1)."""
    length = len(packet.payload) + bool(packet.flags & SYN) + bool(packet.flags & FIN)
    return tcp_packet(
        packet.destination,
        packet.destination_port,
        packet.source,
        packet.source_port,
        RST | ACK,
        acknowledgement=packet.sequence + length,
    )


class LateAnswers:
    """SYNs that are answered later, unless their connection is opened from inside meanwhile."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[FlowKey, tuple[float, Packet]] = {}
        """In the order in which they are due."""

    @property
    def wake_at(self) -> float:
        return next(iter(self._held.values()))[0] if self._held else NEVER

    def hold(self, key: FlowKey, packet: Packet, now: float) -> None:
        """The first SYN of a connection counts; its repetitions are forgotten."""
        if len(self._held) < _HELD_AT_MOST:
            self._held.setdefault(key, (now + _PATIENCE, packet))

    def cancel(self, key: FlowKey) -> None:
        """An outbound SYN has passed."""
        self._held.pop(key, None)

    def clear(self) -> None:
        self._held.clear()

    def due(self, now: float) -> list[Packet]:
        """Takes out the SYNs whose time has come."""
        packets = []
        while self._held:
            key = next(iter(self._held))
            when, packet = self._held[key]
            if when > now:
                break
            del self._held[key]
            packets.append(packet)
        return packets
