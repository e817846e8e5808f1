"""From what was observed to what it means. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midair.endpoint import Endpoint
from midair.nat.check.report import Allocation, Filtering, Mapping, Reaction
from midair.nat.check.wire import Result

__all__ = [
    "CONNECTED",
    "IMPOSSIBLE",
    "LATE_SECONDS",
    "Reflection",
    "judge_allocation",
    "judge_filtering",
    "judge_mapping",
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


@dataclass(frozen=True, slots=True)
class Reflection:
    """One port of ours as one endpoint of the server sees it."""

    asked: Endpoint
    mapped: Endpoint


def judge_mapping(
    local: Endpoint, first: Reflection, others: Sequence[Reflection], again: Reflection | None
) -> tuple[Mapping, str]:
    """From one local port seen by several endpoints, and by one of them twice (``again``, the same as the last of
    ``others``). Also a note, where that does not suffice.

    RFC 5780 section 4.3, with TCP.
    """
    if first.mapped == local:
        return Mapping.NONE, ""
    same_address = [each for each in others if each.asked.address == first.asked.address]
    elsewhere = [each for each in others if each.asked.address != first.asked.address]
    if any(each.mapped != first.mapped for each in same_address):
        if again is None:
            return Mapping.ADDRESS_AND_PORT_DEPENDENT, "whether each connection gets its own port was not measured"
        if others and again.mapped != others[-1].mapped:
            return Mapping.CONNECTION_DEPENDENT, ""
        return Mapping.ADDRESS_AND_PORT_DEPENDENT, ""
    if any(each.mapped != first.mapped for each in elsewhere):
        if same_address:
            return Mapping.ADDRESS_DEPENDENT, ""
        return Mapping.NOT_MEASURED, "the mapping depends on the destination; on what of it needs a second port there"
    if elsewhere:
        return Mapping.ENDPOINT_INDEPENDENT, ""
    return Mapping.NOT_MEASURED, "the mapping can only be told with a server that has a second address"


def judge_allocation(step: int, band: tuple[int, int] | None) -> Allocation:
    """From a forecast: None for a NAT that keeps ports."""
    if band is None:
        return Allocation.PRESERVING
    if step:
        return Allocation.SEQUENTIAL
    low, high = band
    return Allocation.RANDOM if high - low > 32768 else Allocation.BAND


def judge_filtering(same_address: Result | None, other_address: Result | None) -> tuple[Filtering, str]:
    """From what came of two connections back through a mapping that was used towards one endpoint of the server only:
    from another port there, and from another address."""
    if other_address is not None and other_address.answer == CONNECTED:
        return Filtering.ENDPOINT_INDEPENDENT, ""
    if same_address is None or same_address.answer == IMPOSSIBLE:
        return Filtering.NOT_MEASURED, "the server did not dial back"
    if same_address.answer != CONNECTED:
        return Filtering.ADDRESS_AND_PORT_DEPENDENT, ""
    if other_address is None or other_address.answer == IMPOSSIBLE:
        return Filtering.NOT_MEASURED, "other ports get in; whether other addresses do needs a server with two"
    return Filtering.ADDRESS_DEPENDENT, ""


def judge_reaction(result: Result | None) -> Reaction:
    """From what came of a SYN to a port that was never used."""
    if result is None or result.answer == IMPOSSIBLE:
        return Reaction.NOT_MEASURED
    if result.answer == ICMP:
        if result.milliseconds > LATE_SECONDS * 1000:
            return Reaction.ICMP_LATE
        return _ICMP.get(result.icmp, Reaction.ICMP_OTHER)
    return {CONNECTED: Reaction.PASS, RST: Reaction.RST, SILENCE: Reaction.DROP}[result.answer]
