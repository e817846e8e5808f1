"""What one try of a pair came to. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Attempt", "Outcome"]


class Outcome(StrEnum):
    """How the two hosts ended up."""

    DIRECT = "direct"
    RELAYED = "relayed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try."""

    outcome: Outcome
    seconds: float | None = None
    """From the first side's start until bytes had passed both ways; None when they never did."""
    how: tuple[str, str] | None = None
    """How a and b got the connection: ``connect`` or ``accept``."""
    syns: int = 0
    """SYNs that both sides sent towards each other, the kernel's repetitions among them."""
    reason: str = ""
    """Why it is not direct, in a few words, the same for the same cause."""
    stories: tuple[object, object] = ((), ())
    """What each side saw, as JSON can hold it; for evidence."""
