"""What happens to a simulated socket, as its handler is told. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from midair.lab.simulation.connection import Connection

__all__ = ["Accepted", "Ended", "Failed", "Handler", "Happening", "Opened", "Received"]


@dataclass(frozen=True, slots=True)
class Opened:
    """connect() has come back: the connection is there."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A listener has a new connection."""


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes have come, in order."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """The other end sends no more (its FIN has come); what is sent to it still arrives."""


@dataclass(frozen=True, slots=True)
class Failed:
    """connect() has come to nothing, or the connection has died; nothing more happens to it."""

    error: int
    """The errno."""


Happening = Opened | Accepted | Received | Ended | Failed

Handler = Callable[["Connection", Happening, float], object]
"""Called with the connection, what happened to it, and the time."""
