"""midair as a contender in the lab's matrix."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from midair.lab.ceiling import DIRECT, Ceiling, Conditions, ceiling
from midair.lab.ceiling.coverage import Budget
from midair.lab.matrix import Attempt, Outcome
from midair.trials.real import connect_all, serving
from midair.trials.simulated import play

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midair.lab.lab import Lab
    from midair.lab.matrix import Cell
    from midair.trials.result import PairResult

__all__ = ["MidairContender"]

AT_ONCE: Final = 8
"""Pairs at the same time: each takes two threads, and up to 1,300 sockets where ports are covered."""
BUDGET: Final = Budget(sockets=512, syns=1023)
"""256 sockets at one side and 1,024 at the other have the same product, and all are used once."""
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
        return ceiling(cell.topology, DIRECT, Conditions(budget=BUDGET))

    def play(self, lab: Lab, cells: Sequence[Cell], *, seed: int) -> Sequence[Attempt]:
        """Contender's. Its sockets and keys are not the seed's."""
        del seed
        attempts: list[Attempt] = []
        with serving(lab) as server:
            for start in range(0, len(cells), AT_ONCE):
                pairs = lab.pairs[start : start + AT_ONCE]
                attempts += [_attempt(result) for result in connect_all(lab, server, pairs)]
        return attempts

    def simulate(self, cell: Cell, *, seed: int) -> Attempt:
        """Contender's."""
        return _attempt(play(cell.topology, seed))


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
