"""What one side is to try, from what both have said."""

from __future__ import annotations

import itertools
import random
from ipaddress import ip_network
from typing import Literal

import msgspec
import pytest

from midair.config import TraversalOptions
from midair.endpoint import Endpoint
from midair.errors import IncompatibleError, NoPathError, RemoteProtocolError
from midair.nat.forecast import COVERED_MAX, FAN_MAX, Forecast
from midair.traversal.agent import LateDial, Plan
from midair.traversal.candidates import Candidate, CandidateType, priority
from midair.traversal.late_dials import COVERAGE_AFTER, COVERED_WIDE_MAX, DIAGONALS
from midair.traversal.planning import MAX_FAR, make_plan
from midair.traversal.sync import Description, decode, describe, encode

OUR_HOST = Endpoint.parse("10.1.0.2:5000")
OUR_OUTSIDE = Endpoint.parse("198.51.100.2:5000")
THEIR_HOST = Endpoint.parse("10.2.0.2:6000")
NETWORKS = [ip_network("10.0.0.0/8")]
THEIR_OUTSIDE = Endpoint.parse("203.0.113.2:6000")
RANDOM_BAND = Forecast(low=20000, high=20250)
COUNTING = Forecast(low=30000, high=30100, step=2)


def described(
    host: Endpoint, outside: Endpoint | None, *, controlling: bool, forecast: Forecast | None = None
) -> Description:
    candidates = [
        Candidate(type=kind, endpoint=endpoint, priority=priority(kind, endpoint))
        for kind, endpoint in ((CandidateType.HOST, host), (CandidateType.SERVER_REFLEXIVE, outside))
        if endpoint is not None
    ]
    return describe(tuple(candidates), controlling=controlling, direct=True, relay=True, forecast=forecast)


def plan(
    ours: Forecast | None = None, theirs: Forecast | None = None, *, outside: Endpoint | None = THEIR_OUTSIDE
) -> Plan:
    return make_plan(
        described(OUR_HOST, OUR_OUTSIDE, controlling=True, forecast=ours),
        described(THEIR_HOST, outside, controlling=False, forecast=theirs),
        {OUR_HOST, OUR_OUTSIDE},
        TraversalOptions(),
        loopback=False,
        networks=NETWORKS,
        random=random.Random(1),
    )


def with_candidates(*told: tuple[CandidateType, str], forecast: Forecast | None = None) -> Description:
    """What a peer says that has these."""
    candidates = [(kind, Endpoint.parse(text)) for kind, text in told]
    return describe(
        tuple(Candidate(type=kind, endpoint=each, priority=priority(kind, each)) for kind, each in candidates),
        controlling=False,
        direct=True,
        relay=True,
        forecast=forecast,
    )


def plan_for(theirs: Description, options: TraversalOptions) -> Plan:
    ours = described(OUR_HOST, OUR_OUTSIDE, controlling=True)
    return make_plan(ours, theirs, {OUR_HOST}, options, loopback=False, networks=NETWORKS, random=random.Random(1))


@pytest.mark.parametrize("family", [4, 6])
def test_only_candidates_of_the_families_we_want_are_dialled(family: Literal[4, 6]) -> None:
    theirs = with_candidates((CandidateType.HOST, "203.0.113.9:1"), (CandidateType.HOST, "[2001:db8::9]:1"))
    made = plan_for(theirs, TraversalOptions(families=(family,)))
    assert [each.family for each in made.remotes] == [family]
    assert len(plan_for(theirs, TraversalOptions()).remotes) == 2


def test_a_mapped_port_tells_the_outside_of_a_nat_too() -> None:
    """Where the reflector saw the same, there is no other candidate that does."""
    theirs = with_candidates((CandidateType.MAPPED, "203.0.113.2:6000"), forecast=RANDOM_BAND)
    made = plan_for(theirs, TraversalOptions())
    assert made.remotes == (THEIR_OUTSIDE,)
    assert {each.remote.address for each in made.late} == {THEIR_OUTSIDE.address}


def covered(late: tuple[LateDial, ...]) -> list[int]:
    return [dial.remote.port for dial in late if dial.local == 0]


def fan(late: tuple[LateDial, ...]) -> list[LateDial]:
    return [dial for dial in late if dial.local]


def test_where_both_nats_keep_ports_only_the_candidates_are_dialled() -> None:
    assert plan().late == ()
    assert plan().remotes == (THEIR_HOST, THEIR_OUTSIDE)
    assert plan().notes == ()


def test_the_side_that_keeps_ports_covers_those_the_other_may_come_from() -> None:
    made = plan(theirs=RANDOM_BAND)
    assert fan(made.late) == []
    assert len(set(covered(made.late))) == len(made.late) >= 64
    assert all(20000 <= port <= 20250 for port in covered(made.late))
    assert {dial.remote.address for dial in made.late} == {THEIR_OUTSIDE.address}


