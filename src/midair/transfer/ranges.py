"""Sets of bytes as half-open intervals ``[start, end)``, kept sorted, apart and merged."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

__all__ = ["Range", "RangeSet"]

Range = tuple[int, int]
"""``(start, end)`` with ``start < end``; ``end`` is the first byte that does not belong to it."""


class RangeSet:
    """Adding and taking away cost a binary search and the intervals they swallow."""

    __slots__ = ("_ends", "_starts", "total")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.total = 0
        """Bytes in it."""
        for start, end in ranges:
            self.add(start, end)

    def add(self, start: int, end: int) -> None:
        """An empty interval adds nothing."""
        assert 0 <= start <= end
        if start == end:
            return
        # Intervals that overlap or touch: those that end at or after our start and begin at or before our end.
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._replace(first, last, [(start, end)])

    def subtract(self, start: int, end: int) -> None:
        """Take away what is in ``[start, end)``, whether it was there or not."""
        assert 0 <= start <= end
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        if start == end or first >= last:
            return
        kept = [(self._starts[first], start), (end, self._ends[last - 1])]
        self._replace(first, last, [(a, b) for a, b in kept if a < b])

    def _replace(self, first: int, last: int, ranges: list[Range]) -> None:
        self.total += sum(b - a for a, b in ranges)
        self.total -= sum(self._ends[i] - self._starts[i] for i in range(first, last))
        self._starts[first:last] = [a for a, _ in ranges]
        self._ends[first:last] = [b for _, b in ranges]

    def missing(self, start: int, end: int) -> Iterator[Range]:
        """What of ``[start, end)`` is not in it, in order."""
        for held_start, held_end in self.overlapping(start, end):
            if start < held_start:
                yield start, held_start
            start = held_end
        if start < end:
            yield start, end

    def overlapping(self, start: int, end: int) -> Iterator[Range]:
        """What of ``[start, end)`` is in it, in order."""
        for index in range(bisect_right(self._ends, start), bisect_left(self._starts, end)):
            yield max(start, self._starts[index]), min(end, self._ends[index])

    def covers(self, start: int, end: int) -> bool:
        """Whether every byte of ``[start, end)`` is in it."""
        return next(self.missing(start, end), None) is None

    def first(self) -> Range | None:
        """The interval with the lowest start."""
        return (self._starts[0], self._ends[0]) if self._starts else None

    def __iter__(self) -> Iterator[Range]:
        return zip(self._starts, self._ends, strict=True)

    def __len__(self) -> int:
        return len(self._starts)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeSet):
            return NotImplemented
        return self._starts == other._starts and self._ends == other._ends

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"RangeSet({list(self)[:8]}{'...' if len(self) > 8 else ''})"
