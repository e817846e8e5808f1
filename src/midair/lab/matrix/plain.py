"""The plain puncher as a contender."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from midair.lab.ceiling import PLAIN, Ceiling, Conditions, Technique, ceiling
from midair.lab.matrix.attempt import Attempt, Outcome
from midair.lab.plan import draw
from midair.lab.puncher import PATIENCE, PAUSE, play, punch_all, reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midair.lab.lab import Lab
    from midair.lab.matrix.cells import Cell
    from midair.lab.puncher import Punch

__all__ = ["PlainContender"]

_ENDPOINT = re.compile(r"\[?[0-9a-f]*[.:][0-9a-f.:]*[0-9a-f]\]?(:\d+)?(?=[ ,;]|$)")
"""An address, with or without a port: what differs between tries that fail alike."""


@dataclass(frozen=True, slots=True)
class PlainContender:
    """Over IPv6 where there is any, else over IPv4."""

    name: str = "plain puncher"

    def ceiling(self, cell: Cell) -> Ceiling:
        """Contender's."""
        techniques = PLAIN | {Technique.IPV6} if cell.topology.ipv6 else PLAIN
        return ceiling(cell.topology, techniques, Conditions(skews=(cell.skew,), pause=PAUSE, seconds=PATIENCE))

    def play(self, lab: Lab, cells: Sequence[Cell], *, seed: int) -> Sequence[Attempt]:
        """Contender's. The puncher has nothing random in it."""
        punches: dict[int, Punch] = {}
        for version in (4, 6):
            numbers = [number for number, cell in enumerate(cells) if _version(cell) == version]
            pairs = [(lab.pairs[number].a, lab.pairs[number].b) for number in numbers]
            if pairs:
                done = punch_all(pairs, lab.server, skew=cells[0].skew, version=version)
                punches |= dict(zip(numbers, done, strict=True))
        return [_attempt(punches[number]) for number in range(len(cells))]

    def simulate(self, cell: Cell, *, seed: int) -> Attempt:
        """Contender's."""
        return _attempt(play(draw([cell.topology]), skew=cell.skew, seed=seed, version=_version(cell)))


def _version(cell: Cell) -> int:
    return 6 if cell.topology.ipv6 else 4


def _attempt(punch: Punch) -> Attempt:
    return Attempt(
        outcome=Outcome.DIRECT if punch.through else Outcome.FAILED,
        seconds=punch.seconds,
        how=punch.how,
        syns=punch.syns,
        reason=_ENDPOINT.sub("...", reason(punch)),
        stories=(asdict(punch.a), asdict(punch.b)),
    )
