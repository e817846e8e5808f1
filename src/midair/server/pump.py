"""Moves the bytes of one relayed pair, both ways, on the event loop's readiness callbacks and without a task.

Each direction alternates: fill the empty buffer, drain it; while the reader is slow nothing more is taken, so its
slowness reaches the sender through TCP's own window. The end of one direction is passed on as the end of that direction
only.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from enum import Enum, auto

from midair.server.buffers import Buffer

__all__ = ["End", "Pump"]

FILL_BYTES = 1 << 20


class End(Enum):
    """Why a pump has stopped."""

    FINISHED = auto()
    """Both directions came to their end."""
    BROKEN = auto()
    """A socket failed."""
    QUOTA = auto()
    """There was more than the pair may carry."""
    STOPPED = auto()
    """Somebody called :meth:`Pump.stop`."""


class Pump:
    """Joins two connected non-blocking sockets, which stay the caller's to close, after :meth:`stop` or ``done``."""

    def __init__(
        self,
        first: socket.socket,
        second: socket.socket,
        *,
        new_buffer: Callable[[], Buffer],
        allowance: Callable[[], int],
        on_bytes: Callable[[int], None] = lambda count: None,
    ) -> None:
        """``allowance`` says how many more bytes may be taken now, of both directions together; ``on_bytes`` is told of
        each that was. Raises: OSError when no buffer is to be had.
        """
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[End] = self._loop.create_future()
        """Set when it has stopped."""
        self.last_moved = self._loop.time()
        """The loop's time when bytes last came."""
        self.moved = 0
        """Bytes so far, of both directions."""
        self.allowance = allowance
        self._on_bytes = on_bytes
        one = new_buffer()
        try:
            other = new_buffer()
        except BaseException:
            one.close()
            raise
        self._directions = (_Direction(self, first, second, one), _Direction(self, second, first, other))

    def start(self) -> None:
        """Begins; the sockets belong to the pump now."""
        for direction in self._directions:
            direction.resume()

    def stop(self, end: End = End.STOPPED) -> None:
        """Ends it at once and lets go of the sockets. Idempotent."""
        if self.done.done():
            return
        for direction in self._directions:
            direction.close()
        self.done.set_result(end)

    def _moved(self, count: int) -> None:
        self.last_moved = self._loop.time()
        self.moved += count
        self._on_bytes(count)

    def _direction_ended(self) -> None:
        if all(direction.ended for direction in self._directions):
            self.stop(End.FINISHED)


class _Direction:
    def __init__(self, pump: Pump, source: socket.socket, target: socket.socket, buffer: Buffer) -> None:
        self._pump = pump
        self._loop = pump._loop
        self._source = source
        self._target = target
        self._buffer = buffer
        self.ended = False

    def resume(self) -> None:
        self._loop.add_reader(self._source, self._guarded, self._fill)

    def close(self) -> None:
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._target)
        self._buffer.close()

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._pump.stop(End.BROKEN)

    def _fill(self) -> None:
        allowance = self._pump.allowance()
        if allowance == 0 and self._source.recv(1, socket.MSG_PEEK):
            self._pump.stop(End.QUOTA)
            return
        count = self._buffer.fill(self._source, min(FILL_BYTES, allowance or 1))
        if count == 0:
            self._end()
            return
        self._pump._moved(count)
        try:
            self._drain()
        except (BlockingIOError, InterruptedError):
            self._loop.remove_reader(self._source)
            self._loop.add_writer(self._target, self._guarded, self._drain_rest)

    def _drain(self) -> None:
        while self._buffer.held:
            self._buffer.drain(self._target)

    def _drain_rest(self) -> None:
        self._drain()
        self._loop.remove_writer(self._target)
        self.resume()

    def _end(self) -> None:
        self.ended = True
        self._loop.remove_reader(self._source)
        with contextlib.suppress(OSError):  # it may be gone already, which its own direction will notice
            self._target.shutdown(socket.SHUT_WR)
        self._buffer.close()
        self._pump._direction_ended()
