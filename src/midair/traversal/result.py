"""What a traversal ends in: one channel, how it came about, and what is still to be tidied up."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from midair import events
from midair.channel import Channel
from midair.endpoint import Endpoint
from midair.port import LocalPort
from midair.traversal.mapped_port import MappedPort

if TYPE_CHECKING:
    from midair.traversal.search import Search

__all__ = ["Leftovers", "PathResult"]


class Leftovers:
    """The ports, the one at the home router, the reflector's connections and the losers of the race.

    The listener stays open behind a chosen connection: closing it would answer a late SYN of the peer with a RST.
    """

    def __init__(self) -> None:
        self.ports: list[LocalPort] = []
        """The one that listens first, then the fan."""
        self.mapped: MappedPort | None = None
        self.sockets: set[socket.socket] = set()
        """What is open for certain only until its task has retired it."""
        self.retiring: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Waits for the losers to be retired, two seconds at most, then closes everything. Idempotent.

        The home router has one more second to take its port back. Cancelling closes everything else at once.
        """
        try:
            if self.retiring:
                await asyncio.wait(self.retiring)
        finally:
            await self.close_now()

    async def close_now(self) -> None:
        """The same without patience for the losers. Cancelling leaves the router's port to run out."""
        for port in self.ports:
            port.close()
        tasks = set(self.retiring)
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks)
        finally:
            for sock in self.sockets:
                sock.close()
            if self.mapped is not None:
                await self.mapped.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class PathResult:
    """The chosen connection. The caller owns the channel, and calls ``close_leftovers`` when the transfer is over."""

    channel: Channel
    path: Literal["direct", "relay"]
    how: Literal["dial", "accept", "relay"]
    """What it was on this side; with crossing SYNs it is a dial on both."""
    local: Endpoint
    remote: Endpoint
    attempts: int
    """SYNs dialled on this side, retries among them."""
    seconds: float
    """From the agreed start to the choice."""
    reason: str | None
    """When relayed: why not direct."""
    leftovers: Leftovers = field(default_factory=Leftovers)
    later: bool = False
    """It was found, or came to be final, by a ``search``."""
    authenticated_seconds: float = 0.0
    """From the agreed start until this side knew who is at the other end: what agreeing on this one has taken is not
    counted. Before the start, and so below 0, only through the relay."""
    search: Search | None = None
    """When relayed, and that may change: what goes on for a direct one. It is to be run before the leftovers are
    closed."""

    def event(self) -> events.PathChosen:
        """The same, as it is told."""
        return events.PathChosen(
            path=self.path,
            how=self.how,
            local=str(self.local),
            remote=str(self.remote),
            attempts=self.attempts,
            seconds=round(self.seconds, 6),
            reason=self.reason,
            searching=self.search is not None,
            later=self.later,
        )

    async def close_leftovers(self) -> None:
        """Close everything but the channel: losers, the reflector's connections, the port, here and at the home router.
        Idempotent.

        Takes three seconds at most; cancelling shortens that to one.
        """
        await self.leftovers.close()
