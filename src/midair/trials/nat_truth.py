"""What the NAT check has to find in the lab: the networks it is tried in, and the truth about each of them. Pure.

The truth is what the check can find out at all. Nobody outside can tell a silent DMZ host from a NAT that drops, or a
filter for single connections from one for endpoints; and what needs more addresses or ports than the server has must be
said not to have been measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from midair.lab import behaviour as lab
from midair.lab.catalogue import BOXES, parse_topology
from midair.lab.description import KernelKind
from midair.lab.kernel.behaviours import behaviour_of
from midair.nat.check.report import Allocation, Filtering, Mapping, Pooling, Reaction, YesNo

__all__ = ["LINKS", "Case", "Served", "all_cases", "truth_of"]


class Served(Enum):
    """Where the server listens: ports of its first address, and of its second one."""

    FULLY = ((7420, 7421), (7420,))
    ON_THE_WEB = ((443, 7420), (443,))
    BY_TWO_PORTS = ((7420, 7421), ())
    BY_ONE_PORT = ((7420,), ())
    BY_ONE_WEB_PORT = ((443,), ())

    @property
    def two_ports(self) -> bool:
        return len(self.value[0]) > 1

    @property
    def two_addresses(self) -> bool:
        return bool(self.value[1])


@dataclass(frozen=True, slots=True)
class Case:
    """One network, seen from host ``a`` of the topology."""

    topology: str
    served: Served = Served.FULLY
    family: int = 4

    def __str__(self) -> str:
        ways = "" if self.family == 4 else ", over IPv6"
        served = "" if self.served is Served.FULLY else f", server {self.served.name.lower().replace('_', ' ')}"
        return self.topology.replace(" x none", "") + ways + served


LINKS: Final = (
    ("20 ms", "a.delay=0.02"),
    ("50 ms, jitter", "a.delay=0.05 a.jitter=0.01"),
    ("1 % loss", "a.loss=0.01"),
    ("3 % loss, jitter", "a.delay=0.05 a.jitter=0.005 a.loss=0.03"),
)
_CHAINS: Final = (
    "drop>carrier x none",
    "rst>drop x none",
    "exposed>drop x none",
    "drop>symmetric x none",
    "symmetric>drop x none",
    "icmp>full-cone x none",
    "drop>hairpin x none",
    "hairpin>drop x none",
    "no-simopen>drop x none",
    "drop>firewall x none",
    "firewall>drop x none",
    "drop>drop>carrier x none",
    "kernel:masquerade-drop>carrier x none",
    "drop>kernel:masquerade-fully-random x none",
    "kernel:openwrt>kernel:masquerade-drop x none",
    "(drop + rst) > carrier",
    "(none + none) > drop",
    "(none + none) > carrier-symmetric",
    "drop,addresses=2,pooling=by-destination x none",
    "symmetric,addresses=4,pooling=arbitrary x none",
    "symmetric-sequential,step=-3 x none",
    "symmetric,low=40000,high=40063 x none",
    "symmetric,rule=blocks,block=32 x none",
)
_ON_LINKS: Final = ("drop", "rst", "icmp", "icmp-late", "full-cone", "symmetric", "symmetric-sequential", "hairpin")
_OVER_IPV6: Final = ("firewall", "firewall-rst", "firewall-icmp", "drop", "icmp-late", "exposed", "full-cone")
_SERVED_BY_LESS: Final = ("none", "firewall", "drop", "full-cone", "restricted", "symmetric", "symmetric-address")


def all_cases() -> list[Case]:
    """All kinds of the catalogue, Linux' routers, chains, links, IPv6, and servers that have less to measure with."""
    web_only = [Case(f"{name} x none", Served.ON_THE_WEB) for name in ("https-only", "https-only,only-ports=80/443")]
    return [
        Case("none x none"),
        *(Case(f"{name} x none") for name in BOXES),
        *(Case(f"kernel:{kind} x none") for kind in KernelKind),
        *(Case(topology) for topology in _CHAINS),
        *(Case(f"{name} x none with {link}") for _, link in LINKS for name in _ON_LINKS),
        *(Case(f"{name} x none with ipv6", family=6) for name in ("none", *_OVER_IPV6)),
        *(Case(f"kernel:{kind} x none with ipv6", family=6) for kind in ("firewall-drop", "firewall-icmp", "openwrt")),
        *web_only,
        Case("drop x none", Served.ON_THE_WEB),
        Case("https-only x none", Served.BY_ONE_WEB_PORT),
        *(Case(f"{name} x none", Served.BY_TWO_PORTS) for name in _SERVED_BY_LESS),
        *(Case(f"{name} x none", Served.BY_ONE_PORT) for name in _SERVED_BY_LESS),
    ]


