"""Decides which virtual ranges to ask the sender for, and judges what comes back. Pure; driven by the receiver.

What is missing is asked for in pieces, a few at a time, in order. So the sender always has something to do, and a
connection that comes later can take over all that has not been asked for yet. Nor is more asked for than the disk can
follow: what has been asked for and is not durable yet stays within a window, and a crash costs no more than that.

On one connection the pieces are answered in the order they were asked for, each from its start to its end without a
gap, but for what was said not to come: holes, and files that failed. Everything else breaks the protocol.
"""

from __future__ import annotations

from collections import deque

from midair.errors import RemoteProtocolError
from midair.transfer.ranges import Range, RangeSet

__all__ = ["OUTSTANDING", "PIECE_BYTES", "WINDOW_BYTES", "Scheduler"]

PIECE_BYTES = 64 << 20
"""One piece, at most. Two of them cover the bandwidth-delay product of 10 Gbit/s at 100 ms."""
OUTSTANDING = 2
"""Pieces asked for and not finished, so that the sender never waits for the next request."""
WINDOW_BYTES = 256 << 20
"""Bytes asked for and not durable yet, at most."""


class Scheduler:
    """``missing`` is consumed: what is asked for leaves it."""

    def __init__(
        self, missing: RangeSet, *, piece: int = PIECE_BYTES, outstanding: int = OUTSTANDING, window: int = WINDOW_BYTES
    ) -> None:
        assert 0 < piece <= window
        self._missing = missing
        self._piece = piece
        self._outstanding = outstanding
        self._window = window
        self._asked: deque[Range] = deque()
        self._position: int | None = None
        """The next byte of the piece in front; None when nothing of it has come."""
        self._void = RangeSet()
        """What will not come although it was asked for, from the piece in front on."""

    def requests(self, not_durable: int) -> list[Range]:
        """What to ask for now; ``not_durable`` are the bytes received and not yet durable."""
        asked: list[Range] = []
        while len(self._asked) < self._outstanding and (gap := self._missing.first()) is not None:
            room = self._window - not_durable - self._pending()
            start, end = gap[0], min(gap[1], gap[0] + self._piece)
            # Waiting for a whole piece's worth of room keeps the pieces large; a lone one may always go.
            if room < end - start and (self._asked or not_durable):
                break
            self._missing.subtract(start, end)
            self._asked.append((start, end))
            asked.append((start, end))
        return asked

    def received(self, start: int, size: int) -> None:
        """``size`` bytes came for virtual offset ``start``.

        Raises: RemoteProtocolError unless they are what comes next.
        """
        self._expect(start)
        end = start + size
        if size <= 0 or end > self._asked[0][1] or next(self._void.overlapping(start, end), None) is not None:
            raise RemoteProtocolError("the sender sent other bytes than it was asked for")
        self._position = end

    def hole(self, start: int, end: int) -> None:
        """Instead of bytes comes a hole; it may reach beyond the piece in front.

        Raises: RemoteProtocolError unless it begins with what comes next.
        """
        self._expect(start)
        if end <= start:
            raise RemoteProtocolError("the sender sent a hole without a size")
        self.give_up(start, end)

    def give_up(self, start: int, end: int) -> None:
        """These bytes will not come. Raises: RemoteProtocolError when nothing is waited for."""
        if self.done:
            raise RemoteProtocolError("the sender took back what it has sent")
        self._missing.subtract(start, end)
        self._void.add(start, end)

    def ended(self, start: int, end: int) -> None:
        """The sender says that a piece is complete.

        Raises: RemoteProtocolError unless it is the one in front, and is.
        """
        if not self._asked or self._asked[0] != (start, end) or self._next() != end:
            raise RemoteProtocolError("the sender ended a range that is not complete")
        self._asked.popleft()
        self._position = None
        self._void.subtract(0, end)

    def _expect(self, start: int) -> None:
        if not self._asked:
            raise RemoteProtocolError("the sender sent bytes that were not asked for")
        if start != self._next():
            raise RemoteProtocolError("the sender sent other bytes than it was asked for")

    def _next(self) -> int:
        """Where the piece in front goes on; its end when nothing more of it comes."""
        first, end = self._asked[0]
        position = first if self._position is None else self._position
        return next(self._void.missing(position, end), (end, end))[0]

    @property
    def waiting(self) -> bool:
        """Whether something asked for has not come yet."""
        return bool(self._asked)

    @property
    def done(self) -> bool:
        """Whether everything has been asked for and has come."""
        return not self._asked and not self._missing

    def unfinished(self) -> RangeSet:
        """What has not come, asked for or not: the rest for a connection that takes over."""
        rest = RangeSet(self._missing)
        for place, (start, end) in enumerate(self._asked):
            rest.add(self._position if place == 0 and self._position is not None else start, end)
        for start, end in self._void:
            rest.subtract(start, end)
        return rest

    def _pending(self) -> int:
        return sum(end - start for start, end in self._asked) - (
            self._position - self._asked[0][0] if self._position is not None else 0
        )
