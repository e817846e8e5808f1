"""What a NAT does beyond the value of each knob: who has a port when two want it, what ends when, what goes nowhere."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from nat_bench import Bench, datagram, ends

from midair.lab.behaviour import (
    Allocation,
    Filtering,
    Hairpin,
    Mapping,
    NatBehaviour,
    NatLimits,
    NatTimers,
    Pooling,
    PortRule,
    Reaction,
    SequenceCheck,
    SimultaneousOpen,
    Unsolicited,
)
from midair.lab.blueprint import NatPart
from midair.lab.nat import Nat, NatEntry
from midair.lab.node import INSIDE_PORT, NEVER, OUTSIDE_PORT
from midair.lab.packet import ACK, FIN, RST, SYN, TCP, UDP, IcmpReason, Packet, address_bytes, parse

OVERLOADING = NatBehaviour(allocation=Allocation(rule=PortRule.PRESERVING))
LATE = NatBehaviour(unsolicited=Unsolicited.ICMP_LATE)
SILENT = NatBehaviour(unsolicited=Unsolicited.SILENT_DMZ)
PASSES = NatBehaviour(unsolicited=Unsolicited.PASS)
TURNS = NatBehaviour(hairpin=Hairpin.EXTERNAL_SOURCE, filtering=Filtering.ENDPOINT_INDEPENDENT)


def states(bench: Bench) -> list[str]:
    return [entry.state for entry in bench.nat.entries(bench.now)]


# -- unsolicited --


def test_the_late_answer_is_cancelled_by_the_outbound_syn_of_its_connection() -> None:
    bench = Bench(LATE)
    inside, remote = (bench.host(), 5000), bench.remote()
    assert bench.call(remote, ("198.51.100.1", 5000)) is None
    bench.wait(5.9)
    assert bench.first(inside, remote) == ("198.51.100.1", 5000)
    bench.wait(60)
    assert bench.spontaneous == []


def test_the_late_answer_is_not_cancelled_by_another_connection() -> None:
    bench = Bench(LATE)
    assert bench.call(bench.remote(), ("198.51.100.1", 5000)) is None
    bench.first((bench.host(), 5000), bench.remote(1))
    bench.first((bench.host(), 5001), bench.remote())
    bench.wait(60)
    assert len(bench.spontaneous) == 1


def test_a_repeated_syn_is_answered_once_six_seconds_after_the_first() -> None:
    bench = Bench(LATE)
    remote = bench.remote()
    for pause in (1, 2, 4):
        bench.call(remote, ("198.51.100.1", 5000))
        bench.wait(pause)
    [(port, answer)] = bench.spontaneous
    assert (port, answer.reason) == (OUTSIDE_PORT, IcmpReason.PORT_UNREACHABLE)
    bench.call(remote, ("198.51.100.1", 5000))
    bench.wait(6)
    assert len(bench.spontaneous) == 2, "what comes after the answer is a new question"


def test_late_answers_are_bounded() -> None:
    bench = Bench(LATE)
    for port in range(1, 5000):
        bench.call(bench.remote(port=port), ("198.51.100.1", 5000))
    bench.wait(6)
    assert len(bench.spontaneous) == 4096


def test_a_swallowed_syn_is_in_the_way_of_its_own_connection_only_and_for_the_opening_time_only() -> None:
    bench = Bench(SILENT)
    inside, remote = (bench.host(), 5000), bench.remote()
    assert bench.call(remote, ("198.51.100.1", 5000)) is None
    [entry] = bench.nat.entries(0)
    assert entry == NatEntry(
        protocol="TCP",
        inside=None,
        outside=("198.51.100.1", 5000),
        remote=remote,
        state="opening",
        seconds_left=240.0,
    )
    assert bench.first(inside, bench.remote(1)) == ("198.51.100.1", 5000)
    assert bench.first(inside, remote) == ("198.51.100.1", 5001)
    bench = Bench(SILENT)
    bench.call(remote, ("198.51.100.1", 5000))
    bench.wait(200)
    bench.call(remote, ("198.51.100.1", 5000))
    bench.wait(239)
    assert states(bench) == ["opening"], "the repeated SYN has refreshed it"
    bench.wait(1)
    assert states(bench) == []
    assert bench.first(inside, remote) == ("198.51.100.1", 5000)


def test_a_connection_that_has_to_move_leaves_the_mapping_of_its_endpoint_as_it_is() -> None:
    bench = Bench(SILENT)
    inside, remote = (bench.host(), 5000), bench.remote()
    assert bench.first(inside, bench.remote(1)) == ("198.51.100.1", 5000)
    bench.call(remote, ("198.51.100.1", 5000))
    assert bench.first(inside, remote) == ("198.51.100.1", 5001)
    assert bench.answered(remote, ("198.51.100.1", 5001), SYN | ACK)
    assert bench.first(inside, bench.remote(2)) == ("198.51.100.1", 5000)


def test_a_mapping_that_begins_with_a_connection_that_has_to_move_moves_as_a_whole() -> None:
    bench = Bench(SILENT)
    bench.call(bench.remote(), ("198.51.100.1", 5000))
    seen = {bench.first((bench.host(), 5000), bench.remote(number)) for number in range(3)}
    assert seen == {("198.51.100.1", 5001)}, "it is endpoint-independent all the same"


def test_overloading_takes_a_swallowed_connections_port_over() -> None:
    bench = Bench(replace(OVERLOADING, unsolicited=Unsolicited.SILENT_DMZ))
    bench.call(bench.remote(), ("198.51.100.1", 5000))
    assert bench.first((bench.host(), 5000), bench.remote()) == ("198.51.100.1", 5000)
    assert len(bench.nat.entries(0)) == 1


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_an_exposed_host_gets_what_nobody_asked_for_and_can_answer(protocol: int) -> None:
    bench = Bench(PASSES)
    remote = bench.remote()
    arrived = bench.call(remote, ("198.51.100.1", 4242), protocol=protocol)
    assert arrived is not None
    assert ends(arrived)[1] == (bench.host(), 4242)
    answer = bench.leave(bench.segment((bench.host(), 4242), remote, SYN | ACK, protocol=protocol))
    assert answer is not None
    assert ends(answer)[0] == ("198.51.100.1", 4242)


def test_unsolicited_packets_go_to_the_host_that_has_the_mapping_rather_than_to_the_first() -> None:
    bench = Bench(PASSES)
    outside = bench.first((bench.host(1), 5000), bench.remote(), host=1)
    assert outside is not None
    arrived = bench.call(bench.remote(1), outside)
    assert arrived is not None
    assert ends(arrived)[1] == (bench.host(1), 5000)


def test_the_exposed_host_is_the_first_one_that_is_not_the_nat() -> None:
    for inside, routes, first in (
        ("10.0.0.1", (("10.0.0.0/24", 1),), "10.0.0.2"),
        ("10.0.0.2", (("10.0.0.0/24", 1),), "10.0.0.1"),
        ("10.0.0.1", (("fd00::/64", 1), ("10.9.0.7/32", 2), ("10.0.0.0/24", 1)), "10.9.0.7"),
    ):
        part = NatPart(name="n", behaviour=PASSES, outside=("198.51.100.1",), inside=(inside,), routes=routes)
        syn = Bench.segment(("192.0.2.1", 9), ("198.51.100.1", 80), SYN)
        [(_, packet)] = Nat(part, random.Random(1)).receive(syn, OUTSIDE_PORT, 0.0)
        assert ends(packet)[1] == (first, 80)


def test_only_syns_are_answered() -> None:
    """A stray segment, a datagram and a ping are not."""
    for reaction in (Unsolicited.RST, Unsolicited.ICMP_PORT, Unsolicited.SILENT_DMZ, Unsolicited.ICMP_LATE):
        bench = Bench(NatBehaviour(unsolicited=reaction))
        for flags in (ACK, SYN | ACK, RST, FIN | ACK, 0):
            assert bench.send(bench.segment(bench.remote(), ("198.51.100.1", 5000), flags), OUTSIDE_PORT) == []
        assert bench.send(datagram(bench.remote(), ("198.51.100.1", 5000)), OUTSIDE_PORT) == []
        bench.wait(10)
        assert bench.spontaneous == []
        assert bench.nat.entries(bench.now) == []


def test_an_error_comes_from_the_address_that_was_called() -> None:
    bench = Bench(NatBehaviour(unsolicited=Unsolicited.ICMP_HOST, allocation=Allocation(addresses=3)))
    for number in (1, 2, 3):
        answer = bench.reaction(bench.segment(bench.remote(), (f"198.51.100.{number}", 5000), SYN))
        assert answer is not None
        assert ends(answer)[0] == (f"198.51.100.{number}", 0)


def test_the_rst_acknowledges_what_the_syn_carried() -> None:
    bench = Bench(NatBehaviour(unsolicited=Unsolicited.RST))
    syn = bench.segment(bench.remote(), ("198.51.100.1", 5000), SYN, sequence=100, data=b"fast open")
    answer = bench.reaction(syn)
    assert answer is not None
    assert answer.acknowledgement == 110


@pytest.mark.parametrize("unsolicited", list(Unsolicited))
def test_a_packet_to_an_address_that_is_not_the_nats_is_dropped(unsolicited: Unsolicited) -> None:
    for mapping, addresses in (
        (Mapping.ENDPOINT_INDEPENDENT, ("203.0.113.1", "10.0.0.1", "10.0.0.2")),
        (Mapping.NONE, ("203.0.113.1", "198.51.100.1")),
    ):
        bench = Bench(NatBehaviour(unsolicited=unsolicited, mapping=mapping))
        for address in addresses:
            assert bench.send(bench.segment(bench.remote(), (address, 80), SYN), OUTSIDE_PORT) == []
        bench.wait(10)
        assert bench.spontaneous == []
    assert bench.call(bench.remote(), ("10.0.0.1", 80)) is None, "nothing is let in to the NAT itself"


# -- ports that two want --


def test_overloading_gives_the_port_to_the_later_endpoint() -> None:
    """RFC 5382 REQ-7 forbids it. Connections to other remote endpoints go on, as the table tells them apart."""
    bench = Bench(replace(OVERLOADING, filtering=Filtering.ENDPOINT_INDEPENDENT))
    one, other = (bench.host(0), 5000), (bench.host(1), 5000)
    outside = ("198.51.100.1", 5000)
    assert bench.open(one, bench.remote(0)) == outside
    assert bench.open(other, bench.remote(1), host=1) == outside
    arrived = bench.call(bench.remote(2), outside)
    assert arrived is not None
    assert ends(arrived)[1] == other
    back = bench.arrive(bench.segment(bench.remote(0), outside, ACK))
    assert back is not None
    assert ends(back)[1] == one
    bench.first(one, bench.remote(3))
    arrived = bench.call(bench.remote(4), outside)
    assert arrived is not None
    assert ends(arrived)[1] == one, "and back again"


def test_overloading_cuts_the_earlier_connection_to_the_same_remote_endpoint() -> None:
    bench = Bench(OVERLOADING)
    one, other, remote = (bench.host(0), 5000), (bench.host(1), 5000), bench.remote()
    outside = bench.open(one, remote)
    assert bench.open(other, remote, host=1) == outside
    assert not bench.says(one, remote, ACK)
    assert bench.says(other, remote, ACK, host=1)
    assert len(bench.nat.entries(0)) == 1


def test_overloading_keeps_the_permissions_of_all_mappings_of_one_endpoint() -> None:
    """The port is the same whatever the mapping, so what each mapping lets in is let in."""
    bench = Bench(replace(OVERLOADING, mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT))
    inside = (bench.host(), 5000)
    for number in (0, 1):
        assert bench.first(inside, bench.remote(number)) == ("198.51.100.1", 5000)
    for number, passes in ((0, True), (1, True), (2, False)):
        assert bool(bench.call(bench.remote(number), ("198.51.100.1", 5000))) == passes


@pytest.mark.parametrize("which", [0, 1])
def test_overloaded_mappings_end_one_by_one(which: int) -> None:
    bench = Bench(
        replace(
            OVERLOADING,
            mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT,
            filtering=Filtering.ENDPOINT_INDEPENDENT,
            on_rst=Reaction.DELETES,
        )
    )
    inside, outside = (bench.host(), 5000), ("198.51.100.1", 5000)
    for number in (0, 1):
        bench.open(inside, bench.remote(number))
    assert bench.answered(bench.remote(which), outside, RST)
    assert bench.call(bench.remote(2), outside)
    assert bench.answered(bench.remote(2), outside, RST)
    assert bench.answered(bench.remote(1 - which), outside, RST)
    assert bench.call(bench.remote(2), outside) is None


def test_a_preserved_port_is_free_again_when_its_mapping_is_over() -> None:
    bench = Bench(NatBehaviour(timers=NatTimers(opening=10)))
    assert bench.first((bench.host(0), 5000), bench.remote()) == ("198.51.100.1", 5000)
    assert bench.first((bench.host(1), 5000), bench.remote(), host=1) == ("198.51.100.1", 5001)
    bench.wait(10)
    assert bench.first((bench.host(3), 5000), bench.remote(), host=3) == ("198.51.100.1", 5000)


def test_a_mapping_lives_as_long_as_one_of_its_connections() -> None:
    bench = Bench(replace(NatBehaviour(allocation=Allocation(rule=PortRule.RANDOM)), timers=NatTimers(opening=100)))
    inside = (bench.host(), 5000)
    outside = bench.first(inside, bench.remote(0))
    assert outside is not None
    bench.wait(60)
    assert bench.first(inside, bench.remote(1)) == outside
    bench.wait(60)
    assert bench.first(inside, bench.remote(2)) == outside
    assert bench.call(bench.remote(0), outside), "its remote endpoints are remembered as long"
    bench.wait(101)
    assert bench.first(inside, bench.remote(0)) != outside


def test_udp_and_tcp_do_not_share_mappings() -> None:
    bench = Bench(NatBehaviour(filtering=Filtering.ENDPOINT_INDEPENDENT))
    assert bench.first((bench.host(0), 5000), bench.remote(), protocol=UDP) == ("198.51.100.1", 5000)
    assert bench.call(bench.remote(), ("198.51.100.1", 5000)) is None
    assert bench.first((bench.host(1), 5000), bench.remote(), host=1) == ("198.51.100.1", 5000)


def test_each_line_has_mappings_of_its_own() -> None:
    """BY_DESTINATION: one endpoint has one outside endpoint on each line."""
    bench = Bench(
        NatBehaviour(allocation=Allocation(rule=PortRule.RANDOM, addresses=2, pooling=Pooling.BY_DESTINATION))
    )
    inside = (bench.host(), 5000)
    seen = [bench.first(inside, bench.remote(number)) for number in range(4)]
    assert seen[0] == seen[2] != seen[1] == seen[3]
    assert [outside[0] for outside in seen if outside] == ["198.51.100.1", "198.51.100.2"] * 2


def test_a_symmetric_mapping_is_not_given_twice_while_its_connection_lasts() -> None:
    bench = Bench(NatBehaviour(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT))
    inside = (bench.host(), 5000)
    seen = [bench.first(inside, bench.remote(number)) for number in range(5)]
    assert seen == [("198.51.100.1", 5000 + number) for number in range(5)]
    assert bench.first(inside, bench.remote(2)) == seen[2]


def test_a_connection_dependent_nat_moves_the_port_of_a_new_connection_to_the_same_endpoint() -> None:
    bench = Bench(NatBehaviour(mapping=Mapping.CONNECTION_DEPENDENT))
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.open(inside, remote)
    assert bench.first(inside, remote) == outside, "a SYN in the middle of a connection is none of a new one"
    bench.close(inside, remote, outside)
    moved = bench.open(inside, remote)
    assert moved != outside
    assert not bench.answered(remote, outside, ACK)
    assert len(bench.nat.entries(0)) == 1


def test_a_host_that_cannot_tell_two_connections_apart_gets_the_first() -> None:
    """An open symmetric NAT: the other mapping's remote endpoint calls, and to the host it would be the same."""
    bench = Bench(NatBehaviour(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, filtering=Filtering.ENDPOINT_INDEPENDENT))
    inside = (bench.host(), 5000)
    first, second = bench.first(inside, bench.remote(0)), bench.first(inside, bench.remote(1))
    assert first is not None
    assert second is not None
    assert bench.call(bench.remote(1), first) is None
    assert bench.call(bench.remote(2), first)
    assert bench.answered(bench.remote(1), second, SYN | ACK)