def truth_of(case: Case) -> dict[str, Any] | None:
    """The fields of a report; None when the server cannot be reached at all."""
    topology = parse_topology(case.topology)
    boxes = [_behaviour(box.kind) for box in (*topology.a.boxes, *topology.shared)]
    if any(box.only_addresses or (box.only_ports and not _lets_out(box, case)) for box in boxes):
        return None
    if case.family == 6:
        boxes = [_untranslated(box) for box in boxes]
    two_addresses = case.served.two_addresses and case.family == 4
    mapping, pooling = _mapping(boxes), _pooling(boxes)
    allocation, step = _allocation(boxes)
    filtering = _filtering(boxes)
    changing = mapping in (Mapping.ADDRESS_AND_PORT_DEPENDENT, Mapping.CONNECTION_DEPENDENT)
    only_web = any(box.only_ports for box in boxes)
    crosses = _yes(all(box.simultaneous_open is lab.SimultaneousOpen.PASSES for box in boxes))
    if not two_addresses:
        if mapping is not Mapping.NONE and not (changing and case.served.two_ports):
            mapping = Mapping.NOT_MEASURED
        if filtering is not Filtering.ADDRESS_AND_PORT_DEPENDENT:
            filtering = Filtering.NOT_MEASURED
        if pooling is not Pooling.ARBITRARY:
            pooling = Pooling.NOT_MEASURED
    translates = any(box.translates for box in boxes)
    return {
        "mapping": mapping,
        "allocation": allocation,
        "step": step,
        "pooling": pooling if translates else Pooling.NOT_MEASURED,
        "filtering": filtering,
        "reaction": _reaction(boxes),
        "simultaneous_open": YesNo.NOT_MEASURED if changing or only_web else crosses,
        "hairpin": _hairpin(boxes) if translates else YesNo.NOT_MEASURED,
        "nats": _nats(boxes),
        "only_web": _only_web(case, blocked=only_web),
    }


def _behaviour(kind: lab.NatBehaviour | KernelKind) -> lab.NatBehaviour:
    return behaviour_of(kind) if isinstance(kind, KernelKind) else kind


def _lets_out(box: lab.NatBehaviour, case: Case) -> bool:
    return case.served.value[0][0] in box.only_ports


def _untranslated(box: lab.NatBehaviour) -> lab.NatBehaviour:
    return replace(box, mapping=lab.Mapping.NONE)


_MAPPINGS: Final = (
    (lab.Mapping.NONE, Mapping.NONE),
    (lab.Mapping.ENDPOINT_INDEPENDENT, Mapping.ENDPOINT_INDEPENDENT),
    (lab.Mapping.ADDRESS_DEPENDENT, Mapping.ADDRESS_DEPENDENT),
    (lab.Mapping.ADDRESS_AND_PORT_DEPENDENT, Mapping.ADDRESS_AND_PORT_DEPENDENT),
    (lab.Mapping.CONNECTION_DEPENDENT, Mapping.CONNECTION_DEPENDENT),
)
"""From the most to the least open; a chain is like its strictest member."""
_FILTERINGS: Final = (
    (lab.Filtering.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT),
    (lab.Filtering.ADDRESS_DEPENDENT, Filtering.ADDRESS_DEPENDENT),
    (lab.Filtering.ADDRESS_AND_PORT_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT),
    (lab.Filtering.CONNECTION_DEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT),
)
_REACTIONS: Final = {
    lab.Unsolicited.DROP: Reaction.DROP,
    lab.Unsolicited.RST: Reaction.RST,
    lab.Unsolicited.ICMP_HOST: Reaction.ICMP_HOST,
    lab.Unsolicited.ICMP_PORT: Reaction.ICMP_PORT,
    lab.Unsolicited.ICMP_ADMIN: Reaction.ICMP_ADMIN,
    lab.Unsolicited.ICMP_LATE: Reaction.ICMP_LATE,
    lab.Unsolicited.SILENT_DMZ: Reaction.DROP,  # nobody outside can tell
}
_RULES: Final = {
    lab.PortRule.SEQUENTIAL: Allocation.SEQUENTIAL,
    lab.PortRule.PARITY: Allocation.RANDOM,
    lab.PortRule.BLOCKS: Allocation.BAND,
    lab.PortRule.RANDOM: Allocation.RANDOM,
}
_NARROW: Final = 10_000
"""Ports: a random port of fewer is out of a band."""


