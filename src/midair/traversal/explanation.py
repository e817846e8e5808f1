"""Why there is no direct connection, in one line for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from midair.nat.forecast import Forecast
from midair.traversal.targets import IN_TURNS, Target

__all__ = ["nat_note", "no_path", "why_not_direct"]

_WORDS = {
    "closed": "closed before it proved itself",
    "broken": "broken before it proved itself",
    "timeout": "opened but silent",
    "died": "lost before it was agreed on",
}
_MAX_TARGETS_NAMED = 3


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


def nat_note(whose: str, expected: Forecast) -> str:
    """What it means that a NAT does not keep ports."""
    if expected.step:
        return f"{whose} NAT counts ports {'up' if expected.step > 0 else 'down'} by {abs(expected.step)}"
    return f"{whose} NAT takes a random port, out of about {expected.high - expected.low + 1:,}, for each connection"


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
