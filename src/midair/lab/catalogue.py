"""The boxes that have names: what they do, each in a line, and how boxes and topologies are read from text. Pure.

Those that only filter or translate as most home routers do are built on Linux' habits: a RST ends the entry it belongs
to. Knobs can be turned at any of them: ``drop,hairpin=external-source`` (:mod:`midair.lab.knobs`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from midair.lab.addresses import PROXY_ADDRESSES
from midair.lab.behaviour import (
    Allocation,
    Filtering,
    Hairpin,
    Mapping,
    NatBehaviour,
    NatLimits,
    NatTimers,
    Pooling,
    PortRule,
    Reaction,
    SequenceCheck,
    SimultaneousOpen,
    Unsolicited,
)
from midair.lab.description import Box, KernelKind, Topology
from midair.lab.grammar import NO_BOX, read_topology
from midair.lab.knobs import nat_with, turned_nat_knobs

__all__ = ["BOXES", "DESCRIPTIONS", "KERNEL_PREFIX", "NO_BOX", "box_of", "parse_box", "parse_topology"]

KERNEL_PREFIX: Final = "kernel:"

_HOME = NatBehaviour(filtering=Filtering.CONNECTION_DEPENDENT, on_rst=Reaction.DELETES)
"""What most home routers are, since they run Linux: an entry for each connection, which a RST deletes, and nothing that
outlives it."""
_FIREWALL = replace(_HOME, mapping=Mapping.NONE)
_SYMMETRIC = replace(_HOME, mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=Allocation(rule=PortRule.RANDOM))
_BAND = Allocation(rule=PortRule.RANDOM, low=20000, high=20250)
"""251 ports, as a carrier was seen to use for one subscriber."""

_CATALOGUE: Final[dict[str, tuple[NatBehaviour, str]]] = {
    "firewall": (_FIREWALL, "a public address behind a firewall that drops unsolicited SYNs"),
    "firewall-rst": (
        replace(_FIREWALL, unsolicited=Unsolicited.RST),
        "a public address behind a firewall that answers unsolicited SYNs by RST",
    ),
    "firewall-icmp": (
        replace(_FIREWALL, unsolicited=Unsolicited.ICMP_ADMIN),
        "a public address behind a firewall that answers unsolicited SYNs by ICMP (RFC 6092 REC-34)",
    ),
    "drop": (_HOME, "keeps the port, drops unsolicited SYNs: most home routers"),
    "rst": (replace(_HOME, unsolicited=Unsolicited.RST), "keeps the port, answers unsolicited SYNs by RST"),
    "icmp": (
        replace(_HOME, unsolicited=Unsolicited.ICMP_PORT),
        "keeps the port, answers unsolicited SYNs by ICMP port unreachable",
    ),
    "icmp-host": (
        replace(_HOME, unsolicited=Unsolicited.ICMP_HOST),
        "keeps the port, answers unsolicited SYNs by ICMP host unreachable",
    ),
    "icmp-admin": (
        replace(_HOME, unsolicited=Unsolicited.ICMP_ADMIN),
        "keeps the port, answers unsolicited SYNs by ICMP administratively prohibited",
    ),
    "icmp-late": (
        replace(_HOME, unsolicited=Unsolicited.ICMP_LATE),
        "keeps the port, answers unsolicited SYNs by ICMP after 6 s (RFC 5382 REQ-4)",
    ),
    "silent-dmz": (
        replace(_HOME, unsolicited=Unsolicited.SILENT_DMZ),
        "sends unsolicited SYNs to a host that swallows them, and remembers the connection",
    ),
    "exposed": (replace(_HOME, unsolicited=Unsolicited.PASS), "lets unsolicited SYNs in to its first host"),
    "full-cone": (replace(_HOME, filtering=Filtering.ENDPOINT_INDEPENDENT), "lets anybody in by a mapping that exists"),
    "port-restricted": (
        replace(_HOME, filtering=Filtering.ADDRESS_AND_PORT_DEPENDENT),
        "lets in whom the host has sent to, for as long as the mapping lives",
    ),
    "restricted": (
        replace(_HOME, filtering=Filtering.ADDRESS_DEPENDENT),
        "lets in whom the host has sent to, from any port",
    ),
    "rfc5382": (
        NatBehaviour(
            filtering=Filtering.ENDPOINT_INDEPENDENT,
            unsolicited=Unsolicited.ICMP_LATE,
            hairpin=Hairpin.EXTERNAL_SOURCE,
        ),
        "what RFC 5382 asks for and recommends: lets anybody in by a mapping, turns hairpins around",
    ),
    "symmetric": (_SYMMETRIC, "a random port for each remote endpoint"),
    "symmetric-address": (
        replace(_SYMMETRIC, mapping=Mapping.ADDRESS_DEPENDENT),
        "a random port for each remote address",
    ),
    "symmetric-sequential": (
        replace(_SYMMETRIC, allocation=Allocation(rule=PortRule.SEQUENTIAL)),
        "the next port for each remote endpoint",
    ),
    "symmetric-step2": (
        replace(_SYMMETRIC, allocation=Allocation(rule=PortRule.SEQUENTIAL, step=2)),
        "the next port but one for each remote endpoint",
    ),
    "symmetric-parity": (
        replace(_SYMMETRIC, allocation=Allocation(rule=PortRule.PARITY)),
        "a random port for each remote endpoint, odd for odd and even for even",
    ),
    "symmetric-blocks": (
        replace(_SYMMETRIC, allocation=Allocation(rule=PortRule.BLOCKS)),
        "a random port out of the host's block of 512 for each remote endpoint",
    ),
    "symmetric-band": (
        replace(_SYMMETRIC, allocation=_BAND),
        "a random port out of 251 for each remote endpoint",
    ),
    "connection-dependent": (
        replace(
            _SYMMETRIC,
            mapping=Mapping.CONNECTION_DEPENDENT,
            filtering=Filtering.CONNECTION_DEPENDENT,
        ),
        "a random port for each connection, open to nothing but that",
    ),
    "unpaired": (
        replace(_HOME, allocation=Allocation(addresses=4, pooling=Pooling.ARBITRARY)),
        "keeps the port, but takes a random one of four addresses for each new mapping",
    ),
    "no-simopen": (
        replace(_HOME, simultaneous_open=SimultaneousOpen.DROPS),
        "drops a SYN that crosses one of its host's",
    ),
    "no-simopen-rst": (
        replace(_HOME, simultaneous_open=SimultaneousOpen.RST),
        "answers a SYN that crosses one of its host's by RST",
    ),
    "mistranslates": (
        replace(_HOME, simultaneous_open=SimultaneousOpen.MISTRANSLATES),
        "lets a crossing SYN in and the SYN-ACK out with a wrong port",
    ),
    "strict": (
        replace(_HOME, sequence_check=SequenceCheck.LEAK),
        "lets a SYN-ACK with a new sequence number out untranslated, as Linux does",
    ),
    "strict-drop": (
        replace(_HOME, sequence_check=SequenceCheck.DROP),
        "drops a SYN-ACK with a new sequence number",
    ),
    "hairpin": (replace(_HOME, hairpin=Hairpin.EXTERNAL_SOURCE), "turns hairpins around, with the outside source"),
    "hairpin-internal": (
        replace(_HOME, hairpin=Hairpin.INTERNAL_SOURCE),
        "turns hairpins around, with the inside source",
    ),
    "alg": (replace(_HOME, rewrites_payload=True), "rewrites its host's address in what the connection carries"),
    "ttl-keeper": (replace(_HOME, decrements_ttl=False), "does not count as a hop"),
    "carrier": (
        NatBehaviour(
            filtering=Filtering.ENDPOINT_INDEPENDENT,
            allocation=Allocation(rule=PortRule.BLOCKS, addresses=4),
            hairpin=Hairpin.EXTERNAL_SOURCE,
            limits=NatLimits(entries_per_host=2048),
        ),
        "a carrier's NAT as RFC 6888 wants it: a block of ports for each subscriber, open to anybody",
    ),
    "carrier-symmetric": (
        replace(_SYMMETRIC, allocation=Allocation(rule=PortRule.RANDOM, addresses=4)),
        "a carrier's NAT with a random port for each remote endpoint",
    ),
    "mobile": (
        replace(_SYMMETRIC, allocation=_BAND, timers=NatTimers(opening=20.0, established=50.0, closing=10.0, udp=30.0)),
        "a phone network's NAT: a random port out of 251 for each remote endpoint, forgotten after 50 s",
    ),
    "https-only": (replace(_HOME, only_ports=(443,)), "lets TCP out to port 443 only"),
    "proxy-only": (replace(_HOME, only_addresses=PROXY_ADDRESSES), "lets out to the proxy only"),
    "overloading": (
        replace(_HOME, allocation=Allocation(rule=PortRule.PRESERVING)),
        "keeps the port even when another of its hosts has it",
    ),
}

BOXES: Final[dict[str, NatBehaviour]] = {name: behaviour for name, (behaviour, _) in _CATALOGUE.items()}
"""The lab's own NATs and firewalls by name."""

