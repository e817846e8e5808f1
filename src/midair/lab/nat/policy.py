"""What a NAT refuses before it translates anything: its caps, and where its hosts may not go. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midair.lab.packet import TCP, address_bytes

if TYPE_CHECKING:
    from midair.lab.behaviour import NatBehaviour, NatLimits
    from midair.lab.nat.table import Table
    from midair.lab.packet import Packet

__all__ = ["Limits", "OutboundPolicy"]


class OutboundPolicy:
    """Where new connections from inside may go."""

    __slots__ = ("_addresses", "_ports")

    def __init__(self, behaviour: NatBehaviour) -> None:
        self._ports = frozenset(behaviour.only_ports)
        self._addresses = frozenset(address_bytes(address) for address in behaviour.only_addresses)

    def allows(self, packet: Packet) -> bool:
        """Judges an outbound packet that opens a connection."""
        if self._addresses and packet.destination not in self._addresses:
            return False
        return not self._ports or packet.protocol != TCP or packet.destination_port in self._ports


class Limits:
    """How many connections there may be, and how many new ones a second."""

    __slots__ = ("_filled_at", "_limits", "_tokens")

    def __init__(self, limits: NatLimits) -> None:
        self._limits = limits
        self._tokens = max(1.0, limits.new_per_second)
        self._filled_at = 0.0

    def admit(self, table: Table, protocol: int, host: bytes, now: float) -> bool:
        """Whether there may be a new connection of the inside address ``host``; it is counted then."""
        limits = self._limits
        if len(table.inward) >= limits.entries or table.hosts.get(host, 0) >= limits.entries_per_host:
            return False
        if protocol == TCP and not self.admit_half_open(table):
            return False
        rate = limits.new_per_second
        if rate == float("inf"):
            return True
        self._tokens = min(max(1.0, rate), self._tokens + (now - self._filled_at) * rate)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def admit_half_open(self, table: Table) -> bool:
        """Whether one more handshake may begin."""
        return table.half_open < self._limits.half_open