# -- the life of a connection --


def test_a_handshake_passes_from_opening_to_established() -> None:
    bench = Bench(NatBehaviour())
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.first(inside, remote)
    assert outside is not None
    assert bench.answered(remote, outside, SYN | ACK)
    assert states(bench) == ["opening"]
    assert bench.says(inside, remote, ACK)
    assert states(bench) == ["established"]


def test_a_simultaneous_open_is_established_by_its_second_syn_ack() -> None:
    bench = Bench(NatBehaviour())
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.first(inside, remote, sequence=1000)
    assert outside is not None
    assert bench.call(remote, outside)
    assert bench.leave(bench.segment(inside, remote, SYN | ACK, sequence=1000))
    assert states(bench) == ["opening"]
    assert bench.answered(remote, outside, SYN | ACK)
    assert states(bench) == ["established"]


@pytest.mark.parametrize("check", list(SequenceCheck))
def test_the_answer_to_a_connection_from_outside_has_any_sequence_number(check: SequenceCheck) -> None:
    """There was no SYN from inside that it could disagree with, and one of a connection that is over is forgotten."""
    bench = Bench(replace(PASSES, sequence_check=check))
    inside, remote, outside = (bench.host(), 5000), bench.remote(), ("198.51.100.1", 5000)
    for _ in range(2):
        assert bench.call(remote, outside)
        answer = bench.leave(bench.segment(inside, remote, SYN | ACK, sequence=4711))
        assert answer is not None
        assert ends(answer)[0] == outside
        assert bench.answered(remote, outside, ACK)
        bench.close(inside, remote, outside)
        bench.wait(240)
        bench.open(inside, remote)
        bench.close(inside, remote, outside)


