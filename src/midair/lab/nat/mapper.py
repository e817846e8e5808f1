"""Which binding a new connection from inside gets: one it shares, or a new one (RFC 4787 4.1, RFC 5382 4.1). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midair.lab.behaviour import Mapping
from midair.lab.nat.binding import Binding

if TYPE_CHECKING:
    from collections.abc import Hashable

    from midair.lab.nat.allocation import Allocator
    from midair.lab.nat.binding import Endpoint
    from midair.lab.nat.table import Table
    from midair.lab.packet import Packet

__all__ = ["Mapper"]


class Mapper:
    """Makes bindings; they count from the moment a connection is added to the table."""

    __slots__ = ("_allocator", "_mapping", "_table")

    def __init__(self, mapping: Mapping, allocator: Allocator, table: Table) -> None:
        self._mapping = mapping
        self._allocator = allocator
        self._table = table

    def untranslated(self, packet: Packet, port: int) -> Binding:
        """Of an inside endpoint to itself. ``port`` is the one of the NAT by which the packet came."""
        inside = (packet.source, packet.source_port)
        key = (packet.protocol, *inside)
        return self._table.bindings.shared(key) or Binding(packet.protocol, inside, inside, port=port, key=key)

    def translated(self, packet: Packet, port: int) -> Binding | None:
        """None when there is no port left."""
        protocol, remote = packet.protocol, (packet.destination, packet.destination_port)
        bindings, inward, overloads = self._table.bindings, self._table.inward, self._allocator.overloads
        key = self._key(packet)
        shared = bindings.shared(key)
        if shared is not None:
            if overloads or (protocol, *shared.outside, *remote) not in inward:
                return shared
            key = None  # somebody else's connection is in the way: this one gets a port of its own, as in netfilter

        def taken(outside: Endpoint) -> bool:
            return not overloads and (
                bool(bindings.holders(protocol, outside)) or (protocol, *outside, *remote) in inward
            )

        inside = (packet.source, packet.source_port)
        outside = self._allocator.endpoint(inside, packet.destination, taken)
        return Binding(protocol, inside, outside, port=port, key=key) if outside is not None else None

    def _key(self, packet: Packet) -> Hashable | None:
        """What connections have in common that share a binding; None for one that shares with none."""
        inside = (packet.protocol, packet.source, packet.source_port)
        match self._mapping:
            case Mapping.NONE | Mapping.ENDPOINT_INDEPENDENT:
                return inside, self._allocator.line(packet.destination)
            case Mapping.ADDRESS_DEPENDENT:
                return inside, packet.destination
            case Mapping.ADDRESS_AND_PORT_DEPENDENT:
                return inside, packet.destination, packet.destination_port
            case Mapping.CONNECTION_DEPENDENT:
                return None
