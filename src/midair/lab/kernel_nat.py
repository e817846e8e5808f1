"""The kinds of NAT the lab has, what each does in the words of RFC 4787 and RFC 5382, and its nftables rules.

All are the Linux kernel's own connection tracking, as it runs in most home routers. What that means for hole punching:

* Filtering is by the exact five-tuple; a SYN that answers an outgoing SYN passes, so simultaneous open works.
* Plain ``masquerade`` keeps the source port as long as no other connection to the same destination has it, which
  looks endpoint-independent from outside.
* An inbound RST deletes the entry it answers; an ICMP error leaves the entry, but is fatal to the host's connect().
* Sequence numbers are checked: a SYN+ACK from another socket than the one that sent the SYN is not translated.

Other families of NAT (endpoint-independent filtering, sequential ports, no simultaneous open) are not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "COUNTER_INCOMING",
    "COUNTER_OUTGOING",
    "COUNTER_REFUSED",
    "INSIDE",
    "OUTSIDE",
    "TABLE",
    "Filtering",
    "Mapping",
    "NatBehaviour",
    "NatKind",
    "Reaction",
    "ruleset",
]

OUTSIDE = "wan"
"""The router's interface to the internet."""
INSIDE = "lan"
"""The router's interface to its hosts."""

TABLE = "midair_lab"
COUNTER_OUTGOING = "syn_outgoing"
COUNTER_INCOMING = "syn_incoming"
COUNTER_REFUSED = "syn_refused"


class Mapping(StrEnum):
    """Which outside port a connection gets (RFC 4787 section 4.1; the last one RFC 5382 section 4.1)."""

    NONE = "no translation"
    ENDPOINT_INDEPENDENT = "endpoint-independent"
    CONNECTION_DEPENDENT = "connection-dependent"


class Filtering(StrEnum):
    """Whose packets may come in (RFC 4787 section 5)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_AND_PORT_DEPENDENT = "address and port-dependent"


class Reaction(StrEnum):
    """What happens to a SYN nobody asked for (RFC 5382 section 4.3)."""

    PASS = "reaches the host"
    DROP = "dropped silently"
    RST = "answered by RST"
    ICMP = "answered by ICMP port unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class NatBehaviour:
    """What one kind of NAT does."""

    description: str
    """One line for a person."""
    mapping: Mapping
    filtering: Filtering
    reaction: Reaction


class NatKind(StrEnum):
    """What stands between a host and the internet."""

    NONE = "none"
    FIREWALL = "firewall"
    DROP = "drop"
    RST = "rst"
    ICMP = "icmp"
    SYMMETRIC = "symmetric"

    @property
    def behaviour(self) -> NatBehaviour:
        """What it does."""
        return _BEHAVIOURS[self]

    @property
    def description(self) -> str:
        """One line for a person."""
        return self.behaviour.description

    @property
    def translates(self) -> bool:
        """Whether the hosts behind it have private IPv4 addresses."""
        return self.behaviour.mapping is not Mapping.NONE


_BEHAVIOURS = {
    NatKind.NONE: NatBehaviour(
        description="no NAT: a public address, open to all",
        mapping=Mapping.NONE,
        filtering=Filtering.ENDPOINT_INDEPENDENT,
        reaction=Reaction.PASS,
    ),
    NatKind.FIREWALL: NatBehaviour(
        description="a public address behind a stateful firewall that drops unsolicited SYNs",
        mapping=Mapping.NONE,
        filtering=Filtering.ADDRESS_AND_PORT_DEPENDENT,
        reaction=Reaction.DROP,
    ),
    NatKind.DROP: NatBehaviour(
        description="keeps the port, drops unsolicited SYNs",
        mapping=Mapping.ENDPOINT_INDEPENDENT,
        filtering=Filtering.ADDRESS_AND_PORT_DEPENDENT,
        reaction=Reaction.DROP,
    ),
    NatKind.RST: NatBehaviour(
        description="keeps the port, answers unsolicited SYNs with RST",
        mapping=Mapping.ENDPOINT_INDEPENDENT,
        filtering=Filtering.ADDRESS_AND_PORT_DEPENDENT,
        reaction=Reaction.RST,
    ),
    NatKind.ICMP: NatBehaviour(
        description="keeps the port, answers unsolicited SYNs with ICMP port unreachable",
        mapping=Mapping.ENDPOINT_INDEPENDENT,
        filtering=Filtering.ADDRESS_AND_PORT_DEPENDENT,
        reaction=Reaction.ICMP,
    ),
    NatKind.SYMMETRIC: NatBehaviour(
        description="a new random port for every connection, drops unsolicited SYNs",
        mapping=Mapping.CONNECTION_DEPENDENT,
        filtering=Filtering.ADDRESS_AND_PORT_DEPENDENT,
        reaction=Reaction.DROP,
    ),
}

_REACTION_RULES = {
    Reaction.DROP: "drop",
    Reaction.RST: "meta l4proto tcp reject with tcp reset",
    Reaction.ICMP: "meta l4proto tcp reject with icmpx type port-unreachable",
}

_TRANSLATION_RULES = {
    Mapping.NONE: "",
    Mapping.ENDPOINT_INDEPENDENT: f'meta nfproto ipv4 oifname "{OUTSIDE}" masquerade',
    Mapping.CONNECTION_DEPENDENT: f'meta nfproto ipv4 oifname "{OUTSIDE}" masquerade fully-random',
}


def ruleset(kind: NatKind) -> str:
    """The rules of a router of that kind, for ``nft -f``; IPv6 is filtered in the same way, and not translated.

    Raises: ValueError for ``NatKind.NONE``, which has no router.
    """
    behaviour = kind.behaviour
    if behaviour.reaction is Reaction.PASS:
        raise ValueError("a host without NAT has no router in front of it")
    # An unsolicited SYN to a translated host is addressed to the router itself (input), to any other host it is
    # forwarded: both go through "guard". ICMP passes, neighbour discovery lives in it.
    #
    # What connection tracking finds invalid leaves a Linux router untranslated, with the private source address.
    # Routers and providers drop that (RFC 2827); here the router does.
    return f"""
table inet {TABLE} {{
    counter {COUNTER_OUTGOING} {{ }}
    counter {COUNTER_INCOMING} {{ }}
    counter {COUNTER_REFUSED} {{ }}

    chain arriving {{
        type filter hook prerouting priority mangle
        iifname "{OUTSIDE}" tcp flags & (syn | ack) == syn counter name {COUNTER_INCOMING}
    }}
    chain leaving {{
        type filter hook postrouting priority mangle
        oifname "{OUTSIDE}" tcp flags & (syn | ack) == syn counter name {COUNTER_OUTGOING}
    }}
    chain to_the_router {{
        type filter hook input priority filter
        iifname "{OUTSIDE}" jump guard
    }}
    chain through_the_router {{
        type filter hook forward priority filter
        iifname "{OUTSIDE}" jump guard
        iifname "{INSIDE}" oifname "{OUTSIDE}" ct state invalid drop
    }}
    chain guard {{
        ct state established,related accept
        meta l4proto {{ icmp, icmpv6 }} accept
        tcp flags & (syn | ack) == syn counter name {COUNTER_REFUSED}
        {_REACTION_RULES[behaviour.reaction]}
        drop
    }}
    chain translation {{
        type nat hook postrouting priority srcnat
        {_TRANSLATION_RULES[behaviour.mapping]}
    }}
}}
"""
