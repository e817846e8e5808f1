"""A full cone, in nftables' maps: endpoint-independent mapping, and filtering by nothing or by address. Pure.

Each outbound packet, when it has been translated, writes the two endpoints of its connection into two maps. By
``inward`` an inbound connection finds the host. By ``outward`` a further outbound connection of an inside endpoint
finds the mapping it has. A port that is in ``inward`` then is somebody else's, and another one is taken.
"""

from __future__ import annotations

from typing import Final

from midair.lab.description import KernelKind
from midair.lab.kernel.names import MAPPED_DESTINATION, MAPPED_SOURCE

__all__ = ["cone_chains"]

_SECONDS: Final = 7440
"""How long a mapping lives after the last outbound packet (RFC 5382 REQ-5)."""


def cone_chains(kind: KernelKind, *, wan: str, lan: str, outside_address: str) -> str:
    """The maps and NAT chains; ``wan`` and ``lan`` are matched with interface names."""
    inbound = f"iifname {wan} jump inbound"
    translation = _translation(f"meta nfproto ipv4 oifname {wan}", "masquerade")
    memory = f"oifname {wan} {_TRANSLATED} jump remember"
    if kind is KernelKind.CONE_HAIRPIN:
        # What is turned around has been given its inside destination before, and comes and goes by the inside.
        turned = f"meta nfproto ipv4 iifname {lan} oifname {lan} ct status dnat"
        inbound += f"\n        iifname {lan} ip daddr {outside_address} jump inbound"
        translation += _translation(turned, f"snat ip to {outside_address}")
        memory += f"\n        {turned} {_TRANSLATED} jump remember"
    known = "meta l4proto . th dport . ip saddr @contacted" if kind is KernelKind.CONE_ADDRESS_FILTER else ""
    return f"""
    map inward {{
        type inet_proto . inet_service : ipv4_addr . inet_service
        flags dynamic,timeout
        timeout {_SECONDS}s
    }}
    map outward {{
        type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
        flags dynamic,timeout
        timeout {_SECONDS}s
    }}
    set contacted {{
        type inet_proto . inet_service . ipv4_addr
        flags dynamic,timeout
        timeout {_SECONDS}s
    }}
    chain destination {{
        type nat hook prerouting priority dstnat
        jump {MAPPED_DESTINATION}
        {inbound}
    }}
    chain inbound {{
        meta nfproto ipv4 meta l4proto {{ tcp, udp }} {known} dnat ip to meta l4proto . th dport map @inward
    }}
    chain source {{
        type nat hook postrouting priority srcnat
        jump {MAPPED_SOURCE}
        {translation}
    }}
    chain translated {{
        type filter hook postrouting priority srcnat + 1
        {memory}
    }}
    chain remember {{
        {_memory("tcp")}
        {_memory("udp")}
    }}
"""


_TRANSLATED: Final = "ct status snat ct direction original meta l4proto { tcp, udp }"


def _translation(where: str, how: str) -> str:
    return f"""
        {where} meta l4proto {{ tcp, udp }} snat ip to ip saddr . meta l4proto . th sport map @outward
        {where} meta l4proto . th sport @inward {how} random
        {where} {how}"""


def _memory(protocol: str) -> str:
    """Once for each protocol, because nft knows the type of a port only when it knows the protocol."""
    address, port = "ct original ip saddr", "ct original proto-src"
    return f"""
        meta l4proto {protocol} update @inward {{ meta l4proto . th sport : {address} . {port} }}
        meta l4proto {protocol} update @outward {{ {address} . meta l4proto . {port} : ip saddr . th sport }}
        meta l4proto {protocol} update @contacted {{ meta l4proto . th sport . ip daddr }}"""
