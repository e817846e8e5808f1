"""The results as text for a terminal. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from midair.lab.matrix.layout import Look, lay_out, look_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from midair.lab.matrix.layout import Block
    from midair.lab.matrix.result import CellResult, Summary

__all__ = ["table"]

_SIGNS: Final = {
    Look.FULL: "+",
    Look.PART: "%",
    Look.NONE: ".",
    Look.LUCKY: "~",
    Look.BELOW: "!",
    Look.ABOVE: "^",
}
"""One character, which every terminal has."""


def table(results: Sequence[CellResult], summary: Summary) -> str:
    """A square of signs for each block, a line for each cell that has no place in one, what needs looking into, and the
    sums."""
    return "\n".join(_lines(results, summary)) + "\n"


def _lines(results: Sequence[CellResult], summary: Summary) -> Iterator[str]:
    for section in lay_out(results):
        yield f"{section.title}:"
        for block in section.blocks:
            yield ""
            yield from _square(block)
        if section.alone:
            yield ""
            for result in section.alone:
                yield f"  {_SIGNS[look_of(result)]} {result.topology}{_time(result)}"
        yield ""
    looks = Counter(look_of(result) for result in results)
    yield "  ".join(f"{_SIGNS[look]} {look.meaning}" for look in Look if looks[look])
    yield ""
    for result in results:
        if look_of(result) in (Look.BELOW, Look.ABOVE):
            yield from _alarm(result)
    yield (
        f"{summary.contender}, {summary.mode}: {summary.cells} cells, {summary.tries} tries, "
        f"{summary.successes} direct ({_percent(summary.successes / summary.tries)}; possible "
        f"{_percent(summary.ceiling)})" + (f", {summary.relayed} relayed" if summary.relayed else "")
    )
    yield (
        f"{summary.meets} meet their ceiling, {summary.unreachable} cannot be reached, {summary.below} below, "
        f"{summary.above} above; {summary.seconds:.0f} s, seed {summary.seed}"
    )


def _square(block: Block) -> Iterator[str]:
    """Columns have numbers, which stand before the sides' names in the rows."""
    width = max(map(len, block.sides))
    numbers = range(1, len(block.sides) + 1)
    yield f"  {'':{width + 4}}{''.join(f'{number:>3}' for number in numbers)}"
    for number, row in zip(numbers, block.sides, strict=True):
        signs = "".join(f"{_SIGNS[look_of(block.cells[row, column])]:>3}" for column in block.sides)
        yield f"  {number:>2}  {row:{width}}{signs}"


def _alarm(result: CellResult) -> Iterator[str]:
    yield (
        f"{_SIGNS[look_of(result)]} {result.name}: {result.successes} of {result.tries}, ceiling "
        f"{_percent(result.ceiling)}{f' by {result.technique}' if result.technique else ''}"
    )
    yield f"    expected: {result.reasoning}"
    for reason, count in result.reasons.items():
        yield f"    {count} x {reason}"
    if result.evidence:
        yield f"    evidence: {result.evidence}"
    yield ""


def _time(result: CellResult) -> str:
    return "" if result.p50 is None else f"  {1000 * result.p50:.0f} ms"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