def test_a_connection_from_outside_is_established_alike() -> None:
    bench = Bench(replace(PASSES, simultaneous_open=SimultaneousOpen.DROPS))
    inside, remote, outside = (bench.host(), 80), bench.remote(), ("198.51.100.1", 80)
    assert bench.call(remote, outside)
    assert bench.says(inside, remote, SYN | ACK)
    assert bench.call(remote, outside), "a repeated SYN crosses nothing, so it is not dropped"
    assert states(bench) == ["opening"]
    assert bench.answered(remote, outside, ACK)
    assert states(bench) == ["established"]


def test_a_new_socket_begins_the_handshake_anew() -> None:
    bench = Bench(NatBehaviour())
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.first(inside, remote, sequence=1000)
    assert outside is not None
    bench.call(remote, outside)
    bench.leave(bench.segment(inside, remote, SYN | ACK, sequence=1000))
    assert bench.first(inside, remote, sequence=2000) == outside
    assert bench.answered(remote, outside, SYN | ACK)
    assert states(bench) == ["opening"]


def test_one_fin_does_not_close_both_do() -> None:
    bench = Bench(NatBehaviour())
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.open(inside, remote)
    assert bench.says(inside, remote, FIN | ACK)
    bench.wait(1000)
    assert bench.answered(remote, outside, ACK)
    assert states(bench) == ["established"]
    assert bench.answered(remote, outside, FIN | ACK)
    assert states(bench) == ["closing"]
    bench.wait(239)
    assert bench.says(inside, remote, ACK)
    bench.wait(239)
    assert states(bench) == ["closing"]
    bench.wait(1)
    assert states(bench) == []


