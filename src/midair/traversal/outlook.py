"""What the reports of both sides change about the plan. Pure.

A report may be wrong, old, or made up by the peer. So it never leaves out what could work: it says what is tried
sooner, when the relay need not wait, and what a person is told.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from midair.endpoint import Endpoint
from midair.nat.check.report import NatReport, YesNo
from midair.nat.told import Known, understand
from midair.traversal.candidates import Candidate, CandidateType
from midair.traversal.explanation import side_note
from midair.traversal.sync import Description, candidates_of

__all__ = ["Outlook", "look_ahead"]

WEB_PORTS = (80, 443)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is to be expected of a pair."""

    turns_at_once: bool = False
    """One side's NAT refuses SYNs that cross: dialling in turns begins with the race, not a while later."""
    hopeless: str = ""
    """Why no direct connection is to be expected, so that the relay does not wait for one; empty: there is hope."""
    notes: tuple[str, ...] = ()
    """What is known of either side, for a person."""


def look_ahead(ours: Description, theirs: Description, dialled: Collection[Candidate]) -> Outlook:
    """From what both have told; ``dialled`` are the peer's candidates that we dial. Both sides come to the same turns,
    since both have the same two reports; a side that tells none is of a release that does not begin them at once."""
    here, there = _of(ours), _of(theirs)
    crossing = [known.report.simultaneous_open for known in (here, there)]
    notes = [side_note("your", here, ours.forecast), side_note("their", there, theirs.forecast)]
    hopeless = _hopeless(here, there, ours, dialled)
    return Outlook(
        turns_at_once=bool(ours.reports and theirs.reports) and YesNo.NO in crossing,
        hopeless=hopeless,
        notes=tuple(note for note in (*notes, hopeless) if note),
    )


def _of(side: Description) -> Known:
    """What it tells of IPv4, where the NATs are."""
    told = (understand(report) for report in side.reports if report.family == 4)
    return next(told, Known(report=NatReport(family=4)))


def _hopeless(here: Known, there: Known, ours: Description, dialled: Collection[Candidate]) -> str:
    """Only where every way to the peer leads over the NATs that are told of: a mapped port, another network and IPv6
    are hope enough."""
    told = candidates_of(ours, loopback=True)
    if any(each.type is not CandidateType.SERVER_REFLEXIVE for each in dialled):
        return ""
    if any(each.type is CandidateType.MAPPED for each in told) or here.lets_strangers_in or there.lets_strangers_in:
        return ""
    if _only_web(there) and not _on_the_web([each.endpoint for each in told]):
        return "the other side can only dial ports of the web, and we have none"
    if _only_web(here) and not _on_the_web([each.endpoint for each in dialled]):
        return "from here only ports of the web can be dialled, and the other side has none"
    if here.report.simultaneous_open is there.report.simultaneous_open is YesNo.NO:
        return "both sides' networks refuse connections that cross"
    return ""


def _only_web(known: Known) -> bool:
    return known.report.only_web is YesNo.YES


def _on_the_web(endpoints: Collection[Endpoint]) -> bool:
    return any(endpoint.port in WEB_PORTS for endpoint in endpoints)
