"""The way a stream takes: it begins on what both have agreed on first, and moves when there is better.

The rules of a move are in :mod:`midair.channel.move`; this drives them, and the search, for the two tasks of a
connection in one event loop: one that sends, and so sends MOVE, and one that receives, and so follows it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Final

from midair import events
from midair.channel import ChannelClosed, Record, RecordType
from midair.channel.move import Move, MoveError
from midair.errors import RemoteProtocolError
from midair.port import allow_unsent, retire
from midair.traversal import PathResult

__all__ = ["Way"]

AGREEMENT_SECONDS: Final = 5.0
"""How long MOVE may be ahead of the agreement, whose record has gone before it on another connection."""
RETIRE_SECONDS: Final = 2.0
"""How long the old connection is given to end in good order."""
UNSENT_BYTES: Final = 128 * 1024
"""What the kernel may hold unsent on a connection that is to be left: what it holds goes the old way."""

_log = logging.getLogger("midair.connection")


class Way:
    """``send`` from one task and ``receive`` from another, neither of which is ever interrupted but to end it all."""

    def __init__(self, result: PathResult, *, leading: bool, on_event: events.Listener, changed: asyncio.Event) -> None:
        """Takes over ``result`` with all that belongs to it. ``changed`` is set whenever anything here is different
        from before. One side is ``leading``. ``on_event`` is told of the path that is moved to, or that none is."""
        self.chosen = result
        """What is in use: in both directions, since it was told."""
        self._result = result
        self._changed = changed
        self._on_event = on_event
        self._move = Move(leading=leading)
        self._better: PathResult | None = None
        self._out = self._in = result.channel
        self._closed_by_peer = False
        self._over = False
        self._looking: asyncio.Task[None] | None = None
        self._retiring: asyncio.Task[None] | None = None
        if result.search is not None:
            allow_unsent(result.channel.sock, UNSENT_BYTES)
            self._looking = asyncio.create_task(self._look(), name="midair-search")

    @property
    def searching(self) -> bool:
        """Whether the path may still change."""
        return self.chosen.search is not None

    @property
    def due(self) -> bool:
        """Whether ``depart`` has something to do."""
        return self._move.due

    @property
    def settled(self) -> bool:
        """Whether what is sent from now on goes the same way for good."""
        if self._closed_by_peer or self._looking is None or self._move.departed:
            return True
        return self._looking.done() and self._better is None

    async def depart(self) -> None:
        """Sends MOVE where it is due. As ``send``."""
        if self._move.due:
            assert self._better is not None
            self._move.departs()
            await self._out.send_async(RecordType.MOVE, self._better.channel.connection_id)
            self._move.sent()
            self._out = self._better.channel
            self._tell_if_moved()

    async def send(self, record_type: int, payload: bytes) -> None:
        """One record, of which CLOSE is the last. Raises: ConnectionLostError. Cancelling breaks the connection."""
        await self.depart()
        if record_type == RecordType.CLOSE:
            self._move.ended()
        await self._out.send_async(record_type, payload)

    async def receive(self) -> Record:
        """The next record, which is none that says where to read on. Cancelling breaks the connection.

        Raises: ChannelClosed after the peer's CLOSE; ConnectionLostError, RemoteProtocolError.
        """
        try:
            while (record := await self._in.receive_async()).type == RecordType.MOVE:
                await self._follow(record.payload)
        except ChannelClosed:
            self._closed_by_peer = True
            self._changed.set()
            raise
        return record

    async def close(self) -> None:
        """Closes everything at once. Idempotent. Cancelling leaves only the router's port to run out."""
        self._over = True
        tasks = {task for task in (self._looking, self._retiring) if task is not None}
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks)
        finally:
            self._result.channel.abort()
            if self._better is not None:
                self._better.channel.abort()
            await self._result.leftovers.close_now()

    async def _follow(self, name: bytes) -> None:
        try:
            self._move.take(name)
        except MoveError as error:
            raise RemoteProtocolError(str(error)) from error
        try:
            async with asyncio.timeout(AGREEMENT_SECONDS):
                while not self._move.arrives:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as error:
            raise RemoteProtocolError("the peer moves to a connection that was not agreed on") from error
        assert self._better is not None
        self._in = self._better.channel
        self._changed.set()
        self._tell_if_moved()

    async def _look(self) -> None:
        assert self._result.search is not None
        try:
            found = await self._result.search.run()
        except Exception:
            # What has begun goes on; this was a mistake of ours, and cost only speed.
            _log.warning("the search for a direct connection failed", exc_info=True)
            self.chosen = replace(self._result, search=None)
        else:
            self._take(found)
        finally:
            # Whoever waits until this has ended looks again once it has.
            asyncio.get_running_loop().call_soon(self._changed.set)

    def _take(self, found: PathResult) -> None:
        if found.path == "relay":
            self._tell(found)
            return
        try:
            self._move.agree(found.channel.connection_id)
        except MoveError:
            found.channel.abort()  # who reads waits for another, and will say so
            return
        self._better = found

    def _tell_if_moved(self) -> None:
        if self._move.over and self.chosen is not self._better:
            assert self._better is not None
            self._retiring = asyncio.create_task(retire(self._result.channel.sock, seconds=RETIRE_SECONDS))
            self._tell(self._better)

    def _tell(self, result: PathResult) -> None:
        self.chosen = result
        # From the loop itself: what a listener raises is not ours, and must not end a task of ours.
        asyncio.get_running_loop().call_soon(self._tell_now, result.event())

    def _tell_now(self, event: events.PathChosen) -> None:
        if not self._over:
            self._on_event(event)
