"""How a pair of midair's agents ended, whatever they were played on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["PairResult", "SideResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SideResult:
    """How one side ended."""

    path: Literal["direct", "relay", "none"]
    how: str
    """``dial``, ``accept`` or ``relay``; empty without a path."""
    seconds: float
    """From the agreed start to the choice."""
    ready_seconds: float
    """From the moment both had met to the choice: gathering, describing and agreeing come before the start."""
    dials: int
    reason: str
    """Why not directly, or why not at all."""
    described_seconds: float | None = None
    """From having both descriptions to the choice: agreeing on the start, and the race. None where nobody measured."""
    authenticated_seconds: float | None = None
    """From the agreed start until this side had authenticated what was chosen later."""
    described_authenticated_seconds: float | None = None
    """The same from having both descriptions."""
    story: tuple[str, ...] = ()
    """What happened, an event a line, where somebody listened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairResult:
    """How both sides ended."""

    a: SideResult
    b: SideResult

    @property
    def direct(self) -> bool:
        """Whether both took a direct connection."""
        return self.a.path == self.b.path == "direct"

    @property
    def connected(self) -> bool:
        """Whether both took the same kind of path."""
        return self.a.path == self.b.path != "none"
