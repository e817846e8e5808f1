"""What is expected of a NAT, from the ports it has given."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midair.nat.forecast import (
    COVERED_MAX,
    FAN_MAX,
    FIRST_PORT,
    PROBES,
    Forecast,
    covered_ports,
    forecast,
    size_coverage,
)

ports = st.integers(1, 65535)


def chance(expected: Forecast) -> float:
    """That some SYN gets through, when ports are drawn evenly from the band."""
    coverage = size_coverage(expected)
    return 1 - (1 - coverage.covered / (expected.high - expected.low + 1)) ** coverage.fan


def test_a_nat_that_keeps_ports_needs_no_forecast() -> None:
    assert forecast([(40000 + n, 40000 + n) for n in range(13)]) is None


def test_nothing_is_said_of_nothing() -> None:
    assert forecast([]) is None


def test_one_port_taken_by_somebody_else_does_not_make_a_nat_unpredictable() -> None:
    assert forecast([(40000, 1025), *((40001 + n, 40001 + n) for n in range(12))]) is None


@pytest.mark.parametrize("step", [1, 2, 17])
def test_a_nat_that_counts_up_goes_on_after_its_last_port(step: int) -> None:
    expected = forecast([(30000 + n, 50000 + n * step) for n in range(13)])
    assert expected is not None
    assert expected.step == step
    assert covered_ports(expected, random.Random(0))[:3] == [50000 + n * step for n in (13, 14, 15)]


def test_a_nat_that_counts_down_goes_on_below() -> None:
    expected = forecast([(30000 + n, 50000 - n * 2) for n in range(13)])
    assert expected is not None
    assert expected.step == -2
    assert covered_ports(expected, random.Random(0))[:2] == [50000 - 13 * 2, 50000 - 14 * 2]


def test_probes_made_at_once_may_be_counted_in_any_order_and_others_may_count_between_them() -> None:
    shuffled = [(1, 50000), *((2 + n, 50000 + port) for n, port in enumerate([5, 3, 1, 2, 4, 8, 7, 9, 10, 13, 12]))]
    expected = forecast(shuffled)
    assert expected is not None
    assert (expected.step, expected.low) == (1, 50014)


@pytest.mark.parametrize("width", [251, 512, 2048])
def test_a_fresh_port_of_a_band_is_mostly_within_the_forecast(width: int) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)  # noqa: T201
    draw = random.Random(seed)
    inside = 0
    for _ in range(1000):
        first = draw.randrange(2048, 60000)
        samples = [(n + 1, draw.randrange(first, first + width)) for n in range(PROBES + 1)]
        expected = forecast(samples)
        assert expected is not None
        assert expected.step == 0
        inside += expected.low <= draw.randrange(first, first + width) <= expected.high
    assert inside >= 950  # (n-1)/(n+1) = 86 % without widening


def test_a_sample_of_everything_means_the_whole_range() -> None:
    assert forecast([(1, 2000), (2, 30000), (3, 64000)]) == Forecast(low=1024, high=65535)


@pytest.mark.parametrize("width", [2, 251, 512, 2048, 5000])
def test_a_band_is_covered_as_well_as_it_takes(width: int) -> None:
    expected = Forecast(low=2000, high=1999 + width)
    assert chance(expected) >= 0.995


def test_the_whole_range_is_covered_as_far_as_is_decent() -> None:
    expected = Forecast(low=1024, high=65535)
    coverage = size_coverage(expected)
    assert (coverage.covered, coverage.fan) == (COVERED_MAX, FAN_MAX)
    assert 0.98 < chance(expected) < 0.99


@given(st.lists(st.tuples(ports, ports), max_size=40))
def test_a_forecast_of_anything_names_real_ports_and_no_more_than_allowed(samples: list[tuple[int, int]]) -> None:
    expected = forecast(samples)
    if expected is None:
        return
    drawn = covered_ports(expected, random.Random(0))
    assert all(1 <= port <= 65535 for port in drawn)
    assert len(set(drawn)) == len(drawn) <= max(COVERED_MAX, 64 + 48)
    assert size_coverage(expected).fan <= FAN_MAX


@given(low=ports, high=ports, step=st.integers(-64, 64))
def test_a_peers_forecast_is_bounded_whatever_it_says(low: int, high: int, step: int) -> None:
    if low > high:
        with pytest.raises(ValueError, match="before it begins"):
            Forecast(low=low, high=high, step=step)
        return
    expected = Forecast(low=low, high=high, step=step)
    assert len(covered_ports(expected, random.Random(0))) <= COVERED_MAX
    assert 0 < size_coverage(expected).fan <= FAN_MAX


@pytest.mark.parametrize(
    "expected",
    [Forecast(low=1, high=2000), Forecast(low=1000, high=1100, step=1), Forecast(low=1000, high=1100, step=-3)],
)
def test_ports_of_services_are_not_covered_whatever_a_peer_expects(expected: Forecast) -> None:
    ports = covered_ports(expected, random.Random(1))
    assert ports
    assert min(ports) >= FIRST_PORT
    assert covered_ports(Forecast(low=1, high=1023), random.Random(1)) == []
