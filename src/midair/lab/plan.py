"""The lab's map as a value: which nodes there are, how they are cabled, and every address. Pure.

    a ── [nat_a] ── core ── [nat_b] ── b        Public addresses are those reserved for documentation
                     │                          (RFC 5737, RFC 3849), so a packet that got out would go nowhere.
                  server

                       side A                      side B                     server
    core's end         198.51.100.1/25             203.0.113.1/25             192.0.2.1/24
    outside            198.51.100.2                203.0.113.2                192.0.2.10 and 192.0.2.11
    behind a NAT       10.1.0.1/24, hosts from .2  10.2.0.1/24, hosts from .2
    behind a firewall  198.51.100.129/25, hosts from .130   203.0.113.129/25
    IPv6 outside       2001:db8:a::/64             2001:db8:b::/64            2001:db8:5::10
    IPv6 inside        2001:db8:a:1::/64           2001:db8:b:1::/64

A host without NAT has the outside address itself. The server's second address lets a NAT check see whether a mapping
depends on the destination.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_interface

from midair.lab.kernel_nat import INSIDE, OUTSIDE, NatKind

__all__ = ["CORE", "SERVER", "Cable", "Interface", "Node", "Plan", "make_plan"]

CORE = "core"
SERVER = "server"
_HOST_INTERFACE = "eth0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """One network interface; a cable makes it, unless it is a bridge."""

    name: str
    addresses: tuple[str, ...] = ()
    """With the length of the prefix: ``192.0.2.1/24``."""
    bridge: tuple[str, ...] = ()
    """The interfaces it joins, when it is a bridge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One network stack."""

    name: str
    interfaces: tuple[Interface, ...]
    routes: tuple[str, ...]
    """``192.0.2.0/24 via 198.51.100.1``."""
    router: bool = False
    nat: NatKind | None = None
    """Whose rules it has."""
    outside: str = ""
    """For a host: the IPv4 address under which the internet sees it."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """All its addresses, without prefix lengths."""
        return tuple(str(ip_interface(address).ip) for port in self.interfaces for address in port.addresses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cable:
    """A virtual Ethernet pair."""

    node: str
    interface: str
    other_node: str
    other_interface: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The whole map."""

    nodes: tuple[Node, ...]
    cables: tuple[Cable, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """What the core sees of a side, and what is behind it."""

    nodes: tuple[Node, ...]
    cables: tuple[Cable, ...]
    core_interface: Interface
    core_routes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbers:
    """A side's address ranges, each to be completed by the number of a host."""

    letter: str
    public: str
    private: str
    ipv6: str


_SIDE_A = _Numbers(letter="a", public="198.51.100", private="10.1.0", ipv6="2001:db8:a")
_SIDE_B = _Numbers(letter="b", public="203.0.113", private="10.2.0", ipv6="2001:db8:b")


def make_plan(nat_a: NatKind, nat_b: NatKind, *, same_lan: bool, ipv6: bool) -> Plan:
    """The map of a lab.

    Raises: ValueError when both hosts are to be on one LAN, but behind different NATs or none.
    """
    if same_lan:
        if nat_a is not nat_b or nat_a is NatKind.NONE:
            raise ValueError(f"hosts on one LAN are behind one router, not behind {nat_a} and {nat_b}")
        sides = [_behind_router(_SIDE_A, nat_a, ("a", "b"))]
    else:
        sides = [
            _public(numbers, host) if kind is NatKind.NONE else _behind_router(numbers, kind, (host,))
            for numbers, kind, host in ((_SIDE_A, nat_a, "a"), (_SIDE_B, nat_b, "b"))
        ]
    server = Node(
        name=SERVER,
        interfaces=(
            Interface(name=_HOST_INTERFACE, addresses=("192.0.2.10/24", "192.0.2.11/24", "2001:db8:5::10/64")),
        ),
        routes=("0.0.0.0/0 via 192.0.2.1", "::/0 via 2001:db8:5::1"),
        outside="192.0.2.10",
    )
    core = Node(
        name=CORE,
        interfaces=(
            Interface(name="to_server", addresses=("192.0.2.1/24", "2001:db8:5::1/64")),
            *(side.core_interface for side in sides),
        ),
        routes=tuple(route for side in sides for route in side.core_routes),
        router=True,
    )
    nodes = [core, server, *(node for side in sides for node in side.nodes)]
    to_server = Cable(node=CORE, interface="to_server", other_node=SERVER, other_interface=_HOST_INTERFACE)
    return Plan(
        nodes=tuple(nodes if ipv6 else map(_without_ipv6, nodes)),
        cables=(to_server, *(cable for side in sides for cable in side.cables)),
    )


def _public(side: _Numbers, host: str) -> _Side:
    """A host with a public address of its own."""
    node = Node(
        name=host,
        interfaces=(Interface(name=_HOST_INTERFACE, addresses=(f"{side.public}.2/25", f"{side.ipv6}::2/64")),),
        routes=(f"0.0.0.0/0 via {side.public}.1", f"::/0 via {side.ipv6}::1"),
        outside=f"{side.public}.2",
    )
    return _Side(
        nodes=(node,),
        cables=(_to_core(side, host, _HOST_INTERFACE),),
        core_interface=_core_interface(side),
    )


def _behind_router(side: _Numbers, kind: NatKind, hosts: tuple[str, ...]) -> _Side:
    """Hosts on the LAN of a NAT or a firewall."""
    router = f"nat_{side.letter}"
    if kind.translates:
        network, prefix, first = side.private, 24, 1
        core_routes: tuple[str, ...] = ()
    else:
        network, prefix, first = side.public, 25, 129
        core_routes = (f"{side.public}.128/25 via {side.public}.2",)
    inside_ipv6 = f"{side.ipv6}:1"
    gateway_addresses = (f"{network}.{first}/{prefix}", f"{inside_ipv6}::1/64")
    if len(hosts) == 1:
        lan_ends: tuple[str, ...] = (INSIDE,)
        lan = Interface(name=INSIDE, addresses=gateway_addresses)
    else:
        lan_ends = tuple(f"{INSIDE}_{host}" for host in hosts)
        lan = Interface(name=INSIDE, addresses=gateway_addresses, bridge=lan_ends)
    gateway = Node(
        name=router,
        interfaces=(Interface(name=OUTSIDE, addresses=(f"{side.public}.2/25", f"{side.ipv6}::2/64")), lan),
        routes=(f"0.0.0.0/0 via {side.public}.1", f"::/0 via {side.ipv6}::1"),
        router=True,
        nat=kind,
    )
    nodes = [gateway]
    cables = [_to_core(side, router, OUTSIDE)]
    for number, (host, lan_end) in enumerate(zip(hosts, lan_ends, strict=True), start=1):
        address = f"{network}.{first + number}"
        nodes.append(
            Node(
                name=host,
                interfaces=(
                    Interface(
                        name=_HOST_INTERFACE, addresses=(f"{address}/{prefix}", f"{inside_ipv6}::{number + 1}/64")
                    ),
                ),
                routes=(f"0.0.0.0/0 via {network}.{first}", f"::/0 via {inside_ipv6}::1"),
                outside=f"{side.public}.2" if kind.translates else address,
            )
        )
        cables.append(Cable(node=router, interface=lan_end, other_node=host, other_interface=_HOST_INTERFACE))
    return _Side(
        nodes=tuple(nodes),
        cables=tuple(cables),
        core_interface=_core_interface(side),
        core_routes=(*core_routes, f"{inside_ipv6}::/64 via {side.ipv6}::2"),
    )


def _core_interface(side: _Numbers) -> Interface:
    return Interface(name=f"to_{side.letter}", addresses=(f"{side.public}.1/25", f"{side.ipv6}::1/64"))


def _to_core(side: _Numbers, node: str, interface: str) -> Cable:
    return Cable(node=CORE, interface=f"to_{side.letter}", other_node=node, other_interface=interface)


def _without_ipv6(node: Node) -> Node:
    interfaces = tuple(
        replace(port, addresses=tuple(address for address in port.addresses if ":" not in address))
        for port in node.interfaces
    )
    return replace(node, interfaces=interfaces, routes=tuple(route for route in node.routes if ":" not in route))
