"""How likely guesses hit the ports a NAT gives out at random, and what one may spend on them. Pure.

The model is that of a draw with putting back; on a carrier's NAT with a band of 251 ports it was measured to be right
within a few per cent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

__all__ = ["ROUND", "Budget", "both_sides_covered", "nothing_in_between", "one_side_covered", "repeated"]

ROUND: Final = 1.0
"""Seconds until a SYN that has found no opening is sent again: then a new round with other ports does better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one side may spend."""

    sockets: int = 64
    """Connections that it opens at the same time. What is closed again opens nothing, so cycling a few is no good."""
    syns: int = 1024
    """SYNs in all."""
    seconds: float = 10.0
    """Until it must have worked."""

    @property
    def rounds(self) -> int:
        """How often all sockets can be used anew."""
        return max(1, min(self.syns // max(1, self.sockets), int(self.seconds // ROUND)))

    def capped(self, sockets: float) -> Budget:
        """What is left of it behind a NAT that lets only so many connections be."""
        return Budget(sockets=int(min(self.sockets, self.syns, sockets)), syns=self.syns, seconds=self.seconds)


def one_side_covered(choices: int, opened: int, dialled: int) -> float:
    """The peer's NAT draws from ``choices`` endpoints, the peer dials from ``dialled`` of them, and we have opened
    ``opened`` towards it: the probability that a dial finds an opening, P = 1 - (1 - k/N)^m.
    """
    if opened >= choices:
        return float(dialled > 0)
    return 1.0 - (1.0 - opened / choices) ** dialled


def both_sides_covered(choices_a: int, choices_b: int, syns_a: int, syns_b: int) -> float:
    """Both NATs draw anew for each SYN: one of each side has to go from just the endpoint to just the endpoint of the
    other's. How many do is nearly a Poisson number.
    """
    return -math.expm1(-(syns_a * syns_b) / (choices_a * choices_b))


def repeated(probability: float, rounds: int) -> float:
    """Of at least one success in so many rounds."""
    return 1.0 - (1.0 - probability) ** rounds


def nothing_in_between(strangers: float, guesses: int) -> float:
    """Other hosts of a NAT take ``strangers`` ports on average between our look at it and our dial, a Poisson number:
    the probability that ``guesses`` ports in a row are enough to have ours among them.
    """
    term = total = math.exp(-strangers)
    for number in range(1, guesses):
        term *= strangers / number
        total += term
    return min(total, 1.0) if guesses > 0 else 0.0
