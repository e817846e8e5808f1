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
    authenticated_at: float = 0.0
    """On the loop's clock: when the other end had proved the key."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """The authentication is over, one way or the other."""
    retiring: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether nothing but the end is there to be received; nothing is taken from the socket."""
        assert self.sock is not None
        try:
            return not self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

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
    authenticated: float = 0.0
    """Seconds from the start until it was known who is at the other end: less than ``seconds``, and before the start if
    the relay was so early."""
    final: bool = True
    """Otherwise the race goes on."""
    later: bool = False
    """Another one was used before it, or the same."""

    @classmethod
    def of(cls, leg: Leg, reason: str | None, started: float, now: float, *, final: bool, later: bool) -> Winner:
        """An authenticated leg, in a race that started then."""
        assert leg.channel is not None
        return cls(
            channel=leg.channel,
            how=leg.how,
            reason=reason,
            seconds=now - started,
            authenticated=leg.authenticated_at - started,
            final=final,
            later=later,
        )