_KERNEL_DESCRIPTIONS: Final = {
    KernelKind.MASQUERADE_DROP: "Linux masquerade; drops unsolicited SYNs",
    KernelKind.MASQUERADE_RST: "Linux masquerade; the router's own stack answers unsolicited SYNs by RST",
    KernelKind.MASQUERADE_REJECT_RST: "Linux masquerade; rejects unsolicited SYNs with a TCP reset",
    KernelKind.MASQUERADE_REJECT_ICMP: "Linux masquerade; rejects unsolicited SYNs with ICMP port unreachable",
    KernelKind.MASQUERADE_DMZ: "Linux masquerade; sends unsolicited SYNs to a host that does not answer",
    KernelKind.MASQUERADE_RANDOM: "Linux masquerade with random ports",
    KernelKind.MASQUERADE_FULLY_RANDOM: "Linux masquerade with fully random ports",
    KernelKind.CONE: "nftables with a map of mappings, open to anybody",
    KernelKind.CONE_ADDRESS_FILTER: "nftables with a map of mappings, open to addresses the host has sent to",
    KernelKind.CONE_HAIRPIN: "nftables with a map of mappings, which turns hairpins around",
    KernelKind.FIREWALL_DROP: "a Linux firewall without translation; drops unsolicited SYNs",
    KernelKind.FIREWALL_RST: "a Linux firewall without translation; answers unsolicited SYNs by RST",
    KernelKind.FIREWALL_ICMP: "a Linux firewall without translation; answers unsolicited SYNs by ICMP",
    KernelKind.OPENWRT: "Linux with OpenWrt's rules: masquerade, rejects what comes from the internet",
}

