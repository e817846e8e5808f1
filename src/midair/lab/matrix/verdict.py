"""A cell's result beside its ceiling. Pure."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

__all__ = ["TOLERANCE", "Verdict", "judge"]

TOLERANCE: Final = 0.02
"""By which the share of successes may be less than the ceiling."""
_UNLIKELY: Final = 0.01
"""So small a probability that it was not chance."""


class Verdict(StrEnum):
    """What to think of it."""

    MEETS = "meets"
    BELOW = "below"
    """More should have worked."""
    ABOVE = "above"
    """More worked than can: the ceiling is wrong, or the lab is."""
    UNREACHABLE = "unreachable as computed"

    @property
    def is_fine(self) -> bool:
        """Whether there is nothing to look into."""
        return self in (Verdict.MEETS, Verdict.UNREACHABLE)


def judge(successes: int, tries: int, probability: float, with_luck: float) -> Verdict:
    """Both are the ceiling's; where they are neither 0 nor 1, chance has its share in the result."""
    if successes == 0 and probability < TOLERANCE:
        return Verdict.UNREACHABLE
    if successes < (probability - TOLERANCE) * tries and _at_most(successes, tries, probability) < _UNLIKELY:
        return Verdict.BELOW
    if successes > with_luck * tries and 1 - _at_most(successes - 1, tries, with_luck) < _UNLIKELY:
        return Verdict.ABOVE
    return Verdict.MEETS


def _at_most(count: int, tries: int, probability: float) -> float:
    """That at most so many of the tries succeed."""
    return math.fsum(
        math.comb(tries, each) * probability**each * (1 - probability) ** (tries - each) for each in range(count + 1)
    )
