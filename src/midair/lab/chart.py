"""Finding one's way in a blueprint: what a host is behind, which link is its own, and where it can move to. Pure."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING

from midair.lab.blueprint import HostPart, Interface, KernelPart, NatPart, RouterPart
from midair.lab.plan import INTERNET, translates

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from midair.lab.blueprint import Blueprint

__all__ = ["Chart", "Mover"]

Mover = HostPart | NatPart | KernelPart
"""What changes its addresses when a host moves."""
_Port = tuple[str, int]


class Chart:
    """A blueprint, with its parts by name and its cables by their ends."""

    def __init__(self, blueprint: Blueprint) -> None:
        self._parts: dict[str, RouterPart | NatPart | HostPart | KernelPart] = {
            part.name: part
            for parts in (blueprint.routers, blueprint.nats, blueprint.hosts, blueprint.kernels)
            for part in parts
        }
        self._far: dict[_Port, _Port] = {}
        for cable in blueprint.cables:
            here, there = (cable.node, cable.port), (cable.other_node, cable.other_port)
            self._far[here], self._far[there] = there, here

    def update(self, part: Mover) -> None:
        """A part has other addresses now."""
        self._parts[part.name] = part

    def interfaces(self, name: str) -> tuple[Interface, ...]:
        """Of a host or a Linux router, as they are now."""
        part = self._parts[name]
        assert isinstance(part, (HostPart, KernelPart))
        return part.interfaces

    def boxes(self, host: str, interface: int = 0) -> list[NatPart | KernelPart]:
        """What the host is behind, from the inside out, shared boxes too.

        Raises: KeyError when there is no such host or interface.
        """
        return [part for node, _ in self._way(host, interface) if isinstance(part := self._parts[node], _BOX)]

    def access(self, host: str, interface: int = 0) -> tuple[str, int]:
        """The node and port at the inner end of the host's access link. Raises: as ``boxes``."""
        for port in self._way(host, interface):
            far, _ = self._far[port]
            if far == INTERNET or _is_shared(far):
                return port
        raise AssertionError("every way ends at the internet")

    def addresses_from(self, host: str, other: str) -> tuple[str, ...]:
        """Under which addresses ``host`` reaches the first interface of ``other``: its own when what translates
        before it is also before ``host``, else the one the internet sees; and IPv6."""
        target = self._host(other)
        own = _plain(target.interfaces[0].addresses)
        before, around = ([box.name for box in self.boxes(name) if _translates(box)] for name in (other, host))
        if before and around[-len(before) :] != before:
            return (target.outside, *(address for address in own if ":" in address))
        return tuple(own)

    def moved(self, host: str, interface: int = 0) -> list[Mover]:
        """The parts that are another when the host moves to another network like the one it is in: it has other
        addresses, and so has the outermost translating box that is its own.

        Raises: KeyError as ``boxes``; ValueError when there is nowhere to go.
        """
        changed: list[Mover] = []
        for node, port in reversed(list(self._way(host, interface))):
            box = self._parts[node]
            if isinstance(box, _BOX) and _translates(box) and not _is_shared(node):
                changed.append(self._readdressed(box, port))
                break
        new_host = self._readdressed(self._host(host), interface)
        assert isinstance(new_host, HostPart)
        if interface == 0:
            outermost: Mover = new_host
            for box in self.boxes(host):
                if _translates(box):
                    outermost = next((part for part in changed if part.name == box.name), box)
            outside = outermost.outside if isinstance(outermost, NatPart) else outermost.interfaces[0].addresses
            new_host = replace(new_host, outside=_plain(outside)[0])
        return [*changed, new_host]

    def _host(self, name: str) -> HostPart:
        part = self._parts[name]
        assert isinstance(part, HostPart)
        return part

    def _way(self, host: str, interface: int) -> Iterator[_Port]:
        """The ports by which one leaves on the way to the internet."""
        port = host, interface
        while True:
            node, _ = self._far[port]
            yield port
            if node == INTERNET:
                return
            port = node, 0

    def _readdressed(self, part: Mover, port: int) -> Mover:
        if isinstance(part, NatPart):
            return replace(part, outside=self._next(part.name, port, part.outside))
        interface = part.interfaces[port]
        lengths = [address.partition("/")[2] for address in interface.addresses]
        addresses = self._next(part.name, port, _plain(interface.addresses))
        new = replace(interface, addresses=tuple(f"{one}/{two}" for one, two in zip(addresses, lengths, strict=True)))
        interfaces = tuple(new if number == port else old for number, old in enumerate(part.interfaces))
        return replace(part, interfaces=interfaces)

    def _next(self, node: str, port: int, addresses: Iterable[str]) -> tuple[str, ...]:
        """As many other addresses that lead to the same port."""
        far, far_port = self._far[node, port]
        prefixes = [ip_network(prefix) for prefix in _prefixes(self._parts[far], far_port)]
        count = {version: sum(ip_address(address).version == version for address in addresses) for version in (4, 6)}
        found = []
        for text in addresses:
            address = ip_address(text)
            network = max((prefix for prefix in prefixes if address in prefix), key=lambda prefix: prefix.prefixlen)
            usable = network.num_addresses - 3  # neither its own, nor the gateway's, nor the last one
            if usable < 2 * count[address.version]:
                raise ValueError(f"{node} has nowhere to move to: its network has no room for other addresses")
            place = int(address) - int(network[2])
            found.append(str(network[2 + (place + count[address.version]) % usable]))
        return tuple(found)


_BOX = (NatPart, KernelPart)


def _translates(box: NatPart | KernelPart) -> bool:
    return translates(box.behaviour if isinstance(box, NatPart) else box.kind)


def _is_shared(node: str) -> bool:
    return node.startswith("shared")


def _plain(addresses: Iterable[str]) -> list[str]:
    return [str(ip_interface(address).ip) for address in addresses]


def _prefixes(part: RouterPart | NatPart | HostPart | KernelPart, port: int) -> list[str]:
    """What a node thinks is behind a port."""
    if isinstance(part, (RouterPart, NatPart)):
        return [prefix for prefix, where in part.routes if where == port]
    interface: Interface = part.interfaces[port]
    return [*interface.routes, *(str(ip_interface(address).network) for address in interface.addresses)]
