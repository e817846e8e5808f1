"""The network of a blueprint, without anything real: who gets which packet when."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from midair.lab.behaviour import LinkBehaviour, NatBehaviour
from midair.lab.blueprint import Blueprint, Cable, HostPart, NatPart, RouterPart
from midair.lab.nat import Nat
from midair.lab.network import Direction, Network, Part
from midair.lab.node import NEVER, Emission, Node
from midair.lab.packet import (
    ACK,
    ICMP,
    SYN,
    UDP,
    IcmpReason,
    Packet,
    address_bytes,
    address_text,
    parse,
    tcp_packet,
)
from midair.lab.router import Router, RoutingTable

A, B, ROUTER = map(address_bytes, ("198.51.100.2", "203.0.113.2", "192.0.2.1"))
A6, B6, ROUTER6 = map(address_bytes, ("2001:db8:a::2", "2001:db8:b::2", "2001:db8::1"))
DELAY = LinkBehaviour(delay=0.025)


def two_hosts(there: LinkBehaviour | None = None, back: LinkBehaviour | None = None) -> Blueprint:
    """a, a router, b. The link of b has the given behaviours, ``there`` away from b."""
    return Blueprint(
        routers=(
            RouterPart(
                name="core",
                addresses=("192.0.2.1", "2001:db8::1"),
                routes=(("198.51.100.0/24", 0), ("203.0.113.0/24", 1), ("2001:db8:a::/48", 0), ("2001:db8:b::/48", 1)),
            ),
        ),
        hosts=(HostPart(name="a", interfaces=()), HostPart(name="b", interfaces=())),
        cables=(
            Cable(node="a", port=0, other_node="core", other_port=0),
            Cable(
                node="b",
                port=0,
                other_node="core",
                other_port=1,
                there=there or LinkBehaviour(),
                back=back or LinkBehaviour(),
            ),
        ),
    )


class Mailbox:
    """What was delivered."""

    def __init__(self) -> None:
        self.letters: list[tuple[str, Packet, float]] = []

    def __call__(self, node: str, port: int, packet: Packet, now: float) -> None:
        assert port == 0
        self.letters.append((node, packet, now))

    @property
    def only(self) -> tuple[str, Packet, float]:
        [letter] = self.letters
        return letter


def network_of(blueprint: Blueprint) -> tuple[Network, Mailbox]:
    random = Random(1)

    def make(part: Part) -> Node | None:
        if isinstance(part, RouterPart):
            return Router(part)
        return Nat(part, random) if isinstance(part, NatPart) else None

    network, mailbox = Network(blueprint, make, random), Mailbox()
    network.deliver = mailbox
    return network, mailbox


def segment(source: bytes = A, destination: bytes = B, *, ttl: int = 64, size: int = 0, raw: bool = False) -> Packet:
    packet = tcp_packet(source, 4000, destination, 5000, ACK, ttl=ttl, data=bytes(size))
    return parse(packet.to_bytes()) if raw else packet


# -- delivery and time --


@pytest.mark.parametrize("raw", [False, True], ids=["made here", "from a kernel"])
@pytest.mark.parametrize(("source", "destination"), [(A, B), (A6, B6)], ids=["IPv4", "IPv6"])
def test_a_packet_crosses_links_without_delay_at_once_and_loses_one_hop_at_the_router(
    source: bytes, destination: bytes, raw: bool
) -> None:
    network, mailbox = network_of(two_hosts())
    network.inject("a", 0, segment(source, destination, raw=raw), 3.0)
    node, packet, when = mailbox.only
    assert (node, packet.source, packet.destination, packet.ttl, when) == ("b", source, destination, 63, 3.0)
    assert parse(bytearray(packet.to_bytes())).ttl == 63
    assert network.wake_at == NEVER


def test_a_delayed_packet_arrives_when_it_is_due_even_if_the_driver_is_late() -> None:
    network, mailbox = network_of(two_hosts(back=DELAY))
    network.inject("a", 0, segment(), 1.0)
    assert network.wake_at == 1.025
    network.run_until(1.02)
    assert not mailbox.letters
    network.run_until(1.9)
    assert mailbox.only[2] == 1.025


def test_delays_add_up_without_the_lateness_of_the_driver() -> None:
    blueprint = two_hosts(there=DELAY)
    slow_a = Cable(node="a", port=0, other_node="core", other_port=0, back=DELAY)
    network, mailbox = network_of(
        Blueprint(routers=blueprint.routers, hosts=blueprint.hosts, cables=(slow_a, blueprint.cables[1]))
    )
    network.inject("b", 0, segment(B, A), 1.0)
    network.run_until(1.5)
    assert mailbox.only[2] == pytest.approx(1.05)


def test_packets_arrive_in_the_order_of_their_times_whatever_the_link() -> None:
    network, mailbox = network_of(two_hosts(there=DELAY, back=LinkBehaviour(delay=0.01)))
    network.inject("b", 0, segment(B, A), 0.0)
    network.inject("a", 0, segment(), 0.02)
    network.run_until(1.0)
    assert [(node, round(when, 3)) for node, _, when in mailbox.letters] == [("a", 0.025), ("b", 0.03)]


def test_what_arrives_at_one_instant_arrives_in_the_order_in_which_it_was_sent() -> None:
    network, mailbox = network_of(two_hosts(back=DELAY))
    for size in range(20):
        network.inject("a", 0, segment(size=size), 0.0)
    network.run_until(1.0)
    assert [len(packet.data) for _, packet, _ in mailbox.letters] == list(range(20))


@pytest.mark.parametrize("raw", [False, True], ids=["made here", "from a kernel"])
def test_syns_count_although_the_link_did_nothing_when_they_passed(raw: bool) -> None:
    network, mailbox = network_of(two_hosts())
    syn = tcp_packet(A, 4000, B, 5000, SYN)
    network.inject("a", 0, parse(syn.to_bytes()) if raw else syn, 0.0)
    network.set_link(("a", 0), there=LinkBehaviour(lose_syns=(2,)))
    for now in (1.0, 2.0):
        network.inject("a", 0, tcp_packet(A, 4000, B, 5000, SYN), now)
    assert [when for _, _, when in mailbox.letters] == [0.0, 2.0]


# -- what a router answers --


@pytest.mark.parametrize(("source", "destination", "own"), [(A, B, ROUTER), (A6, B6, ROUTER6)], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("raw", [False, True], ids=["made here", "from a kernel"])
def test_the_last_hop_at_a_router_is_answered_by_time_exceeded(
    source: bytes, destination: bytes, own: bytes, raw: bool
) -> None:
    network, mailbox = network_of(two_hosts())
    network.inject("a", 0, segment(source, destination, ttl=1, raw=raw), 0.0)
    node, answer, _ = mailbox.only
    assert (node, answer.source, answer.destination, answer.reason) == ("a", own, source, IcmpReason.TIME_EXCEEDED)
    assert answer.quoted is not None
    assert (answer.quoted.destination, answer.quoted.destination_port) == (destination, 5000)


def test_what_has_no_route_is_answered_by_network_unreachable() -> None:
    network, mailbox = network_of(two_hosts())
    network.inject("a", 0, segment(A, address_bytes("10.9.9.9")), 0.0)
    assert mailbox.only[0] == "a"
    assert mailbox.only[1].reason is IcmpReason.NET_UNREACHABLE


def test_no_icmp_error_is_answered_by_another() -> None:
    network, mailbox = network_of(two_hosts())
    network.inject("a", 0, segment(ttl=1), 0.0)
    error = mailbox.letters.pop()[1]
    error.destination, error.ttl = B, 1
    network.inject("a", 0, error, 0.0)
    assert not mailbox.letters


def test_a_router_answers_an_echo_request_with_its_number_and_payload() -> None:
    network, mailbox = network_of(two_hosts())
    request = Packet(4, A, ROUTER, ICMP, source_port=77)
    request.sequence, request.data = 5, b"are you there?"
    network.inject("a", 0, parse(request.to_bytes()), 0.0)
    node, reply, _ = mailbox.only
    assert (node, reply.source, reply.destination_port, reply.sequence) == ("a", ROUTER, 77, 5)
    assert reply.payload == b"are you there?"


def test_a_router_has_no_open_ports() -> None:
    network, mailbox = network_of(two_hosts())
    network.inject("a", 0, Packet(4, A, ROUTER, UDP, source_port=1, destination_port=2), 0.0)
    assert mailbox.only[1].reason is IcmpReason.PORT_UNREACHABLE


@pytest.mark.parametrize("group", ["224.0.0.22", "255.255.255.255", "ff02::2"])
def test_what_is_sent_to_many_goes_nowhere_and_is_not_answered(group: str) -> None:
    network, mailbox = network_of(two_hosts())
    source = A6 if ":" in group else A
    network.inject("a", 0, segment(source, address_bytes(group)), 0.0)
    assert not mailbox.letters


def test_the_longest_prefix_counts_whatever_the_order_of_routes() -> None:
    routes = RoutingTable([("0.0.0.0/0", 0), ("10.1.0.0/16", 1), ("10.1.2.0/24", 2), ("10.1.2.3/32", 3), ("::/0", 4)])
    found = {
        text: routes.port_towards(address_bytes(text))
        for text in ("10.1.2.3", "10.1.2.4", "10.1.3.1", "10.2.0.1", "2001:db8::1")
    }
    assert found == {"10.1.2.3": 3, "10.1.2.4": 2, "10.1.3.1": 1, "10.2.0.1": 0, "2001:db8::1": 4}
    assert RoutingTable([("10.0.0.0/8", 1)]).port_towards(A6) is None


def test_a_router_remembers_no_wrong_way_for_more_destinations_than_it_can_remember() -> None:
    router = Router(RouterPart(name="r", addresses=("192.0.2.1",), routes=(("10.0.0.0/9", 1), ("10.128.0.0/9", 2))))
    for number in [*range(0, 1 << 24, 1 << 11), 0, 1 << 23]:
        destination = (10 << 24 | number).to_bytes(4, "big")
        [(port, _)] = router.receive(segment(A, destination), 0, 0.0)
        assert port == (2 if number >> 23 else 1), address_text(destination)


# -- MTU --


@pytest.mark.parametrize(("source", "destination"), [(A, B), (A6, B6)], ids=["IPv4", "IPv6"])
def test_what_is_larger_than_the_next_link_is_answered_with_its_mtu(source: bytes, destination: bytes) -> None:
    network, mailbox = network_of(two_hosts(back=LinkBehaviour(mtu=1300)))
    network.inject("a", 0, segment(source, destination, size=1400), 0.0)
    node, answer, _ = mailbox.only
    assert (node, answer.reason, answer.mtu) == ("a", IcmpReason.TOO_BIG, 1300)
    assert answer.source == (ROUTER if source == A else ROUTER6)
    mailbox.letters.clear()
    network.inject("a", 0, segment(source, destination, size=1200), 0.0)
    assert mailbox.only[0] == "b"


def test_a_packet_of_exactly_the_mtu_passes() -> None:
    network, mailbox = network_of(two_hosts(back=LinkBehaviour(mtu=1300)))
    network.inject("a", 0, segment(size=1260, raw=True), 0.0)
    assert mailbox.only[0] == "b"
    network.inject("a", 0, segment(size=1261, raw=True), 0.0)
    assert mailbox.letters[1][0] == "a"


def test_a_large_packet_that_may_be_fragmented_is_lost() -> None:
    network, mailbox = network_of(two_hosts(back=LinkBehaviour(mtu=1300)))
    packet = segment(size=1400, raw=True)
    assert packet.raw is not None
    packet.raw[6] &= ~0x40
    network.inject("a", 0, packet, 0.0)
    assert not mailbox.letters


def test_a_host_that_sends_more_than_its_own_link_takes_is_told_so() -> None:
    network, mailbox = network_of(two_hosts(there=LinkBehaviour(mtu=1300)))
    network.inject("b", 0, segment(B, A, size=1400), 0.0)
    node, answer, _ = mailbox.only
    assert (node, answer.reason, answer.source) == ("b", IcmpReason.TOO_BIG, ROUTER)


def test_a_large_segment_left_whole_by_a_kernel_counts_by_its_pieces() -> None:
    network, mailbox = network_of(two_hosts())
    packet = segment(size=60000, raw=True)
    packet.offload = bytes.fromhex("0101 4200") + (1448).to_bytes(2, "little") + bytes(4)
    network.inject("a", 0, packet, 0.0)
    assert mailbox.letters.pop()[0] == "b"
    network.set_link(("b", 0), back=LinkBehaviour(mtu=1300))
    network.inject("a", 0, segment(size=60000, raw=True), 0.0)
    assert mailbox.only[1].reason is IcmpReason.TOO_BIG


def behind_a_nat() -> Blueprint:
    """a, a NAT with a narrow line outside, b."""
    nat = NatPart(
        name="nat",
        behaviour=NatBehaviour(),
        outside=("198.51.100.2",),
        inside=("10.1.0.1",),
        routes=(("10.1.0.0/24", 1),),
    )
    return Blueprint(
        nats=(nat,),
        hosts=(HostPart(name="a", interfaces=()), HostPart(name="b", interfaces=())),
        cables=(
            Cable(node="a", port=0, other_node="nat", other_port=1),
            Cable(node="nat", port=0, other_node="b", other_port=0, there=LinkBehaviour(mtu=1300)),
        ),
    )


def test_the_answer_to_what_is_too_big_comes_back_through_the_nat_in_words_of_the_host_inside() -> None:
    network, mailbox = network_of(behind_a_nat())
    inside = address_bytes("10.1.0.2")
    network.inject("a", 0, tcp_packet(inside, 4000, B, 5000, SYN), 0.0)
    network.inject("b", 0, tcp_packet(B, 5000, A, 4000, SYN | ACK), 0.0)
    mailbox.letters.clear()
    network.inject("a", 0, tcp_packet(inside, 4000, B, 5000, ACK, data=bytes(1400)), 0.0)
    node, answer, _ = mailbox.only
    assert (node, answer.reason, answer.mtu, answer.destination) == ("a", IcmpReason.TOO_BIG, 1300, inside)
    assert answer.quoted is not None
    assert (answer.quoted.source, answer.quoted.source_port) == (inside, 4000)


# -- changing --


def test_a_link_can_be_cut_in_one_direction_while_running() -> None:
    network, mailbox = network_of(two_hosts())
    network.set_link(("core", 1), there=LinkBehaviour(up=False))
    network.inject("a", 0, segment(), 0.0)
    assert not mailbox.letters
    network.inject("b", 0, segment(B, A), 0.0)
    assert mailbox.only[0] == "a"


def test_a_cable_is_named_by_its_number_or_by_either_end() -> None:
    network, mailbox = network_of(two_hosts())
    cut, whole = LinkBehaviour(up=False), LinkBehaviour()
    for where, to_b in ((1, {"back": cut}), (("b", 0), {"back": cut}), (("core", 1), {"there": cut})):
        network.set_link(1, there=whole, back=whole)
        network.set_link(where, **to_b)
        network.inject("a", 0, segment(), 0.0)
        assert not mailbox.letters, where
        network.inject("b", 0, segment(B, A), 0.0)
        assert mailbox.letters.pop()[0] == "a", where


def test_what_is_under_way_arrives_although_the_link_is_cut() -> None:
    network, mailbox = network_of(two_hosts(back=DELAY))
    network.inject("a", 0, segment(), 0.0)
    network.set_link(("b", 0), there=LinkBehaviour(up=False), back=LinkBehaviour(up=False))
    network.run_until(1.0)
    assert mailbox.only[0] == "b"


def test_a_replaced_router_has_its_new_routes_at_once() -> None:
    network, mailbox = network_of(two_hosts())
    moved = address_bytes("100.64.0.9")
    network.inject("a", 0, segment(A, moved), 0.0)
    assert mailbox.letters.pop()[1].reason is IcmpReason.NET_UNREACHABLE
    network.replace(RouterPart(name="core", addresses=("192.0.2.1",), routes=(("100.64.0.0/16", 1),)))
    network.inject("a", 0, segment(A, moved), 0.0)
    assert mailbox.only[0] == "b"


@pytest.mark.parametrize(
    ("where", "complaint"),
    [
        (7, "no cable 7"),
        (-1, "no cable -1"),
        (("a", 3), "no cable is plugged into port 3 of a"),
        (("nobody", 0), "port 0 of nobody"),
    ],
)
def test_a_link_that_does_not_exist_cannot_be_changed(where: int | tuple[str, int], complaint: str) -> None:
    network, _ = network_of(two_hosts())
    with pytest.raises(LookupError, match=complaint):
        network.set_link(where, there=LinkBehaviour())


@pytest.mark.parametrize(
    ("cable", "complaint"),
    [
        (Cable(node="a", port=1, other_node="nobody", other_port=0), "nobody, which does not exist"),
        (Cable(node="a", port=0, other_node="b", other_port=1), "port 0 of a has two cables"),
    ],
)
def test_a_blueprint_that_cannot_be_is_refused(cable: Cable, complaint: str) -> None:
    blueprint = two_hosts()
    with pytest.raises(ValueError, match=complaint):
        network_of(Blueprint(routers=blueprint.routers, hosts=blueprint.hosts, cables=(*blueprint.cables, cable)))


# -- nodes with a will of their own --


class Clock:
    """Sends a packet at each of its times, and two at once for each packet it gets."""

    def __init__(self, times: Sequence[float]) -> None:
        self.times = list(times)

    @property
    def wake_at(self) -> float:
        return self.times[0] if self.times else NEVER

    def tick(self, now: float) -> Sequence[Emission]:
        assert now == self.times.pop(0)
        return [(0, segment())]

    def receive(self, packet: Packet, port: int, now: float) -> Sequence[Emission]:
        return [(0, segment(size=1)), (0, segment(size=2))]


def clock_and_host(times: Sequence[float], to_clock: LinkBehaviour | None = None) -> tuple[Network, Mailbox, Clock]:
    clock, mailbox = Clock(times), Mailbox()
    blueprint = Blueprint(
        hosts=(HostPart(name="clock", interfaces=()), HostPart(name="b", interfaces=())),
        cables=(Cable(node="clock", port=0, other_node="b", other_port=0, back=to_clock or LinkBehaviour()),),
    )
    network = Network(blueprint, lambda part: clock if part.name == "clock" else None, Random(1))
    network.deliver = mailbox
    network.reschedule("clock")
    return network, mailbox, clock


def test_a_node_has_its_tick_at_each_of_its_times() -> None:
    network, mailbox, _ = clock_and_host([1.0, 2.0, 2.0, 3.5])
    assert network.wake_at == 1.0
    network.run_until(2.5)
    assert [when for _, _, when in mailbox.letters] == [1.0, 2.0, 2.0]
    assert network.wake_at == 3.5


def test_a_node_that_changed_its_mind_has_its_tick_at_the_new_time_and_only_then() -> None:
    network, mailbox, clock = clock_and_host([5.0])
    clock.times = [2.0]
    network.reschedule("clock")
    network.run_until(10.0)
    assert [when for _, _, when in mailbox.letters] == [2.0]
    clock.times = [20.0]
    network.reschedule("clock")
    clock.times = [30.0]
    network.run_until(25.0)
    assert len(mailbox.letters) == 1
    network.run_until(30.0)
    assert len(mailbox.letters) == 2


@pytest.mark.parametrize("delay", [0.0, 0.1])
def test_a_time_that_a_packet_made_nearer_is_kept(delay: float) -> None:
    network, mailbox, clock = clock_and_host([5.0], LinkBehaviour(delay=delay))
    clock.times = [1.0]
    network.inject("b", 0, segment(B, A), 0.5)
    network.run_until(2.0)
    assert mailbox.letters[-1][2] == 1.0


def test_several_answers_to_one_packet_arrive_in_their_order() -> None:
    network, mailbox, _ = clock_and_host([])
    network.inject("b", 0, segment(B, A), 0.5)
    assert [len(packet.data) for _, packet, _ in mailbox.letters] == [1, 2]


# -- being observed --


def test_an_observer_sees_each_packet_leave_and_arrive_as_it_was_there() -> None:
    network, _ = network_of(two_hosts(back=DELAY))
    seen: list[tuple[str, int, int, float, Direction]] = []
    network.observer = lambda node, port, packet, now, way: seen.append((node, port, packet.ttl, now, way))
    network.inject("a", 0, segment(raw=True), 1.0)
    network.run_until(2.0)
    assert seen == [
        ("a", 0, 64, 1.0, Direction.SENT),
        ("core", 0, 64, 1.0, Direction.RECEIVED),
        ("core", 1, 63, 1.0, Direction.SENT),
        ("b", 0, 63, 1.025, Direction.RECEIVED),
    ]


def test_what_a_link_loses_is_seen_to_leave_and_not_to_arrive() -> None:
    network, _ = network_of(two_hosts())
    network.set_link(("a", 0), there=LinkBehaviour(loss=1.0))
    seen: list[tuple[str, Direction]] = []
    network.observer = lambda node, port, packet, now, way: seen.append((node, way))
    network.inject("a", 0, segment(), 0.0)
    assert seen == [("a", Direction.SENT)]