def test_a_kept_rst_leaves_the_hole_open_for_the_closing_time() -> None:
    bench = Bench(NatBehaviour(on_rst=Reaction.KEEPS, timers=NatTimers(closing=20)))
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.first(inside, remote)
    assert outside is not None
    assert bench.answered(remote, outside, RST)
    assert states(bench) == ["closing"]
    bench.wait(19)
    assert bench.call(remote, outside)
    assert states(bench) == ["opening"]


@pytest.mark.parametrize("knob", list(SimultaneousOpen))
def test_a_syn_through_the_hole_that_a_kept_rst_has_left_is_a_simultaneous_open(knob: SimultaneousOpen) -> None:
    bench = Bench(NatBehaviour(on_rst=Reaction.KEEPS, simultaneous_open=knob))
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.first(inside, remote)
    assert outside is not None
    assert bench.answered(remote, outside, RST)
    passes = knob in (SimultaneousOpen.PASSES, SimultaneousOpen.MISTRANSLATES)
    assert bool(bench.call(remote, outside)) == passes


def test_the_syn_before_a_kept_rst_is_still_what_a_syn_ack_is_compared_with() -> None:
    bench = Bench(NatBehaviour(on_rst=Reaction.KEEPS, sequence_check=SequenceCheck.DROP))
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.first(inside, remote, sequence=1000)
    assert outside is not None
    assert bench.answered(remote, outside, RST)
    assert bench.call(remote, outside)
    assert bench.leave(bench.segment(inside, remote, SYN | ACK, sequence=4711)) is None
    assert bench.leave(bench.segment(inside, remote, SYN | ACK, sequence=1000))


