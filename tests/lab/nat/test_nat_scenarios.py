"""Two hosts behind two NATs dial each other: who gets through, and why not.

The numbers (50 ms one way, 200 ms between an error and the next try) are those of the tests with real kernels, whose
results these are.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from nat_bench import ends
from nat_pair import Pair

from midair.lab.behaviour import (
    Allocation,
    Filtering,
    Mapping,
    NatBehaviour,
    PortRule,
    Reaction,
    SequenceCheck,
    SimultaneousOpen,
    Unsolicited,
)

DROP = NatBehaviour()
RST = replace(DROP, unsolicited=Unsolicited.RST, on_rst=Reaction.DELETES)
ICMP = replace(DROP, unsolicited=Unsolicited.ICMP_PORT)
LATE = replace(DROP, unsolicited=Unsolicited.ICMP_LATE)
SYMMETRIC = replace(DROP, mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=Allocation(rule=PortRule.RANDOM))
OPEN_CONE = replace(DROP, filtering=Filtering.ENDPOINT_INDEPENDENT)
NO_SIMULTANEOUS_OPEN = replace(DROP, simultaneous_open=SimultaneousOpen.DROPS)


@pytest.mark.parametrize("skew", [0.0, 0.01, 0.049])
def test_syns_cross_and_both_ends_answer_and_connect(skew: float) -> None:
    pair = Pair(DROP, DROP, skew=skew).run(1.0)
    assert pair.connected
    assert pair.sent("a")[:2] == ["SYN", "SYN-ACK"]
    assert pair.sent("b")[:2] == ["SYN", "SYN-ACK"]
    for side in (pair.side_a, pair.side_b):
        assert not side.established[0].accepted
        [entry] = side.nats[0].entries(pair.now)
        assert entry.state == "established"
        assert entry.inside == ("10.0.0.2", 5000)


@pytest.mark.parametrize("skew", [0.1, 0.5, 1.0, 5.0])
def test_nats_that_drop_let_a_late_syn_through_the_hole(skew: float) -> None:
    """The first SYN is lost; the other side's passes by the hole it has made."""
    pair = Pair(DROP, DROP, skew=skew).run(10.0)
    assert pair.connected
    assert pair.sent("b")[0] == "SYN"
    assert "SYN-ACK" in pair.sent("a")
    assert "RST" not in pair.sent("a") + pair.sent("b")


@pytest.mark.parametrize("skew", [0.0, 0.01])
def test_two_nats_that_reset_are_no_obstacle_to_syns_that_cross(skew: float) -> None:
    assert Pair(RST, RST, skew=skew).run(1.0).connected


def test_two_nats_that_reset_keep_in_step_for_ever_when_syns_do_not_cross() -> None:
    """Each RST deletes the entry of the SYN it answers, so the next SYN from the other side is unsolicited too."""
    pair = Pair(RST, RST, skew=0.1).run(5.0)
    assert not pair.connected
    assert min(pair.side_a.errors, pair.side_b.errors) > 10
    assert "SYN-ACK" not in pair.sent("a") + pair.sent("b")


def test_a_nat_that_keeps_the_entry_at_a_rst_is_out_of_step_at_once() -> None:
    """RFC 7857 2.2."""
    keeping = replace(RST, on_rst=Reaction.KEEPS)
    pair = Pair(keeping, keeping, skew=0.1).run(5.0)
    assert pair.connected
    assert pair.side_a.errors == 1


def test_one_nat_that_resets_is_overcome_by_the_second_try() -> None:
    for pair in (Pair(RST, DROP, skew=0.1), Pair(DROP, RST, skew=0.1)):
        assert pair.run(5.0).connected


