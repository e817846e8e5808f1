"""The plain puncher's ceilings beside the plain puncher itself in the simulated net. The two were written apart: here a
few entries and a pencil, there whole NATs, hosts and packets. Where they disagree one of them is wrong."""

from __future__ import annotations

import random
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import pytest
from random_boxes import random_pair, random_topology

from midair.lab import BOXES, parse_topology
from midair.lab.ceiling import PLAIN, Conditions, ceiling
from midair.lab.plan import draw
from midair.lab.puncher import play

if TYPE_CHECKING:
    from collections.abc import Callable

    from midair.lab import Topology

SKEWS = (0.0, 0.01, 0.1, 0.97, -0.1, -0.97)
"""Not a whole second: SYNs are repeated just then, and it would be luck which comes first."""


def disagreement(topology: Topology, skew: float, seed: int) -> str:
    """Empty when there is none."""
    expected = ceiling(topology, PLAIN, Conditions(skews=(skew,)))
    punch = play(draw([topology]), skew=skew, seed=seed)
    # Two connections at a time are fine, even if each end has heard the other on another one.
    through = punch.through or bool(punch.a.heard and punch.b.heard)
    if expected.probability not in (0, 1) or through == (expected.probability == 1):
        return ""
    return f"{topology}, skew {skew}, seed {seed}: {expected}, but through: {through}, {punch}"


@pytest.mark.parametrize("first", ["none", *BOXES])
def test_all_pairs_of_the_catalogue_fare_in_the_simulated_net_as_computed(first: str) -> None:
    source = random.Random(first)
    names = ["none", *BOXES]
    for second in names[names.index(first) :]:
        assert not disagreement(parse_topology(f"{first} x {second}"), source.choice(SKEWS), seed=1)


@pytest.mark.parametrize("draw_topology", [random_pair, random_topology])
@pytest.mark.parametrize("tens", range(6))
def test_random_boxes_fare_in_the_simulated_net_as_computed(
    draw_topology: Callable[[random.Random], Topology], tens: int
) -> None:
    for seed in range(10 * tens, 10 * tens + 10):
        source = random.Random(seed)
        topology = draw_topology(source)
        assert not disagreement(topology, source.choice(SKEWS), seed)


def test_the_comparison_is_of_all_kinds_of_pairs() -> None:
    pairs = list(combinations_with_replacement(["none", *BOXES], 2))[::7]
    passed = sum(ceiling(parse_topology(f"{first} x {second}"), PLAIN).probability == 1 for first, second in pairs)
    assert 0.2 < passed / len(pairs) < 0.8
