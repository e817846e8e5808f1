"""Why there is no direct connection, in one line for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from midair.nat.check.report import Allocation, Filtering, Mapping, NatReport, Pooling, Reaction, YesNo
from midair.nat.forecast import Forecast
from midair.nat.told import Known
from midair.traversal.targets import IN_TURNS, Target

__all__ = ["no_path", "side_note", "why_not_direct"]

_WORDS = {
    "closed": "closed before it proved itself",
    "broken": "broken before it proved itself",
    "timeout": "opened but silent",
    "died": "lost before it was agreed on",
}
_MAX_TARGETS_NAMED = 3
_REACTIONS = {
    each: "dropped" if each is Reaction.DROP else "refused"
    for each in Reaction
    if each not in (Reaction.PASS, Reaction.NOT_MEASURED)
}


def why_not_direct(targets: Sequence[Target], seconds: float, notes: Sequence[str] = ()) -> str:
    """After ``seconds`` of dialling ``targets``; ``notes`` is what was known of the NATs before."""
    if not targets:
        return "; ".join([*notes, "the other side has no address that can be dialled from here"])
    ordinary = [target for target in targets if not target.late]
    shown = sorted(ordinary, key=lambda target: -target.sent)[:_MAX_TARGETS_NAMED]
    late = [target for target in targets if target.late and target.sent]
    in_numbers = _in_numbers(late)
    parts = [*notes, *in_numbers, *(_one(target, seconds) for target in shown)]
    if len(ordinary) > len(shown):
        parts.append(f"{len(ordinary) - len(shown)} more likewise in vain")
    if late and not in_numbers:
        parts.append("with either side dialling first, from ports not used before, likewise")
    return "; ".join(parts)


def side_note(whose: str, known: Known, expected: Forecast | None) -> str:
    """What there is before one side, ``your`` or ``their``; empty where nothing is known."""
    report = known.report
    stored = [each for each in (_firewall(report), _crossing(report), _filter(report), _pool(report)) if each]
    words = [each for each in (_ports(report, expected), *stored) if each]
    if not words:
        return ""
    hours = int(known.age // 3600)
    aged = f" (checked {_times_ago(hours)} ago)" if stored and hours else ""
    return f"{whose} side: {', '.join(words)}{aged}"


def _ports(report: NatReport, expected: Forecast | None) -> str:
    carrier = " (two NATs in a row)" if (report.nats or 0) > 1 else ""
    if expected is not None and expected.step:
        return f"its NAT counts ports {'up' if expected.step > 0 else 'down'} by {abs(expected.step)}{carrier}"
    if expected is not None:
        width = expected.high - expected.low + 1
        return f"every connection gets a random port, out of about {width:,}{carrier}"
    if report.mapping is Mapping.NONE:
        return "no NAT"
    return f"its NAT keeps ports{carrier}" if report.allocation is Allocation.PRESERVING else ""


def _firewall(report: NatReport) -> str:
    return "a firewall lets out to the ports of the web only" if report.only_web is YesNo.YES else ""


def _crossing(report: NatReport) -> str:
    return "connections that cross on the way are refused" if report.simultaneous_open is YesNo.NO else ""


def _filter(report: NatReport) -> str:
    if report.filtering is Filtering.ENDPOINT_INDEPENDENT or report.reaction is Reaction.PASS:
        return "anybody may dial in"
    if report.filtering is Filtering.ADDRESS_DEPENDENT:
        return "only the address that was dialled may answer"
    if report.filtering is Filtering.ADDRESS_AND_PORT_DEPENDENT:
        return "only the exact peer may answer"
    return "" if report.reaction is Reaction.NOT_MEASURED else f"who comes unasked is {_REACTIONS[report.reaction]}"


def _pool(report: NatReport) -> str:
    return "its outside address changes" if report.pooling in (Pooling.ARBITRARY, Pooling.BY_DESTINATION) else ""


def _times_ago(hours: int) -> str:
    return f"{hours} h" if hours < 48 else f"{hours // 24} days"


def _in_numbers(dialled: Sequence[Target]) -> list[str]:
    """The many dials of a coverage, in a few words."""
    remotes = {target.endpoint for target in dialled}
    locals_ = {target.local for target in dialled}
    parts = []
    if len(remotes) > IN_TURNS:
        parts.append(f"{len(remotes):,} ports of the other side's NAT tried in vain")
    if len(locals_) > IN_TURNS:
        parts.append(f"tried from {len(locals_):,} ports of ours in vain")
    return parts


def _one(target: Target, seconds: float) -> str:
    if target.strangers:
        return f"somebody else answers at {target.endpoint}"
    if not target.failures:
        syns = "a SYN" if target.sent == 1 else f"{target.sent} SYNs"
        return f"no answer to {syns} to {target.endpoint} within {seconds:.1f} s"
    results = ", ".join(f"{_WORDS.get(name, name)} {_times(count)}" for name, count in target.failures.most_common(2))
    return f"{target.endpoint}: {results} in {seconds:.1f} s"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def no_path(
    targets: Sequence[Target], *, direct: bool, relay_trouble: str, strangers_accepted: int, notes: Sequence[str] = ()
) -> str:
    """What was tried, and what happened."""
    if not direct:
        return f"no connection through the relay: {relay_trouble}"
    results: Counter[str] = Counter()
    for target in targets:
        results.update({_WORDS.get(name, name): count for name, count in target.failures.items()})
        results["no answer"] += target.unanswered
        results["strangers"] += target.strangers
    results["strangers"] += strangers_accepted
    dials = sum(target.sent for target in targets)
    counted = ", ".join(f"{name} {count}" for name, count in results.most_common() if count)
    tried = f"{dials} dial{'' if dials == 1 else 's'}" + (f": {counted}" if counted else "")
    known = "".join(f"{note}; " for note in notes)
    return f"{known}no direct connection ({tried}), and no relay: {relay_trouble}"
