"""Numbers that follow the speed of a path: the rate a person is shown, and the size of the records. Pure."""

from __future__ import annotations

from collections import deque

__all__ = ["MAX_DATA_BYTES", "EventPace", "FrameSizer", "RateLimit", "RateMeter", "UnsentBytes"]

MAX_DATA_BYTES = (2 << 20) - 4096
"""Content in one DATA record: with the offset in front it still fits, and reads of a file stay aligned to pages."""
_MIN_DATA_BYTES = 64 << 10


class RateMeter:
    """Bytes a second over the last ``window`` seconds."""

    def __init__(self, now: float, count: int, *, window: float = 3.0) -> None:
        self._window = window
        self._samples: deque[tuple[float, int]] = deque([(now, count)])

    def add(self, now: float, count: int) -> float:
        """``count`` is the total so far; the rate now."""
        self._samples.append((now, count))
        # One sample from before the window stays: the rate is over at least that long.
        while len(self._samples) > 2 and self._samples[1][0] <= now - self._window:
            self._samples.popleft()
        since, before = self._samples[0]
        return (count - before) / (now - since) if now > since else 0.0


class EventPace:
    """Lets one event through per ``interval`` seconds."""

    def __init__(self, *, interval: float = 0.2) -> None:
        self._interval = interval
        self._next = float("-inf")

    def ready(self, now: float) -> bool:
        if now < self._next:
            return False
        self._next = now + self._interval
        return True


class FrameSizer:
    """How much content the next DATA record takes.

    Large records are fast, 1 MiB about twice as fast as 64 KiB; but a record is all or nothing, so on a slow path
    pings, requests and a cancellation would wait behind it. They wait 5 to 30 ms, down to 2 MB/s: records of 64 KiB at
    100 Mbit/s, of 1 MiB at 1 Gbit/s, of 2 MiB from 2 Gbit/s on.
    """

    def __init__(self) -> None:
        self.size = _MIN_DATA_BYTES

    def sent(self, count: int, seconds: float) -> None:
        """``count`` bytes took so long to hand over to the kernel."""
        if seconds > 0.03:
            self.size = max(self.size // 2, _MIN_DATA_BYTES)
        elif seconds < 0.005 and count >= self.size // 2:
            self.size = min(self.size * 2, MAX_DATA_BYTES)


class UnsentBytes:
    """How much the kernel is to hold of what is not sent yet.

    What is urgent waits behind it, and the sender has to be woken for every bit of it: over loopback 128 KiB took a
    tenth to a fifth of its CPU. So it is a few milliseconds' worth on a slow path, and a lot on one of several Gbit/s,
    which is not long there.
    """

    _LEVELS = ((32 << 10, 0.0, 40e6), (128 << 10, 20e6, 256e6), (4 << 20, 128e6, float("inf")))
    """Bytes, and the rates in bytes a second between which they are left so: 100 Mbit/s are in the first, 1 Gbit/s in
    the second."""
    _WINDOW = 0.25
    """Seconds over which the speed of the path is taken."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._count = 0
        self._level = 1  # a connection has that to begin with

    @property
    def bytes(self) -> int:
        return self._LEVELS[self._level][0]

    def sent(self, count: int, now: float) -> bool:
        """``count`` bytes were handed over to the kernel; whether ``bytes`` has changed by that."""
        self._count += count
        spent = now - self._since
        if spent < self._WINDOW:
            return False
        rate = self._count / spent
        self._since, self._count = now, 0
        before = self._level
        _, lowest, highest = self._LEVELS[before]
        if rate < lowest:
            self._level -= 1
        elif rate > highest:
            self._level += 1
        return self._level != before


class RateLimit:
    """Holds a sender to ``rate`` bytes a second, by how long it has to wait after each piece.

    Time that was not used is not saved up for a burst, beyond a tenth of a second.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_at = float("-inf")

    @property
    def piece(self) -> int:
        """Bytes to send in one go, so that the flow is even: a tenth of a second's worth."""
        return max(1, int(self._rate / 10))

    def spend(self, count: int, now: float) -> float:
        """``count`` bytes were sent; the seconds to wait before the next."""
        self._free_at = max(self._free_at, now - 0.1) + count / self._rate
        return max(0.0, self._free_at - now)
