"""From topologies to a network with every address, route and cable. Pure.

    a ── a.1 ── a.2 ──┐           ┌── internet ── server, proxy
                      shared.1 ───┤
    b ── b.1 ─────────┘           └── (other pairs)

Boxes are numbered from the inside out; those of a second interface are ``a.second.1``. With several topologies the
hosts are ``a0``, ``b0``, ``a1`` and so on, the shared boxes ``shared0.1``. :mod:`midair.lab.addresses` has the ranges.

It is laid from the outside in. Every cable ends in a slice of a network: all of it, or one of several equal parts where
shared boxes have several hosts or boxes behind them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import islice
from typing import TYPE_CHECKING, Final

from midair.lab.addresses import (
    PROXY_ADDRESSES,
    ROUTER_ADDRESSES,
    SERVER_ADDRESSES,
    Range,
    side_prefix,
    side_range,
)
from midair.lab.behaviour import LinkBehaviour, NatBehaviour
from midair.lab.blueprint import Blueprint, Cable, HostPart, Interface, KernelPart, NatPart, Route, RouterPart
from midair.lab.description import KernelKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from midair.lab.description import Box, Side, Topology

__all__ = ["INTERNET", "PROXY", "SERVER", "draw", "translates"]

INTERNET: Final = "internet"
SERVER: Final = "server"
PROXY: Final = "proxy"

_NOT_TRANSLATING: Final = frozenset({KernelKind.FIREWALL_DROP, KernelKind.FIREWALL_RST, KernelKind.FIREWALL_ICMP})
_Network = IPv4Network | IPv6Network
_DEFAULT_ROUTES: Final = ("0.0.0.0/0", "::/0")


def draw(topologies: Sequence[Topology], *, ordinary_addresses: bool = False) -> Blueprint:
    """The network of one or more pairs, which share the internet, the server and the proxy.

    ``ordinary_addresses`` are public ones in no list of reserved addresses, for programs that refuse those.

    Raises: ValueError when there is no room for a topology, or they disagree about the server's link.
    """
    return _Drawing(topologies, ordinary_addresses=ordinary_addresses).blueprint()


@dataclass(frozen=True, slots=True)
class _Slice:
    """Where one cable ends: a network with its gateway, and the part of it that is this cable's."""

    networks: tuple[_Network, ...]
    """One a family."""
    parts: tuple[_Network, ...]
    public: bool

    def gateway(self) -> tuple[str, ...]:
        return tuple(str(network[1]) for network in self.networks)

    def addresses(self, count: int = 1) -> tuple[str, ...]:
        """So many IPv4 ones, and one of IPv6.

        Raises: ValueError when it has not as many.
        """
        found: list[str] = []
        for part in self.parts:
            wanted = count if part.version == 4 else 1
            if part.num_addresses < wanted + 3:
                raise ValueError(f"there is room for {part.num_addresses - 3} outside addresses, not for {wanted}")
            found += (str(part[2 + number]) for number in range(wanted))
        return tuple(found)

    def with_lengths(self, addresses: Iterable[str]) -> tuple[str, ...]:
        """Each with the prefix length of its network."""
        lengths = {network.version: network.prefixlen for network in self.networks}
        return tuple(f"{address}/{lengths[6 if ':' in address else 4]}" for address in addresses)


@dataclass(slots=True)
class _Numbers:
    """What one way of one side counts on: its ranges, and how many networks it has taken from each."""

    public: Range
    prefix6: str
    second_octet: int
    """Of its private networks."""
    ipv6: bool
    taken: Counter[str]

    def network(self, *, public: bool, innermost: bool, parts: int) -> list[_Slice]:
        """A new network, sliced."""
        if public:
            networks: list[_Network] = [self.public.part()]
        elif innermost:
            networks = [ip_network(f"10.{self.second_octet}.{self._count(f'inside {self.second_octet}')}.0/24")]
        else:
            networks = [ip_network(f"100.{64 + self.second_octet}.{self._count(f'carrier {self.second_octet}')}.0/24")]
        if self.ipv6:
            networks.append(ip_network(f"{self.prefix6}:{self._count('ipv6'):x}::/64"))
        split = [islice(network.subnets(prefixlen_diff=(parts - 1).bit_length()), parts) for network in networks]
        return [_Slice(tuple(networks), tuple(slices), public) for slices in zip(*split, strict=True)]

    def _count(self, what: str) -> int:
        self.taken[what] += 1
        return self.taken[what] - 1


