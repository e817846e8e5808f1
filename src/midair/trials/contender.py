"""midair as a contender in the lab's matrix."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from midair.config import TraversalOptions
from midair.lab.ceiling import DIRECT, Ceiling, Conditions, Technique, ceiling
from midair.lab.ceiling.coverage import Budget
from midair.lab.matrix import Attempt, Outcome
from midair.port import make_room_for
from midair.trials.real import connect_all, serving
from midair.trials.simulated import play

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midair.lab.description import Topology
    from midair.lab.lab import Lab
    from midair.lab.matrix import Cell
    from midair.trials.result import PairResult

__all__ = ["MidairContender"]

ROOM: Final = 24
"""Pairs at the same time: each takes two threads."""
COVERAGE_WEIGHT: Final = 12
"""As so many count those where ports may be covered, with up to 500 SYNs a second."""
SOCKETS: Final = 4_000
"""That such a pair has open at most: its dials, and the ports of its fan."""
BUDGET: Final = Budget(sockets=512, syns=1023)
"""256 sockets at one side and 1,024 at the other have the same product, and all are used once."""
OPTIONS: Final = TraversalOptions(head_start=BUDGET.seconds)
"""A transfer that has begun on the relay goes on searching; here the relay waits as long as the ceiling has."""
_PARTICULARS: Final = re.compile(r"\[?[0-9a-f]*[.:][0-9a-f.:]*[0-9a-f]\]?(:\d+)?(?=[ ,;:]|$)|\d[\d,.]*")
"""Addresses and numbers: what differs between tries that fail alike."""
_HOW: Final[dict[str, Literal["connect", "accept"]]] = {"dial": "connect", "accept": "accept"}


@dataclass(frozen=True, slots=True)
class MidairContender:
    """Measured against everything that is possible without a relay; the two sides agree on a moment, so a cell's skew
    makes no difference."""

    name: str = "midair"

    def ceiling(self, cell: Cell) -> Ceiling:
        """Contender's."""
        return _ceiling(cell.topology)

    def play(self, lab: Lab, cells: Sequence[Cell], *, seed: int) -> Sequence[Attempt]:
        """Contender's. Its sockets and keys are not the seed's."""
        del seed
        weights = [COVERAGE_WEIGHT if self.ceiling(cell).technique is Technique.COVERAGE else 1 for cell in cells]
        make_room_for(ROOM // COVERAGE_WEIGHT * SOCKETS)
        with serving(lab) as server:
            results = connect_all(lab, server, lab.pairs, options=OPTIONS, weights=weights, room=ROOM)
        return [_attempt(each) for each in results]

    def simulate(self, cell: Cell, *, seed: int) -> Attempt:
        """Contender's."""
        return _attempt(play(cell.topology, seed, OPTIONS))


@lru_cache(maxsize=4096)
def _ceiling(topology: Topology) -> Ceiling:
    return ceiling(topology, DIRECT, Conditions(budget=BUDGET))


def _attempt(result: PairResult) -> Attempt:
    stories = (list(result.a.story), list(result.b.story))
    if result.direct:
        return Attempt(
            outcome=Outcome.DIRECT,
            seconds=max(result.a.seconds, result.b.seconds),
            how=(_HOW[result.a.how], _HOW[result.b.how]),
            syns=result.a.dials + result.b.dials,
            stories=stories,
        )
    return Attempt(
        outcome=Outcome.RELAYED if result.connected else Outcome.FAILED,
        syns=result.a.dials + result.b.dials,
        reason=_PARTICULARS.sub("...", result.a.reason or result.b.reason),
        stories=stories,
    )
