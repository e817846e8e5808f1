"""Draws pairs of hosts from a population. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from midair.lab.catalogue import parse_topology

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from midair.lab.description import Topology
    from midair.lab.population.mixes import HostClass, Mix

__all__ = ["Pair", "draw_pairs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two hosts that want to meet."""

    topology: Topology
    seed: int
    """For everything that is random about them."""


def draw_pairs(mix: Mix, count: int, random: random.Random) -> Iterator[Pair]:
    """``count`` pairs; both hosts are drawn independently of one another but for those on one LAN."""
    for _ in range(count):
        a, b = _host(mix, random), _host(mix, random)
        both_have_ipv6 = _chance(mix.ipv6_percent, random) and _chance(mix.ipv6_percent, random)
        on_one_lan = _chance(mix.same_lan_percent, random) and a.side != "none"
        text = f"(none + none) > {a.side}" if on_one_lan else f"{a.side} x {b.side}"
        yield Pair(topology=replace(parse_topology(text), ipv6=both_have_ipv6), seed=random.getrandbits(32))


def _host(mix: Mix, random: random.Random) -> HostClass:
    (drawn,) = random.choices(mix.classes, [each.percent for each in mix.classes])
    return drawn


def _chance(percent: float, random: random.Random) -> bool:
    return random.random() * 100 < percent
