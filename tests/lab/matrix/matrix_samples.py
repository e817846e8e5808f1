"""Results and contenders for the matrix's tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from midair.lab import parse_topology
from midair.lab.ceiling import Ceiling, Technique
from midair.lab.matrix import Attempt, Cell, CellResult, Outcome
from midair.lab.matrix.result import cell_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midair.lab import Lab

__all__ = ["EVEN", "IMPOSSIBLE", "LUCKY", "POSSIBLE", "SAMPLES", "Fixed", "cell", "direct", "failed", "result"]

POSSIBLE = Ceiling(probability=1.0, technique=Technique.SIMULTANEOUS_OPEN, reasoning="It can.", with_luck=1.0)
IMPOSSIBLE = Ceiling(probability=0.0, technique=None, reasoning="It cannot.")
LUCKY = replace(IMPOSSIBLE, with_luck=1.0)
EVEN = Ceiling(probability=0.5, technique=Technique.COVERAGE, reasoning="It may.", with_luck=0.5)


def cell(topology: str, skew: float = 0.0) -> Cell:
    return Cell(topology=parse_topology(topology), skew=skew)


def direct(seconds: float = 0.15) -> Attempt:
    return Attempt(outcome=Outcome.DIRECT, seconds=seconds, how=("connect", "accept"), syns=2)


def failed(reason: str = "lockstep") -> Attempt:
    return Attempt(outcome=Outcome.FAILED, syns=20, reason=reason, stories=([{"dialled": 1}], []))


def result(topology: str, attempts: Sequence[Attempt], ceiling: Ceiling = POSSIBLE, *, skew: float = 0.0) -> CellResult:
    return cell_result(cell(topology, skew), attempts, ceiling, contender="sample", mode="wire", seed=7, evidence="")


BELOW = replace(result("drop x rst", [failed()]), evidence="/tmp/<evidence> & more")
SAMPLES = [
    *(
        result(f"{a} x {b}", [direct(), direct(0.3)])
        for a, b in (
            ("drop", "drop"),
            ("drop", "icmp"),
            ("drop", "strict"),
            ("drop", "restricted"),
            ("icmp", "icmp"),
            ("icmp", "strict"),
            ("icmp", "restricted"),
            ("strict", "strict"),
            ("strict", "restricted"),
        )
    ),
    result("restricted x restricted", [direct(), failed()], EVEN),
    result("symmetric x symmetric", [failed("no <hope>")], IMPOSSIBLE),
    result("rst x rst", [direct()], LUCKY, skew=0.1),
    result("no-simopen x no-simopen", [direct()], IMPOSSIBLE, skew=0.1),
    BELOW,
]
"""Of every look one, and a square of four sides."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A contender with whom every try comes out alike, whatever was computed."""

    attempt: Attempt
    expected: Ceiling = POSSIBLE
    name: str = "fixed"

    def ceiling(self, cell: Cell) -> Ceiling:
        return self.expected

    def play(self, lab: Lab, cells: Sequence[Cell], *, seed: int) -> Sequence[Attempt]:
        assert len(lab.pairs) == len(cells)
        return [self.simulate(cell, seed=seed) for cell in cells]

    def simulate(self, cell: Cell, *, seed: int) -> Attempt:
        return replace(self.attempt, syns=seed)
