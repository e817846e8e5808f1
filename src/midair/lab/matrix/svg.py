"""The results as a picture: SVG that needs nothing else, light or dark as the reader's system is. Pure."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from midair.lab.matrix.colours import STYLE
from midair.lab.matrix.layout import Look, lay_out, look_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midair.lab.matrix.layout import Block, Section
    from midair.lab.matrix.result import CellResult, Summary

__all__ = ["svg"]

_CELL: Final = 18
_LETTER: Final = 6.4
"""Of the 11 pixel font, on average."""
_WIDTH: Final = 1000
_MARGIN: Final = 16
_LINE: Final = 18
_COLUMNS: Final = 3
"""Of cells that are in no square."""


def svg(results: Sequence[CellResult], summary: Summary) -> str:
    """All sections one below the other; each cell says more when it is pointed at."""
    drawing = _Drawing()
    drawing.text(_MARGIN, 22, f"{summary.contender}: {_sums(summary)}", css="title")
    drawing.y = 36
    drawing.legend({look_of(result) for result in results})
    for section in lay_out(results):
        drawing.section(section)
    return drawing.finished()


def _sums(summary: Summary) -> str:
    return (
        f"{summary.successes} of {summary.tries} tries direct, {100 * summary.ceiling:.3g} % possible; "
        f"{summary.below} cells below their ceiling, {summary.above} above"
    )


class _Drawing:
    """Grows downwards."""

    def __init__(self) -> None:
        self.y: float = 0.0
        self._right: float = _WIDTH
        self._parts: list[str] = []

    def finished(self) -> str:
        height = self.y + _MARGIN
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self._right:.0f} {height:.0f}" '
            f'width="{self._right:.0f}" height="{height:.0f}" role="img">\n'
            f"<style>{STYLE}"
            "svg{background:var(--paper);font:11px system-ui,sans-serif}text{fill:var(--ink)}"
            ".title{font-size:14px;font-weight:600}.soft{fill:var(--soft)}.sign{font-size:10px;text-anchor:middle}"
            ".head{font-size:13px;font-weight:600}rect{stroke:var(--paper)}"
            + "".join(f".{look} rect{{fill:var(--{look})}}.{look} text{{fill:var(--on-{look})}}" for look in Look)
            + "</style>\n"
            + "\n".join(self._parts)
            + "\n</svg>\n"
        )

    def text(self, x: float, y: float, content: str, *, css: str = "", turned: bool = False) -> None:
        turn = f' transform="rotate(-50 {x:.1f} {y:.1f})"' if turned else ""
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{css}"{turn}>{escape(content)}</text>')

    def legend(self, looks: set[Look]) -> None:
        x: float = _MARGIN
        for look in Look:
            width = _CELL + 25 + _LETTER * len(look.meaning)
            if look not in looks:
                continue
            if x + width > self._right:
                x = _MARGIN
                self.y += _LINE + 4
            self._box(x, self.y, look, "")
            self.text(x + _CELL + 5, self.y + 13, look.meaning, css="soft")
            x += width
        self.y += 34

    def section(self, section: Section) -> None:
        self.y += 14
        self.text(_MARGIN, self.y, section.title, css="head")
        self.y += 8
        self._squares(section.blocks)
        if section.alone:
            self._tiles(section.alone)

    def _squares(self, blocks: Sequence[Block]) -> None:
        """Side by side, as long as there is room."""
        x, top, bottom = float(_MARGIN), self.y, self.y
        for block in blocks:
            longest = _LETTER * max(map(len, block.sides))
            size = len(block.sides) * _CELL
            width = longest + 6 + size + 0.64 * longest
            if x > _MARGIN and x + width > self._right:
                x, top = _MARGIN, bottom
            self._square(block, x, top + 0.77 * longest + 14, longest)
            x += width + 2 * _MARGIN
            self._right = max(self._right, x - _MARGIN)
            bottom = max(bottom, top + 0.77 * longest + size + 26)
        self.y = bottom

    def _square(self, block: Block, x: float, top: float, longest: float) -> None:
        left = x + longest + 6
        for number, side in enumerate(block.sides):
            self.text(x, top + number * _CELL + 13, side)
            self.text(left + number * _CELL + 12, top - 5, side, turned=True)
        for (row, column), result in block.cells.items():
            place = left + block.sides.index(column) * _CELL, top + block.sides.index(row) * _CELL
            self._box(*place, look_of(result), _more(result))

    def _tiles(self, results: Sequence[CellResult]) -> None:
        """In columns, each read downwards."""
        width = (self._right - _MARGIN) / _COLUMNS
        rows = -(-len(results) // _COLUMNS)
        self.y += 4
        for number, result in enumerate(results):
            x, y = _MARGIN + number // rows * width, self.y + number % rows * _LINE
            self._box(x, y, look_of(result), _more(result))
            most = int((width - _CELL - 12) / _LETTER)
            topology = result.topology
            self.text(x + _CELL + 5, y + 13, topology if len(topology) <= most else f"{topology[: most - 1]}…")
        self.y += rows * _LINE + 10

    def _box(self, x: float, y: float, look: Look, more: str) -> None:
        title = f"<title>{escape(more)}</title>" if more else ""
        self._parts.append(
            f'<g class="{look}">{title}<rect x="{x:.1f}" y="{y:.1f}" width="{_CELL}" height="{_CELL}" rx="3"/>'
            f'<text x="{x + _CELL / 2:.1f}" y="{y + 13:.1f}" class="sign">{look.sign}</text></g>'
        )


def _more(result: CellResult) -> str:
    by = f" by {result.technique}" if result.technique else ""
    time = "" if result.p50 is None else f", {1000 * result.p50:.0f} ms"
    return (
        f"{result.topology}: {result.successes} of {result.tries}{time}; possible {100 * result.ceiling:.3g} %{by}. "
        f"{result.reasoning}"
    )
