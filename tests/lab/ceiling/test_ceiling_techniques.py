"""Which technique is the best one, and why, pair by pair."""

from __future__ import annotations

from dataclasses import replace

import pytest

from midair.lab import BOXES, box_of, parse_topology
from midair.lab.behaviour import Filtering, Hairpin, NatLimits
from midair.lab.ceiling import DIRECT, EVERY, PLAIN, Budget, Ceiling, Conditions, Technique, ceiling
from midair.lab.description import Side, Topology

ANY_START = Conditions(skews=(-1.0, -0.1, 0.0, 0.1, 1.0))
FORGETS = replace(BOXES["rst"], filtering=Filtering.CONNECTION_DEPENDENT)
"""A RST closes the opening, though the server's connection keeps the mapping."""


def best(
    topology: str | Topology, techniques: frozenset[Technique] = DIRECT, conditions: Conditions = ANY_START
) -> Ceiling:
    return ceiling(parse_topology(topology) if isinstance(topology, str) else topology, techniques, conditions)


@pytest.mark.parametrize(
    ("topology", "technique"),
    [
        ("drop x none", Technique.DIRECT_DIAL),
        ("symmetric x exposed", Technique.DIRECT_DIAL),
        ("symmetric x full-cone", Technique.DIRECT_DIAL),
        ("none x symmetric", Technique.REVERSAL),
        ("drop x drop", Technique.SIMULTANEOUS_OPEN),
        ("symmetric x restricted", Technique.SIMULTANEOUS_OPEN),
        ("(none + none) > drop", Technique.PRIVATE_ADDRESSES),
        ("(drop + none) > carrier", Technique.PRIVATE_ADDRESSES),
        ("(drop + drop) > carrier", Technique.HAIRPIN),
        ("(none + none) > firewall", Technique.DIRECT_DIAL),
        ("symmetric-sequential x drop", Technique.PREDICTION),
        ("symmetric-step2 x symmetric-sequential", Technique.PREDICTION),
        ("mobile x drop", Technique.COVERAGE),
        ("(symmetric & none) x symmetric", Technique.EVERY_INTERFACE),
        ("symmetric x symmetric with ipv6", Technique.IPV6),
        ("kernel:masquerade-rst x kernel:masquerade-drop", Technique.SIMULTANEOUS_OPEN),
        ("kernel:masquerade-rst x kernel:masquerade-rst", Technique.INSTANT_REDIAL),
        ("kernel:masquerade-dmz x kernel:masquerade-dmz", Technique.TIMED_OPEN),
    ],
)
def test_each_pair_has_its_technique(topology: str, technique: Technique) -> None:
    found = best(topology)
    assert found.technique is technique, found.reasoning
    assert found.probability > 0.9


@pytest.mark.parametrize("topology", ["https-only x https-only", "proxy-only x drop", "(drop + drop) > symmetric"])
def test_what_cannot_be_direct_is_relayed_unless_nobody_wants_that(topology: str) -> None:
    assert best(topology).probability == 0
    assert best(topology, EVERY).technique is Technique.RELAY
    refused = best(topology, EVERY, replace(ANY_START, relay=False))
    assert refused.technique is None
    assert "A relay is not wanted" in refused.reasoning


def test_a_relay_that_listens_where_nothing_is_let_out_to_is_none() -> None:
    found = best("https-only x https-only", EVERY, replace(ANY_START, server_ports=(7420,)))
    assert found.technique is None
    assert "https-only lets nothing out to the ports of the server" in found.reasoning


def test_a_side_that_lets_nothing_out_to_peers_can_still_be_dialled_when_anybody_can_reach_it() -> None:
    assert best("https-only x full-cone").probability == 0
    reachable = replace(BOXES["full-cone"], only_ports=(443,))
    assert best(Topology(a=Side(boxes=(box_of(reachable),)), b=Side())).technique is Technique.REVERSAL


@pytest.mark.parametrize(
    ("topology", "said"),
    [
        ("drop x symmetric", "the mapping of b's symmetric is address-and-port-dependent"),
        ("symmetric-address x drop", "the mapping of a's symmetric-address is address-dependent"),
        ("drop x drop>carrier-symmetric", "the mapping of b's carrier-symmetric is address-and-port-dependent"),
        ("drop>connection-dependent x drop", "the mapping of a's connection-dependent is connection-dependent"),
        ("no-simopen x no-simopen", "b's no-simopen drops a syn that crosses its host's"),
        ("https-only x drop", "a's https-only lets nothing out to the peer"),
        ("(none + none) > drop", "the shared drop does not turn packets around"),
        ("(none + none) > hairpin-internal", "the shared hairpin-internal turns packets around with their inside"),
    ],
)
def test_a_pair_without_hope_is_told_which_side_it_is_due_to_and_what_it_does(topology: str, said: str) -> None:
    found = best(topology, PLAIN)
    assert (found.probability, found.technique) == (0, None)
    assert said in found.reasoning.lower()


def test_no_techniques_at_all_are_said_to_be_none() -> None:
    assert best("drop x drop", frozenset()).reasoning == "No technique for this."