@pytest.mark.parametrize("check", [SequenceCheck.LEAK, SequenceCheck.DROP])
def test_a_listeners_syn_ack_is_invalid_to_a_strict_nat_after_an_icmp_error(check: SequenceCheck) -> None:
    """The socket that dialled is dead when the other SYN comes, the listener answers with a number of its own, and its
    request then holds the endpoints, so that nothing can be dialled any more."""
    pair = Pair(replace(DROP, sequence_check=check), ICMP, skew=0.1).run(5.0)
    assert not pair.connected
    assert pair.side_a.errors == 1
    [request] = pair.side_a.sockets.values()
    assert (request.state, request.accepted) == ("syn received", True)
    leaked = [packet for _, name, packet in pair.wire if name == "a" and ends(packet)[0] == ("10.0.0.2", 5000)]
    assert bool(leaked) == (check is SequenceCheck.LEAK)
    assert pair.sent("a").count("SYN-ACK") == len(leaked)


def test_a_nat_that_does_not_look_at_sequence_numbers_lets_the_listener_answer() -> None:
    pair = Pair(DROP, ICMP, skew=0.1).run(5.0)
    assert pair.connected
    assert pair.side_a.established[0].accepted


def test_an_icmp_error_after_six_seconds_never_comes_when_the_other_side_dials_before() -> None:
    pair = Pair(LATE, LATE, skew=5.5).run(30.0)
    assert pair.connected
    assert "ICMP" not in pair.sent("a") + pair.sent("b")
    pair = Pair(LATE, LATE, skew=6.5).run(6.4)
    assert pair.sent("b") == ["ICMP"]
    assert [when for when, name, _ in pair.wire if name == "b"] == [pytest.approx(6.05)]


def test_no_simultaneous_open_at_one_side_still_works_at_both_it_never_does() -> None:
    assert Pair(NO_SIMULTANEOUS_OPEN, DROP).run(3.0).connected
    assert Pair(DROP, NO_SIMULTANEOUS_OPEN, skew=0.1).run(3.0).connected
    for skew in (0.0, 0.1, 1.0):
        assert not Pair(NO_SIMULTANEOUS_OPEN, NO_SIMULTANEOUS_OPEN, skew=skew).run(20.0).connected


def test_a_syn_ack_from_a_wrong_port_does_not_pass_the_other_nat() -> None:
    """And a hears b's, so that a believes in a connection that b has not: bytes both ways are what counts."""
    pair = Pair(replace(DROP, simultaneous_open=SimultaneousOpen.MISTRANSLATES), DROP).run(0.5)
    assert pair.side_a.established
    [wrong] = [packet for _, name, packet in pair.wire if name == "a" and packet.flags == 0x12]
    assert ends(wrong)[0] == ("198.51.100.1", 5001)


def test_a_syn_that_a_silent_host_has_swallowed_moves_the_port() -> None:
    """b's SYN leaves from another port than a expects."""
    pair = Pair(DROP, replace(DROP, unsolicited=Unsolicited.SILENT_DMZ), skew=0.1).run(5.0)
    assert not pair.connected
    assert {ends(packet)[0][1] for _, name, packet in pair.wire if name == "b"} == {5001}
    crossing = Pair(DROP, replace(DROP, unsolicited=Unsolicited.SILENT_DMZ)).run(5.0)
    assert crossing.connected


def test_a_symmetric_nat_gets_through_to_an_open_one_only() -> None:
    assert Pair(OPEN_CONE, SYMMETRIC).run(5.0).connected
    assert not Pair(DROP, SYMMETRIC).run(5.0).connected
    assert not Pair(SYMMETRIC, SYMMETRIC).run(5.0).connected


def test_firewalls_are_opened_alike() -> None:
    firewall = replace(DROP, mapping=Mapping.NONE)
    for ipv6 in (False, True):
        for skew in (0.0, 0.1):
            assert Pair(firewall, firewall, skew=skew, ipv6=ipv6).run(5.0).connected
    resetting = replace(firewall, unsolicited=Unsolicited.RST, on_rst=Reaction.DELETES)
    assert not Pair(resetting, resetting, skew=0.1).run(5.0).connected


def test_two_nats_one_behind_the_other_are_passed_alike() -> None:
    carrier = OPEN_CONE
    for skew in (0.0, 0.1):
        pair = Pair([DROP, carrier], [DROP, carrier], skew=skew).run(5.0)
        assert pair.connected
        assert {packet.ttl for _, _, packet in pair.wire} == {62}
    assert not Pair([DROP, SYMMETRIC], DROP).run(5.0).connected
