"""The bytes of one direction of a TCP connection, as the receiver puts them together. Pure."""

from __future__ import annotations

__all__ = ["MASK", "Reassembly", "distance"]

MASK = 0xFFFFFFFF
"""Sequence numbers are counted modulo 2**32."""


def distance(later: int, earlier: int) -> int:
    """How far one sequence number is after another; negative when it is before (RFC 9293 3.4)."""
    gap = (later - earlier) & MASK
    return gap - (1 << 32) if gap & 0x80000000 else gap


class Reassembly:
    """Segments in any order, bytes in order (RFC 9293 3.10.7.4)."""

    __slots__ = ("_early", "_end", "next")

    def __init__(self, following: int) -> None:
        self.next = following
        """The sequence number expected next."""
        self._early: dict[int, bytes] = {}
        """What came before its turn, by sequence number."""
        self._end: int | None = None
        """Where the FIN is."""

    def add(self, sequence: int, data: bytes, *, fin: bool) -> bytes:
        """Takes one segment; returns the bytes whose turn has come."""
        if fin:
            self._end = (sequence + len(data)) & MASK
        if not data:
            return b""
        if sequence == self.next and not self._early:
            self.next = (sequence + len(data)) & MASK
            return data
        self._early[sequence] = max(self._early.get(sequence, b""), data, key=len)
        return self._in_order()

    @property
    def ended(self) -> bool:
        """Whether everything up to the FIN is there."""
        return self._end is not None and self.next == self._end

    def _in_order(self) -> bytes:
        ready = bytearray()
        for sequence in sorted(self._early, key=lambda each: distance(each, self.next)):
            ahead = distance(sequence, self.next)
            if ahead > 0:
                break
            data = self._early.pop(sequence)
            if len(data) > -ahead:
                ready += data[-ahead:]
                self.next = (sequence + len(data)) & MASK
        return bytes(ready)
