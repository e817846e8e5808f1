"""Which addresses are ours, as the routing table tells it. Connecting a UDP socket asks it, and sends nothing."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from midair.endpoint import Endpoint, Family
from midair.port.sockets import new_socket

__all__ = ["is_own_address", "source_address", "source_towards"]

_NOBODY: dict[Family, str] = {4: "192.0.2.1", 6: "2001:db8::1"}
"""Addresses nobody has (RFC 5737, RFC 3849)."""


def source_address(family: Family) -> Endpoint | None:
    """The source of the default route, with port 0; None where the family leads nowhere."""
    address = source_towards(ip_address(_NOBODY[family]))
    return None if address is None or address.is_unspecified or address.is_loopback else Endpoint(address, 0)


def is_own_address(address: IPv4Address | IPv6Address) -> bool:
    """Whether the address is one of this machine: it is when packets to it would start from it."""
    return address.is_loopback or address.is_unspecified or source_towards(address) == address


def source_towards(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address | None:
    """Which of our addresses packets to ``address`` start from; None when there is no way there."""
    remote = Endpoint(address, 9)
    try:
        with new_socket(remote.family, datagram=True) as sock:
            sock.connect(remote.to_sockaddr())
            return Endpoint.from_sockaddr(sock.getsockname()).address
    except OSError:
        return None
