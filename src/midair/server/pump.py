"""Moves the bytes of one relayed pair, both ways, on the event loop's readiness callbacks and without a task.

Each direction alternates: borrow a buffer, fill it, drain it, give it back. While the reader is slow the buffer is kept
and nothing more is taken, so its slowness reaches the sender through TCP's own window. The end of one direction is
passed on as the end of that direction only.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from enum import Enum, auto

from midair.server.buffers import Buffer, Buffers

__all__ = ["End", "Pump"]

FEW = 4
"""When less than this part of a piece was there, the sender is slower than we are: asking again would be in vain."""


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
        buffers: Buffers,
        allowance: Callable[[], int],
        on_bytes: Callable[[int], None] = lambda count: None,
    ) -> None:
        """``allowance`` says how many more bytes may be taken now, of both directions together; ``on_bytes`` is told of
        each that was.
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
        self._directions = (_Direction(self, first, second, buffers), _Direction(self, second, first, buffers))

    def start(self) -> None:
        """Begins; the sockets belong to the pump now."""
        for direction in self._directions:
            direction.start()

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
    def __init__(self, pump: Pump, source: socket.socket, target: socket.socket, buffers: Buffers) -> None:
        self._pump = pump
        self._loop = pump._loop
        self._source = source
        self._target = target
        self._buffers = buffers
        self._buffer: Buffer | None = None
        self._waits_for_target = False
        self._asked = False
        self.ended = False
        buffers.enter()

    def start(self) -> None:
        self._loop.add_reader(self._source, self._ready)

    def close(self) -> None:
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._target)
        self._give_back()
        self._buffers.leave()

    def _ready(self) -> None:
        if not self._buffers.crowded:
            self._take_turn()
        elif not self._asked:
            self._asked = True
            self._buffers.turns.ask(self._take_turn)

    def _take_turn(self) -> None:
        self._asked = False
        if self.ended or self._pump.done.done():
            return
        try:
            if self._buffer is None or self._drained(self._buffer):
                self._fill()
        except OSError:
            self._pump.stop(End.BROKEN)

    def _fill(self) -> None:
        allowance = self._pump.allowance()
        if allowance == 0:
            try:
                more = self._source.recv(1, socket.MSG_PEEK)
            except (BlockingIOError, InterruptedError):
                self._give_back()
                self._wait_for(target=False)
                return
            if more:
                self._pump.stop(End.QUOTA)
                return
        buffer = self._buffer = self._buffer or self._buffers.lend()
        if self._move(buffer, min(self._buffers.turn, allowance or 1)):
            self._wait_for(target=buffer.held > 0)
            if not buffer.held:
                self._give_back()
        else:
            self._end()

    def _move(self, buffer: Buffer, limit: int) -> bool:
        """At most ``limit`` bytes, in pieces, as long as there are more than a few; False at the end of the stream."""
        moved = 0
        piece = self._buffers.piece
        try:
            while moved < limit:
                count = buffer.fill(self._source, min(piece, limit - moved))
                if count == 0:
                    return False
                moved += count
                if not self._drained(buffer) or count < piece // FEW:
                    break
        except (BlockingIOError, InterruptedError):
            pass
        finally:
            if moved:
                self._pump._moved(moved)
        return True

    def _drained(self, buffer: Buffer) -> bool:
        """False when the target takes no more for now."""
        try:
            while buffer.held:
                buffer.drain(self._target)
        except (BlockingIOError, InterruptedError):
            return False
        return True

    def _wait_for(self, *, target: bool) -> None:
        """From now on: until the target takes more, or until the source has more."""
        if target == self._waits_for_target:
            return
        self._waits_for_target = target
        if target:
            self._loop.remove_reader(self._source)
            self._loop.add_writer(self._target, self._ready)
        else:
            self._loop.remove_writer(self._target)
            self._loop.add_reader(self._source, self._ready)

    def _give_back(self) -> None:
        if self._buffer is not None:
            self._buffers.take_back(self._buffer)
            self._buffer = None

    def _end(self) -> None:
        self.ended = True
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._target)
        with contextlib.suppress(OSError):  # it may be gone already, which its own direction will notice
            self._target.shutdown(socket.SHUT_WR)
        self._give_back()
        self._pump._direction_ended()
