"""What RFC 4787 calls a mapping: an outside endpoint, whose it is, and who may send to it. Pure.

Named a binding here, since :class:`midair.lab.behaviour.Mapping` is the knob that says which connections share one. A
binding lives as long as a connection of it does. Where nothing is translated there are bindings too, of an inside
endpoint to itself: a firewall's memory of whom its host has spoken to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from midair.lab.behaviour import Filtering

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Binding", "Bindings", "Endpoint"]

Endpoint = tuple[bytes, int]
"""An address and a port, or the identifier of an ICMP echo."""


class Binding:
    """One inside endpoint's use of one outside endpoint."""

    __slots__ = ("addresses", "connections", "inside", "key", "outside", "port", "protocol", "remotes")

    def __init__(
        self, protocol: int, inside: Endpoint, outside: Endpoint, *, port: int, key: Hashable | None = None
    ) -> None:
        self.protocol = protocol
        self.inside = inside
        self.outside = outside
        self.port = port
        """Of the NAT, by which the inside endpoint is reached."""
        self.key = key
        """Which connections share it; None when it is one connection's own."""
        self.connections = 0
        self.remotes: set[Endpoint] = set()
        """What it was used towards."""
        self.addresses: set[bytes] = set()
        """Theirs."""

    def use_towards(self, remote: Endpoint) -> None:
        """An outbound packet opens a connection."""
        self.remotes.add(remote)
        self.addresses.add(remote[0])

    def admits(self, filtering: Filtering, remote: Endpoint) -> bool:
        """Whether a connection from ``remote`` is let in."""
        match filtering:
            case Filtering.ENDPOINT_INDEPENDENT:
                return True
            case Filtering.ADDRESS_DEPENDENT:
                return remote[0] in self.addresses
            case Filtering.ADDRESS_AND_PORT_DEPENDENT:
                return remote in self.remotes
            case Filtering.CONNECTION_DEPENDENT:
                return False


class Bindings:
    """All bindings of a NAT."""

    __slots__ = ("_by_key", "_by_outside")

    def __init__(self) -> None:
        self._by_key: dict[Hashable, Binding] = {}
        self._by_outside: dict[tuple[int, bytes, int], list[Binding]] = {}
        """All of one list have the same inside endpoint, so that an outside endpoint is one inside endpoint's."""

    def shared(self, key: Hashable | None) -> Binding | None:
        """The one that a new connection of this kind joins."""
        return self._by_key.get(key) if key is not None else None

    def holders(self, protocol: int, outside: Endpoint) -> list[Binding]:
        """Whose an outside endpoint is: usually one, more when ports are preserved whatever the mapping, or none."""
        return self._by_outside.get((protocol, *outside), [])

    def claim(self, binding: Binding) -> None:
        """A connection is opened on it. If another inside endpoint had the outside endpoint it has lost it."""
        binding.connections += 1
        if binding.key is not None:
            self._by_key[binding.key] = binding
        holders = self._by_outside.setdefault((binding.protocol, *binding.outside), [])
        if binding not in holders:
            if holders and holders[0].inside != binding.inside:
                holders.clear()
            holders.append(binding)

    def release(self, binding: Binding) -> None:
        """A connection of it is over; with the last one it goes itself."""
        binding.connections -= 1
        if binding.connections:
            return
        if binding.key is not None and self._by_key.get(binding.key) is binding:
            del self._by_key[binding.key]
        outside = (binding.protocol, *binding.outside)
        if binding in (holders := self._by_outside.get(outside, [])):
            holders.remove(binding)
            if not holders:
                del self._by_outside[outside]
