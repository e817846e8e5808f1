"""What a side that is gone has left at the server: it takes part in a number and a mailbox, and only two can.

So nobody else can come under that number until the server forgets it, after an hour. Whoever was in the mailbox with it
knows its name, and leaves for it. Pure, and driven as :class:`midair.rendezvous.machine.Machine` is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from midair.rendezvous import steps, wire
from midair.rendezvous.steps import Command, Event

__all__ = ["Clearing", "Remains"]

LIMIT_SECONDS: Final = 3.0
"""For all of it. When it does not work, the next one is turned away as without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """Where a side that is gone still counts."""

    app_id: str
    side: str
    nameplate: str
    mailbox: str


class Clearing:
    """One connection on which ``remains`` are given back."""

    def __init__(self, remains: Remains) -> None:
        self._remains = remains
        self.deadline: float | None = None
        """When TimePassed is due."""

    def handle(self, event: Event, *, now: float) -> list[Command]:
        """Takes one event in and says what is to be done, in order."""
        match event:
            case steps.Started():
                self.deadline = now + LIMIT_SECONDS
                return [steps.Connect()]
            case steps.Connected():
                remains = self._remains
                return [
                    steps.Transmit(frame=wire.Bind(appid=remains.app_id, side=remains.side)),
                    steps.Transmit(frame=wire.Release(nameplate=remains.nameplate)),
                    steps.Transmit(frame=wire.Close(mailbox=remains.mailbox, mood="lonely")),
                ]
            case steps.Received(frame=wire.Closed() | wire.Error()) | steps.TimePassed():
                return [steps.Finish()]
            case steps.ConnectFailed() | steps.Disconnected() | steps.Violated():
                return [steps.Finish()]
            case _:
                return []
