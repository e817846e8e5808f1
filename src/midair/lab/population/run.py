"""Plays every pair of a sample in the simulated net, and counts who gets through.

Different techniques play the very same pairs with the same seeds, so that a difference is theirs and not luck's.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from midair.lab.population.sample import Pair, draw_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from midair.lab.description import Topology
    from midair.lab.population.mixes import Mix

__all__ = ["Ending", "Tally", "Verdict", "play_population"]

_CHUNK = 25
"""Pairs a worker takes at a time."""


class Ending(StrEnum):
    """How a pair ended up."""

    DIRECT = "direct"
    RELAYED = "relayed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One pair's ending."""

    ending: Ending
    seconds: float = 0.0
    """Until it was connected, on the simulated clock."""
    reason: str = ""
    """Why not directly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """One technique's count."""

    pairs: int
    endings: dict[Ending, int]
    median_seconds: float
    """Of the direct ones."""
    troubles: tuple[tuple[str, int], ...]
    """The topologies that were not direct, most frequent first."""

    def percent(self, *endings: Ending) -> float:
        """The share of these endings."""
        return 100 * sum(self.endings.get(ending, 0) for ending in endings) / self.pairs

    def margin(self, *endings: Ending) -> float:
        """Half the width of the 95 % interval of that share, in points (normal approximation)."""
        share = self.percent(*endings) / 100
        return 196 * math.sqrt(share * (1 - share) / self.pairs)


def play_population(
    mix: Mix, plays: Mapping[str, Callable[[Topology, int], Verdict]], *, pairs: int, seed: int, workers: int
) -> dict[str, Tally]:
    """Each technique's tally over the same ``pairs`` pairs. An exception of a play ends it all."""
    drawn = list(draw_pairs(mix, pairs, random.Random(seed)))
    chunks = [drawn[start : start + _CHUNK] for start in range(0, len(drawn), _CHUNK)]
    tallies = {}
    with ProcessPoolExecutor(max_workers=workers) as pool:
        for name, play in plays.items():
            verdicts = [verdict for part in pool.map(_play_chunk, [play] * len(chunks), chunks) for verdict in part]
            tallies[name] = _tally(drawn, verdicts)
    return tallies


def _play_chunk(play: Callable[[Topology, int], Verdict], pairs: Sequence[Pair]) -> list[Verdict]:
    return [play(pair.topology, pair.seed) for pair in pairs]


def _tally(pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> Tally:
    direct = sorted(verdict.seconds for verdict in verdicts if verdict.ending is Ending.DIRECT)
    troubles = Counter(
        str(pair.topology) + (" with IPv6" if pair.topology.ipv6 else "")
        for pair, verdict in zip(pairs, verdicts, strict=True)
        if verdict.ending is not Ending.DIRECT
    )
    return Tally(
        pairs=len(verdicts),
        endings=dict(Counter(verdict.ending for verdict in verdicts)),
        median_seconds=direct[len(direct) // 2] if direct else 0.0,
        troubles=tuple(troubles.most_common()),
    )
