"""What each kind of Linux router does, in the words of the lab's own NAT. Pure.

Three things about a Linux router these words cannot say. Its mapping is of single connections: two inside hosts may
have one outside port as long as they use it towards different endpoints. A packet to its own outside address from
inside, without hairpinning, meets the router's own stack, which answers a SYN by RST. OpenWrt refuses only 25
unsolicited SYNs a second by RST, and drops more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from midair.lab.behaviour import (
    Allocation,
    Filtering,
    Hairpin,
    Mapping,
    NatBehaviour,
    NatTimers,
    PortRule,
    Reaction,
    SequenceCheck,
    Unsolicited,
)
from midair.lab.description import KernelKind

if TYPE_CHECKING:
    from collections.abc import Mapping as Dictionary

__all__ = ["behaviour_of"]

_LINUX: Final = NatBehaviour(
    mapping=Mapping.ENDPOINT_INDEPENDENT,
    filtering=Filtering.CONNECTION_DEPENDENT,
    allocation=Allocation(rule=PortRule.PRESERVING_UNTIL_CLASH),
    unsolicited=Unsolicited.DROP,
    sequence_check=SequenceCheck.LEAK,
    on_rst=Reaction.DELETES,
    on_icmp=Reaction.KEEPS,
    hairpin=Hairpin.NONE,
    # Defaults of nf_conntrack: SYN_SENT, ESTABLISHED, TIME_WAIT, UDP without an answer.
    timers=NatTimers(opening=120.0, established=432000.0, closing=120.0, udp=30.0),
)
_RANDOM: Final = replace(
    _LINUX, mapping=Mapping.CONNECTION_DEPENDENT, allocation=Allocation(rule=PortRule.RANDOM, low=1024, high=65535)
)
_FIREWALL: Final = replace(_LINUX, mapping=Mapping.NONE)
_CONE: Final = replace(_LINUX, filtering=Filtering.ENDPOINT_INDEPENDENT)

_BEHAVIOURS: Final[Dictionary[KernelKind, NatBehaviour]] = {
    KernelKind.MASQUERADE_DROP: _LINUX,
    KernelKind.MASQUERADE_RST: replace(_LINUX, unsolicited=Unsolicited.RST),
    KernelKind.MASQUERADE_REJECT_RST: replace(_LINUX, unsolicited=Unsolicited.RST),
    KernelKind.MASQUERADE_REJECT_ICMP: replace(_LINUX, unsolicited=Unsolicited.ICMP_PORT),
    KernelKind.MASQUERADE_DMZ: replace(_LINUX, unsolicited=Unsolicited.SILENT_DMZ),
    KernelKind.MASQUERADE_RANDOM: _RANDOM,
    KernelKind.MASQUERADE_FULLY_RANDOM: _RANDOM,
    KernelKind.CONE: _CONE,
    KernelKind.CONE_ADDRESS_FILTER: replace(_LINUX, filtering=Filtering.ADDRESS_DEPENDENT),
    KernelKind.CONE_HAIRPIN: replace(_CONE, hairpin=Hairpin.EXTERNAL_SOURCE),
    KernelKind.FIREWALL_DROP: _FIREWALL,
    KernelKind.FIREWALL_RST: replace(_FIREWALL, unsolicited=Unsolicited.RST),
    KernelKind.FIREWALL_ICMP: replace(_FIREWALL, unsolicited=Unsolicited.ICMP_PORT),
    KernelKind.OPENWRT: replace(
        _LINUX,
        unsolicited=Unsolicited.RST,
        sequence_check=SequenceCheck.DROP,
        timers=NatTimers(opening=120.0, established=7440.0, closing=120.0, udp=60.0),
    ),
}


def behaviour_of(kind: KernelKind) -> NatBehaviour:
    """What it does, for ceilings and for people."""
    return _BEHAVIOURS[kind]