def test_the_side_that_changes_ports_dials_the_other_from_a_fan_of_ports() -> None:
    made = plan(ours=RANDOM_BAND)
    assert covered(made.late) == []
    assert {dial.remote for dial in made.late} == {THEIR_OUTSIDE}
    assert [dial.local for dial in made.late] == list(range(1, len(made.late) + 1))


def test_the_fan_begins_when_the_other_side_has_opened_all_ports() -> None:
    for band in (RANDOM_BAND, Forecast(low=1024, high=65535)):
        last_opened = plan(theirs=band).late[-1].after
        assert plan(ours=band).late[0].after > last_opened


def test_a_public_address_of_its_own_is_an_outside_too() -> None:
    """One endpoint is told once, as the interface's."""
    made = make_plan(
        described(OUR_HOST, OUR_OUTSIDE, controlling=True, forecast=RANDOM_BAND),
        described(THEIR_OUTSIDE, THEIR_OUTSIDE, controlling=False),
        {OUR_HOST, OUR_OUTSIDE},
        TraversalOptions(),
        loopback=False,
        networks=NETWORKS,
        random=random.Random(1),
    )
    assert {dial.remote for dial in made.late} == {THEIR_OUTSIDE}


def test_a_counting_nat_is_met_at_its_next_ports_in_order_and_last_at_those_it_has_used_towards_us() -> None:
    """Its side has dialled one of our candidates by then, not our private address."""
    assert covered(plan(theirs=COUNTING).late)[:3] == [30002, 30004, 30006]
    assert covered(plan(theirs=COUNTING).late)[-1] == 30000


def test_two_counting_nats_are_dialled_in_step() -> None:
    made = plan(ours=Forecast(low=40000, high=40060, step=1), theirs=COUNTING)
    ours_as_they_dial = 1  # not our private address, so their NAT has counted once since the forecast
    assert made.late == tuple(
        LateDial(Endpoint(THEIR_OUTSIDE.address, 30000 + (ours_as_they_dial + n) * 2), n + 1, made.late[n].after)
        for n in range(DIAGONALS)
    )


def test_where_both_change_ports_at_random_little_is_covered() -> None:
    whole = Forecast(low=1024, high=65535)
    made = plan(ours=whole, theirs=whole)
    assert len(covered(made.late)) <= COVERED_WIDE_MAX
    assert len(fan(made.late)) <= FAN_MAX


def test_a_coverage_starts_late_and_sends_at_most_500_syns_a_second() -> None:
    made = plan(theirs=Forecast(low=1024, high=65535))
    times = [dial.after for dial in made.late]
    assert times[0] == COVERAGE_AFTER
    assert len(times) <= COVERED_MAX
    assert all(later - earlier >= 0.00199 for earlier, later in itertools.pairwise(times))


def test_the_relay_waits_until_a_coverage_can_have_worked() -> None:
    made = plan(theirs=Forecast(low=1024, high=65535))
    assert made.head_start >= made.late[-1].after + 1.0
    assert plan().head_start == TraversalOptions().head_start


def test_without_an_outside_endpoint_nothing_is_covered() -> None:
    assert plan(theirs=RANDOM_BAND, outside=None).late == ()


def test_what_is_known_of_the_nats_is_said_in_words() -> None:
    notes = plan(ours=COUNTING, theirs=Forecast(low=1024, high=65535)).notes
    assert notes == (
        "your side: its NAT counts ports up by 2",
        "their side: every connection gets a random port, out of about 64,512",
    )


def test_a_forecast_travels_in_the_description() -> None:
    said = described(OUR_HOST, OUR_OUTSIDE, controlling=True, forecast=COUNTING)
    assert decode(encode(said)) == said


@pytest.mark.parametrize(
    "wrong",
    [
        {"low": 0, "high": 5},
        {"low": 5, "high": 65536},
        {"low": 9, "high": 5},
        {"low": 5, "high": 9, "step": 65},
        {"low": 5},
    ],
)
def test_a_forecast_that_cannot_be_is_refused(wrong: dict[str, int]) -> None:
    said = msgspec.json.decode(encode(described(OUR_HOST, None, controlling=True)))
    with pytest.raises(RemoteProtocolError):
        decode(msgspec.json.encode(said | {"forecast": wrong}))


def test_a_peer_that_knows_nothing_of_forecasts_is_understood() -> None:
    said = msgspec.json.decode(encode(described(OUR_HOST, OUR_OUTSIDE, controlling=True)))
    del said["forecast"]
    assert decode(msgspec.json.encode(said)) == described(OUR_HOST, OUR_OUTSIDE, controlling=True)


def test_our_own_endpoints_are_never_dialled() -> None:
    made = make_plan(
        described(OUR_HOST, OUR_OUTSIDE, controlling=True),
        described(OUR_HOST, THEIR_OUTSIDE, controlling=False),
        {OUR_HOST, OUR_OUTSIDE},
        TraversalOptions(),
        loopback=False,
        networks=NETWORKS,
        random=random.Random(1),
    )
    assert made.remotes == (THEIR_OUTSIDE,)


