"""What came of asking a router for a port, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from midair.endpoint import Endpoint
from midair.nat.address import is_public

__all__ = [
    "Address",
    "MalformedError",
    "MappingReport",
    "Outcome",
    "PortMapping",
    "Protocol",
    "Result",
    "can_be_external",
    "is_public",
]

Address = IPv4Address | IPv6Address


class MalformedError(Exception):
    """What came from a router is no message of the protocol."""


class Protocol(StrEnum):
    """The three ways a router can be asked."""

    PCP = "pcp"
    """Port Control Protocol, RFC 6887."""
    NAT_PMP = "nat-pmp"
    """NAT Port Mapping Protocol, RFC 6886."""
    UPNP = "upnp"
    """UPnP Internet Gateway Device, versions 1 and 2."""


class Outcome(StrEnum):
    """How one protocol went at one router."""

    MAPPED = "mapped"
    """The router gave us a port."""
    REFUSED = "refused"
    """It speaks the protocol and said no."""
    NOT_SPOKEN = "not-spoken"
    """It said that it does not speak the protocol: another version, or nobody listens there."""
    SILENT = "silent"
    """Nobody answered in time."""
    BROKEN = "broken"
    """What it answered makes no sense, or points elsewhere."""
    NOT_NEEDED = "not-needed"
    """It offers the protocol; another one had given us a port already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMapping:
    """A TCP port at a router that leads to one of ours."""

    protocol: Protocol
    gateway: Address
    internal: Endpoint
    """Where it leads: our address, as the router sees it, and our port."""
    external: Endpoint
    """Where the router takes connections for us. For an IPv6 pinhole that is ``internal`` itself."""
    lifetime: float | None
    """Seconds the router granted last, counted from when it did; None: until it is removed, even should we crash."""

    @property
    def public(self) -> bool:
        """False where the router itself is behind another NAT, which then has the say."""
        return is_public(self.external.address)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one protocol went at one router."""

    gateway: Address
    protocol: Protocol
    outcome: Outcome
    code: int | None = None
    """The protocol's own number for a refusal: a PCP or NAT-PMP result, a UPnP error code."""
    text: str = ""
    """Why, in words; never what the router sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingReport:
    """What the routers said, for a person or a later decision."""

    results: tuple[Result, ...]
    """One for each router and protocol that was asked."""
    double_nat: bool | None
    """True when a router says, or shows by its own address, that it is behind another NAT; None: nothing was learnt."""

    @property
    def offered(self) -> frozenset[Protocol]:
        """The protocols somebody answered in."""
        return frozenset(
            each.protocol for each in self.results if each.outcome not in (Outcome.SILENT, Outcome.NOT_SPOKEN)
        )


def can_be_external(endpoint: Endpoint) -> bool:
    """Whether a mapping can be at this endpoint at all: one host's unicast address, and a port."""
    address = endpoint.address
    if not endpoint.port or address.is_multicast or address.is_unspecified or address.is_loopback:
        return False
    return not (address.version == 4 and (int(address) >> 28 == 0xF or int(address) >> 24 == 0))
