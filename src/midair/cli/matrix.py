"""``midair lab matrix``: many pairs of NATs, each beside what is possible there."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from midair.cli.ending import fail
from midair.errors import LocalIOError, MidairError, UsageError
from midair.lab import LabUnavailable
from midair.lab.matrix import (
    CellResult,
    PlainContender,
    Summary,
    Verdict,
    cells_like,
    full_cells,
    play_matrix,
    quick_cells,
    read_results,
    summarise,
)
from midair.lab.matrix.cells import SKEWS
from midair.lab.matrix.files import EVIDENCE, write_files
from midair.lab.matrix.reference import reference_page
from midair.lab.matrix.result import result_line, summary_line
from midair.lab.matrix.table import table
from midair.lab.unprivileged import available_somehow
from midair.lab.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from midair.lab.matrix import Cell, Contender

__all__ = ["CONTENDERS", "matrix_command"]


def _midair() -> Contender:
    from midair.trials.contender import MidairContender

    return MidairContender()


CONTENDERS: Final[dict[str, Callable[[], Contender]]] = {"plain": PlainContender, "midair": _midair}
"""Who can play, by the name on the command line."""
_LINES_APART: Final = 5.0
"""Seconds between two lines of progress where a line cannot be written over."""


def matrix_command(
    *,
    contender: str = "plain",
    full: bool = False,
    cells: str | None = None,
    skews: Sequence[float] = (),
    simulated: bool = False,
    tries: int = 1,
    seed: int = 0,
    as_json: bool = False,
    output: str | None = None,
    from_file: str | None = None,
    docs: str | None = None,
) -> int:
    """Plays the quick matrix, the ``full`` one, or the ``cells`` like a pattern; or takes the results ``from_file``.

    ``skews`` are in milliseconds. Returns 0 when every cell is within tolerance, else 1, or the code of an error.
    """
    try:
        if from_file is not None:
            results, summary = _earlier(Path(from_file))
        else:
            chosen = _chosen(full, cells, [skew / 1000 for skew in skews] or list(SKEWS), simulated)
            results, summary = _play(
                chosen, CONTENDERS[contender](), simulated, tries, seed, as_json, Path(output) if output else None
            )
        if as_json:
            click.echo(summary_line(summary))
        else:
            click.echo(table(results, summary), nl=False)
        if output is not None:
            write_files(Path(output), results, summary)
        if docs is not None:
            Path(docs).write_text(reference_page(results, summary), "utf-8")
    except MidairError as error:
        return fail(error)
    except OSError as error:
        return fail(LocalIOError(f"{error.filename or output}: {error.strerror}"))
    return 0 if summary.is_fine else 1


def _chosen(full: bool, pattern: str | None, skews: Sequence[float], simulated: bool) -> list[Cell]:
    try:
        if pattern is not None:
            chosen = cells_like(pattern, skews)
        else:
            chosen = full_cells(skews) if full else quick_cells(skews)
    except ValueError as error:
        raise UsageError(str(error), hint="For example --cells 'drop x *'; midair lab kinds lists boxes.") from error
    kept = [cell for cell in chosen if not (simulated and cell.is_kernel)]
    if len(kept) < len(chosen):
        click.echo(f"midair: {len(chosen) - len(kept)} cells have Linux routers, which cannot be simulated", err=True)
    if not kept:
        raise UsageError("no cell is left")
    return kept


def _earlier(file: Path) -> tuple[list[CellResult], Summary]:
    try:
        with file.open(encoding="utf-8") as lines:
            return read_results(lines)
    except ValueError as error:
        raise UsageError(f"{file}: {error}") from error


def _play(
    cells: Sequence[Cell],
    contender: Contender,
    simulated: bool,
    tries: int,
    seed: int,
    as_json: bool,
    output: Path | None,
) -> tuple[list[CellResult], Summary]:
    if not simulated and (lack := available_somehow(kernel=any(cell.is_kernel for cell in cells))):
        raise MidairError(lack, hint="midair lab matrix --simulated needs nothing.")
    evidence = _Evidence(output)
    progress = _Progress(len(cells))
    began = time.monotonic()
    results = []
    try:
        for result in play_matrix(
            cells, contender, tries=tries, seed=seed, simulated=simulated, evidence=evidence.folder
        ):
            results.append(result)
            if as_json:
                click.echo(result_line(result))
            progress.show(result)
    except (LabUnavailable, WireError) as error:
        raise MidairError(str(error)) from error
    finally:
        progress.end()
    return results, summarise(results, seconds=time.monotonic() - began)


class _Evidence:
    """Where it is kept: beside the results, or when those are not written, in a temporary folder that stays."""

    def __init__(self, output: Path | None) -> None:
        self._folder = output / EVIDENCE if output is not None else None

    def folder(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="midair-lab-matrix-"))
        return self._folder


class _Progress:
    """One line on stderr for a person: written over on a terminal, elsewhere a new one now and then."""

    def __init__(self, cells: int) -> None:
        self._cells = cells
        self._done = 0
        self._alarms = 0
        self._in_place = sys.stderr.isatty()
        self._next_at = time.monotonic() + _LINES_APART

    def show(self, result: CellResult) -> None:
        self._done += 1
        self._alarms += not Verdict(result.verdict).is_fine
        now = time.monotonic()
        if self._in_place:
            click.echo(f"\r\033[K{self._text()}", err=True, nl=False)
        elif now >= self._next_at:
            self._next_at = now + _LINES_APART
            click.echo(f"midair: {self._text()}", err=True)

    def end(self) -> None:
        if self._in_place:
            click.echo("\r\033[K", err=True, nl=False)

    def _text(self) -> str:
        alarms = f", {self._alarms} not as computed" if self._alarms else ""
        return f"{self._done} of {self._cells} cells{alarms}"
