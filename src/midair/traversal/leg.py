"""One connection of a race, and what a race ends in."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from typing import Literal

from midair.channel import Channel
from midair.endpoint import Endpoint

__all__ = ["Leg", "Winner"]


@dataclass(slots=True, eq=False, kw_only=True)
class Leg:
    """One connection's socket, channel and task."""

    id: str
    how: Literal["dial", "accept", "relay"]
    remote: Endpoint | None
    sock: socket.socket | None = None
    channel: Channel | None = None
    task: asyncio.Task[None] | None = None
    proving: bool = False
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """The authentication is over, one way or the other."""
    retiring: bool = False

    @property
    def sockets(self) -> set[socket.socket]:
        """None or one."""
        return {self.sock} if self.sock is not None else set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """The end of a race, or what is used until then."""

    channel: Channel
    how: Literal["dial", "accept", "relay"]
    reason: str | None
    seconds: float
    final: bool = True
    """Otherwise the race goes on."""
    later: bool = False
    """Another one was used before it, or the same."""
