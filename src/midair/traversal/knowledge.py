"""What we know of our own NAT when we describe ourselves: what gathering has seen, and what an earlier check found in
the same network. Pure.

A check takes ten seconds, for which no transfer waits. Gathering sees less, but now: where the two contradict each
other, the network is another one than it was, and what the check found is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from midair.endpoint import Endpoint
from midair.nat.check.report import Allocation, Mapping, NatReport, Opening
from midair.nat.forecast import WHOLE_RANGE, Forecast
from midair.nat.told import Known, ToldReport, tell

__all__ = ["Earlier", "our_reports", "router_opens_nothing"]

Earlier = tuple[str, str, Known]
"""Our address, how it looked from outside, and what a check found then."""


def our_reports(
    seen: Sequence[tuple[int, Endpoint]],
    addresses: Collection[str],
    forecast: Forecast | None,
    earlier: Sequence[Earlier] = (),
) -> tuple[ToldReport, ...]:
    """One for each IP version over which a reflector has answered. ``seen`` are local ports and what they look like
    from outside, ``addresses`` our own; ``earlier`` begins with the newest."""
    told = []
    for family in (4, 6):
        outside = [(local, mapped) for local, mapped in seen if mapped.family == family]
        if outside:
            fresh = _seen(family, outside, addresses, forecast if family == 4 else None)
            told.append(tell(_with_earlier(fresh, str(outside[0][1].address), addresses, earlier)))
    return tuple(told)


def router_opens_nothing(outside: Collection[str], addresses: Collection[str], earlier: Sequence[Earlier]) -> bool:
    """Whether a check in this network has found so: who asks the home router for a port need not wait for it."""
    openings = (known.opening for local, mapped, known in earlier if mapped in outside and local in addresses)
    return next(openings, Opening.NOT_MEASURED) in (Opening.NOT_OFFERED, Opening.REFUSED, Opening.IN_VAIN)


def _seen(
    family: int, outside: Sequence[tuple[int, Endpoint]], addresses: Collection[str], forecast: Forecast | None
) -> NatReport:
    kept = all(local == mapped.port for local, mapped in outside)
    if kept and all(str(mapped.address) in addresses for _, mapped in outside):
        return NatReport(family=family, mapping=Mapping.NONE)
    if forecast is None:
        return NatReport(family=family, allocation=Allocation.PRESERVING if kept else Allocation.NOT_MEASURED)
    if forecast.step:
        return NatReport(family=family, allocation=Allocation.SEQUENTIAL, step=forecast.step)
    whole = forecast.high - forecast.low >= WHOLE_RANGE
    return NatReport(family=family, allocation=Allocation.RANDOM if whole else Allocation.BAND)


def _with_earlier(fresh: NatReport, outside: str, addresses: Collection[str], earlier: Sequence[Earlier]) -> Known:
    for local, mapped, known in earlier:
        report = known.report
        if report.family == fresh.family and mapped == outside and local in addresses:
            if not _agree(report, fresh):
                break
            merged = replace(report, allocation=fresh.allocation, step=fresh.step)
            return replace(known, report=merged if fresh.mapping is not Mapping.NONE else report)
    return Known(report=fresh)


def _agree(earlier: NatReport, fresh: NatReport) -> bool:
    if (earlier.mapping is Mapping.NONE) != (fresh.mapping is Mapping.NONE):
        return False
    if Allocation.NOT_MEASURED in (earlier.allocation, fresh.allocation):
        return True
    return (earlier.allocation is Allocation.PRESERVING) == (fresh.allocation is Allocation.PRESERVING)
