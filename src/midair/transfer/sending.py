"""What a sender does with one kind of thing to send, and what it may use of the connection meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from midair import events
from midair.errors import RemoteProtocolError
from midair.transfer import wire
from midair.transfer.link import Link
from midair.transfer.outcome import Outcome
from midair.transfer.pace import RateLimit

__all__ = ["Line", "Sending", "demand"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One connection, as what is sent over it sees it."""

    link: Link
    emit: events.Listener
    rate_limit: RateLimit | None
    compress: bool
    """Whether content may be."""
    changed: threading.Condition
    """Notified when the transfer has ended; what is sent may use it for what the receiver says, too."""
    ended: Callable[[], bool]
    """With ``changed`` held: whether it has failed, or the receiver has finished."""
    check: Callable[[], None]
    """Raises what has ended the transfer, if it has failed."""

    def pause(self, seconds: float) -> None:
        """Unless something ends the transfer meanwhile."""
        with self.changed:
            self.changed.wait_for(self.ended, timeout=seconds)


class Sending(Protocol):
    """``offer`` and ``serve`` are called in the sending thread, ``take`` in the one that takes in records."""

    def offer(self) -> None:
        """Say what there is. Raises: MidairError."""
        ...

    def serve(self) -> None:
        """Send what is wanted, until the receiver has finished. Raises: MidairError."""
        ...

    def take(self, message: wire.FromReceiver) -> bool:
        """Whether it says that the receiver has finished. Raises: MidairError."""
        ...

    def outcome(self, *, finished: bool) -> Outcome: ...


def demand(good: bool, what: str) -> None:
    """Raises: RemoteProtocolError unless ``good``."""
    if not good:
        raise RemoteProtocolError(f"the receiver sent {what}")
