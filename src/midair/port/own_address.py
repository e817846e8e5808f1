"""Which addresses are ours, as the routing table tells it. Connecting a UDP socket asks it, and sends nothing; to list
them all, Linux has files."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise
from pathlib import Path

from midair.endpoint import Endpoint, Family
from midair.port.sockets import new_socket

__all__ = ["is_own_address", "own_addresses", "source_address", "source_towards"]

_NOBODY: dict[Family, str] = {4: "192.0.2.1", 6: "2001:db8::1"}
"""Addresses nobody has (RFC 5737, RFC 3849)."""
_FILES: dict[Family, Path] = {  # of the thread, which may be in another network than its process
    4: Path("/proc/thread-self/net/fib_trie"),
    6: Path("/proc/thread-self/net/if_inet6"),
}
_FLEETING = 0x01 | 0x20 | 0x40
"""IFA_F_TEMPORARY, IFA_F_DEPRECATED, IFA_F_TENTATIVE of linux/if_addr.h."""


def source_address(family: Family) -> Endpoint | None:
    """The source of the default route, with port 0; None where the family leads nowhere."""
    address = source_towards(ip_address(_NOBODY[family]))
    return None if address is None or address.is_unspecified or address.is_loopback else Endpoint(address, 0)


def is_own_address(address: IPv4Address | IPv6Address) -> bool:
    """Whether the address is one of this machine: it is when packets to it would start from it."""
    return address.is_loopback or address.is_unspecified or source_towards(address) == address


def own_addresses(family: Family) -> list[IPv4Address | IPv6Address]:
    """All that this machine keeps, but loopback and link-local ones. Empty where the system does not list them."""
    try:
        lines = _FILES[family].read_text("ascii").splitlines()
    except (OSError, UnicodeError):
        return []
    found = _from_trie(lines) if family == 4 else _from_interfaces(lines)
    return [address for address in dict.fromkeys(found) if not address.is_loopback and not address.is_link_local]


def _from_trie(lines: list[str]) -> list[IPv4Address | IPv6Address]:
    """An address, and in the next line what it is: ``/32 host LOCAL``."""
    return [
        ip_address(line.split()[-1])
        for line, following in pairwise(lines)
        if line.strip().startswith("|-- ") and following.strip() == "/32 host LOCAL"
    ]


def _from_interfaces(lines: list[str]) -> list[IPv4Address | IPv6Address]:
    """32 digits, the interface's number, prefix length, scope and flags, in hexadecimal, and the interface's name."""
    return [
        IPv6Address(int(address, 16))
        for address, _, _, scope, flags, *_ in map(str.split, lines)
        if int(scope, 16) == 0 and not int(flags, 16) & _FLEETING
    ]


def source_towards(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address | None:
    """Which of our addresses packets to ``address`` start from; None when there is no way there."""
    remote = Endpoint(address, 9)
    try:
        with new_socket(remote.family, datagram=True) as sock:
            sock.connect(remote.to_sockaddr())
            return Endpoint.from_sockaddr(sock.getsockname()).address
    except OSError:
        return None