def _mapping(boxes: Sequence[lab.NatBehaviour]) -> Mapping:
    order = [kind for kind, _ in _MAPPINGS]
    strictest = max((order.index(_mapping_of(box)) for box in boxes), default=0)
    return _MAPPINGS[strictest][1]


def _mapping_of(box: lab.NatBehaviour) -> lab.Mapping:
    by_line = box.allocation.addresses > 1 and box.allocation.pooling is lab.Pooling.BY_DESTINATION
    if by_line and box.mapping is lab.Mapping.ENDPOINT_INDEPENDENT:
        return lab.Mapping.ADDRESS_DEPENDENT
    return box.mapping


def _pooling(boxes: Sequence[lab.NatBehaviour]) -> Pooling:
    """The outermost translator's."""
    pool = next((box.allocation for box in reversed(boxes) if box.translates), lab.Allocation())
    if pool.addresses == 1 or pool.pooling is lab.Pooling.PAIRED:
        return Pooling.ONE
    return Pooling.ARBITRARY if pool.pooling is lab.Pooling.ARBITRARY else Pooling.BY_DESTINATION


def _allocation(boxes: Sequence[lab.NatBehaviour]) -> tuple[Allocation, int]:
    """The outermost one that does not keep what it is given."""
    translators = [box.allocation for box in reversed(boxes) if box.translates]
    if not translators:
        return Allocation.NOT_MEASURED, 0
    for each in translators:
        if each.rule is lab.PortRule.SEQUENTIAL:
            return Allocation.SEQUENTIAL, each.step
        if each.rule is lab.PortRule.RANDOM and each.high - each.low < _NARROW:
            return Allocation.BAND, 0
        if each.rule in _RULES:
            return _RULES[each.rule], 0
    return Allocation.PRESERVING, 0


def _filtering(boxes: Sequence[lab.NatBehaviour]) -> Filtering:
    order = [kind for kind, _ in _FILTERINGS]
    closed = [order.index(box.filtering) for box in boxes if box.unsolicited is not lab.Unsolicited.PASS]
    return _FILTERINGS[max(closed, default=0)][1]


def _reaction(boxes: Sequence[lab.NatBehaviour]) -> Reaction:
    closed = (box for box in reversed(boxes) if box.unsolicited is not lab.Unsolicited.PASS)
    return next((_REACTIONS[box.unsolicited] for box in closed), Reaction.PASS)


def _hairpin(boxes: Sequence[lab.NatBehaviour]) -> YesNo:
    """The outermost translator's: only it knows the address that is dialled. With an inside source no connection comes
    about, since whoever is dialled answers past the NAT."""
    outer = next(box for box in reversed(boxes) if box.translates)
    return _yes(outer.hairpin is lab.Hairpin.EXTERNAL_SOURCE)


def _nats(boxes: Sequence[lab.NatBehaviour]) -> int | None:
    """2 for more. A firewall behind a NAT looks like a second one."""
    translating = [box.translates for box in boxes]
    return None if True in translating and not translating[0] else min(2, sum(translating))


def _only_web(case: Case, *, blocked: bool) -> YesNo:
    ports = case.served.value[0]
    if ports[0] not in (80, 443):
        return YesNo.NO
    if len(ports) == 1:
        return YesNo.NOT_MEASURED
    return _yes(blocked)


def _yes(value: bool) -> YesNo:
    return YesNo.YES if value else YesNo.NO