@pytest.mark.parametrize(
    ("their_host", "their_outside", "our_networks", "dialled"),
    [
        ("10.2.0.2", "203.0.113.2", ["10.1.0.0/24"], False),
        ("192.168.1.7", "203.0.113.2", ["10.1.0.0/24"], False),
        ("100.64.3.4", "203.0.113.2", ["10.1.0.0/24"], False),
        ("fd00::7", "203.0.113.2", ["fd01::/64"], False),
        ("10.1.0.9", "203.0.113.2", ["10.1.0.0/24"], True),
        ("fd00::7", "203.0.113.2", ["fd00::/64"], True),
        ("10.2.0.2", "198.51.100.2", ["10.1.0.0/24"], True),
        ("10.2.0.2", None, ["10.1.0.0/24"], True),
        ("203.0.113.9", "203.0.113.2", ["10.1.0.0/24"], True),
        ("2001:db8::7", "203.0.113.2", ["10.1.0.0/24"], True),
    ],
    ids=str,
)
def test_private_addresses_are_dialled_only_where_they_can_be_the_peers(
    their_host: str, their_outside: str | None, our_networks: list[str], dialled: bool
) -> None:
    host = Endpoint.of(their_host, 6000)
    made = make_plan(
        described(OUR_HOST, OUR_OUTSIDE, controlling=True),
        described(host, Endpoint.of(their_outside, 6000) if their_outside else None, controlling=False),
        {OUR_HOST, OUR_OUTSIDE},
        TraversalOptions(),
        loopback=False,
        networks=[ip_network(text) for text in our_networks],
        random=random.Random(1),
    )
    assert (host in made.remotes) == dialled


BEHIND_OUR_NAT = (CandidateType.SERVER_REFLEXIVE, "198.51.100.2:6000")
"""Anybody can say so: we have told it."""


@pytest.mark.parametrize("kind", [CandidateType.HOST, CandidateType.SERVER_REFLEXIVE, CandidateType.MAPPED])
@pytest.mark.parametrize(
    ("address", "dialled"),
    [
        ("192.168.1.7", False),
        ("172.16.0.7", False),
        ("100.64.0.7", False),
        ("10.255.255.255", False),
        ("10.2.0.7", True),
        ("203.0.113.7", True),
    ],
)
def test_of_private_addresses_only_those_of_our_own_range_are_dialled_whatever_the_peer_says(
    kind: CandidateType, address: str, dialled: bool
) -> None:
    """The last of our own network is its broadcast address."""
    made = plan_for(with_candidates((kind, f"{address}:6000"), BEHIND_OUR_NAT), TraversalOptions())
    assert (Endpoint.of(address, 6000) in made.remotes) == dialled


def test_outside_our_own_networks_a_few_private_endpoints_are_dialled() -> None:
    ours = described(OUR_HOST, OUR_OUTSIDE, controlling=True)
    theirs = with_candidates(
        *((CandidateType.HOST, f"10.{number}.0.7:6000") for number in range(1, 15)), BEHIND_OUR_NAT
    )
    networks = [ip_network("10.1.0.0/24")]
    made = make_plan(
        ours, theirs, {OUR_HOST}, TraversalOptions(), loopback=False, networks=networks, random=random.Random(1)
    )
    assert len([each for each in made.remotes if each.address in ip_network("10.0.0.0/8")]) == 1 + MAX_FAR


def test_one_side_that_wants_only_the_relay_decides_for_both() -> None:
    theirs = msgspec.structs.replace(
        described(THEIR_HOST, THEIR_OUTSIDE, controlling=False, forecast=COUNTING), direct=False
    )
    made = make_plan(
        described(OUR_HOST, OUR_OUTSIDE, controlling=True, forecast=COUNTING),
        theirs,
        set(),
        TraversalOptions(),
        loopback=False,
        networks=NETWORKS,
        random=random.Random(1),
    )
    assert (made.direct, made.remotes, made.late, made.notes) == (False, (), (), ())
    assert "by the other side" in made.why_not


def test_roles_and_policies_that_do_not_fit_are_refused() -> None:
    ours = described(OUR_HOST, None, controlling=True)
    options = TraversalOptions()
    with pytest.raises(IncompatibleError):
        make_plan(ours, ours, set(), options, loopback=False, networks=NETWORKS, random=random.Random(1))
    only_relay = msgspec.structs.replace(described(THEIR_HOST, None, controlling=False), direct=False)
    only_direct = msgspec.structs.replace(ours, relay=False)
    with pytest.raises(NoPathError):
        make_plan(only_direct, only_relay, set(), options, loopback=False, networks=NETWORKS, random=random.Random(1))
