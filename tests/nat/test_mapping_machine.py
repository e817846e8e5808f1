"""Asking for one port by PCP and NAT-PMP, as dialogues with the time in the margin."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midair.endpoint import Endpoint
from midair.nat.mapping.dialects import Dialect, NatPmp, Pcp
from midair.nat.mapping.epoch import NAT_PMP_SLACK, PCP_SLACK, Epoch
from midair.nat.mapping.machine import (
    Command,
    Deny,
    Event,
    Finish,
    Hold,
    Lose,
    MappingMachine,
    PortClosed,
    Received,
    Released,
    Send,
    Started,
    State,
    TimePassed,
)
from midair.nat.mapping.outcome import Protocol

NONCE = b"twelve bytes"
US = Endpoint.of("10.1.0.2", 40000)
OUTSIDE = Endpoint.of("203.0.113.1", 40000)


class Play:
    """A machine, what it was told when, and what it ordered since one looked last."""

    def __init__(
        self,
        *,
        internal: Endpoint = US,
        pcp: bool = True,
        nat_pmp: bool = True,
        lifetime: int = 7200,
        recovery_delay: float = 3.0,
    ) -> None:
        dialects: list[Dialect] = [*([Pcp(internal, NONCE)] if pcp else []), *([NatPmp(internal)] if nat_pmp else [])]
        wish = Endpoint(IPv4Address(0) if internal.family == 4 else IPv6Address(0), internal.port)
        self.machine = MappingMachine(dialects, wish=wish, lifetime=lifetime, recovery_delay=recovery_delay)
        self.orders: list[Command] = []
        self.sent: list[tuple[float, bytes]] = []

    def tell(self, event: Event, now: float) -> Sequence[Command]:
        """What it orders at once, without what it sends; that is kept in ``sent``."""
        commands = self.machine.handle(event, now)
        self.sent += [(now, command.data) for command in commands if isinstance(command, Send)]
        rest = [command for command in commands if not isinstance(command, Send)]
        self.orders += rest
        return rest

    def run(self, until: float) -> None:
        """Lets the time pass."""
        while (wake_at := self.machine.wake_at) is not None and wake_at <= until:
            self.tell(TimePassed(), wake_at)

    def taken(self) -> list[tuple[float, str]]:
        """When what was sent, since one looked last."""
        taken, self.sent = [(round(now, 3), name(data)) for now, data in self.sent], []
        return taken


def name(data: bytes) -> str:
    match data[0], data[1]:
        case 2, 1:
            return "PCP MAP" if data[4:8] != bytes(4) else "PCP delete"
        case 0, 0:
            return "PMP address?"
        case 0, 2:
            return "PMP map" if data[8:12] != bytes(4) else "PMP delete"
    return "?"


def pcp_answer(
    *,
    result: int = 0,
    lifetime: int = 7200,
    epoch: int = 1000,
    nonce: bytes = NONCE,
    external: Endpoint = OUTSIDE,
    port: int = 40000,
) -> Received:
    packed = external.address.packed
    if external.family == 4:
        packed = bytes(10) + b"\xff\xff" + packed
    header = bytes((2, 0x81, 0, result)) + struct.pack("!II", lifetime, epoch) + bytes(12)
    return Received(header + nonce + b"\x06\0\0\0" + struct.pack("!HH", port, external.port) + packed)


def pcp_announcement(epoch: int) -> Received:
    return Received(bytes((2, 0x80, 0, 0)) + struct.pack("!II", 0, epoch) + bytes(12))


def pmp_address(address: str = "203.0.113.1", *, epoch: int = 1000) -> Received:
    return Received(struct.pack("!BBHI", 0, 128, 0, epoch) + IPv4Address(address).packed)


def pmp_answer(*, lifetime: int = 7200, epoch: int = 1000, external: int = 40000, internal: int = 40000) -> Received:
    return Received(struct.pack("!BBHIHHI", 0, 130, 0, epoch, internal, external, lifetime))


def pmp_refusal(result: int, *, opcode: int = 130) -> Received:
    return Received(struct.pack("!BBHIHHI", 0, opcode, result, 1000, 40000, 0, 0))


UNSUPPORTED = Received(bytes.fromhex("0080000100000009"))


def held() -> Play:
    """One that holds its mapping by PCP since 0.01."""
    play = Play()
    play.tell(Started(), 0.0)
    play.tell(pcp_answer(), 0.01)
    play.orders.clear()
    play.sent.clear()
    return play


# -- asking --


def test_pcp_is_asked_first_and_its_yes_is_enough() -> None:
    play = Play()
    play.tell(Started(), 0.0)
    assert play.taken() == [(0.0, "PCP MAP")]
    assert play.tell(pcp_answer(lifetime=3600), 0.01) == [Hold(protocol=Protocol.PCP, external=OUTSIDE, lifetime=3600)]
    play.run(1000.0)
    assert play.taken() == []


def test_the_port_wished_for_outside_is_our_own() -> None:
    play = Play(nat_pmp=False)
    play.tell(Started(), 0.0)
    assert play.sent[0][1][42:44] == struct.pack("!H", 40000)


def test_silence_brings_in_nat_pmp_and_then_both_are_asked_ever_more_rarely() -> None:
    play = Play()
    play.tell(Started(), 0.0)
    play.run(4.0)
    both = ["PCP MAP", "PMP address?", "PMP map"]
    assert play.taken() == [
        (0.0, "PCP MAP"),
        (0.1, "PMP address?"),
        (0.1, "PMP map"),
        *((0.35, name) for name in both),
        *((0.85, name) for name in both),
        *((1.85, name) for name in both),
        *((3.85, name) for name in both),
    ]


def test_the_wait_between_two_requests_ends_growing_after_seventeen_minutes() -> None:
    play = Play(nat_pmp=False)
    play.tell(Started(), 0.0)
    play.run(10_000.0)
    times = [now for now, _ in play.taken()]
    assert max(later - earlier for earlier, later in pairwise(times)) == 1024.0


def test_a_router_of_the_older_protocol_is_asked_in_it_at_once() -> None:
    play = Play()
    play.tell(Started(), 0.0)
    (denied,) = play.tell(UNSUPPORTED, 0.002)
    assert isinstance(denied, Deny)
    assert (denied.protocol, denied.denied.other_version) == (Protocol.PCP, True)
    assert play.taken() == [(0.0, "PCP MAP"), (0.002, "PMP address?"), (0.002, "PMP map")]
    assert play.tell(pmp_address(), 0.004) == []
    assert play.tell(pmp_answer(external=40017), 0.006) == [
        Hold(protocol=Protocol.NAT_PMP, external=Endpoint.of("203.0.113.1", 40017), lifetime=7200)
    ]


def test_the_two_halves_of_a_nat_pmp_answer_come_in_any_order() -> None:
    play = Play(pcp=False)
    play.tell(Started(), 0.0)
    assert play.tell(pmp_answer(), 0.004) == []
    assert play.tell(pmp_address(), 0.006) == [Hold(protocol=Protocol.NAT_PMP, external=OUTSIDE, lifetime=7200)]


def test_a_slow_yes_of_pcp_still_counts_after_nat_pmp_was_asked() -> None:
    play = Play()
    play.tell(Started(), 0.0)
    play.run(0.1)
    assert play.tell(pcp_answer(), 0.12) == [Hold(protocol=Protocol.PCP, external=OUTSIDE, lifetime=7200)]
    assert play.tell(pmp_address(), 0.13) == []
    assert play.tell(pmp_answer(external=50000), 0.14) == []


def test_an_ipv6_pinhole_is_asked_for_by_pcp_alone() -> None:
    us = Endpoint.of("2001:db8::2", 40000)
    play = Play(internal=us, nat_pmp=False)
    play.tell(Started(), 0.0)
    assert play.sent[0][1][8:24] == us.address.packed
    assert play.tell(pcp_answer(external=us), 0.01) == [Hold(protocol=Protocol.PCP, external=us, lifetime=7200)]


# -- what is no answer to us --


@pytest.mark.parametrize(
    "stray",
    [
        pcp_answer(nonce=b"another one!"),
        pcp_answer(port=40001),
        pcp_answer(nonce=b"another one!", result=2),
        Received(b""),
        Received(bytes.fromhex("02810001") + bytes(20)),  # PCP's answer to a request of another version: NAT-PMP's
        pcp_announcement(5),
    ],
)
def test_an_answer_without_our_nonce_and_port_is_passed_over(stray: Received) -> None:
    play = Play()
    play.tell(Started(), 0.0)
    assert play.tell(stray, 0.01) == []
    assert play.machine.state is State.ASKING


def test_a_nat_pmp_answer_for_another_port_is_passed_over() -> None:
    play = Play(pcp=False)
    play.tell(Started(), 0.0)
    play.tell(pmp_address(), 0.01)
    assert play.tell(pmp_answer(internal=40001), 0.02) == []
    refusal = Received(struct.pack("!BBHIHHI", 0, 130, 2, 1000, 40001, 0, 0))
    assert play.tell(refusal, 0.03) == []


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.1", "127.0.0.1", "255.255.255.255"])
def test_a_mapping_at_an_impossible_address_is_broken(address: str) -> None:
    play = Play(nat_pmp=False)
    play.tell(Started(), 0.0)
    (denied,) = play.tell(pcp_answer(external=Endpoint.of(address, 40000)), 0.01)
    assert isinstance(denied, Deny)
    assert denied.denied.broken
    play = Play(pcp=False)
    play.tell(Started(), 0.0)
    play.tell(pmp_address(address), 0.01)
    (denied,) = play.tell(pmp_answer(), 0.01)
    assert isinstance(denied, Deny)
    assert denied.denied.broken


def test_a_mapping_without_a_port_or_for_no_time_is_broken() -> None:
    for answer in (pcp_answer(external=Endpoint.of("203.0.113.1", 0)), pcp_answer(lifetime=0)):
        play = Play(nat_pmp=False)
        play.tell(Started(), 0.0)
        (denied,) = play.tell(answer, 0.01)
        assert isinstance(denied, Deny)
        assert denied.denied.broken
        assert play.machine.state is State.DENIED


@given(st.lists(st.tuples(st.binary(max_size=80), st.floats(0, 100)), max_size=20))
def test_no_datagrams_make_the_machine_hold_a_mapping_or_stumble(datagrams: list[tuple[bytes, float]]) -> None:
    play = Play()
    play.tell(Started(), 0.0)
    now = 0.0
    for data, later in datagrams:
        now += later
        play.run(now)
        play.tell(Received(data), now)
        for start in (bytes.fromhex("0281000000001c2000000001") + bytes(12), bytes.fromhex("0280")):
            play.tell(Received(start + data), now)
    assert not any(isinstance(order, Hold) for order in play.orders)


# -- refusals --


def test_a_refusal_by_pcp_ends_it_because_nat_pmp_is_the_same_router() -> None:
    play = Play()
    play.tell(Started(), 0.0)
    (denied,) = play.tell(pcp_answer(result=2), 0.01)
    assert isinstance(denied, Deny)
    assert (denied.denied.code, denied.denied.text, denied.denied.double_nat) == (2, "NOT_AUTHORIZED", False)
    assert play.machine.state is State.DENIED
    play.run(1000.0)
    assert play.taken() == [(0.0, "PCP MAP")]


def test_an_address_mismatch_means_another_nat_on_the_way() -> None:
    play = Play()
    play.tell(Started(), 0.0)
    (denied,) = play.tell(pcp_answer(result=12), 0.01)
    assert isinstance(denied, Deny)
    assert denied.denied.double_nat


@pytest.mark.parametrize(
    "refusal", [pmp_refusal(3), pmp_refusal(3, opcode=128), Received(bytes.fromhex("0282000100000009"))]
)
def test_a_refusal_of_either_half_ends_nat_pmp(refusal: Received) -> None:
    play = Play(pcp=False)
    play.tell(Started(), 0.0)
    assert [type(order) for order in play.tell(refusal, 0.01)] == [Deny]
    assert play.machine.state is State.DENIED


def test_a_refusal_by_nat_pmp_leaves_pcp_the_time_to_answer() -> None:
    play = Play()
    play.tell(Started(), 0.0)
    play.run(0.1)
    assert [type(order) for order in play.tell(pmp_refusal(2), 0.11)] == [Deny]
    assert play.tell(pcp_answer(), 0.15) == [Hold(protocol=Protocol.PCP, external=OUTSIDE, lifetime=7200)]


def test_a_closed_port_says_that_neither_is_spoken() -> None:
    play = Play()
    play.tell(Started(), 0.0)
    denials = play.tell(PortClosed(), 0.001)
    assert [denied.protocol for denied in denials if isinstance(denied, Deny)] == [Protocol.PCP, Protocol.NAT_PMP]
    assert play.machine.state is State.DENIED
    play.run(1000.0)
    assert play.taken() == [(0.0, "PCP MAP")]


# -- keeping --


def test_a_mapping_is_renewed_at_half_its_life_as_the_one_it_is() -> None:
    play = Play(nat_pmp=False)
    play.tell(Started(), 0.0)
    play.tell(pcp_answer(lifetime=3600, external=Endpoint.of("203.0.113.1", 50123)), 10.0)
    play.sent.clear()
    play.run(1809.9)
    assert play.sent == []
    play.run(1810.0)
    ((now, request),) = play.sent
    assert now == 1810.0
    assert request[24:36] == NONCE
    assert request[42:44] == struct.pack("!H", 50123)
    assert request[-4:] == OUTSIDE.address.packed
    assert play.tell(pcp_answer(lifetime=3600, epoch=2800, external=Endpoint.of("203.0.113.1", 50123)), 1810.1) == []
    play.sent.clear()
    play.run(3610.1)
    assert play.taken() == [(3610.1, "PCP MAP")]


def test_a_mapping_by_nat_pmp_is_renewed_by_nat_pmp() -> None:
    play = Play()
    play.tell(Started(), 0.0)
    play.tell(UNSUPPORTED, 0.0)
    play.tell(pmp_address(), 0.0)
    play.tell(pmp_answer(lifetime=100), 0.0)
    play.sent.clear()
    play.run(50.0)
    assert play.taken() == [(50.0, "PMP address?"), (50.0, "PMP map")]
    assert play.tell(pmp_address(epoch=1050), 50.0) == []
    assert play.tell(pmp_answer(lifetime=100, epoch=1050), 50.0) == []
    assert play.machine.state is State.HELD


def test_no_life_is_so_short_that_the_router_is_asked_more_often_than_every_four_seconds() -> None:
    play = Play(nat_pmp=False)
    play.tell(Started(), 0.0)
    now = 0.0
    for _ in range(5):
        play.tell(pcp_answer(lifetime=1), now)
        assert play.machine.wake_at == now + 4.0
        now += 4.0
        play.run(now)


def test_no_life_is_believed_that_is_longer_than_a_day() -> None:
    play = Play(nat_pmp=False)
    play.tell(Started(), 0.0)
    assert play.tell(pcp_answer(lifetime=2**32 - 1), 0.0) == [
        Hold(protocol=Protocol.PCP, external=OUTSIDE, lifetime=86_400)
    ]
    assert play.machine.wake_at == 43_200.0


def test_an_unanswered_renewal_is_repeated_and_the_mapping_is_lost_when_its_time_is_over() -> None:
    play = held()
    play.run(3600.0)
    assert play.taken() == []
    play.run(7199.0)
    repeats = play.taken()
    assert (len(repeats), repeats[:3]) == (15, [(3600.01, "PCP MAP"), (3600.26, "PCP MAP"), (3600.76, "PCP MAP")])
    assert play.orders == []
    play.run(8000.0)
    assert play.orders == [Lose()]
    assert play.machine.state is State.ASKING
    assert play.tell(pcp_answer(), 8000.0) == [Hold(protocol=Protocol.PCP, external=OUTSIDE, lifetime=7200)]


def test_a_refused_renewal_leaves_the_mapping_for_the_time_it_was_given() -> None:
    play = held()
    play.run(3601.0)
    assert play.tell(pcp_answer(result=8), 3601.0) == []
    assert play.machine.state is State.RENEWING
    play.run(9000.0)
    assert play.orders == [Lose()]
    assert [type(order) for order in play.tell(pcp_answer(result=8), 9000.0)] == [Deny]


def test_a_late_yes_of_the_other_protocol_does_not_take_a_renewal_over() -> None:
    play = Play()
    play.tell(Started(), 0.0)
    play.run(0.1)
    play.tell(pcp_answer(), 0.12)
    play.run(3601.0)
    assert play.machine.state is State.RENEWING
    assert play.tell(pmp_address(), 3601.0) == []
    assert play.tell(pmp_answer(external=50000), 3601.0) == []
    assert play.machine.state is State.RENEWING


def test_another_address_in_a_renewal_is_told() -> None:
    play = held()
    play.run(3600.02)
    elsewhere = Endpoint.of("203.0.113.9", 40000)
    assert play.tell(pcp_answer(external=elsewhere, epoch=4600), 3600.03) == [
        Hold(protocol=Protocol.PCP, external=elsewhere, lifetime=7200)
    ]


def test_a_closed_port_while_the_router_starts_anew_is_no_refusal() -> None:
    play = held()
    play.run(3600.02)
    assert play.tell(PortClosed(), 3600.03) == []
    assert play.machine.state is State.RENEWING


# -- a router that has lost its mappings --


def test_an_announcement_with_a_young_epoch_has_the_mapping_made_again_after_the_delay() -> None:
    play = held()
    play.run(100.0)
    assert play.tell(pcp_announcement(0), 100.0) == []
    play.run(102.9)
    assert play.taken() == []
    play.run(103.0)
    assert play.taken() == [(103.0, "PCP MAP")]


def test_an_announcement_with_the_epoch_one_expects_changes_nothing() -> None:
    play = held()
    play.tell(pcp_announcement(1100), 100.0)
    play.run(200.0)
    assert play.taken() == []


def test_announcements_do_not_make_us_ask_more_often_than_every_four_seconds() -> None:
    play = Play(recovery_delay=0.0)
    play.tell(Started(), 0.0)
    play.tell(pcp_answer(), 0.01)
    for now in range(1, 200):
        play.tell(pcp_announcement(now % 2 * 500), float(now))
        play.run(float(now))
        play.tell(pcp_answer(epoch=0), float(now))
    times = [now for now, _ in play.taken()]
    assert len(times) > 10
    assert min(later - earlier for earlier, later in pairwise(times)) >= 4.0


@pytest.mark.parametrize("announcement", [pmp_address("203.0.113.9", epoch=1100), pmp_address(epoch=0)])
def test_nat_pmp_tells_by_its_address_that_something_has_changed(announcement: Received) -> None:
    play = Play(pcp=False)
    play.tell(Started(), 0.0)
    play.tell(pmp_address(), 0.0)
    play.tell(pmp_answer(), 0.0)
    play.sent.clear()
    play.tell(announcement, 100.0)
    play.run(103.0)
    assert play.taken() == [(103.0, "PMP address?"), (103.0, "PMP map")]


@pytest.mark.parametrize(
    ("readings", "lost"),
    [
        ([(100, 0.0), (200, 100.0)], False),
        ([(100, 0.0), (100, 1.0)], False),
        ([(100, 0.0), (99, 0.5)], False),  # one second of rounding
        ([(100, 0.0), (98, 0.0)], True),
        ([(100, 0.0), (50, 1000.0)], True),
        ([(100, 0.0), (1036, 1000.0)], False),  # 1/16 slow
        ([(100, 0.0), (1000, 1000.0)], True),
        ([(100, 0.0), (1160, 1000.0)], False),
        ([(100, 0.0), (1200, 1000.0)], True),  # it ran on while we slept
    ],
)
def test_an_epoch_that_does_not_keep_step_means_lost_mappings(readings: list[tuple[int, float]], lost: bool) -> None:
    epoch = Epoch(PCP_SLACK)
    (first, then) = readings
    assert not epoch.lost(*first)
    assert epoch.lost(*then) is lost


def test_nat_pmp_has_more_patience_with_a_slow_clock() -> None:
    for slack, lost in ((PCP_SLACK, True), (NAT_PMP_SLACK, False)):
        epoch = Epoch(slack)
        epoch.lost(100, 0.0)
        assert epoch.lost(1000, 1000.0) is lost


# -- the end --


def test_a_mapping_is_deleted_with_its_nonce_and_without_a_wish() -> None:
    play = held()
    assert play.tell(Released(), 5.0) == []
    ((_, request),) = play.sent
    assert request[4:8] == bytes(4)
    assert request[24:36] == NONCE
    assert request[42:] == bytes.fromhex("0000 00000000000000000000ffff00000000")
    assert play.tell(pcp_answer(lifetime=0, external=Endpoint.of("0.0.0.0", 0)), 5.01) == [Finish()]
    assert play.machine.wake_at is None


def test_deleting_by_nat_pmp_is_one_request() -> None:
    play = Play(pcp=False)
    play.tell(Started(), 0.0)
    play.tell(pmp_address(), 0.0)
    play.tell(pmp_answer(), 0.0)
    play.sent.clear()
    play.tell(Released(), 1.0)
    assert [data for _, data in play.sent] == [bytes.fromhex("00 02 0000 9c40 0000 00000000")]
    assert play.tell(pmp_answer(lifetime=0, external=0), 1.01) == [Finish()]


def test_an_unanswered_deletion_is_repeated() -> None:
    play = held()
    play.tell(Released(), 5.0)
    play.run(7.0)
    assert play.taken() == [(5.0, "PCP delete"), (5.25, "PCP delete"), (5.75, "PCP delete"), (6.75, "PCP delete")]


def test_all_that_was_asked_for_is_deleted_even_what_was_not_answered() -> None:
    play = Play()
    play.tell(Started(), 0.0)
    play.run(0.1)
    play.tell(pcp_answer(), 0.12)
    play.sent.clear()
    play.tell(Released(), 1.0)
    assert play.taken() == [(1.0, "PCP delete"), (1.0, "PMP delete")]
    play.run(1.3)
    assert play.taken() == [(1.25, "PCP delete")]
    assert play.tell(pcp_answer(lifetime=0), 1.31) == [Finish()]


def test_both_are_waited_for_when_both_have_spoken() -> None:
    play = Play()
    play.tell(Started(), 0.0)
    play.run(0.1)
    play.tell(pmp_address(), 0.11)
    play.tell(pcp_answer(), 0.12)
    play.tell(Released(), 1.0)
    assert play.tell(pcp_answer(lifetime=0), 1.01) == []
    assert play.tell(pmp_answer(lifetime=0), 1.02) == [Finish()]


def test_a_slow_router_is_waited_for_when_it_comes_to_the_other_protocol_only_now() -> None:
    """So does miniupnpd: its mapping by NAT-PMP replaces that by PCP, which then is not PCP's to delete."""
    play = Play()
    play.tell(Started(), 0.0)
    play.run(0.1)
    play.tell(pcp_answer(), 0.12)
    play.tell(Released(), 0.13)
    assert play.tell(pmp_address(), 0.14) == []
    assert play.tell(pmp_answer(), 0.15) == []
    assert play.tell(pcp_answer(result=2), 0.16) == []
    play.sent.clear()
    play.run(0.4)
    assert play.taken() == [(0.38, "PMP delete")]
    assert play.tell(pmp_answer(lifetime=0), 0.41) == [Finish()]


