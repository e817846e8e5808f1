"""Sets of ranges against sets of numbers, and the scheduler that asks for them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfer_support import unhurried

from midair.errors import RemoteProtocolError
from midair.transfer.pace import MAX_DATA_BYTES, EventPace, FrameSizer, RateMeter, UnsentBytes
from midair.transfer.ranges import RangeSet
from midair.transfer.scheduler import Scheduler

LIMIT = 40
ranges = st.tuples(st.integers(0, LIMIT), st.integers(0, LIMIT)).map(lambda pair: (min(pair), max(pair)))


@unhurried
@given(st.lists(st.tuples(st.booleans(), ranges), max_size=30), ranges)
def test_a_range_set_is_the_set_of_its_numbers(
    steps: list[tuple[bool, tuple[int, int]]], window: tuple[int, int]
) -> None:
    held = RangeSet()
    model: set[int] = set()
    for adding, (start, end) in steps:
        if adding:
            held.add(start, end)
            model |= set(range(start, end))
        else:
            held.subtract(start, end)
            model -= set(range(start, end))
        intervals = list(held)
        assert {n for a, b in intervals for n in range(a, b)} == model
        assert held.total == len(model)
        assert all(a < b for a, b in intervals)
        assert all(b < c for (_, b), (c, _) in itertools.pairwise(intervals))
    start, end = window
    wanted = set(range(start, end))
    assert {n for a, b in held.missing(start, end) for n in range(a, b)} == wanted - model
    assert {n for a, b in held.overlapping(start, end) for n in range(a, b)} == wanted & model
    assert held.covers(start, end) == (wanted <= model)
    assert held == RangeSet(held)
    assert bool(held) == bool(model)


@unhurried
@given(st.lists(ranges, max_size=8), st.integers(1, 9), st.integers(1, 4), st.data())
def test_the_scheduler_asks_for_everything_once_in_bounded_pieces(
    missing: list[tuple[int, int]], piece: int, outstanding: int, data: st.DataObject
) -> None:
    wanted = RangeSet(missing)
    got = RangeSet()
    durable = 0
    scheduler = Scheduler(RangeSet(missing), piece=piece, outstanding=outstanding, window=piece * 3)
    asked: list[tuple[int, int]] = []
    while not scheduler.done:
        not_durable = got.total - durable
        asked += scheduler.requests(not_durable)
        assert len(asked) <= outstanding
        assert sum(b - a for a, b in asked) + not_durable <= max(piece * 3, piece)
        if not asked:
            durable = got.total  # the disk catches up, and then there must be something to ask for
            asked += scheduler.requests(0)
            assert asked
        start, end = asked.pop(0)
        assert end - start <= piece
        assert not any(True for _ in got.overlapping(start, end))
        position = start
        while position < end:
            size = data.draw(st.integers(1, end - position))
            scheduler.received(position, size)
            position += size
            got.add(position - size, position)
            rest = RangeSet(wanted)
            for held in got:
                rest.subtract(*held)
            assert scheduler.unfinished() == rest
        scheduler.ended(start, end)
        if data.draw(st.booleans()):
            durable = got.total
    assert got == wanted
    assert not scheduler.waiting


@pytest.mark.parametrize(("start", "size"), [(11, 1), (9, 1), (0, 5), (10, 21), (30, 1), (10, 0), (1 << 62, 1)])
def test_bytes_that_were_not_asked_for_break_the_protocol(start: int, size: int) -> None:
    scheduler = Scheduler(RangeSet([(10, 30)]), piece=20, window=40)
    assert scheduler.requests(0) == [(10, 30)]
    with pytest.raises(RemoteProtocolError):
        scheduler.received(start, size)


def test_bytes_without_any_request_break_the_protocol() -> None:
    with pytest.raises(RemoteProtocolError):
        Scheduler(RangeSet([(0, 5)])).received(0, 5)


def test_a_repeated_byte_breaks_the_protocol() -> None:
    scheduler = Scheduler(RangeSet([(0, 5)]))
    scheduler.requests(0)
    scheduler.received(0, 3)
    with pytest.raises(RemoteProtocolError):
        scheduler.received(0, 3)


@pytest.mark.parametrize("claim", [(0, 5), (0, 4), (1, 5)])
def test_an_incomplete_or_unknown_range_cannot_be_ended(claim: tuple[int, int]) -> None:
    scheduler = Scheduler(RangeSet([(0, 5)]))
    scheduler.requests(0)
    scheduler.received(0, 4)
    with pytest.raises(RemoteProtocolError):
        scheduler.ended(*claim)


@unhurried
@given(st.integers(1, 60), st.integers(1, 20), st.data())
def test_what_is_given_up_is_neither_waited_for_nor_taken(total: int, piece: int, data: st.DataObject) -> None:
    """A sender that leaves out what it has told, whatever it tells, when, and how far it reaches."""
    scheduler = Scheduler(RangeSet([(0, total)]), piece=piece, outstanding=2, window=4 * piece)
    came, void = set[int](), set[int]()
    asked: list[tuple[int, int]] = []
    while not scheduler.done:
        new = scheduler.requests(0)
        assert not void.intersection(n for start, end in new for n in range(start, end))
        asked += new
        start, end = asked.pop(0)
        position = start
        while position < end:
            if position in void:
                with pytest.raises(RemoteProtocolError):
                    scheduler.received(position, 1)
                position += 1
                continue
            what = data.draw(st.sampled_from(["bytes", "hole", "failed"]))
            if what == "bytes":
                until = min([end, *(n for n in void if n > position)])
                size = data.draw(st.integers(1, until - position))
                if until < end:
                    with pytest.raises(RemoteProtocolError):
                        scheduler.received(position, until - position + 1)
                scheduler.received(position, size)
                came |= set(range(position, position + size))
                position += size
            elif what == "hole":
                until = data.draw(st.integers(position + 1, total))
                scheduler.hole(position, until)
                void |= set(range(position, until))
            else:
                first = data.draw(st.integers(0, total - 1))
                until = data.draw(st.integers(first + 1, total))
                scheduler.give_up(first, until)
                void |= set(range(first, until))
        scheduler.ended(start, end)
    assert came | void == set(range(total))
    assert not scheduler.unfinished()


def test_of_holes_that_are_passed_nothing_is_kept() -> None:
    scheduler = Scheduler(RangeSet([(0, 1000)]), piece=10, window=1000)
    for start in range(0, 1000, 10):
        scheduler.requests(0)
        scheduler.hole(start, start + 5)
        scheduler.received(start + 5, 5)
        scheduler.ended(start, start + 10)
        assert not scheduler._void


@pytest.mark.parametrize(("start", "end"), [(1, 3), (0, 0), (5, 6), (3, 2)])
def test_a_hole_somewhere_else_breaks_the_protocol(start: int, end: int) -> None:
    scheduler = Scheduler(RangeSet([(0, 5)]))
    scheduler.requests(0)
    with pytest.raises(RemoteProtocolError):
        scheduler.hole(start, end)


def test_what_has_come_cannot_be_given_up_when_there_is_nothing_more_to_come() -> None:
    scheduler = Scheduler(RangeSet([(0, 5)]))
    scheduler.requests(0)
    scheduler.received(0, 5)
    scheduler.ended(0, 5)
    with pytest.raises(RemoteProtocolError):
        scheduler.give_up(0, 5)


def test_no_more_is_asked_for_than_the_disk_can_follow() -> None:
    scheduler = Scheduler(RangeSet([(0, 100)]), piece=10, outstanding=2, window=30)
    assert scheduler.requests(0) == [(0, 10), (10, 20)]
    scheduler.received(0, 10)
    scheduler.ended(0, 10)
    assert scheduler.requests(10) == [(20, 30)]
    scheduler.received(10, 10)
    scheduler.ended(10, 20)
    assert scheduler.requests(20) == []
    assert scheduler.requests(5) == [(30, 40)]


def test_the_rate_is_over_the_last_seconds() -> None:
    meter = RateMeter(100.0, 50)
    assert meter.add(100.0, 50) == 0.0
    assert meter.add(101.0, 150) == 100.0
    for second in range(2, 20):
        rate = meter.add(100.0 + second, 150 + 10 * second)
    assert rate == pytest.approx(10.0)


def test_events_are_let_through_at_a_bounded_pace() -> None:
    pace = EventPace(interval=0.5)
    assert [pace.ready(now) for now in (0.0, 0.1, 0.5, 0.9, 1.2)] == [True, False, True, False, True]


@pytest.mark.parametrize(
    ("rate", "size"), [(12e6, 64 << 10), (24e6, 128 << 10), (119e6, 1 << 20), (800e6, MAX_DATA_BYTES), (1e6, 64 << 10)]
)
def test_a_record_is_as_large_as_can_be_sent_in_some_milliseconds(rate: float, size: int) -> None:
    sizer = FrameSizer()
    for _ in range(20):
        sizer.sent(sizer.size, sizer.size / rate)
    assert sizer.size == size


def test_what_is_handed_over_unsent_follows_the_speed_of_the_path_but_not_at_once() -> None:
    unsent, now = UnsentBytes(0.0), 0.0
    assert unsent.bytes == 128 << 10
    assert not unsent.sent(100_000_000, 0.2), "too soon to say anything"
    story = [(200e6, 128), (300e6, 4096), (200e6, 4096), (100e6, 128), (30e6, 128), (12e6, 32), (30e6, 32), (60e6, 128)]
    unsent.sent(0, now := now + 1.0)
    for rate, kib in story:
        before = unsent.bytes
        now += 1.0
        assert unsent.sent(int(rate), now) is (kib << 10 != before)
        assert unsent.bytes == kib << 10, rate


def test_records_grow_on_a_fast_path_and_shrink_on_a_slow_one() -> None:
    sizer = FrameSizer()
    smallest = sizer.size
    for _ in range(10):
        sizer.sent(sizer.size, 0.001)
    assert sizer.size == MAX_DATA_BYTES
    sizer.sent(sizer.size, 0.02)
    assert sizer.size == MAX_DATA_BYTES
    for _ in range(10):
        sizer.sent(sizer.size, 0.05)
    assert sizer.size == smallest
    sizer.sent(100, 0.001)
    assert sizer.size == smallest, "a record that was not full says nothing about the path"