def test_endpoints_of_a_connection_that_is_over_can_be_used_again_from_either_side() -> None:
    for inbound in (False, True):
        bench = Bench(NatBehaviour(simultaneous_open=SimultaneousOpen.DROPS))
        inside, remote = (bench.host(), 5000), bench.remote()
        outside = bench.open(inside, remote)
        bench.close(inside, remote, outside)
        if inbound:
            assert bench.call(remote, outside), "nothing crosses: our own SYN was answered long ago"
        else:
            assert bench.first(inside, remote) == outside
        assert states(bench) == ["opening"]


def test_a_segment_of_no_connection_does_not_get_out() -> None:
    bench = Bench(NatBehaviour())
    for flags in (ACK, SYN | ACK, RST | ACK, FIN | ACK, SYN | RST, 0):
        assert not bench.says((bench.host(), 5000), bench.remote(), flags)
    assert bench.nat.entries(0) == []


@pytest.mark.parametrize("outbound", [True, False])
@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("settled", [True, False])
def test_a_packet_either_way_keeps_a_connection_alive(settled: bool, protocol: int, outbound: bool) -> None:
    bench = Bench(NatBehaviour(timers=NatTimers(established=100, udp=100), rewrites_payload=not settled))
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.open(inside, remote) if protocol == TCP else bench.first(inside, remote, protocol=UDP)
    assert outside is not None
    for _ in range(3):
        bench.wait(99)
        if outbound:
            assert bench.leave(bench.segment(inside, remote, ACK, protocol=protocol))
        else:
            assert bench.arrive(bench.segment(remote, outside, ACK, protocol=protocol))
    assert len(bench.nat.entries(bench.now)) == 1
    bench.wait(100)
    assert bench.nat.entries(bench.now) == []


def test_a_packet_that_is_not_let_through_does_not_keep_a_connection_alive() -> None:
    bench = Bench(NatBehaviour(simultaneous_open=SimultaneousOpen.DROPS, on_rst=Reaction.IGNORES))
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.first(inside, remote)
    assert outside is not None
    bench.wait(200)
    assert not bench.call(remote, outside)
    assert not bench.answered(remote, outside, RST)
    bench.wait(40)
    assert states(bench) == []


