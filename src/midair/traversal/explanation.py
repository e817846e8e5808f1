"""Why there is no direct connection, in one line for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from midair.traversal.targets import Target

__all__ = ["no_path", "why_not_direct"]

_WORDS = {
    "closed": "closed before it proved itself",
    "broken": "broken before it proved itself",
    "timeout": "opened but silent",
    "died": "lost before it was agreed on",
}
_MAX_TARGETS_NAMED = 3


def why_not_direct(targets: Sequence[Target], seconds: float) -> str:
    """After ``seconds`` of dialling ``targets``."""
    if not targets:
        return "the other side has no address that can be dialled from here"
    shown = sorted(targets, key=lambda target: -target.sent)[:_MAX_TARGETS_NAMED]
    parts = [_one(target, seconds) for target in shown]
    if len(targets) > len(shown):
        parts.append(f"{len(targets) - len(shown)} more likewise in vain")
    return "; ".join(parts)


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


def no_path(targets: Sequence[Target], *, direct: bool, relay_trouble: str, strangers_accepted: int) -> str:
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
    return f"no direct connection ({tried}), and no relay: {relay_trouble}"
