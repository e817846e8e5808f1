"""The next endpoint of a side, guessed: by counting on from the last one, or by trying many at the same time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from midair.lab.ceiling.coverage import (
    ROUND,
    both_sides_covered,
    nothing_in_between,
    one_side_covered,
    repeated,
)
from midair.lab.ceiling.technique import Technique

if TYPE_CHECKING:
    from midair.lab.ceiling.conditions import Conditions
    from midair.lab.ceiling.coverage import Budget
    from midair.lab.ceiling.outside import Outside
    from midair.lab.ceiling.ways import Gate, Way

__all__ = ["Guess", "guess"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """How good it is."""

    probability: float
    """That both sides dial the endpoint the other really has."""
    technique: Technique | None
    """None: it was luck."""
    reasons: list[str]
    """For a person."""


def guess(
    way: Way, surprising: dict[str, Outside], techniques: frozenset[Technique], conditions: Conditions
) -> Guess | None:
    """The best one for the sides whose endpoints are not known; None when the techniques have none."""
    counted = {letter for letter, outside in surprising.items() if outside.counting is not None}
    if Technique.PREDICTION not in techniques:
        counted = set()
    drawn = sorted(surprising.keys() - counted)
    if drawn and Technique.COVERAGE not in techniques:
        return _luck(surprising) if not counted else None
    budgets = {letter: _budget(conditions.budget, way.gates(letter)) for letter in ("a", "b")}
    probability = 1.0
    reasons = []
    for letter in sorted(counted):
        gate = surprising[letter].counting
        assert gate is not None
        probability *= nothing_in_between(conditions.strangers, budgets[_other(letter)].sockets)
        reasons.append(f"{gate.name} gives {letter}'s next connection the next port in a row")
    if drawn:
        coverage, said = _coverage(drawn, surprising, budgets, alone=not counted)
        probability *= coverage
        reasons.append(said)
    technique = Technique.COVERAGE if drawn else Technique.PREDICTION
    return Guess(probability=probability, technique=technique, reasons=reasons)


def _coverage(
    drawn: list[str], surprising: dict[str, Outside], budgets: dict[str, Budget], *, alone: bool
) -> tuple[float, str]:
    """Of the sides whose endpoints are drawn at random. ``alone``: the other side has one that is the same for all."""
    rounds = min(budget.rounds for budget in budgets.values())
    if len(drawn) == 2:
        a, b = (surprising[letter].choices for letter in drawn)
        syns_a, syns_b = (min(budgets[letter].sockets, surprising[letter].choices) for letter in drawn)
        return (
            repeated(both_sides_covered(a, b, syns_a, syns_b), rounds),
            f"a sends {syns_a} SYNs and b {syns_b}, {_times(rounds)}, and one has to go from the right one of {a} "
            f"endpoints to the right one of {b}",
        )
    (letter,) = drawn
    other = _other(letter)
    choices = surprising[letter].choices
    dialled = min(budgets[letter].sockets, choices)
    opened = min(budgets[other].sockets, choices)
    if not alone:
        # Each SYN of a side that counts has a port of its own, so it has each endpoint opened to one port only.
        opened, dialled = 1, min(dialled, opened)
    return (
        repeated(one_side_covered(choices, opened, dialled), rounds),
        f"{other} opens {opened} of the {choices} endpoints that {letter}'s next connection may have, and {letter} "
        f"dials from {dialled} ports, {_times(rounds)}",
    )


def _luck(surprising: dict[str, Outside]) -> Guess | None:
    """Where only the address is open, it may happen to be the same again."""
    if any(outside.ports > 1 or outside.counting is not None for outside in surprising.values()):
        return None
    probability = 1.0
    for outside in surprising.values():
        probability /= outside.addresses
    said = [
        f"one time in {outside.addresses} {letter}'s next connection has the same address again"
        for letter, outside in surprising.items()
    ]
    return Guess(probability=probability, technique=None, reasons=said)


def _budget(budget: Budget, gates: tuple[Gate, ...]) -> Budget:
    """What a side can spend behind NATs with caps."""
    for gate in gates:
        limits = gate.behaviour.limits
        budget = budget.capped(
            min(limits.entries, limits.entries_per_host, limits.half_open, limits.new_per_second * ROUND)
        )
    return budget


def _times(rounds: int) -> str:
    return "once" if rounds == 1 else f"{rounds} times"


def _other(letter: str) -> str:
    return "b" if letter == "a" else "a"