DESCRIPTIONS: Final[dict[str, str]] = {
    NO_BOX: "no box: a public address, open to all",
    **{name: description for name, (_, description) in _CATALOGUE.items()},
    **{f"{KERNEL_PREFIX}{kind}": text for kind, text in _KERNEL_DESCRIPTIONS.items()},
}
"""A line on everything that has a name."""


def parse_box(text: str) -> Box:
    """A name, with knobs: ``symmetric``, ``drop,on-icmp=ignores,opening=20``, ``kernel:cone``.

    Raises: ValueError, which says what there is.
    """
    name, *knobs = text.split(",")
    if name.startswith(KERNEL_PREFIX):
        kind = name.removeprefix(KERNEL_PREFIX)
        if knobs or kind not in list(KernelKind):
            raise ValueError(f"{text!r} is no Linux router; there are {', '.join(KernelKind)}, and they have no knobs")
        return Box(name, KernelKind(kind))
    if name not in BOXES:
        raise ValueError(f"{name!r} is no box; there are {', '.join((NO_BOX, *BOXES))}, and {KERNEL_PREFIX}...")
    turned: dict[str, str] = {}
    for knob in knobs:
        key, equals, value = knob.partition("=")
        if not equals or key in turned:
            raise ValueError(f"{text!r}: after the name come knobs, each once: {name},hairpin=none")
        turned[key] = value
    return _named(name, nat_with(BOXES[name], turned))


def parse_topology(text: str) -> Topology:
    """``drop>carrier x rst``, as :mod:`midair.lab.description` has it.

    Raises: ValueError, which says what is wrong and what there is.
    """
    return read_topology(text, parse_box)


def box_of(kind: NatBehaviour | KernelKind) -> Box:
    """The box that behaves so, named after the one in the catalogue that is nearest to it."""
    if isinstance(kind, KernelKind):
        return Box(f"{KERNEL_PREFIX}{kind}", kind)
    nearest = min(BOXES, key=lambda name: len(turned_nat_knobs(kind, BOXES[name])))
    return _named(nearest, kind)


def _named(base: str, behaviour: NatBehaviour) -> Box:
    knobs = turned_nat_knobs(behaviour, BOXES[base])
    return Box(",".join([base, *(f"{name}={value}" for name, value in knobs.items())]), behaviour)
