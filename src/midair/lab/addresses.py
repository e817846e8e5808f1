"""Which addresses the lab uses. Pure.

Public ones are those reserved for documentation (RFC 5737, RFC 3849), and for the second and every further pair those
reserved for benchmarks (RFC 2544): a packet that got out would go nowhere. Between a home router and a carrier's NAT
they are from RFC 6598, inside from RFC 1918. Each pair has the same inside addresses.

                    pair 0, side a / side b           pair n                                server, proxy
    public IPv4     198.51.100.0/25, 203.0.113.0/25   198.18.0.0/15, a /25 for each side    192.0.2.10 .11, 192.0.2.20
    carrier IPv4    100.65.0.0/16, 100.66.0.0/16      the same                              (a second interface: +10)
    inside IPv4     10.1.0.0/16, 10.2.0.0/16          the same
    IPv6            2001:db8:a::/48, 2001:db8:b::/48  2001:db8:<n>a::/48, <n>b::/48         2001:db8:5::10, ::20
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Final

__all__ = [
    "MOST_PAIRS",
    "PROXY_ADDRESSES",
    "ROUTER_ADDRESSES",
    "SERVER_ADDRESSES",
    "Range",
    "side_prefix",
    "side_range",
]

SERVER_ADDRESSES: Final = ("192.0.2.10", "192.0.2.11", "2001:db8:5::10")
"""The second one lets a NAT check see whether a mapping depends on the destination's address."""
PROXY_ADDRESSES: Final = ("192.0.2.20", "2001:db8:5::20")
ROUTER_ADDRESSES: Final = ("192.0.2.1", "2001:db8:5::1")
"""The internet's, from which it sends ICMP errors."""

MOST_PAIRS: Final = 512
"""As far as the ranges go."""
_DOCUMENTATION: Final = (IPv4Network("198.51.100.0/25"), IPv4Network("203.0.113.0/25"))
_BENCHMARK: Final = IPv4Address("198.18.0.0")
_ORDINARY: Final = IPv4Address("11.0.0.0")
"""Somebody's (RFC 790), who does not announce them; what takes them for public need not be told otherwise."""
_SIDE_SIZE: Final = 128
_PART_LENGTH: Final = 27


class Range:
    """The public IPv4 addresses of one side, given out in parts of 30, one for each network that needs them."""

    def __init__(self, network: IPv4Network) -> None:
        self._parts = network.subnets(new_prefix=_PART_LENGTH)

    def part(self) -> IPv4Network:
        """The next one.

        Raises: ValueError when all four are in use.
        """
        try:
            return next(self._parts)
        except StopIteration:
            raise ValueError("a side has four public networks at most: fewer firewalls behind one another") from None


def side_range(pair: int, side: int, *, ordinary: bool = False) -> Range:
    """Of side 0 or 1 of a pair. ``ordinary``: addresses that are in no list of reserved ones.

    Raises: ValueError for a pair beyond MOST_PAIRS.
    """
    if pair >= MOST_PAIRS:
        raise ValueError(f"a lab has room for {MOST_PAIRS} pairs")
    if ordinary:
        first = _ORDINARY + (2 * pair + side) * _SIDE_SIZE
    elif pair == 0:
        return Range(_DOCUMENTATION[side])
    else:
        first = _BENCHMARK + (2 * (pair - 1) + side) * _SIDE_SIZE
    return Range(IPv4Network((first, 32 - (_SIDE_SIZE - 1).bit_length())))


def side_prefix(pair: int, side: int) -> str:
    """The first 48 bits of a side's IPv6 addresses, ``2001:db8:a``."""
    return f"2001:db8:{pair or ''}{'ab'[side]}"
