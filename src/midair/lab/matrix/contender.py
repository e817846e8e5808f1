"""Who plays the matrix. The lab knows the plain puncher only; others bring themselves along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midair.lab.ceiling import Ceiling
    from midair.lab.lab import Lab
    from midair.lab.matrix.attempt import Attempt
    from midair.lab.matrix.cells import Cell

__all__ = ["Contender"]


class Contender(Protocol):
    """A way to connect two hosts. Plain data, since it goes to other processes for simulation."""

    @property
    def name(self) -> str:
        """For results."""

    def ceiling(self, cell: Cell) -> Ceiling:
        """What it can reach there: that of its techniques."""

    def play(self, lab: Lab, cells: Sequence[Cell], *, seed: int) -> Sequence[Attempt]:
        """One try of each pair of the lab, all at the same time. The cells are those of the pairs, and all have one
        skew. What it does not get done in time is a failure, not an error.
        """

    def simulate(self, cell: Cell, *, seed: int) -> Attempt:
        """The same in the simulated net, for a cell without Linux routers."""
