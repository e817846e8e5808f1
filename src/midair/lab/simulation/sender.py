"""What a TCP connection has to send: new data, what has to be repeated, and when (RFC 6298, RFC 6582). Pure.

There is no congestion window: up to WINDOW bytes are under way at once.
"""

from __future__ import annotations

from midair.lab.simulation.reassembly import MASK, distance

__all__ = ["LONGEST_TIMEOUT", "Sender"]

WINDOW = 128 * 1024
SHORTEST_TIMEOUT = 0.2
LONGEST_TIMEOUT = 120.0
"""Linux's, in seconds."""
DUPLICATES = 3
"""Acknowledgements of one and the same byte that mean a loss (RFC 5681 3.2)."""

Piece = tuple[int, bytes, bool]
"""A segment: sequence number, data, and whether it has the FIN."""


class Sender:
    """The sending half of one connection."""

    __slots__ = (
        "_buffer",
        "_duplicates",
        "_fin",
        "_fin_sent",
        "_measured_timeout",
        "_recover",
        "_rtt",
        "_timed",
        "_variation",
        "mss",
        "next",
        "timeout",
        "unacknowledged",
    )

    def __init__(self, first: int, mss: int) -> None:
        self.unacknowledged = first
        self.next = first
        """SND.NXT."""
        self.mss = mss
        self.timeout = 1.0
        """Seconds until what is under way is repeated; doubled each time, until something is acknowledged."""
        self._buffer = bytearray()
        """From ``unacknowledged`` on."""
        self._fin = self._fin_sent = False
        self._recover: int | None = None
        """Until this is acknowledged, every acknowledgement that is not up to here means another loss."""
        self._duplicates = 0
        self._timed: tuple[int, float] | None = None
        """A sequence number, and when it was sent: one measurement of the round trip at a time."""
        self._rtt: float | None = None
        self._variation = 0.0
        self._measured_timeout = self.timeout
        """The timeout as measured."""

    @property
    def under_way(self) -> bool:
        """Whether something is not acknowledged."""
        return self.next != self.unacknowledged

    @property
    def finished(self) -> bool:
        """Whether the FIN and everything before it is acknowledged."""
        return self._fin_sent and self.next == self.unacknowledged

    def write(self, data: bytes) -> None:
        """More to send."""
        self._buffer += data

    def finish(self) -> None:
        """Nothing follows."""
        self._fin = True

    def due(self, now: float) -> list[Piece]:
        """What can be sent for the first time."""
        if self._fin_sent:
            return []
        pieces: list[Piece] = []
        sent = (self.next - self.unacknowledged) & MASK
        while sent < min(len(self._buffer), WINDOW):
            data = bytes(self._buffer[sent : sent + self.mss])
            sent += len(data)
            self._fin_sent = self._fin and sent == len(self._buffer)
            pieces.append((self.next, data, self._fin_sent))
            self.next = (self.next + len(data)) & MASK
        if self._fin and not self._fin_sent and sent == len(self._buffer):
            self._fin_sent = True
            pieces.append((self.next, b"", True))
        self.next = (self.next + self._fin_sent) & MASK
        if pieces and self._timed is None:
            self._timed = (self.next, now)
        return pieces

    def first(self) -> Piece:
        """What is to be repeated."""
        under_way = ((self.next - self.unacknowledged) & MASK) - self._fin_sent
        data = bytes(self._buffer[: min(self.mss, under_way)])
        self._timed = None  # Karn: an answer could be to either
        return self.unacknowledged, data, self._fin_sent and len(data) == under_way

    def shrink(self, mss: int) -> None:
        """Smaller segments from now on, and what is under way once more in such."""
        self.mss = mss
        if self.under_way:
            self._recover = self.next

    def late(self) -> None:
        """The timeout has passed."""
        self.timeout = min(2 * self.timeout, LONGEST_TIMEOUT)
        self._recover = self.next

    def acknowledged(self, number: int, now: float, *, duplicate: bool) -> bool:
        """An acknowledgement has come; ``duplicate`` when its segment says nothing else. Returns whether ``first`` is
        to be sent at once."""
        count = distance(number, self.unacknowledged)
        if count <= 0:
            if count == 0 and duplicate and self.under_way:
                self._duplicates += 1
                if self._duplicates == DUPLICATES and self._recover is None:
                    self._recover = self.next
                    return True
            return False
        del self._buffer[:count]  # a FIN's number is one more than there is to delete
        self.unacknowledged = number
        self._duplicates = 0
        self.timeout = self._measured_timeout
        if self._timed is not None and distance(number, self._timed[0]) >= 0:
            self.measured(now - self._timed[1])
            self._timed = None
        if self._recover is None:
            return False
        if distance(number, self._recover) >= 0:
            self._recover = None
            return False
        return True

    def measured(self, seconds: float) -> None:
        """A round trip has taken so long (RFC 6298 2)."""
        if self._rtt is None:
            self._rtt, self._variation = seconds, seconds / 2
        else:
            self._variation += (abs(self._rtt - seconds) - self._variation) / 4
            self._rtt += (seconds - self._rtt) / 8
        self.timeout = self._measured_timeout = self._rtt + max(4 * self._variation, SHORTEST_TIMEOUT)
