"""What a receiver does with one kind of offer, and what it may use of the connection meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from midair import events
from midair.transfer import wire
from midair.transfer.link import Link
from midair.transfer.outcome import Offer, Outcome

__all__ = ["Line", "Receiving"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One connection, as what is received over it sees it."""

    link: Link
    emit: events.Listener
    wake: threading.Event
    """Set to have the worker look; also when the transfer has ended."""
    alive: Callable[[], bool]
    """Whether the transfer goes on; from any thread."""
    each_file: bool = True
    """Whether what became of a file is told also where it simply is there."""


class Receiving(Protocol):
    """``look``, ``take_data`` and ``take`` are called in the thread that takes in records, ``carry_out`` and what comes
    after it in the worker, ``close`` when both have ended."""

    begun: bool
    """Whether the sender has been told that its offer is accepted."""
    committed: bool
    """Everything that could be stored is."""

    @property
    def outcome(self) -> Outcome: ...

    def look(self) -> Offer:
        """At what is there already; nothing is changed by it. Raises: MidairError when it cannot be received."""
        ...

    def take_data(self, position: int, data: memoryview) -> None:
        """The content of a record. Raises: MidairError."""
        ...

    def take(self, message: wire.FromSender) -> None:
        """What only this kind of offer brings with it. Raises: MidairError."""
        ...

    def carry_out(self) -> bool:
        """Accepted: receive it, and say Finished. False when the transfer has ended before. Raises: MidairError."""
        ...

    def salvage(self) -> None:
        """It has ended early: what is here is not to be lost. Raises: MidairError."""
        ...

    def forget(self) -> None:
        """The sender knows of the end: nothing needs to be remembered. Raises: MidairError."""
        ...

    def close(self) -> None:
        """Leave nothing open. Idempotent."""
        ...