def test_a_refused_deletion_is_the_end_too() -> None:
    play = held()
    play.tell(Released(), 5.0)
    assert play.tell(pcp_answer(result=2), 5.01) == [Finish()]


def test_a_router_that_never_said_a_word_is_not_waited_for() -> None:
    play = Play()
    play.tell(Started(), 0.0)
    play.run(0.25)
    play.sent.clear()
    assert play.tell(Released(), 0.25) == [Finish()]
    assert play.taken() == [(0.25, "PCP delete"), (0.25, "PMP delete")]


def test_after_a_refusal_there_is_nothing_to_delete() -> None:
    play = Play()
    play.tell(Started(), 0.0)
    play.tell(pcp_answer(result=2), 0.01)
    play.sent.clear()
    assert play.tell(Released(), 1.0) == [Finish()]
    assert play.sent == []


def test_a_closed_port_ends_the_wait_for_a_deletion() -> None:
    play = held()
    play.tell(Released(), 5.0)
    assert play.tell(PortClosed(), 5.001) == [Finish()]


def test_the_end_comes_once() -> None:
    play = held()
    play.tell(Released(), 5.0)
    assert play.tell(Released(), 5.001) == []
    play.tell(pcp_answer(lifetime=0), 5.01)
    for late in (Released(), pcp_answer(), PortClosed(), TimePassed()):
        assert play.tell(late, 6.0) == []
    assert play.taken() == [(5.0, "PCP delete")]