def test_a_side_that_refuses_crossing_syns_by_rst_needs_the_other_to_go_first() -> None:
    late, early = (best("drop x no-simopen-rst", PLAIN, Conditions(skews=(skew,))) for skew in (0.1, -0.1))
    assert (late.probability, early.probability) == (1, 0)
    agreed = best("drop x no-simopen-rst", PLAIN | {Technique.TIMED_OPEN}, Conditions(skews=(-0.1,)))
    assert agreed.technique is Technique.TIMED_OPEN
    assert "A dials a round trip before b, as agreed" in agreed.reasoning


def test_syns_cannot_cross_inside_one_box_that_both_are_behind() -> None:
    """Whichever gets there first is unsolicited, however well they are timed."""
    strict = box_of(replace(FORGETS, hairpin=Hairpin.EXTERNAL_SOURCE))
    shared = Topology(a=Side(), b=Side(), shared=(strict,))
    assert best(shared, PLAIN | {Technique.TIMED_OPEN}).probability < 1
    apart = Topology(a=Side(boxes=(strict,)), b=Side(boxes=(strict,)))
    assert best(apart, PLAIN | {Technique.TIMED_OPEN}).probability == 1


def test_a_low_ttl_opens_what_refusals_would_close_where_there_is_a_router_between_the_nats() -> None:
    opening = PLAIN | {Technique.LOW_TTL}
    pair = Topology(a=Side(boxes=(box_of(FORGETS),)), b=Side(boxes=(box_of(FORGETS),)))
    late = Conditions(skews=(0.1,))
    assert best(pair, PLAIN, late).probability == 0
    assert best(pair, opening, late).technique is Technique.LOW_TTL
    mirror = box_of(replace(FORGETS, hairpin=Hairpin.EXTERNAL_SOURCE))
    assert best(Topology(a=Side(), b=Side(), shared=(mirror,)), opening, late).probability == 0


def test_an_opening_towards_an_address_takes_any_port_of_it_also_where_crossing_syns_are_refused() -> None:
    blocks = replace(BOXES["restricted"], simultaneous_open=BOXES["no-simopen"].simultaneous_open)
    pair = Topology(a=Side(boxes=(box_of(blocks),)), b=Side(boxes=(box_of(BOXES["no-simopen"]),)))
    assert best(pair, PLAIN).probability == 0
    found = best(pair, PLAIN | {Technique.ADDRESS_PERMISSION})
    assert found.technique is Technique.ADDRESS_PERMISSION
    assert "A sends a SYN to another port of b's address" in found.reasoning


def test_a_mapped_port_makes_a_home_reachable_also_from_another_home_behind_the_same_carrier() -> None:
    mapped = replace(ANY_START, port_mapping=True)
    for topology in ("drop x symmetric", "(drop + drop) > symmetric"):
        assert best(topology, DIRECT).technique is not Technique.PORT_MAPPING
        found = best(topology, DIRECT, mapped)
        assert (found.probability, found.technique) == (1, Technique.PORT_MAPPING)
    assert best("drop>symmetric x drop>symmetric", DIRECT, mapped).probability < 0.01


def test_a_pool_without_pairing_leaves_the_address_to_chance_when_the_mapping_is_new() -> None:
    """While the server's connection holds the mapping it is the same for the peer."""
    assert best("unpaired x drop", PLAIN, Conditions()).probability == 1
    by_destination = "drop,addresses=4,pooling=by-destination"
    found = best(f"{by_destination} x drop", PLAIN, Conditions())
    assert found.probability == 0.25
    assert "One time in 4 a's next connection has the same address again" in found.reasoning


def test_more_strangers_make_a_prediction_less_likely_and_more_guesses_make_it_likelier() -> None:
    pair = "symmetric-sequential x drop"
    few, many = (
        best(pair, DIRECT, Conditions(strangers=3.0, budget=Budget(sockets=sockets))).probability for sockets in (2, 8)
    )
    assert 0 < few < many < 1
    assert best(pair, DIRECT, Conditions()).probability == 1


def test_a_nat_that_caps_connections_lowers_what_coverage_can_do() -> None:
    capped = replace(BOXES["mobile"], limits=NatLimits(half_open=2))
    budget = Conditions(budget=Budget(sockets=16, syns=16))
    probabilities = [
        best(Topology(a=Side(boxes=(box_of(box),)), b=Side(boxes=(box_of(BOXES["drop"]),))), DIRECT, budget).probability
        for box in (capped, BOXES["mobile"])
    ]
    assert 0 < probabilities[0] < probabilities[1] < 1


@pytest.mark.parametrize("limit", ["entries=1", "entries-per-host=1"])
def test_a_nat_without_room_beside_the_server_s_connection_lets_nothing_out(limit: str) -> None:
    found = best(f"drop,{limit} x drop", PLAIN, Conditions())
    assert found.probability == 0
    assert f"A's drop,{limit} has no room for another connection" in found.reasoning
    assert best("drop,half-open=1 x drop", PLAIN, Conditions()).probability == 1
