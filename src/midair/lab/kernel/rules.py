"""The nftables rules of each kind of Linux router. Pure: text for ``nft -f``.

One table holds everything, filters and NAT for both IP versions. An unsolicited packet to a translated host is
addressed to the router itself and passes its input hook; every other one is forwarded. IPv6 is filtered like IPv4 and
never translated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from midair.lab.description import KernelKind
from midair.lab.kernel.cone import cone_chains
from midair.lab.kernel.names import (
    COUNTER_INCOMING,
    COUNTER_OUTGOING,
    COUNTER_REFUSED,
    MAPPED_DESTINATION,
    MAPPED_FORWARD,
    MAPPED_SOURCE,
    TABLE,
)
from midair.lab.kernel.openwrt import openwrt_chains

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ruleset"]

_SYN: Final = "tcp flags & (syn | ack | rst) == syn"

_DROP: Final = "drop"
_ICMP: Final = "reject with icmpx type port-unreachable"
_RST: Final = f"meta l4proto tcp reject with tcp reset\n        {_ICMP}"

_REACTIONS: Final = {
    # To what is addressed to the router, and to what it would have to forward. The others drop.
    KernelKind.MASQUERADE_RST: ("accept", _RST),
    KernelKind.MASQUERADE_REJECT_RST: (_RST, _RST),
    KernelKind.MASQUERADE_REJECT_ICMP: (_ICMP, _ICMP),
    KernelKind.MASQUERADE_DMZ: ("accept", _DROP),
    KernelKind.FIREWALL_RST: (_RST, _RST),
    KernelKind.FIREWALL_ICMP: (_ICMP, _ICMP),
}
_FIREWALLS: Final = (KernelKind.FIREWALL_DROP, KernelKind.FIREWALL_RST, KernelKind.FIREWALL_ICMP)
_CONES: Final = (KernelKind.CONE, KernelKind.CONE_ADDRESS_FILTER, KernelKind.CONE_HAIRPIN)
_MASQUERADE: Final = {
    KernelKind.MASQUERADE_RANDOM: "masquerade random",
    KernelKind.MASQUERADE_FULLY_RANDOM: "masquerade fully-random",
}


def ruleset(
    kind: KernelKind,
    *,
    outside: str = "wan",
    inside: Sequence[str] = ("lan0",),
    outside_address: str = "",
) -> str:
    """The rules of a router with these interfaces. Loading them replaces those of an earlier call.

    ``outside_address`` is its IPv4 address outside, which CONE_HAIRPIN needs: what it turns around is from there.

    Raises: ValueError when it is needed and missing.
    """
    if kind is KernelKind.CONE_HAIRPIN and not outside_address:
        raise ValueError(f"{kind} needs its outside address")
    wan = f'"{outside}"'
    lan = "{ " + ", ".join(f'"{name}"' for name in inside) + " }"
    if kind is KernelKind.OPENWRT:
        chains = openwrt_chains(wan=wan, lan=lan, refused=f"{_SYN} counter name {COUNTER_REFUSED}")
    else:
        chains = _filter_chains(kind, wan, lan, outside_address) + _nat_chains(kind, wan, lan, outside_address)
    return f"""
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
    counter {COUNTER_OUTGOING} {{ }}
    counter {COUNTER_INCOMING} {{ }}
    counter {COUNTER_REFUSED} {{ }}

    chain {MAPPED_FORWARD} {{ }}
    chain {MAPPED_DESTINATION} {{ }}
    chain {MAPPED_SOURCE} {{ }}

    chain arriving {{
        type filter hook prerouting priority mangle
        iifname {wan} {_SYN} counter name {COUNTER_INCOMING}
    }}
    chain leaving {{
        type filter hook postrouting priority mangle
        oifname {wan} {_SYN} counter name {COUNTER_OUTGOING}
    }}
{chains}
}}
"""


def _filter_chains(kind: KernelKind, wan: str, lan: str, outside_address: str) -> str:
    to_the_router, through_the_router = _REACTIONS.get(kind, (_DROP, _DROP))
    # What comes from inside for the outside address and was not turned around has no mapping.
    turned = f"iifname {lan} ip daddr {outside_address} jump guard_input" if kind is KernelKind.CONE_HAIRPIN else ""
    chains = f"""
    chain to_the_router {{
        type filter hook input priority filter
        iifname {wan} jump guard_input
        {turned}
    }}
    chain through_the_router {{
        type filter hook forward priority filter
        jump {MAPPED_FORWARD}
        iifname {wan} jump guard_forward
    }}
    chain guard_input {{
        ct state established,related accept
        meta l4proto {{ icmp, icmpv6 }} accept comment "neighbour discovery lives in it"
        {_SYN} counter name {COUNTER_REFUSED}
        {to_the_router}
    }}
    chain guard_forward {{
        ct state established,related accept
        ct status dnat accept
        {_SYN} counter name {COUNTER_REFUSED}
        {through_the_router}
    }}
"""
    if kind is KernelKind.MASQUERADE_DMZ:
        # The silent host is the router's own stack: what it accepts stays in the table as if it had been forwarded to
        # a host, and its RST, which would delete the entry, is dropped before connection tracking sees it.
        chains += f"""
    chain silence {{
        type filter hook output priority raw
        oifname {wan} tcp flags & rst == rst drop
    }}
"""
    return chains


def _nat_chains(kind: KernelKind, wan: str, lan: str, outside_address: str) -> str:
    if kind in _FIREWALLS:
        return ""
    if kind in _CONES:
        return cone_chains(kind, wan=wan, lan=lan, outside_address=outside_address)
    return f"""
    chain destination {{
        type nat hook prerouting priority dstnat
        jump {MAPPED_DESTINATION}
    }}
    chain source {{
        type nat hook postrouting priority srcnat
        jump {MAPPED_SOURCE}
        meta nfproto ipv4 oifname {wan} {_MASQUERADE.get(kind, "masquerade")}
    }}
"""