def test_the_nat_wakes_when_the_next_connection_may_expire_and_not_before() -> None:
    bench = Bench(NatBehaviour())
    assert bench.nat.wake_at == NEVER
    bench.first((bench.host(), 5000), bench.remote())
    assert bench.nat.wake_at == 240
    bench.wait(100)
    bench.first((bench.host(), 5000), bench.remote(), protocol=UDP)
    bench.first((bench.host(), 5000), bench.remote())
    assert bench.nat.wake_at == 240
    bench.wait(140)
    assert bench.nat.wake_at == 340
    bench.wait(100)
    assert states(bench) == ["datagrams"]
    bench.wait(60)
    assert (states(bench), bench.nat.wake_at) == ([], NEVER)


def test_a_nat_that_nobody_woke_forgets_all_the_same() -> None:
    bench = Bench(NatBehaviour())
    outside = bench.first((bench.host(), 5000), bench.remote())
    assert outside is not None
    bench.now = 240.0
    assert not bench.answered(bench.remote(), outside, SYN | ACK)


def test_a_late_answer_that_is_due_comes_with_the_next_packet() -> None:
    bench = Bench(LATE)
    bench.call(bench.remote(), ("198.51.100.1", 5000))
    bench.now = 7.0
    emissions = bench.send(bench.segment((bench.host(), 6000), bench.remote(1), SYN), INSIDE_PORT)
    assert [packet.reason for _, packet in emissions] == [IcmpReason.PORT_UNREACHABLE, None]


def test_half_open_connections_count_until_they_are_complete_or_over() -> None:
    bench = Bench(NatBehaviour(limits=NatLimits(half_open=1), on_rst=Reaction.KEEPS))
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.open(inside, remote)
    assert bench.first((bench.host(), 5001), remote)
    assert bench.first((bench.host(), 5002), remote) is None
    bench.close(inside, remote, outside)
    assert bench.first(inside, remote) is None, "a new handshake on old endpoints is one too"
    bench.wait(230)
    bench.says(inside, remote, ACK)
    bench.wait(10)
    assert bench.first(inside, remote) == outside


def test_a_connection_that_is_over_makes_room() -> None:
    bench = Bench(NatBehaviour(limits=NatLimits(entries=2, entries_per_host=1), on_rst=Reaction.DELETES))
    remote = bench.remote()
    outside = bench.first((bench.host(0), 5000), remote)
    assert outside is not None
    assert bench.first((bench.host(0), 5001), remote) is None
    assert bench.first((bench.host(1), 5001), remote, host=1)
    assert bench.first((bench.host(2), 5002), remote, host=2) is None
    assert bench.answered(remote, outside, RST)
    assert bench.first((bench.host(2), 5002), remote, host=2)


def test_inbound_connections_count_too() -> None:
    bench = Bench(replace(PASSES, limits=NatLimits(entries_per_host=2)))
    calls = [bench.call(bench.remote(number), ("198.51.100.1", 80)) for number in range(3)]
    assert [call is not None for call in calls] == [True, True, False]
    silent = Bench(replace(SILENT, limits=NatLimits(half_open=2)))
    for number in range(4):
        silent.call(silent.remote(number), ("198.51.100.1", 80))
    assert len(silent.nat.entries(0)) == 2


def test_a_token_bucket_fills_while_nothing_comes_but_not_above_one_second() -> None:
    bench = Bench(NatBehaviour(limits=NatLimits(new_per_second=3)))
    bench.wait(1000)
    opened = [bench.first((bench.host(), 5000 + number), bench.remote()) is not None for number in range(5)]
    assert opened == [True] * 3 + [False] * 2


# -- where packets go --


@pytest.mark.parametrize("ipv6", [False, True])
def test_packets_between_inside_hosts_are_routed_as_they_are(ipv6: bool) -> None:
    bench = Bench(NatBehaviour(only_ports=(443,)), ipv6=ipv6)
    one, other = (bench.host(0), 5000), (bench.host(1), 6000)
    for packet in (
        bench.segment(one, other, SYN, ttl=9),
        bench.segment(one, other, ACK, ttl=9),
        datagram(one, other, ttl=9),
        bench.error_about(other, one, IcmpReason.PORT_UNREACHABLE, sender=one[0]),
    ):
        packet.ttl = 9
        [(port, arrived)] = bench.send(packet, INSIDE_PORT)
        assert port == INSIDE_PORT + 1
        assert ends(arrived) == ends(packet)
        assert arrived.ttl == 8
    assert bench.nat.entries(0) == []
    [(port, report)] = bench.send(bench.segment(one, other, SYN, ttl=1), INSIDE_PORT)
    assert (port, report.reason) == (INSIDE_PORT, IcmpReason.TIME_EXCEEDED)


