"""Plays the matrix: on the wire many cells at once, each time in a new lab; or in the simulated net."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from midair.lab.lab import Lab
from midair.lab.matrix.attempt import Attempt, Outcome
from midair.lab.matrix.evidence import folder_name, keep_evidence, keep_what_the_wire_saw
from midair.lab.matrix.result import CellResult, cell_result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from midair.lab.ceiling import Ceiling
    from midair.lab.matrix.cells import Cell
    from midair.lab.matrix.contender import Contender

__all__ = ["AT_ONCE", "play_matrix"]

AT_ONCE: Final = 100
"""Cells in one lab: as many as two cores play without being late."""
_CHUNK: Final = 10
"""Cells a worker takes at a time."""


def play_matrix(
    cells: Sequence[Cell],
    contender: Contender,
    *,
    tries: int = 1,
    seed: int = 0,
    simulated: bool = False,
    evidence: Callable[[], Path] | None = None,
) -> Iterator[CellResult]:
    """Yields each cell's result when its tries are done; cells that differ in their skew or in the server's link are
    not played together, so not in the order given.

    Of a try that came out otherwise than it had to, evidence is kept in a folder below ``evidence()``, which is asked
    only then.

    Raises: LabUnavailable; OSError when evidence cannot be written; ValueError for a Linux router that is to be
    simulated.
    """
    play = _simulate if simulated else _play_on_the_wire
    return play([_Play(cell, contender.ceiling(cell)) for cell in cells], contender, tries, seed, evidence)


@dataclass(slots=True)
class _Play:
    """A cell that is under way."""

    cell: Cell
    ceiling: Ceiling
    attempts: list[Attempt] = field(default_factory=list)
    evidence: str = ""

    def surprises(self, attempt: Attempt) -> bool:
        """Whether it came out otherwise than it had to."""
        if attempt.outcome is Outcome.DIRECT:
            return self.ceiling.with_luck == 0
        return self.ceiling.probability == 1

    def result(self, contender: Contender, seed: int, *, simulated: bool) -> CellResult:
        return cell_result(
            self.cell,
            self.attempts,
            self.ceiling,
            contender=contender.name,
            mode="simulated" if simulated else "wire",
            seed=seed,
            evidence=self.evidence,
        )


def _play_on_the_wire(
    plays: Sequence[_Play], contender: Contender, tries: int, seed: int, evidence: Callable[[], Path] | None
) -> Iterator[CellResult]:
    for batch in _batches(plays):
        for number in range(tries):
            _play_batch(batch, contender, seed + number, evidence)
        for play in batch:
            yield play.result(contender, seed, simulated=False)


def _play_batch(batch: Sequence[_Play], contender: Contender, seed: int, evidence: Callable[[], Path] | None) -> None:
    """One try of each."""
    with (
        tempfile.TemporaryDirectory(prefix="midair-lab-") as folder,
        Lab([play.cell.topology for play in batch], seed=seed) as lab,
    ):
        wire = Path(folder) / "wire.pcapng"
        with lab.capture(wire):
            attempts = contender.play(lab, [play.cell for play in batch], seed=seed)
        for pair, (play, attempt) in enumerate(zip(batch, attempts, strict=True)):
            play.attempts.append(attempt)
            if evidence is not None and play.surprises(attempt):
                place = evidence() / folder_name(play.cell)
                keep_evidence(place, play.cell, attempt, play.ceiling, contender=contender.name, seed=seed)
                keep_what_the_wire_saw(place, lab, pair, wire)
                play.evidence = str(place)


def _batches(plays: Sequence[_Play]) -> Iterator[list[_Play]]:
    """What can be in one lab: one skew, and since there is one server, one link to it."""
    groups: dict[object, list[_Play]] = {}
    for play in plays:
        groups.setdefault((play.cell.skew, play.cell.topology.server_link), []).append(play)
    for group in groups.values():
        yield from (group[start : start + AT_ONCE] for start in range(0, len(group), AT_ONCE))


def _simulate(
    plays: Sequence[_Play], contender: Contender, tries: int, seed: int, evidence: Callable[[], Path] | None
) -> Iterator[CellResult]:
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        jobs = [(contender, play.cell, seed, tries) for play in plays]
        for play, attempts in zip(plays, pool.map(_simulate_cell, jobs, chunksize=_CHUNK), strict=True):
            play.attempts += attempts
            for attempt in attempts:
                if evidence is not None and play.surprises(attempt):
                    place = evidence() / folder_name(play.cell)
                    keep_evidence(place, play.cell, attempt, play.ceiling, contender=contender.name, seed=seed)
                    play.evidence = str(place)
            yield play.result(contender, seed, simulated=True)


def _simulate_cell(job: tuple[Contender, Cell, int, int]) -> list[Attempt]:
    contender, cell, seed, tries = job
    return [contender.simulate(cell, seed=seed + number) for number in range(tries)]
