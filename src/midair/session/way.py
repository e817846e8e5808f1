"""The way one round's conversation takes: it begins on what both have agreed on first, and moves when there is better.

The search runs in the event loop, the conversation in threads. Whoever made the way closes it, after the conversation.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable

from midair import events
from midair.channel import Channel, MovingChannel, RecordType
from midair.errors import ConnectionLostError
from midair.port import tune_for_bulk
from midair.traversal import PathResult

__all__ = ["Way"]

LIFE_SECONDS = 1.0
"""As often as a transfer's own link says something."""

_log = logging.getLogger("midair.session")


class Way:
    """``channel`` is what to speak over; needs a running loop."""

    def __init__(
        self,
        result: PathResult,
        *,
        leading: bool,
        on_event: events.Listener,
        tune: Callable[[Channel], None] = lambda channel: tune_for_bulk(channel.sock),
    ) -> None:
        """``result`` stays the caller's, but for its channel. ``tune`` begins the bulk phase of each connection that is
        used; it raises OSError for one that is gone."""
        tune(result.channel)
        self._tune = tune
        self.channel = MovingChannel(result.channel, leading=leading, on_moved=self._moved)
        self._result = result
        self._better: PathResult | None = None
        self._on_event = on_event
        self._lock = threading.Lock()
        self._closed = False
        self._looking = None if result.search is None else asyncio.create_task(self._look(), name="midair-search")

    @property
    def carried(self) -> Counter[str]:
        """Bytes said over which kind of path."""
        first, following = self.channel.carried
        counts: Counter[str] = Counter({self._result.path: first})
        if self._better is not None and following:
            counts[self._better.path] += following
        return counts

    @contextlib.asynccontextmanager
    async def kept_alive(self) -> AsyncIterator[None]:
        """As long as nobody speaks over the channel yet: signs of life, which the other side may wait for."""
        sending = asyncio.create_task(self._show_life(), name="midair-signs-of-life")
        try:
            yield
        finally:
            sending.cancel()
            await asyncio.wait({sending})

    async def _show_life(self) -> None:
        with contextlib.suppress(ConnectionLostError):  # whoever speaks next meets the same
            while True:
                await asyncio.sleep(LIFE_SECONDS)
                await asyncio.to_thread(self.channel.send, RecordType.PING, b"")

    async def close(self, *, well: bool) -> None:
        """The conversation is over, ``well`` or not: ends the search and closes the connections. Nothing is told after
        that. Cancelling does the same."""
        try:
            if self._looking is not None:
                assert self._result.search is not None
                self._result.search.stop()
                if not well:
                    self._close()
                await asyncio.wait({self._looking})
        finally:
            self._close()
            if self._looking is not None:
                self._looking.cancel()

    def _close(self) -> None:
        with self._lock:
            self._closed = True
        self.channel.abort()

    async def _look(self) -> None:
        assert self._result.search is not None
        try:
            better = await self._result.search.run()
        except Exception:
            # What has begun goes on; this was a mistake of ours, and cost only speed.
            _log.warning("the search for a direct connection failed", exc_info=True)
            return
        if better.path == "relay":
            self._tell(better)
            return
        self._better = better
        try:
            self._tune(better.channel)
        except OSError as error:
            _log.debug("gone before it was used: %s", error)
            better.channel.abort()
            return
        self.channel.move_to(better.channel)

    def _moved(self) -> None:
        assert self._better is not None
        self._tell(self._better)

    def _tell(self, result: PathResult) -> None:
        with self._lock:
            if not self._closed:
                self._on_event(result.event())
