"""What is dialled a while after the start: in turns where both NATs keep ports, in numbers where one does not."""

from __future__ import annotations

import itertools
import random

import pytest

from midair.endpoint import Endpoint
from midair.nat.forecast import FAN_MAX, FIRST_PORT, Forecast, seen_band
from midair.traversal.agent import LateDial
from midair.traversal.late_dials import COVERED_TWICE_MAX, SPARE, TURN, TURNS_AFTER, late_dials
from midair.traversal.sync import VERSION, Description

OUTSIDE = Endpoint.parse("203.0.113.2:6000")
WHOLE = Forecast(low=1024, high=65535)
BAND = Forecast(low=20000, high=20250)


def side(forecast: Forecast | None = None, spare: int = 0) -> Description:
    return Description(version=VERSION, controlling=True, direct=True, relay=True, forecast=forecast, spare=spare)


def dials(ours: Description, theirs: Description) -> tuple[LateDial, ...]:
    return late_dials(ours, theirs, OUTSIDE, 1, random.Random(1))


def test_of_each_pair_of_ports_one_dials_first_and_the_other_a_turn_later() -> None:
    assert dials(side(spare=5001), side(spare=6001)) == (
        LateDial(Endpoint.parse("203.0.113.2:6001"), 0, TURNS_AFTER),
        LateDial(OUTSIDE, SPARE, TURNS_AFTER + TURN),
    )


def test_a_peer_without_a_spare_port_is_only_dialled_from_ours() -> None:
    assert dials(side(spare=5001), side()) == (LateDial(OUTSIDE, SPARE, TURNS_AFTER + TURN),)
    assert dials(side(), side(spare=6001)) == (LateDial(Endpoint.parse("203.0.113.2:6001"), 0, TURNS_AFTER),)
    assert dials(side(), side()) == ()


@pytest.mark.parametrize("band", [WHOLE, BAND])
def test_the_spare_port_covers_when_all_of_the_fan_has_dialled_it(band: Forecast) -> None:
    near, far = dials(side(band), side(spare=6001)), dials(side(spare=5001), side(band))
    to_the_spare = [dial.after for dial in near if dial.remote.port == 6001]
    from_the_spare = [dial.after for dial in far if dial.local == SPARE]
    from_our_own = [dial.after for dial in far if dial.local == 0]
    assert len(to_the_spare) == len([dial for dial in near if dial.remote == OUTSIDE])
    assert max(from_our_own) < min(to_the_spare)
    assert max(to_the_spare) + 0.2 < min(from_the_spare)
    assert max(from_the_spare) < 8


@pytest.mark.parametrize("band", [WHOLE, BAND])
def test_neither_side_sends_more_than_500_syns_a_second(band: Forecast) -> None:
    for made in (dials(side(band), side(spare=6001)), dials(side(spare=5001), side(band))):
        times = sorted(dial.after for dial in made)
        assert all(later - earlier >= 0.00199 for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize(
    "band", [Forecast(low=1, high=65535), Forecast(low=900, high=1200, step=1), Forecast(low=900, high=1100, step=-2)]
)
def test_ports_of_services_are_never_covered(band: Forecast) -> None:
    covered = dials(side(spare=5001), side(band))
    assert covered
    assert all(dial.remote.port >= FIRST_PORT for dial in covered)
    in_step = dials(side(Forecast(low=40000, high=40100, step=1)), side(band))
    assert all(dial.remote.port >= FIRST_PORT for dial in in_step)


def test_a_band_of_ports_of_services_is_not_covered_at_all() -> None:
    assert dials(side(), side(Forecast(low=1, high=1000))) == ()


def test_two_bands_are_covered_by_as_many_syns_as_they_have_ports_all_between_ports_that_were_seen() -> None:
    other = Forecast(low=30000, high=30360)
    made = [dial for dial in dials(side(other), side(BAND)) if dial.remote != OUTSIDE]
    assert len(made) == 361, "as many as the wider band has"
    assert {dial.remote.port for dial in made} == set(seen_band(BAND)) < set(range(20000, 20251))
    assert len({(dial.local, dial.remote) for dial in made}) == len(made), "each a connection of its own"


def test_the_nth_of_a_count_is_dialled_at_what_the_nth_of_a_band_may_be() -> None:
    counting = Forecast(low=40000, high=40060, step=1)
    near, far = dials(side(counting), side(BAND)), dials(side(BAND), side(counting))
    at_the_band = [dial for dial in near if dial.remote != OUTSIDE]
    at_the_count = [dial.remote.port for dial in far if dial.remote != OUTSIDE]
    assert at_the_count == list(range(40001, 40001 + len(at_the_band))), "one of our candidates was dialled before"
    assert len(at_the_band) == 251


def test_where_both_change_ports_no_more_than_the_limits_are_sent() -> None:
    for ours in (BAND, WHOLE, Forecast(low=1024, high=3000)):
        for theirs in (BAND, WHOLE, Forecast(low=1024, high=3000)):
            made = dials(side(ours), side(theirs))
            assert len(made) <= COVERED_TWICE_MAX + FAN_MAX
            times = sorted(dial.after for dial in made)
            assert all(later - earlier >= 0.00199 for earlier, later in itertools.pairwise(times))
