"""Boxes, sides and topologies with every knob at random, for tests that hold for all of them."""

from __future__ import annotations

import random
from dataclasses import replace

from midair.lab import Box, NatBehaviour, Side, Topology, box_of
from midair.lab.behaviour import (
    Allocation,
    Filtering,
    Hairpin,
    Mapping,
    Pooling,
    PortRule,
    Reaction,
    SequenceCheck,
    SimultaneousOpen,
    Unsolicited,
)

__all__ = ["random_behaviour", "random_box", "random_pair", "random_topology"]


def random_behaviour(source: random.Random) -> NatBehaviour:
    rules = [PortRule.PRESERVING_UNTIL_CLASH] * 3 + list(PortRule)
    return NatBehaviour(
        mapping=source.choice(list(Mapping)),
        filtering=source.choice(list(Filtering)),
        allocation=Allocation(
            rule=source.choice(rules), step=source.choice([1, 2, -1]), pooling=source.choice(list(Pooling))
        ),
        unsolicited=source.choice(list(Unsolicited)),
        simultaneous_open=source.choice([SimultaneousOpen.PASSES] * 3 + list(SimultaneousOpen)),
        sequence_check=source.choice(list(SequenceCheck)),
        on_rst=source.choice(list(Reaction)),
        on_icmp=source.choice(list(Reaction)),
        hairpin=source.choice(list(Hairpin)),
        decrements_ttl=source.random() < 0.8,
    )


def random_box(source: random.Random) -> Box:
    return box_of(random_behaviour(source))


def random_pair(source: random.Random) -> Topology:
    """Each side behind one box."""
    return Topology(a=Side(boxes=(random_box(source),)), b=Side(boxes=(random_box(source),)))


def random_topology(source: random.Random) -> Topology:
    """Up to two boxes on each side, or one, and up to two that are shared."""
    if source.random() < 0.5:
        return Topology(a=_side(source, 2), b=_side(source, 2))
    shared = tuple(random_box(source) for _ in range(source.choice([1, 1, 2])))
    return replace(Topology(a=_side(source, 1), b=_side(source, 1)), shared=shared)


def _side(source: random.Random, most: int) -> Side:
    return Side(boxes=tuple(random_box(source) for _ in range(source.randint(0, most))))
