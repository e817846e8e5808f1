"""What has to hold for every pair: drawn at random, from the seed in the test's name."""

from __future__ import annotations

import random
from dataclasses import replace
from enum import StrEnum
from itertools import pairwise
from typing import Final

import pytest
from random_boxes import random_behaviour, random_pair, random_topology

from midair.lab import NatBehaviour, Side, Topology, box_of
from midair.lab.behaviour import (
    Filtering,
    Mapping,
    Reaction,
    SequenceCheck,
    SimultaneousOpen,
    Unsolicited,
)
from midair.lab.ceiling import DIRECT, EVERY, PLAIN, Conditions, Technique, ceiling

FRIENDLIER: Final[dict[str, list[tuple[StrEnum, StrEnum]]]] = {
    "mapping": list(pairwise(Mapping)),
    "filtering": list(pairwise(Filtering)),
    "unsolicited": [
        (Unsolicited.PASS, Unsolicited.DROP),
        *((Unsolicited.DROP, other) for other in Unsolicited if other not in (Unsolicited.PASS, Unsolicited.DROP)),
    ],
    "simultaneous_open": [
        (SimultaneousOpen.PASSES, other) for other in SimultaneousOpen if other is not SimultaneousOpen.PASSES
    ],
    "sequence_check": [(SequenceCheck.NONE, SequenceCheck.DROP), (SequenceCheck.NONE, SequenceCheck.LEAK)],
    "on_rst": [(Reaction.KEEPS, Reaction.DELETES), (Reaction.IGNORES, Reaction.DELETES)],
    "on_icmp": [(Reaction.IGNORES, Reaction.KEEPS), (Reaction.KEEPS, Reaction.DELETES)],
}
"""By knob, values of which the first is never worse than the second."""


def one_each(first: NatBehaviour, second: NatBehaviour) -> Topology:
    return Topology(a=Side(boxes=(box_of(first),)), b=Side(boxes=(box_of(second),)))


@pytest.mark.parametrize("seed", range(15))
def test_a_and_b_can_be_exchanged(seed: int) -> None:
    topology = random_topology(random.Random(seed))
    mirrored = replace(topology, a=topology.b, b=topology.a, a_link=topology.b_link, b_link=topology.a_link)
    for techniques in (DIRECT, PLAIN):
        # With nobody before the other inside a box that both are behind, somebody has to be looked at first.
        skews = (0.1,) if topology.shared else (0.0, 0.1)
        for skew in skews:
            here = ceiling(topology, techniques, Conditions(skews=(skew,)))
            there = ceiling(mirrored, techniques, Conditions(skews=(-skew,)))
            assert here.probability == pytest.approx(there.probability), (str(topology), here, there)


@pytest.mark.parametrize("seed", range(15))
def test_more_techniques_never_do_worse(seed: int) -> None:
    source = random.Random(seed)
    topology = random_topology(source)
    techniques = list(Technique)
    source.shuffle(techniques)
    have: frozenset[Technique] = frozenset()
    reached = 0.0
    for technique in techniques:
        have |= {technique}
        now = ceiling(topology, have, Conditions(skews=(0.1,))).probability
        assert now >= reached - 1e-9, (str(topology), technique, sorted(have))
        reached = now


@pytest.mark.parametrize("knob", FRIENDLIER)
@pytest.mark.parametrize("seed", range(3))
def test_a_friendlier_knob_never_does_worse(knob: str, seed: int) -> None:
    source = random.Random(seed)
    near, far = random_behaviour(source), random_behaviour(source)
    if knob in ("unsolicited", "on_icmp"):
        # Where a crossing SYN is refused, a refusal that has an entry deleted can be of use: then the SYN crosses none.
        near, far = (replace(each, simultaneous_open=SimultaneousOpen.PASSES) for each in (near, far))
    for friendly, other in FRIENDLIER[knob]:
        conditions = Conditions(skews=(source.choice([0.0, 0.1]),))
        better, worse = (
            ceiling(one_each(replace(near, **{knob: value}), far), DIRECT, conditions).probability  # type: ignore[arg-type]
            for value in (friendly, other)
        )
        assert better >= worse - 1e-9, (box_of(near), box_of(far), friendly, other, conditions)


@pytest.mark.parametrize("seed", range(15))
def test_every_ceiling_is_a_probability_with_reasons(seed: int) -> None:
    for techniques in (PLAIN, DIRECT, EVERY):
        found = ceiling(random_pair(random.Random(seed)), techniques)
        assert 0 <= found.probability <= 1
        assert (found.technique is None) == (found.probability == 0)
        assert found.reasoning.endswith(".")
    assert found.technique is not None
