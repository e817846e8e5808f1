"""What lies between the two legs of a relayed pair: a pipe in the kernel, or a copy, lent to a direction for as long
as it has bytes under way.

A direction whose reader keeps up gives its buffer back in the same moment, so all of them together need one. A
direction whose reader is slow keeps it, filled only when it was empty, and that is all the memory it can take. A fill
that would block means that the socket has nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable
from typing import Protocol

from midair.server.turns import Turns

__all__ = ["Buffer", "Buffers", "CopyBuffer", "SpliceBuffer", "new_buffer"]

PIECE_BYTES_MAX = 1 << 20
"""What one direction takes at a time where there are few: Linux's fs.pipe-max-size. A relay takes two thirds of the CPU
time with it that it takes with 128 KiB."""
PIECE_BYTES_MIN = 64 << 10
"""And where there are many: the size a pipe has unless told otherwise."""
TURN_BYTES = 8 << 20
"""What all directions together move before it is everybody's turn again, unless they are so many that each has its
least: nobody waits long for a turn, nor does who has nothing to do with the relay."""
KEPT = 64
"""Buffers that are kept for the next one."""


class Buffer(Protocol):
    """One direction's bytes under way."""

    made_for: int
    """Bytes it was asked to hold; it may hold fewer."""
    held: int
    """Bytes in it."""

    def fill(self, source: socket.socket, limit: int) -> int:
        """Takes at most ``limit`` bytes while empty; 0 at the end of the stream. Raises: BlockingIOError, OSError."""

    def drain(self, target: socket.socket) -> int:
        """Gives some on. Raises: BlockingIOError, OSError."""

    def close(self) -> None:
        """Lets go of it. Idempotent."""


class Buffers:
    """Lends them to the directions of all pairs of one relay."""

    def __init__(self, new: Callable[[int], Buffer] | None = None) -> None:
        """``new`` makes one for so many bytes, and raises OSError when there is none to be had."""
        self._new = new or new_buffer
        self._kept: list[Buffer] = []
        self._directions = 0
        self.turns = Turns(TURN_BYTES // PIECE_BYTES_MIN)
        """To be asked where it is crowded."""
        self.turn = TURN_BYTES
        """Bytes one direction may move before the others have their turn."""
        self.piece = PIECE_BYTES_MAX
        """Bytes it should take at a time."""

    @property
    def crowded(self) -> bool:
        """Whether a turn of all would take too long."""
        return self._directions * PIECE_BYTES_MIN > TURN_BYTES

    def enter(self) -> None:
        """One more direction may borrow."""
        self._share_out(1)

    def leave(self) -> None:
        """One fewer, and it has none any more. With the last, all that are kept are closed."""
        self._share_out(-1)
        while self._kept and not self._directions:
            self._kept.pop().close()

    def lend(self) -> Buffer:
        """An empty one. Where the system has no more, a copy: slower, but nobody is turned away for it."""
        if self._kept:
            return self._kept.pop()
        try:
            return self._new(self.piece)
        except OSError:
            return CopyBuffer(0)

    def take_back(self, buffer: Buffer) -> None:
        """It is not needed any more; what it holds is lost."""
        if buffer.held or buffer.made_for < self.piece or len(self._kept) >= KEPT:
            buffer.close()
        else:
            self._kept.append(buffer)

    def _share_out(self, more: int) -> None:
        self._directions += more
        self.turn = max(PIECE_BYTES_MIN, TURN_BYTES // max(1, self._directions))
        self.piece = min(PIECE_BYTES_MAX, 1 << self.turn.bit_length() - 1)  # a pipe's size is a power of two


class CopyBuffer:
    """Through the memory of this process; works everywhere."""

    def __init__(self, size: int = PIECE_BYTES_MIN) -> None:
        self.made_for = size
        self.held = 0
        self._memory = memoryview(bytearray(PIECE_BYTES_MIN))
        self._start = 0

    def fill(self, source: socket.socket, limit: int) -> int:
        self.held = source.recv_into(self._memory[:limit])
        self._start = 0
        return self.held

    def drain(self, target: socket.socket) -> int:
        count = target.send(self._memory[self._start : self._start + self.held])
        self._start += count
        self.held -= count
        return count

    def close(self) -> None:
        self.held = 0
        self._memory = memoryview(b"")


if sys.platform == "linux":
    import fcntl

    class SpliceBuffer:
        """A pipe: the bytes never leave the kernel (splice(2)). Raises: OSError, such as EMFILE."""

        def __init__(self, size: int = PIECE_BYTES_MAX) -> None:
            self.made_for = size
            self.held = 0
            self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            self._closed = False
            with contextlib.suppress(OSError):  # over the user's share of pipe pages: what it has may do
                if size > PIECE_BYTES_MIN:
                    fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, size)
            # Beyond that share (fs.pipe-user-pages-soft, 64 MiB) a new pipe has two pages, and is slower than a copy.
            if fcntl.fcntl(self._writer, fcntl.F_GETPIPE_SZ) < PIECE_BYTES_MIN:
                self.close()
                raise OSError("a pipe of no use")

        def fill(self, source: socket.socket, limit: int) -> int:
            self.held = os.splice(source.fileno(), self._writer, limit, flags=_SPLICE_FLAGS)
            return self.held

        def drain(self, target: socket.socket) -> int:
            # Exactly what is there, or the kernel would hold the last segment back for more (MSG_MORE).
            count = os.splice(self._reader, target.fileno(), self.held, flags=_SPLICE_FLAGS)
            self.held -= count
            return count

        def close(self) -> None:
            if not self._closed:
                self._closed = True
                self.held = 0
                os.close(self._reader)
                os.close(self._writer)

    _SPLICE_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK

    def new_buffer(size: int) -> Buffer:
        """The best this system has. Raises: OSError."""
        return SpliceBuffer(size)

else:

    def new_buffer(size: int) -> Buffer:
        """The best this system has."""
        return CopyBuffer(size)
