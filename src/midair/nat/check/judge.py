"""From what was observed to what it means. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from itertools import pairwise
from math import gcd

from midair.endpoint import Endpoint
from midair.nat.address import is_public
from midair.nat.check.report import Allocation, Filtering, Mapping, Pooling, Reaction
from midair.nat.check.wire import Result

__all__ = [
    "CONNECTED",
    "ICMP",
    "IMPOSSIBLE",
    "LATE_SECONDS",
    "RST",
    "Reflection",
    "judge_allocation",
    "judge_filtering",
    "judge_mapping",
    "judge_nats",
    "judge_nats_by_router",
    "judge_pooling",
    "judge_reaction",
]

CONNECTED, RST, ICMP, SILENCE, IMPOSSIBLE = range(5)
LATE_SECONDS = 4.0
"""An ICMP error that comes later than this is one of RFC 5382 REQ-4, which wants six seconds."""

_ICMP = {
    (3, 1): Reaction.ICMP_HOST,
    (3, 3): Reaction.ICMP_PORT,
    (3, 13): Reaction.ICMP_ADMIN,
    (1, 3): Reaction.ICMP_HOST,
    (1, 4): Reaction.ICMP_PORT,
    (1, 1): Reaction.ICMP_ADMIN,
}
"""By type and code, of ICMP (RFC 792) and of ICMPv6 (RFC 4443), which do not overlap here."""
_WIDE = 16384
"""A sample as wide as this is of all ports there are."""
_BAND_MARGIN = 0.25
"""Of a sample's width: a fresh draw from the same band falls outside of n others in 2/(n+1) of all times."""
_BURST_MIN = 3
_CARRIER = ip_network("100.64.0.0/10")
"""RFC 6598: between a customer's NAT and the carrier's, and nowhere else."""


@dataclass(frozen=True, slots=True)
class Reflection:
    """One port of ours as one endpoint of the server sees it."""

    asked: Endpoint
    mapped: Endpoint


def judge_mapping(
    local: Endpoint, first: Reflection, others: Sequence[Reflection], again: Sequence[Reflection]
) -> tuple[Mapping, str]:
    """From one local port seen by several endpoints, and by the last of these some more times, one after the other
    (``again``). Also a note, where that does not suffice.

    RFC 5780 section 4.3, with TCP.
    """
    if first.mapped == local:
        return Mapping.NONE, ""
    same_address = [each for each in others if each.asked.address == first.asked.address]
    elsewhere = [each for each in others if each.asked.address != first.asked.address]
    if any(each.mapped != first.mapped for each in same_address):
        if not again:
            return Mapping.ADDRESS_AND_PORT_DEPENDENT, "whether each connection gets its own port was not measured"
        # One that was ended by a RST, as after lost packets, takes its mapping with it at many a NAT.
        if all(earlier.mapped != later.mapped for earlier, later in pairwise([others[-1], *again])):
            return Mapping.CONNECTION_DEPENDENT, ""
        return Mapping.ADDRESS_AND_PORT_DEPENDENT, ""
    if any(each.mapped != first.mapped for each in elsewhere):
        if same_address:
            return Mapping.ADDRESS_DEPENDENT, ""
        return (
            Mapping.NOT_MEASURED,
            "the port outside depends on the destination; on what of it needs a server with a second port",
        )
    if elsewhere:
        return Mapping.ENDPOINT_INDEPENDENT, ""
    return Mapping.NOT_MEASURED, "whether everybody sees the same port needs a server with a second address"


def judge_allocation(
    first: tuple[int, int], bursts: Sequence[Sequence[tuple[int, int]]]
) -> tuple[Allocation, int, tuple[int, int]]:
    """Also the step of a NAT that counts, and the band of one that draws from a band. All are pairs of a local and an
    outside port; those of a burst came about at once, after the first one and the bursts before."""
    pairs = [first, *(pair for burst in bursts for pair in burst)]
    if sum(local == outside for local, outside in pairs) * 2 > len(pairs):
        return Allocation.PRESERVING, 0, (0, 0)
    for direction in (1, -1):
        distances = [[(outside - first[1]) * direction % 65536 for _, outside in burst] for burst in bursts]
        if step := _step(distances):
            return Allocation.SEQUENTIAL, step * direction, (0, 0)
    ports = [outside for _, outside in pairs]
    spread = max(ports) - min(ports)
    if spread >= _WIDE:
        return Allocation.RANDOM, 0, (0, 0)
    margin = int(spread * _BAND_MARGIN) + 1
    return Allocation.BAND, 0, (max(1, min(ports) - margin), min(65535, max(ports) + margin))


