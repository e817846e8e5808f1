"""Whether an address is one of the internet's. Pure."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

__all__ = ["is_public", "private_range"]

_PRIVATE = tuple(
    ip_network(block)
    for block in (
        "10.0.0.0/8",  # RFC 1918
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # RFC 6598: between a customer and a carrier's NAT
        "192.0.0.0/24",  # RFC 6333: the inside of DS-Lite
        "169.254.0.0/16",  # RFC 3927
        "fc00::/7",  # RFC 4193
        "fe80::/10",
    )
)

_SITE = 48


@lru_cache(maxsize=1024)
def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an outside address is one of the internet's, as far as the address tells.

    Not ``is_global``: that also leaves out the documentation addresses, which no NAT stands behind.
    """
    return private_range(address) is None


@lru_cache(maxsize=1024)
def private_range(address: IPv4Address | IPv6Address) -> IPv4Network | IPv6Network | None:
    """Which of the ranges an address is of that are used again and again; None for one of the internet's.

    Of the unique local addresses of IPv6 it is one site's (RFC 4193 3.1).
    """
    for block in _PRIVATE:
        if address.version == block.version and address in block:
            return ip_network((address, _SITE), strict=False) if address.version == 6 else block
    return None
