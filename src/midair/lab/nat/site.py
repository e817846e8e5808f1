"""Where a NAT stands: its addresses, and the networks behind it. Pure."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

from midair.lab.packet import address_bytes
from midair.lab.router import RoutingTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midair.lab.blueprint import NatPart

__all__ = ["Site"]


class Site:
    """Addresses and routes; they change only when the line gets other addresses, and then there is a new one.

    Raises: ValueError when there are fewer IPv4 addresses outside than the pool has.
    """

    __slots__ = ("_outside", "_part", "_routes", "inside", "own", "pool")

    def __init__(self, part: NatPart, outside: Sequence[str]) -> None:
        self._part = part
        self._routes = RoutingTable(part.routes)
        self._outside = [address_bytes(address) for address in outside]
        self.inside = [address_bytes(address) for address in part.inside]
        self.own = frozenset([*self._outside, *self.inside])
        size = part.behaviour.allocation.addresses if part.behaviour.translates else 0
        self.pool = [address for address in self._outside if len(address) == 4][:size]
        """What is translated to; a packet from inside to one of these is a hairpin."""
        if len(self.pool) < size:
            raise ValueError(f"{part.name} has a pool of {size} IPv4 addresses, but only {len(self.pool)} were given")

    def port_towards(self, address: bytes) -> int | None:
        """Of the NAT, behind which an inside address is; None for one that is outside."""
        return self._routes.port_towards(address)

    def exposed_host(self, size: int) -> bytes | None:
        """The first inside host of a family, whose addresses have ``size`` bytes: the first address behind the NAT that
        is not its own."""
        for prefix, _ in self._part.routes:
            network = ip_network(prefix)
            if network.max_prefixlen == size * 8:
                for address in network.hosts():
                    if address.packed not in self.own:
                        return address.packed
        return None

    def error_source(self, about: bytes, *, inside: bool) -> bytes:
        """The address from which the NAT reports that a packet to ``about`` cannot go on."""
        own = self.inside if inside else self._outside
        if about in own:
            return about
        return next((address for address in own if len(address) == len(about)), about)