def _step(bursts: Sequence[Sequence[int]]) -> int:
    """Of distances from the first port, in one direction; 0 when they are not counted. Others who get ports from the
    same NAT leave gaps, but never change the order: ports drawn at random are in it once in thousands of times."""
    if len(bursts) < 2 or any(len(burst) < _BURST_MIN for burst in bursts):
        return 0
    ordered = [0, *(distance for burst in bursts for distance in sorted(burst))]
    if any(earlier >= later for earlier, later in pairwise(ordered)) or ordered[-1] >= _WIDE:
        return 0
    return gcd(*ordered)


def judge_filtering(
    same_address: Result | None, other_address: Result | None, *, reached_elsewhere: bool = True
) -> tuple[Filtering, str]:
    """From what came of two connections back through a mapping that was used towards one endpoint of the server only:
    from another port there, and from another address. Silence from an address that we do not reach either
    (``reached_elsewhere``) says nothing."""
    if other_address is not None and other_address.answer == CONNECTED:
        return Filtering.ENDPOINT_INDEPENDENT, ""
    if same_address is None or same_address.answer == IMPOSSIBLE:
        return Filtering.NOT_MEASURED, "who is let in was not measured: the server did not dial back"
    if same_address.answer != CONNECTED:
        return Filtering.ADDRESS_AND_PORT_DEPENDENT, ""
    if other_address is None or other_address.answer == IMPOSSIBLE or not reached_elsewhere:
        return (
            Filtering.NOT_MEASURED,
            "another port of the server gets in; whether other addresses do needs a server with a second one",
        )
    return Filtering.ADDRESS_DEPENDENT, ""


def judge_pooling(local: Endpoint, same: Sequence[Reflection], others: Sequence[Reflection]) -> tuple[Pooling, str]:
    """From several ports seen by one endpoint of the server, and one port seen by several (with the first of the
    former)."""
    if not same or same[0].mapped.address == local.address:
        return Pooling.NOT_MEASURED, ""
    if len({each.mapped.address for each in same}) > 1:
        return Pooling.ARBITRARY, ""
    elsewhere = [each for each in others if each.asked.address != same[0].asked.address]
    if any(each.mapped.address != same[0].mapped.address for each in elsewhere):
        return Pooling.BY_DESTINATION, ""
    if elsewhere:
        return Pooling.ONE, ""
    return Pooling.NOT_MEASURED, "whether everybody sees the same address needs a server with a second one"


def judge_nats(
    local: Endpoint,
    mapped: Endpoint,
    hops: Sequence[IPv4Address | IPv6Address | None],
) -> tuple[int | None, str]:
    """How many NATs there are, 2 for more than one. ``hops`` are the routers on the way, from the nearest on, None for
    one that did not say who it is.

    Between two NATs addresses are private: what has public ones is beyond them all. But not everything that has private
    ones is followed by a NAT, so that only RFC 6598's addresses prove a second one.
    """
    if mapped.address == local.address:
        return 0, ""
    if local.address not in _CARRIER and any(hop is not None and hop in _CARRIER for hop in hops):
        return 2, ""
    for number, hop in enumerate(hops):
        if hop is None:
            return None, "how many NATs there are cannot be told: a router on the way does not answer"
        if is_public(hop):
            return 1, ""
        if number and local.address not in _CARRIER:
            return None, "how many NATs there are cannot be told: there are several private networks on the way"
    return None, "how many NATs there are cannot be told: no router of the internet answered"


def judge_nats_by_router(
    mapped: Endpoint, named: Sequence[IPv4Address | IPv6Address], *, behind_another: bool
) -> int | None:
    """The same, from the outside addresses that our own router names, and from whether it says that there is another
    NAT. None when that does not tell."""
    if behind_another or any(not is_public(address) for address in named):
        return 2
    return 1 if mapped.address in named else None


def judge_reaction(results: Sequence[Result | None]) -> tuple[Reaction, str]:
    """From what came of SYNs to ports that were never used. An answer says more than silence, which is also what a
    lost packet leaves."""
    found = [_reaction(each) for each in results]
    answers = [each for each in found if each not in (Reaction.DROP, Reaction.NOT_MEASURED)]
    if answers:
        return answers[0], ""
    if Reaction.DROP in found:
        return Reaction.DROP, ""
    return Reaction.NOT_MEASURED, "what strangers get was not measured: the server did not dial back"


def _reaction(result: Result | None) -> Reaction:
    if result is None or result.answer == IMPOSSIBLE:
        return Reaction.NOT_MEASURED
    if result.answer == ICMP:
        if result.milliseconds > LATE_SECONDS * 1000:
            return Reaction.ICMP_LATE
        return _ICMP.get(result.icmp, Reaction.ICMP_OTHER)
    return {CONNECTED: Reaction.PASS, RST: Reaction.RST, SILENCE: Reaction.DROP}[result.answer]
