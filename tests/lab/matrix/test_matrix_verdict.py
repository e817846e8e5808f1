"""A result beside its ceiling."""

from __future__ import annotations

import pytest

from midair.lab.matrix import Verdict, judge


@pytest.mark.parametrize(
    ("successes", "tries", "ceiling", "with_luck", "verdict"),
    [
        (3, 3, 1.0, 1.0, Verdict.MEETS),
        (2, 3, 1.0, 1.0, Verdict.BELOW),
        (99, 100, 1.0, 1.0, Verdict.MEETS),
        (97, 100, 1.0, 1.0, Verdict.BELOW),
        (0, 3, 0.0, 0.0, Verdict.UNREACHABLE),
        (1, 3, 0.0, 0.0, Verdict.ABOVE),
        (1, 3, 0.0, 1.0, Verdict.MEETS),
        (0, 3, 0.001, 0.001, Verdict.UNREACHABLE),
        (0, 3, 0.5, 0.5, Verdict.MEETS),
        (3, 3, 0.5, 0.5, Verdict.MEETS),
        (0, 20, 0.5, 0.5, Verdict.BELOW),
        (20, 20, 0.5, 0.5, Verdict.ABOVE),
        (20, 20, 0.5, 1.0, Verdict.MEETS),
        (20, 20, 0.2, 0.9, Verdict.MEETS),
        (9, 20, 0.5, 0.5, Verdict.MEETS),
    ],
)
def test_certain_ceilings_are_met_within_the_tolerance_and_others_within_chance(
    successes: int, tries: int, ceiling: float, with_luck: float, verdict: Verdict
) -> None:
    assert judge(successes, tries, ceiling, with_luck) is verdict


def test_only_below_and_above_need_looking_into() -> None:
    assert [verdict for verdict in Verdict if not verdict.is_fine] == [Verdict.BELOW, Verdict.ABOVE]