def test_groups_fragments_and_unknown_protocols_go_nowhere() -> None:
    bench = Bench(replace(PASSES, filtering=Filtering.ENDPOINT_INDEPENDENT))
    for address in ("224.0.0.251", "255.255.255.255"):
        assert bench.send(datagram((bench.host(), 5353), (address, 5353)), INSIDE_PORT) == []
    for protocol in (TCP, UDP):
        inside, remote = (bench.host(), 5000), bench.remote()
        outside = bench.first(inside, remote, protocol=protocol)
        assert outside is not None
        for port, packet in (
            (INSIDE_PORT, bench.segment(inside, remote, ACK, protocol=protocol)),
            (OUTSIDE_PORT, bench.segment(remote, outside, ACK, protocol=protocol)),
        ):
            fragment = packet.copy()
            fragment.to_bytes()[7] = 1
            other_protocol = packet.copy()
            other_protocol.to_bytes()[9] = 132
            for each in (fragment, other_protocol):
                assert bench.nat.receive(parse(each.to_bytes()), port, 0.0) == ()
    assert len(bench.nat.entries(0)) == 2


def test_ipv6_is_filtered_and_changes_in_nothing_but_the_hop_limit() -> None:
    bench = Bench(NatBehaviour(rewrites_payload=True, allocation=Allocation(rule=PortRule.RANDOM)), ipv6=True)
    inside, remote = (bench.host(), 5000), bench.remote()
    for packet, port in (
        (bench.segment(inside, remote, SYN, data=address_bytes(inside[0])), INSIDE_PORT),
        (bench.segment(remote, inside, SYN | ACK), OUTSIDE_PORT),
    ):
        before = bytes(packet.to_bytes())
        [(_, after)] = bench.send(packet, port)
        assert bytes(after.to_bytes()) == before[:7] + b"\x3f" + before[8:]
    assert bench.call(bench.remote(1), inside) is None


def test_a_firewall_without_an_address_of_the_family_answers_in_the_name_of_the_host() -> None:
    part = NatPart(
        name="n",
        behaviour=NatBehaviour(unsolicited=Unsolicited.ICMP_ADMIN),
        outside=("198.51.100.1",),
        inside=("10.0.0.1",),
        routes=(("fd00::/64", 1),),
    )
    syn = Bench.segment(("2001:db8::1", 9), ("fd00::2", 80), SYN)
    [(port, answer)] = Nat(part, random.Random(1)).receive(syn, OUTSIDE_PORT, 0.0)
    assert (port, ends(answer)) == (OUTSIDE_PORT, (("fd00::2", 0), ("2001:db8::1", 0)))


# -- hairpins --


def test_a_hairpin_connection_is_two_in_the_table_and_both_ways_pass() -> None:
    bench = Bench(TURNS)
    one, other = (bench.host(0), 5000), (bench.host(1), 6000)
    seen_one = ("198.51.100.1", 5000)
    target = bench.first(other, bench.remote(), host=1)
    assert target is not None
    exchange: list[tuple[int, Packet]] = [
        (0, bench.segment(one, target, SYN, ttl=9)),
        (1, bench.segment(other, seen_one, SYN | ACK, ttl=9)),
        (0, bench.segment(one, target, ACK, ttl=9)),
        (1, bench.segment(other, seen_one, ACK, data=b"bytes", ttl=9)),
        (0, bench.segment(one, target, ACK, data=b"more bytes", ttl=9)),
    ]
    for host, packet in exchange:
        [(port, arrived)] = bench.send(packet, INSIDE_PORT + host)
        assert port == INSIDE_PORT + 1 - host
        assert ends(arrived) == ((target, one) if host else (seen_one, other))
        assert arrived.ttl == 8, "one hop, not two"
    assert states(bench).count("established") == 2


def test_what_a_strict_nat_lets_out_untranslated_does_not_get_out_of_a_hairpin() -> None:
    bench = Bench(replace(TURNS, sequence_check=SequenceCheck.LEAK))
    one, other, seen_one = (bench.host(0), 5000), (bench.host(1), 6000), ("198.51.100.1", 5000)
    target = bench.first(other, bench.remote(), host=1)
    assert target is not None
    assert bench.send(bench.segment(one, target, SYN, sequence=1000), INSIDE_PORT)
    assert bench.send(bench.segment(other, seen_one, SYN), INSIDE_PORT + 1)
    assert bench.send(bench.segment(one, target, SYN | ACK, sequence=4711), INSIDE_PORT) == []


