"""A bounded run of bytes between one thread that adds at its end and one that takes from anywhere in it."""

from __future__ import annotations

import mmap

__all__ = ["Ring"]


class Ring:
    """Holds the bytes from ``base`` to ``end``, positions in an endless run; at most ``size`` of them.

    The memory behind ``space`` belongs to the thread that adds until it says ``added``, that behind ``held`` to
    everybody until somebody says ``release``; the numbers themselves are for callers with a lock, or for one thread.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.base = 0
        self.end = 0
        # Not a bytearray, which would be filled with zeros: a run that is always short takes no more than that.
        self._memory = memoryview(mmap.mmap(-1, size))

    def space(self) -> memoryview:
        """Where bytes can be put, as much as lies in one piece; empty when there is no room."""
        at = self.end % self.size
        return self._memory[at : min(self.size, at + self.size - (self.end - self.base))]

    def added(self, count: int) -> None:
        """So many were put there."""
        assert 0 <= count <= self.size - (self.end - self.base)
        self.end += count

    def put(self, data: memoryview) -> None:
        """All of ``data``, for which there is room."""
        while data:
            space = self.space()[: len(data)]
            space[:] = data[: len(space)]
            self.added(len(space))
            data = data[len(space) :]

    def held(self, position: int, limit: int) -> memoryview:
        """Up to ``limit`` bytes from ``position`` on, as much as lies in one piece."""
        assert self.base <= position <= self.end
        at = position % self.size
        return self._memory[at : min(self.size, at + min(limit, self.end - position))]

    def release(self, position: int) -> None:
        """Nothing before ``position`` is needed any more."""
        assert self.base <= position <= self.end
        self.base = position
