"""A sender that gives way, on a path with one queue, under a clock of the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from midair.transfer.yielding import FIRST_SEGMENTS, LEAST_RATE, TARGET, Yielding

SEGMENT = 1448


@dataclass
class Seen:
    """A reading."""

    round_trip: float
    segment: int = SEGMENT
    acknowledged: int = 0
    repeated: int = 0


@dataclass
class Path:
    """Seconds and bytes; what is sent into it comes out at ``rate``, later by what stands in the queue."""

    rate: float
    delay: float
    queue: float = 0.0
    arrived: float = 0.0
    now: float = 0.0
    longest: float = 0.0
    others: float = 0.0
    """Seconds of queue that somebody else keeps filled."""
    repeated: int = 0
    yielding: Yielding = field(init=False)

    def __post_init__(self) -> None:
        self.yielding = Yielding(self.look(), self.now)

    def look(self) -> Seen:
        trip = self.delay + self.queue / self.rate + self.others
        return Seen(trip, acknowledged=int(self.arrived), repeated=self.repeated)

    def go_on(self, seconds: float, *, offered: float = float("inf")) -> float:
        """Our bytes a second that came out in the last quarter; ``offered`` is how fast there is something to send."""
        until, measured_from, before = self.now + seconds, self.now + seconds * 0.75, 0.0
        while self.now < until:
            step = self.yielding.pause
            sent = min(self.yielding.rate, offered) * step
            out = min(self.queue + sent, self.rate * step * (0.5 if self.others else 1.0))
            self.queue = self.queue + sent - out
            self.arrived += out
            self.now += step
            self.longest = max(self.longest, self.queue / self.rate)
            self.yielding.heard(self.look(), self.now)
            if self.now < measured_from:
                before, started = self.arrived, self.now
        return (self.arrived - before) / (self.now - started)


@pytest.mark.parametrize("rate", [1.25e6, 12.5e6, 125e6])
@pytest.mark.parametrize("delay", [0.005, 0.04, 0.15])
def test_alone_it_takes_what_there_is_and_the_queue_stays_short(rate: float, delay: float) -> None:
    path = Path(rate, delay)
    assert path.go_on(30) > 0.9 * rate
    path.longest = 0.0
    path.go_on(30)
    assert path.longest < 3 * TARGET


def test_beside_somebody_who_fills_the_queue_it_is_next_to_nothing_within_seconds() -> None:
    path = Path(12.5e6, 0.04)
    path.go_on(10)
    path.others = 0.04
    assert path.go_on(4) < 0.02 * path.rate
    assert path.yielding.rate >= LEAST_RATE


def test_a_queue_that_was_there_before_is_not_taken_for_the_path() -> None:
    """Somebody keeps it filled, and what we suddenly leave drains it."""
    path = Path(12.5e6, 0.04)
    path.others = 0.04
    path.yielding = Yielding(path.look(), 0.0)
    shares = []
    while path.now < 30:
        shares.append(path.go_on(0.1) / path.rate)
        left = max(shares[-5:]) - shares[-1]
        path.others = max(0.001, path.others - 0.1 * left) if left > 0.1 else min(0.04, path.others + 0.02)
    assert sum(shares[-50:]) / 50 < 0.1


def test_when_the_other_has_gone_it_is_back_within_seconds() -> None:
    path = Path(12.5e6, 0.04)
    path.go_on(10)
    path.others = 0.04
    path.go_on(20)
    path.others = 0.0
    assert path.go_on(5) > 0.9 * path.rate


def test_a_burst_of_losses_counts_once_in_a_round_trip() -> None:
    path = Path(12.5e6, 0.04)
    path.go_on(10)
    before = path.yielding.rate
    path.repeated += 10
    path.yielding.heard(path.look(), path.now + 0.01)
    path.repeated += 10
    path.yielding.heard(path.look(), path.now + 0.02)
    assert path.yielding.rate == pytest.approx(before / 2, rel=0.05)
    path.repeated += 1
    path.yielding.heard(path.look(), path.now + 0.02 + 1.5 * path.look().round_trip)
    assert path.yielding.rate == pytest.approx(before / 4, rel=0.1)


def test_where_queues_are_too_short_to_be_felt_losses_hold_it_back() -> None:
    quiet, lossy = Path(12.5e6, 0.04), Path(12.5e6, 0.04)
    quiet.go_on(5)
    for _ in range(50):
        lossy.repeated += 1
        lossy.go_on(0.1)
    assert lossy.yielding.rate < 0.1 * quiet.yielding.rate


def test_what_it_has_nothing_to_send_with_is_no_proof_of_room() -> None:
    path = Path(12.5e6, 0.04)
    path.go_on(30, offered=1e5)
    assert path.yielding.rate <= 3 * (1e5 + FIRST_SEGMENTS * SEGMENT / path.delay)


def test_what_a_kernel_says_at_first_is_not_believed() -> None:
    """After crossing SYNs it says a quarter, and is right after some packets."""
    path = Path(12.5e6, 0.04)
    path.delay = 0.01
    path.yielding = Yielding(path.look(), path.now)
    path.go_on(0.03)
    path.delay = 0.04
    assert path.go_on(10) > 0.9 * path.rate


def test_a_single_late_reading_is_nothing() -> None:
    path = Path(12.5e6, 0.04)
    path.go_on(10)
    before = path.yielding.rate
    path.others = 0.2
    path.yielding.heard(path.look(), path.now + 0.04)
    path.others = 0.0
    path.yielding.heard(path.look(), path.now + 0.08)
    assert path.yielding.rate > 0.9 * before


def test_a_route_that_has_become_longer_for_good_is_the_new_measure_after_ten_minutes() -> None:
    path = Path(1.25e6, 0.04)
    path.go_on(10)
    path.delay = 0.09
    assert path.go_on(10) < 0.1 * path.rate
    path.go_on(11 * 60)
    assert path.go_on(30) > 0.8 * path.rate