@dataclass(frozen=True, slots=True)
class _Way:
    """A chain of boxes with a host's interface at its inner end."""

    host: str
    label: str
    """How its boxes are called, before their numbers."""
    boxes: tuple[Box, ...]
    numbers: _Numbers
    link: LinkBehaviour


class _Drawing:
    def __init__(self, topologies: Sequence[Topology], *, ordinary_addresses: bool) -> None:
        if not topologies:
            raise ValueError("a lab has at least one topology")
        if len({topology.server_link for topology in topologies}) > 1:
            raise ValueError("there is one server for all, so its link must be the same in all topologies")
        self._ordinary = ordinary_addresses
        self._ipv6 = any(topology.ipv6 for topology in topologies)
        self._nats: list[NatPart] = []
        self._kernels: list[KernelPart] = []
        self._interfaces: dict[str, list[Interface]] = {}
        self._outside: dict[str, str] = {}
        self._cables: list[Cable] = []
        self._routes: list[Route] = []
        """Of the internet."""
        self._core_ports = 0
        for name, addresses in ((SERVER, SERVER_ADDRESSES), (PROXY, PROXY_ADDRESSES)):
            self._place_server(name, addresses, topologies[0].server_link)
        for number, topology in enumerate(topologies):
            self._place_pair(topology, number, "" if len(topologies) == 1 else str(number))

    def blueprint(self) -> Blueprint:
        return Blueprint(
            routers=(
                RouterPart(name=INTERNET, addresses=self._families(ROUTER_ADDRESSES), routes=tuple(self._routes)),
            ),
            nats=tuple(self._nats),
            hosts=tuple(
                HostPart(name=name, interfaces=tuple(interfaces), outside=self._outside[name])
                for name, interfaces in self._interfaces.items()
            ),
            kernels=tuple(self._kernels),
            cables=tuple(self._cables),
        )

    def _families(self, addresses: Iterable[str]) -> tuple[str, ...]:
        return tuple(address for address in addresses if self._ipv6 or ":" not in address)

    def _place_server(self, name: str, addresses: Iterable[str], link: LinkBehaviour) -> None:
        own = self._families(addresses)
        self._interfaces[name] = [
            Interface(
                name="eth0",
                addresses=tuple(f"{address}/{64 if ':' in address else 24}" for address in own),
                routes=self._families(_DEFAULT_ROUTES),
            )
        ]
        self._outside[name] = own[0]
        self._join_core(name, (ip_network(address) for address in own), link)

    def _place_pair(self, topology: Topology, number: int, suffix: str) -> None:
        ways: list[_Way] = []
        for index, (letter, side) in enumerate((("a", topology.a), ("b", topology.b))):
            ways += self._ways(topology, side, f"{letter}{suffix}", number, index)
        if not topology.shared:
            for way in ways:
                (place,) = way.numbers.network(public=True, innermost=False, parts=1)
                node, networks = self._lay(way, len(way.boxes), place, outside="")
                self._join_core(node, networks, way.link)
            return
        shared = _Way(f"shared{suffix}", f"shared{suffix}", topology.shared, ways[0].numbers, LinkBehaviour())
        (place,) = shared.numbers.network(public=True, innermost=False, parts=1)
        node, networks = self._lay(shared, len(shared.boxes), place, outside="", ways=ways)
        self._join_core(node, networks, shared.link)

    def _ways(self, topology: Topology, side: Side, host: str, number: int, index: int) -> list[_Way]:
        public = side_range(number, index, ordinary=self._ordinary)
        taken: Counter[str] = Counter()
        link = (topology.a_link, topology.b_link)[index]
        ways = []
        for label, boxes, first_octet in ((host, side.boxes, 1), (f"{host}.second", side.second, 11)):
            if boxes is not None:
                octet = first_octet + index
                # IPv6 networks are counted over both ways of a side, private ones are told apart by their octet.
                numbers = _Numbers(public, side_prefix(number, index), octet, topology.ipv6, taken)
                ways.append(_Way(host, label, boxes, numbers, link))
        return ways

    def _lay(
        self, way: _Way, count: int, place: _Slice, *, outside: str, ways: Sequence[_Way] = ()
    ) -> tuple[str, list[_Network]]:
        """Lays the innermost ``count`` boxes of a way and what is behind them, from ``place`` inwards.

        ``outside`` is the public IPv4 address of a translating box further out, ``ways`` what is behind a shared way.
        Returns the node whose port 0 the next cable outwards goes to, and the networks that are reached through it.
        """
        if count == 0:
            return self._place_host(way, place, outside)
        name, kind = f"{way.label}.{count}", way.boxes[count - 1].kind
        inner: Sequence[_Way] = ways if count == 1 and ways else (way,)
        below = [*way.boxes[: count - 1], *(box for further in ways for box in further.boxes)]
        slices = way.numbers.network(
            public=place.public and not translates(kind),
            innermost=not any(translates(box.kind) for box in below),
            parts=len(inner),
        )
        own = place.addresses(kind.allocation.addresses if isinstance(kind, NatBehaviour) else 1)
        if translates(kind):
            outside = outside or own[0]
        behind: list[list[_Network]] = []
        for port, (further, inner_place) in enumerate(zip(inner, slices, strict=True), start=1):
            if further is way:
                node, networks = self._lay(way, count - 1, inner_place, outside=outside, ways=ways)
                link = LinkBehaviour()
            else:
                node, networks = self._lay(further, len(further.boxes), inner_place, outside=outside)
                link = further.link
            behind.append(networks)
            self._cable(node, name, port, link)
        if isinstance(kind, KernelKind):
            self._kernels.append(KernelPart(name=name, kind=kind, interfaces=_kernel_interfaces(place, slices, behind)))
        else:
            self._nats.append(
                NatPart(
                    name=name,
                    behaviour=kind,
                    outside=own,
                    inside=slices[0].gateway(),
                    routes=tuple(
                        (str(network), port) for port, networks in enumerate(behind, start=1) for network in networks
                    ),
                )
            )
        through = [
            network for networks in behind for network in networks if network.version == 6 or not translates(kind)
        ]
        return name, [*place.parts, *through]

    def _place_host(self, way: _Way, place: _Slice, outside: str) -> tuple[str, list[_Network]]:
        interfaces = self._interfaces.setdefault(way.host, [])
        addresses = place.addresses()
        versions = {network.version for network in place.networks}
        interfaces.append(
            Interface(
                name=f"eth{len(interfaces)}",
                addresses=place.with_lengths(addresses),
                routes=tuple(route for route in _DEFAULT_ROUTES if ip_network(route).version in versions),
            )
        )
        self._outside.setdefault(way.host, outside or addresses[0])
        return way.host, list(place.parts)

    def _join_core(self, node: str, networks: Iterable[_Network], link: LinkBehaviour) -> None:
        self._routes += [(str(network), self._core_ports) for network in networks]
        self._cable(node, INTERNET, self._core_ports, link)
        self._core_ports += 1

    def _cable(self, node: str, other: str, other_port: int, link: LinkBehaviour) -> None:
        """From a node's way out: its port 0, but a host's newest interface."""
        port = len(self._interfaces[node]) - 1 if node in self._interfaces else 0
        self._cables.append(Cable(node=node, port=port, other_node=other, other_port=other_port, there=link, back=link))


