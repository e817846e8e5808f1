"""What both sides say to each other before the race: the descriptions, and the moment when it starts.

A pump reads from the beginning, while candidates are still gathered. So the controlling side knows the round trip
through the mailbox by the time both descriptions are there, and it takes one message more until both start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from midair.channel import Role
from midair.errors import IncompatibleError, RemoteProtocolError
from midair.traversal.sync import Description, Go, Message, Ping, Pong, decode, encode, start_delay

__all__ = ["Agreement", "Exchange"]

PINGS = 4
"""One after the other, until the descriptions are there; the shortest round trip counts, for both sides are busy
meanwhile, and the first one may have waited until the other side listened."""
PROMPT_SECONDS = 0.5
"""Where no answer was as quick as that, it is asked once more before both start."""


class Exchange(Protocol):
    """Encrypted messages to the peer and from it, in order; a meeting."""

    async def send(self, message: bytes) -> None: ...

    async def receive(self) -> bytes: ...


class Agreement:
    """One side's part, as a context: ``describe`` once, then ``moment`` once.

    Both raise whatever ``exchange`` raises, RemoteProtocolError, and IncompatibleError. When ``moment`` has returned,
    one answer to a ping may still be on its way; it is read while the context lasts, and nothing else is.
    """

    def __init__(self, exchange: Exchange, role: Role) -> None:
        self._exchange = exchange
        self._controlling = role is Role.A
        self._sending = asyncio.Lock()
        self._changed = asyncio.Event()
        self._theirs: Description | None = None
        self._asked: list[float] = []
        self._round_trips: list[float] = []
        self._pings = 0
        self._gone = False
        self._trouble: Exception | None = None

    async def __aenter__(self) -> Self:
        self._pump = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pump.cancel()
        await asyncio.wait({self._pump})

    async def describe(self, ours: Description) -> Description:
        """Ours for theirs."""
        await self._send(ours)
        await self._until(lambda: self._theirs is not None)
        assert self._theirs is not None
        return self._theirs

    async def moment(self) -> None:
        """Returns when it is time to start, which is the same on both sides but for the mailbox's jitter."""
        if not self._controlling:
            await self._until(lambda: self._gone)
            return
        await self._until(self._knows_the_way)
        said = asyncio.get_running_loop().time()
        await self._send(Go())
        await asyncio.sleep(said + start_delay(min(self._round_trips)) - asyncio.get_running_loop().time())

    def _knows_the_way(self) -> bool:
        return len(self._round_trips) == PINGS or min(self._round_trips, default=PROMPT_SECONDS) < PROMPT_SECONDS

    async def _until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            if self._trouble is not None:
                raise self._trouble
            self._changed.clear()
            await self._changed.wait()

    async def _send(self, message: Message) -> None:
        async with self._sending:
            await self._exchange.send(encode(message))

    # -- the pump --

    async def _read(self) -> None:
        try:
            if self._controlling:
                await self._ask()
            while not self._complete:
                await self._take(decode(await self._exchange.receive()))
                self._changed.set()
        except Exception as error:  # whoever waits raises it
            self._trouble = error
            self._changed.set()

    @property
    def _complete(self) -> bool:
        """Nothing more is to come."""
        if not self._controlling:
            return self._gone
        return self._theirs is not None and self._knows_the_way() and len(self._round_trips) == len(self._asked)

    async def _ask(self) -> None:
        self._asked.append(asyncio.get_running_loop().time())
        await self._send(Ping())

    async def _take(self, message: Message) -> None:
        match message:
            case Description() if self._theirs is None:
                self._theirs = message
            case Ping() if self._controlling:
                raise IncompatibleError("both sides took the same role")
            case Ping() if self._pings < PINGS:
                self._pings += 1
                await self._send(Pong())
            case Pong() if self._controlling and len(self._round_trips) < len(self._asked):
                self._round_trips.append(asyncio.get_running_loop().time() - self._asked[-1])
                if len(self._asked) < PINGS and (self._theirs is None or not self._knows_the_way()):
                    await self._ask()
            case Go() if not self._controlling and self._theirs is not None:
                self._gone = True
            case _:
                due = "something else" if self._theirs is not None else "Description"
                raise RemoteProtocolError(f"the other side sent {type(message).__name__}, where {due} was due")