def test_a_hairpin_with_internal_source_is_turned_around_for_every_segment() -> None:
    bench = Bench(NatBehaviour(hairpin=Hairpin.INTERNAL_SOURCE))
    one, other = (bench.host(0), 5000), (bench.host(1), 6000)
    target = bench.first(other, bench.remote(), host=1)
    assert target is not None
    for flags in (SYN, ACK, FIN | ACK):
        [(port, arrived)] = bench.send(bench.segment(one, target, flags, ttl=9), INSIDE_PORT)
        assert port == INSIDE_PORT + 1
        assert (ends(arrived), arrived.ttl) == ((one, other), 8)
    assert len(bench.nat.entries(0)) == 1
    assert bench.send(bench.segment(one, (target[0], 6001), SYN), INSIDE_PORT) == []
    [(port, report)] = bench.send(bench.segment(one, target, ACK, ttl=1), INSIDE_PORT)
    assert (port, report.reason) == (INSIDE_PORT, IcmpReason.TIME_EXCEEDED)


@pytest.mark.parametrize("unsolicited", [Unsolicited.RST, Unsolicited.ICMP_ADMIN, Unsolicited.ICMP_LATE])
def test_a_hairpin_that_is_not_let_in_is_answered_as_if_it_came_from_the_internet(unsolicited: Unsolicited) -> None:
    bench = Bench(NatBehaviour(hairpin=Hairpin.EXTERNAL_SOURCE, unsolicited=unsolicited))
    one, target = (bench.host(), 5000), ("198.51.100.1", 6000)
    emissions = bench.send(bench.segment(one, target, SYN, sequence=1000), INSIDE_PORT)
    bench.wait(6)
    [(port, answer)] = emissions + bench.spontaneous
    assert port == INSIDE_PORT
    assert ends(answer)[1][0] == one[0]
    if unsolicited is Unsolicited.RST:
        assert ends(answer) == (target, one)
        assert answer.acknowledgement == 1001
    else:
        assert answer.quoted is not None
        assert ends(answer.quoted) == (one, target)


def test_the_nats_own_outside_address_is_no_way_in_when_hairpins_are_dropped() -> None:
    for behaviour in (NatBehaviour(), NatBehaviour(mapping=Mapping.NONE, hairpin=Hairpin.EXTERNAL_SOURCE)):
        bench = Bench(behaviour)
        assert bench.send(bench.segment((bench.host(), 5000), ("198.51.100.1", 6000), SYN), INSIDE_PORT) == []
        assert bench.nat.entries(0) == []


# -- payload --


def test_dotted_text_is_rewritten_where_the_addresses_are_equally_long() -> None:
    part = NatPart(
        name="n",
        behaviour=NatBehaviour(rewrites_payload=True),
        outside=("198.51.100.1",),
        inside=("10.0.0.1",),
        routes=(("10.0.0.0/24", 1), ("192.168.10.0/24", 2)),
    )
    nat = Nat(part, random.Random(1))
    for host, port, expected in (("192.168.10.2", 2, b"I am 198.51.100.1 ok"), ("10.0.0.2", 1, b"I am 10.0.0.2 ok")):
        packet = datagram((host, 5000), ("192.0.2.10", 443), data=f"I am {host} ok".encode())
        [(_, out)] = nat.receive(parse(packet.to_bytes()), port, 0.0)
        assert out.payload == expected


# -- the line --


def test_a_new_outside_address_makes_all_connections_void() -> None:
    bench = Bench(LATE)
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.open(inside, remote)
    bench.call(bench.remote(1), outside)
    bench.nat.renumber(("203.0.113.9", "2001:db8:99::2"))
    assert bench.nat.entries(0) == []
    assert bench.nat.wake_at == NEVER
    assert not bench.says(inside, remote, ACK)
    assert not bench.answered(remote, outside, ACK)
    assert bench.first(inside, remote) == ("203.0.113.9", 5000)
    bench.wait(7)
    assert bench.spontaneous == []


def test_a_pool_needs_as_many_addresses_as_it_has() -> None:
    part = NatPart(
        name="n",
        behaviour=NatBehaviour(allocation=Allocation(addresses=2)),
        outside=("198.51.100.1", "2001:db8::1"),
        inside=(),
        routes=(),
    )
    with pytest.raises(ValueError, match="pool of 2"):
        Nat(part, random.Random(1))
    Nat(replace(part, behaviour=replace(part.behaviour, mapping=Mapping.NONE)), random.Random(1))


def test_the_table_shows_every_connection() -> None:
    bench = Bench(NatBehaviour())
    bench.open((bench.host(), 5000), bench.remote())
    bench.wait(40)
    bench.first((bench.host(1), 9), bench.remote(), protocol=UDP, host=1)
    assert bench.nat.entries(bench.now) == [
        NatEntry(
            protocol="TCP",
            inside=("10.0.0.2", 5000),
            outside=("198.51.100.1", 5000),
            remote=("192.0.2.10", 443),
            state="established",
            seconds_left=7400.0,
        ),
        NatEntry(
            protocol="UDP",
            inside=("10.0.0.130", 9),
            outside=("198.51.100.1", 9),
            remote=("192.0.2.10", 443),
            state="datagrams",
            seconds_left=300.0,
        ),
    ]
