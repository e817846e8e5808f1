"""How fast a sender goes that gives way to everybody else. Pure.

Whoever else sends over the narrowest place of a path makes a queue there, and a queue takes time. So this measures how
much longer a round trip takes than the shortest one, and holds that to a few milliseconds: when it is more, somebody
else is there, or will be hurt. TCP's own congestion control looks at losses (or, with BBR, at what arrives) and is
content with a full queue; beside it this one shrinks to next to nothing, and alone it takes all there is.

The idea, and most rules, are those of LEDBAT (RFC 6817), with the corrections Windows has made to it (LEDBAT++,
draft-irtf-iccrg-ledbat-plus-plus): the window shrinks by a share rather than by a packet; it grows fast until it is
first felt, and again when the path has been quiet for a while. Unlike there, delay is of the whole round trip, which is
what a kernel tells, and the target is lower, because BBR is content with short queues too.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

__all__ = ["Reading", "Yielding"]

TARGET = 0.025
"""Seconds that may be spent in queues. RFC 6817 2.3: "TARGET MUST be 100 milliseconds or less"."""
FIRST_SEGMENTS = 10
"""As TCP begins (RFC 6928)."""
BELIEVED_AFTER = 64
"""Segments that must have been confirmed before a round trip is believed. Where SYNs cross, Linux takes the time from
its own SYN-ACK to the other's for the first one, which is anything from nothing to all of it; what it tells is
smoothed, and has forgotten that by then."""
LEAST_SEGMENTS = 2
LEAST_RATE = 16 * 1024.0
"""Bytes a second: a record of 64 KiB in four seconds, so that the two sides still hear of one another."""
CLIMB = 0.25
"""By so much of itself the window grows in a round trip without any queue, until it is felt."""
ALLOWED = (1 + CLIMB) ** 2
"""Times what is confirmed in a round trip: it was sent in the one before, by a window of the one before that."""
QUIET_ROUND_TRIPS = 10
"""After so many without a queue to speak of it climbs again: whoever was there has gone."""
QUIET_SECONDS = 1.0
"""And not sooner than that."""
EASED = 0.25
EASED_ROUND_TRIPS = 2.5
EASED_EVERY = 5.0
"""Every so many seconds the rate is a quarter for some round trips, like the slowdowns of LEDBAT++: whoever comes to a
queue that somebody fills already takes that for the path, unless it drains for once. The larger our share of what
comes, the more it drains."""
BASE_SECONDS = 60.0
BASE_HISTORY = 10
"""RFC 6817 4.2: the shortest delay of the last ten minutes counts, minute by minute, since routes change."""
LATEST = 4
"""RFC 6817 4.2, CURRENT_FILTER: the shortest of so many readings, those of about one round trip, is the delay of now. A
busy radio, or a busy computer, makes single ones longer."""


class Reading(Protocol):
    """What is known of the path at one moment; seconds and bytes."""

    @property
    def round_trip(self) -> float: ...

    @property
    def segment(self) -> int: ...

    @property
    def acknowledged(self) -> int: ...

    @property
    def repeated(self) -> int: ...


class Yielding:
    """Of one connection. Tell it what was read, after each ``pause``; ``rate`` is what to hold the connection to."""

    def __init__(self, reading: Reading, now: float) -> None:
        self._window = float(FIRST_SEGMENTS * reading.segment)
        self._climbing = True
        self._last = reading
        self._last_at = now
        self._believed_from = reading.acknowledged + BELIEVED_AFTER * reading.segment
        self._delays: deque[float] = deque(maxlen=LATEST)
        self._bases: deque[float] = deque(maxlen=BASE_HISTORY)
        self._base_at = now
        self._spared_until = now
        """What was done about a queue, or a burst of losses, shows after a round trip."""
        self._quiet_since: float | None = now
        self._eased_until = now
        self._easing_due = now

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return max(LEAST_RATE, (EASED if self.easing else 1.0) * self._window / self._last.round_trip)

    @property
    def easing(self) -> bool:
        """Whether it lets the queue drain just now."""
        return self._last_at < self._eased_until

    @property
    def pause(self) -> float:
        """Seconds until the next reading is worth something."""
        return min(max(self._last.round_trip / LATEST, 0.01), 0.1)

    def heard(self, reading: Reading, now: float) -> None:
        """``reading`` was taken at ``now``."""
        before, passed = self._last, now - self._last_at
        if passed <= 0:
            return
        self._last, self._last_at = reading, now
        if reading.acknowledged < self._believed_from:
            return
        queueing = self._queueing(reading, now)
        if now >= self._easing_due and not self._climbing:
            self._eased_until = now + EASED_ROUND_TRIPS * reading.round_trip
            self._easing_due = self._eased_until + EASED_EVERY
            self._quiet_since = None
        if self.easing:
            return
        rounds = min(1.0, passed / reading.round_trip)
        if reading.repeated > before.repeated:
            self._shrink(0.5, reading, now)
        elif queueing > TARGET:
            # As much as is under way without any queue, if it is all ours; a smaller share of it, if it is not.
            self._shrink(max(0.5, 1 - queueing / reading.round_trip), reading, now)
        else:
            used = (reading.acknowledged - before.acknowledged) / passed * reading.round_trip
            # What is not made use of is no proof that there is room (RFC 6817 2.4.1: ALLOWED_INCREASE).
            if self._window < ALLOWED * used + FIRST_SEGMENTS * reading.segment:
                self._grow(1 - queueing / TARGET, rounds, reading)
        self._judge_quiet(queueing, reading, now)

    def _queueing(self, reading: Reading, now: float) -> float:
        """Seconds of a round trip of now that are spent in queues."""
        if not self._bases or now - self._base_at >= BASE_SECONDS:
            self._base_at = now
            self._bases.append(reading.round_trip)
        self._bases[-1] = min(self._bases[-1], reading.round_trip)
        self._delays.append(reading.round_trip)
        return max(0.0, min(self._delays) - min(self._bases))

    def _shrink(self, factor: float, reading: Reading, now: float) -> None:
        self._climbing = False
        if now >= self._spared_until:
            self._spared_until = now + 1.5 * reading.round_trip
            self._window = max(self._window * factor, float(LEAST_SEGMENTS * reading.segment))

    def _grow(self, room: float, rounds: float, reading: Reading) -> None:
        """``room`` is 1 where there is no queue, and 0 where it is as long as it may be."""
        if self._climbing and room < 0.25:
            self._climbing = False  # LEDBAT++ 4.3: at three quarters of the target
        self._window += (self._window * CLIMB if self._climbing else reading.segment) * room * rounds

    def _judge_quiet(self, queueing: float, reading: Reading, now: float) -> None:
        if queueing > TARGET / 2 or now < self._spared_until:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now
        elif now - self._quiet_since >= max(QUIET_SECONDS, QUIET_ROUND_TRIPS * reading.round_trip):
            self._climbing = True