def translates(kind: NatBehaviour | KernelKind) -> bool:
    """Whether hosts behind such a box have private IPv4 addresses."""
    return kind.translates if isinstance(kind, NatBehaviour) else kind not in _NOT_TRANSLATING


def _kernel_interfaces(
    place: _Slice, slices: Sequence[_Slice], behind: Sequence[Sequence[_Network]]
) -> tuple[Interface, ...]:
    """``wan``, and ``lan0`` and so on. Where several share a network they share the gateway's address too, and what is
    behind each is told by routes."""
    versions = {network.version for network in place.networks}
    interfaces = [
        Interface(
            name="wan",
            addresses=place.with_lengths(place.addresses()),
            routes=tuple(route for route in _DEFAULT_ROUTES if ip_network(route).version in versions),
        )
    ]
    for number, (inner, networks) in enumerate(zip(slices, behind, strict=True)):
        if len(slices) == 1:
            addresses = inner.with_lengths(inner.gateway())
            routes = tuple(str(network) for network in networks if network not in inner.networks)
        else:
            addresses = tuple(f"{address}/{128 if ':' in address else 32}" for address in inner.gateway())
            routes = tuple(map(str, networks))
        interfaces.append(Interface(name=f"lan{number}", addresses=addresses, routes=routes))
    return tuple(interfaces)
