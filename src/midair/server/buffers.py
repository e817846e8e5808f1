"""What lies between the two legs of a relayed pair, one for each direction: a pipe in the kernel, or a copy.

Both are filled only when they are empty, so a fill that would block means that the socket has nothing. That is all the
memory a pair whose reader is slow can take.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from typing import Protocol

__all__ = ["Buffer", "CopyBuffer", "SpliceBuffer", "new_buffer"]

PIPE_BYTES = 1 << 20
"""Linux's fs.pipe-max-size. A relay takes half of the CPU time with it that it takes with 64 KiB."""
COPY_BYTES = 64 << 10


class Buffer(Protocol):
    """One direction's bytes under way."""

    held: int
    """Bytes in it."""

    def fill(self, source: socket.socket, limit: int) -> int:
        """Takes at most ``limit`` bytes while empty; 0 at the end of the stream. Raises: BlockingIOError, OSError."""

    def drain(self, target: socket.socket) -> int:
        """Gives some on. Raises: BlockingIOError, OSError."""

    def close(self) -> None:
        """Lets go of it. Idempotent."""


class CopyBuffer:
    """Through the memory of this process; works everywhere."""

    def __init__(self) -> None:
        self.held = 0
        self._memory = memoryview(bytearray(COPY_BYTES))
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

        def __init__(self) -> None:
            self.held = 0
            self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            with contextlib.suppress(OSError):  # over the user's share of pipe pages: the 64 KiB it has will do
                fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            self._closed = False

        def fill(self, source: socket.socket, limit: int) -> int:
            self.held = os.splice(source.fileno(), self._writer, min(limit, PIPE_BYTES), flags=_SPLICE_FLAGS)
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

    def new_buffer() -> Buffer:
        """The best this system has. Raises: OSError."""
        return SpliceBuffer()

else:

    def new_buffer() -> Buffer:
        """The best this system has."""
        return CopyBuffer()
