"""A network in all its parts: every node, address, route and link. Pure values, which the wire, the simulated net and
the kernel's routers are all built from; :mod:`midair.lab.plan` draws one from a topology.

Links are point to point and carry IP packets, no Ethernet: what a router does not route does not arrive.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from midair.lab.behaviour import LinkBehaviour, NatBehaviour
from midair.lab.description import KernelKind

__all__ = ["Blueprint", "Cable", "HostPart", "Interface", "KernelPart", "NatPart", "Route", "RouterPart"]

Route = tuple[str, int]
"""A prefix, ``192.0.2.0/24`` or ``2001:db8::/32``, and the port it is reached by. The longest prefix counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterPart:
    """A router of the internet; it decrements TTL and answers by ICMP what it cannot forward."""

    name: str
    addresses: tuple[str, ...]
    """Its own, from which it sends ICMP errors: the first of the right family."""
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NatPart:
    """A NAT or firewall of the lab's own make. Port 0 is outside, the others inside."""

    name: str
    behaviour: NatBehaviour
    outside: tuple[str, ...]
    """Its outside addresses: ``behaviour.allocation.addresses`` IPv4 ones, the pool, then one IPv6 if any."""
    inside: tuple[str, ...]
    """Its own inside addresses, one a family."""
    routes: tuple[Route, ...]
    """To the inside networks; everything else is outside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """Of a host or a Linux router: a TUN; its index is the node's port."""

    name: str
    addresses: tuple[str, ...]
    """With prefix lengths."""
    routes: tuple[str, ...] = ()
    """Prefixes reached through it: ``0.0.0.0/0``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPart:
    """An end of the network: a network namespace, or a simulated host."""

    name: str
    interfaces: tuple[Interface, ...]
    outside: str = ""
    """The IPv4 address under which the internet sees its first interface (the first of a pool)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelPart:
    """A Linux router in a network namespace. Interface 0 is outside (``wan``), the others inside (``lan0``...)."""

    name: str
    kind: KernelKind
    interfaces: tuple[Interface, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cable:
    """A link between two ports."""

    node: str
    port: int
    other_node: str
    other_port: int
    there: LinkBehaviour = field(default_factory=LinkBehaviour)
    """From ``node`` to ``other_node``."""
    back: LinkBehaviour = field(default_factory=LinkBehaviour)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """The whole network."""

    routers: tuple[RouterPart, ...] = ()
    nats: tuple[NatPart, ...] = ()
    hosts: tuple[HostPart, ...] = ()
    kernels: tuple[KernelPart, ...] = ()
    cables: tuple[Cable, ...] = ()
