"""Where each result has its place in a picture: in a square of sides that have all been paired with one another, or
alone. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from midair.lab.matrix.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midair.lab.matrix.result import CellResult

__all__ = ["Block", "Look", "Section", "lay_out", "look_of"]

_SMALLEST_BLOCK: Final = 4
"""Sides; what is less is no square worth drawing."""


class Look(StrEnum):
    """How a cell is shown; the value is its class in pictures."""

    FULL = "full"
    PART = "part"
    NONE = "none"
    LUCKY = "lucky"
    BELOW = "below"
    ABOVE = "above"

    @property
    def sign(self) -> str:
        """So that it can be told without colours."""
        return {"full": "●", "part": "◐", "none": "–", "lucky": "○", "below": "▼", "above": "▲"}[self.value]

    @property
    def meaning(self) -> str:
        """For the legend."""
        return {
            "full": "gets through, as computed",
            "part": "sometimes, as computed",
            "none": "cannot, as computed",
            "lucky": "got through by luck: the SYNs happened to cross",
            "below": "below its ceiling",
            "above": "above its ceiling",
        }[self.value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Sides, all paired with one another and each with itself."""

    sides: tuple[str, ...]
    cells: dict[tuple[str, str], CellResult]
    """By row and column; what was played as ``b x a`` is also at ``a``, ``b``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """All with one skew."""

    skew: float
    blocks: tuple[Block, ...]
    alone: tuple[CellResult, ...]

    @property
    def title(self) -> str:
        """For a person."""
        if self.skew == 0:
            return "Both start together"
        late, early = ("second", "first") if self.skew > 0 else ("first", "second")
        return f"The {late} side starts {abs(1000 * self.skew):g} ms after the {early}"


def look_of(result: CellResult) -> Look:
    """By verdict, and where that is fine by what came out."""
    if result.verdict in (Verdict.BELOW, Verdict.ABOVE):
        return Look(result.verdict)
    if result.successes == 0:
        return Look.NONE
    if result.ceiling == 0:
        return Look.LUCKY
    return Look.FULL if result.successes == result.tries else Look.PART


def lay_out(results: Sequence[CellResult]) -> tuple[Section, ...]:
    """One section for each skew, in the order in which they come."""
    skews = dict.fromkeys(result.skew for result in results)
    return tuple(_section(skew, [result for result in results if result.skew == skew]) for skew in skews)


def _section(skew: float, results: Sequence[CellResult]) -> Section:
    pairs: dict[tuple[str, str], CellResult] = {}
    for result in results:
        sides = result.topology.split(" x ")
        if len(sides) == 2 and " with " not in result.topology:
            pairs.setdefault((sides[1], sides[0]), result)
            pairs[sides[0], sides[1]] = result
    blocks = []
    placed: set[int] = set()
    remaining = list(dict.fromkeys(side for pair in pairs for side in reversed(pair)))
    while len(sides_of_block := _clique(remaining, pairs)) >= _SMALLEST_BLOCK:
        cells = {(row, column): pairs[row, column] for row in sides_of_block for column in sides_of_block}
        blocks.append(Block(sides=tuple(sides_of_block), cells=cells))
        placed |= {id(result) for result in cells.values()}
        remaining = [side for side in remaining if side not in sides_of_block]
    alone = tuple(result for result in results if id(result) not in placed)
    return Section(skew=skew, blocks=tuple(blocks), alone=alone)


def _clique(sides: Sequence[str], pairs: dict[tuple[str, str], CellResult]) -> list[str]:
    """Sides that are all paired with one another: greedily, who has most partners first, in the order given."""
    partners = {side: sum((side, other) in pairs for other in sides) for side in sides}
    chosen: list[str] = []
    for side in sorted(sides, key=lambda side: -partners[side]):
        if (side, side) in pairs and all((side, other) in pairs for other in chosen):
            chosen.append(side)
    return sorted(chosen, key=sides.index)
