"""The matrix: who gets through which pair of NATs, each cell beside what is possible there.

``cells`` says which pairs, ``contender`` who plays, ``runner`` plays, ``verdict`` judges, ``result`` is what comes out;
``table``, ``svg``, ``page`` and ``reference`` show it. ``midair lab matrix`` is all of it.
"""

from midair.lab.matrix.attempt import Attempt, Outcome
from midair.lab.matrix.cells import Cell, cells_like, full_cells, quick_cells
from midair.lab.matrix.contender import Contender
from midair.lab.matrix.plain import PlainContender
from midair.lab.matrix.result import CellResult, Summary, read_results, summarise
from midair.lab.matrix.runner import play_matrix
from midair.lab.matrix.verdict import Verdict, judge

__all__ = [
    "Attempt",
    "Cell",
    "CellResult",
    "Contender",
    "Outcome",
    "PlainContender",
    "Summary",
    "Verdict",
    "cells_like",
    "full_cells",
    "judge",
    "play_matrix",
    "quick_cells",
    "read_results",
    "summarise",
]
