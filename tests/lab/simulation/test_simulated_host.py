"""A simulated host, without a kernel to compare it with: what a punch relies on, and what the scripts cannot show."""

from __future__ import annotations

import errno
import random

import pytest

from midair.lab.blueprint import HostPart, Interface
from midair.lab.node import NEVER
from midair.lab.packet import (
    ACK,
    FIN,
    ICMP,
    RST,
    SYN,
    IcmpReason,
    Packet,
    address_bytes,
    address_text,
    icmp_error,
    tcp_packet,
)
from midair.lab.simulation import Accepted, Connection, Ended, Failed, Happening, Opened, Received, SimulatedHost, State

OURS, THEIRS = address_bytes("10.1.0.2"), address_bytes("198.51.100.2")
PEER = (THEIRS, 9)
ONE_WAY_OUT = (Interface(name="eth0", addresses=("10.1.0.2/24",), routes=("0.0.0.0/0",)),)


class Application:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.story: list[Happening] = []
        self.connections: list[Connection] = []

    def __call__(self, connection: Connection, happening: Happening, now: float) -> None:
        self.story.append(happening)
        if isinstance(happening, Accepted):
            self.connections.append(connection)


def make_host(interfaces: tuple[Interface, ...] = ONE_WAY_OUT) -> SimulatedHost:
    return SimulatedHost(HostPart(name="a", interfaces=interfaces), random.Random(1))


def sent(host: SimulatedHost) -> Packet:
    ((_, packet),) = host.take()
    return packet


def answer(packet: Packet, flags: int, *, sequence: int = 7000, data: bytes = b"") -> Packet:
    """From the other end, to the last segment it has got."""
    return tcp_packet(
        packet.destination,
        packet.destination_port,
        packet.source,
        packet.source_port,
        flags,
        sequence=sequence,
        acknowledgement=packet.sequence + 1 if packet.flags & SYN else packet.acknowledgement,
        data=data,
    )


def repeated_first(host: SimulatedHost) -> list[Packet]:
    """What it sends next because the time has come."""
    while host.wake_at < NEVER:
        if emissions := host.tick(host.wake_at):
            return [packet for _, packet in emissions]
    return []


def state_of(connection: Connection) -> State:
    """A call, so that a type checker does not think that it stays what it was."""
    return connection.state


def connected(host: SimulatedHost, application: Application) -> Connection:
    connection = host.dial(PEER, application, now=0.0, number=5000)
    host.receive(answer(sent(host), SYN | ACK), 0, 0.1)
    return connection


def test_crossing_syns_open_the_dial_at_both_ends_and_each_repeats_its_own_sequence_number() -> None:
    host, application = make_host(), Application()
    host.listen(5000, application)
    connection = host.dial(PEER, application, now=0.0, number=5000)
    syn = sent(host)
    ((_, syn_ack),) = host.receive(answer(syn, SYN), 0, 0.05)
    assert (syn_ack.flags, syn_ack.sequence, syn_ack.acknowledgement) == (SYN | ACK, syn.sequence, 7001)
    assert state_of(connection) is State.SYN_RECEIVED
    host.receive(answer(syn, SYN | ACK), 0, 0.1)
    assert state_of(connection) is State.ESTABLISHED
    assert application.story == [Opened()]


def test_a_syn_that_comes_when_the_dial_has_failed_goes_to_the_listener_with_a_new_sequence_number() -> None:
    host, application = make_host(), Application()
    host.listen(5000, application)
    host.dial(PEER, application, now=0.0, number=5000)
    syn = sent(host)
    host.receive(answer(syn, RST | ACK, sequence=0), 0, 0.1)
    assert application.story == [Failed(errno.ECONNREFUSED)]
    ((_, syn_ack),) = host.receive(answer(syn, SYN), 0, 0.15)
    assert syn_ack.flags == SYN | ACK
    assert syn_ack.sequence != syn.sequence
    with pytest.raises(OSError, match="Cannot assign") as refused:
        host.dial(PEER, application, now=0.2, number=5000)
    assert refused.value.errno == errno.EADDRNOTAVAIL


def test_a_half_open_connection_gives_the_4_tuple_back_after_63_seconds() -> None:
    host, application = make_host(), Application()
    host.listen(5000, application)
    host.receive(tcp_packet(THEIRS, 9, OURS, 5000, SYN, sequence=1), 0, 0.0)
    repeated = []
    while host.wake_at < NEVER:
        now = host.wake_at
        repeated += [now] * len(host.tick(now))
    assert repeated == [1.0, 3.0, 7.0, 15.0, 31.0]
    assert now == 63.0
    host.dial(PEER, application, now=now, number=5000)


def test_an_unanswered_dial_times_out_after_131_seconds_and_ten_repetitions() -> None:
    host, application = make_host(), Application()
    connection = host.dial(PEER, application, now=0.0, number=5000)
    host.take()
    repeated = []
    while host.wake_at < NEVER:
        now = host.wake_at
        repeated += [now] * len(host.tick(now))
    assert repeated == [1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 11.0, 19.0, 35.0, 67.0]
    assert (now, application.story, connection.syns) == (131.0, [Failed(errno.ETIMEDOUT)], 11)


@pytest.mark.parametrize(
    ("reason", "number"),
    [
        (IcmpReason.PORT_UNREACHABLE, errno.ECONNREFUSED),
        (IcmpReason.ADMIN_PROHIBITED, errno.EHOSTUNREACH),
        (IcmpReason.HOST_UNREACHABLE, errno.EHOSTUNREACH),
        (IcmpReason.NET_UNREACHABLE, errno.ENETUNREACH),
        (IcmpReason.TIME_EXCEEDED, errno.EHOSTUNREACH),
    ],
)
def test_an_icmp_error_ends_a_dial_and_not_a_connection(reason: IcmpReason, number: int) -> None:
    host, application = make_host(), Application()
    host.dial(PEER, application, now=0.0, number=5000)
    host.receive(icmp_error(reason, sent(host), sender=THEIRS), 0, 0.1)
    assert application.story == [Failed(number)]
    host, application = make_host(), Application()
    connection = connected(host, application)
    connection.send(b"x", 0.2)
    host.receive(icmp_error(reason, sent(host), sender=THEIRS), 0, 0.3)
    assert application.story == [Opened()]


def test_a_minimum_ttl_hides_rsts_and_errors_that_quote_what_went_out_below_it() -> None:
    host, application = make_host(), Application()
    connection = host.dial(PEER, application, now=0.0, number=5000, ttl=64, minimum_ttl=65)
    syn = sent(host)
    assert syn.ttl == 64
    host.receive(answer(syn, RST | ACK, sequence=0), 0, 0.1)
    host.receive(icmp_error(IcmpReason.PORT_UNREACHABLE, syn, sender=THEIRS), 0, 0.1)
    assert application.story == []
    connection.minimum_ttl = 0
    host.receive(answer(syn, RST | ACK, sequence=0), 0, 0.2)
    assert application.story == [Failed(errno.ECONNREFUSED)]


def test_one_port_has_a_listener_and_any_number_of_dials() -> None:
    host, application = make_host(), Application()
    listener = host.listen(5000, application)
    with pytest.raises(OSError, match="in use"):
        host.listen(5000, application)
    host.listen(5000, application, version=6)
    for port in range(1, 4):
        host.dial((THEIRS, port), application, now=0.0, number=5000)
    assert {packet.destination_port for _, packet in host.take()} == {1, 2, 3}
    listener.close()
    host.listen(5000, application)


def test_a_dial_to_itself_connects_to_itself_as_on_linux() -> None:
    host, application = make_host(), Application()
    connection = host.dial((OURS, 5000), application, now=0.0, number=5000)
    assert host.tick(0.0) == []
    assert application.story == [Opened()]
    connection.send(b"hello", 0.0)
    host.tick(0.0)
    assert application.story[1:] == [Received(b"hello")]


def test_a_dial_to_an_own_address_meets_the_listener_there() -> None:
    host, application = make_host(), Application()
    host.dial((OURS, 6000), application, now=0.0, number=5000)
    host.tick(0.0)
    assert application.story == [Failed(errno.ECONNREFUSED)]
    host.listen(6000, application)
    host.dial((OURS, 6000), application, now=1.0, number=5000)
    host.tick(1.0)
    assert application.story[1:] == [Opened(), Accepted()]


def test_data_is_repeated_until_it_is_acknowledged_and_then_the_fin_follows() -> None:
    host, application = make_host(), Application()
    connection = connected(host, application)
    host.take()
    connection.send(b"x" * 2000, 0.1)
    connection.shutdown(0.1)
    first, second, fin = (packet for _, packet in host.take())
    assert (len(first.data), len(second.data), fin.flags & FIN, fin.sequence) == (1460, 540, FIN, first.sequence + 2000)
    assert [packet.sequence for packet in repeated_first(host)] == [first.sequence]
    acknowledge = answer(first, ACK, sequence=7001)
    acknowledge.acknowledgement = second.sequence
    assert [packet.sequence for _, packet in host.receive(acknowledge, 0, 0.9)] == [second.sequence]
    acknowledge.acknowledgement = fin.sequence
    assert [packet.flags & FIN for _, packet in host.receive(acknowledge, 0, 1.0)] == [FIN]
    acknowledge.acknowledgement = fin.sequence + 1
    host.receive(acknowledge, 0, 1.1)
    assert state_of(connection) is State.FIN_WAIT_2


def test_what_was_too_big_for_a_link_is_repeated_at_once_in_smaller_segments() -> None:
    host, application = make_host(), Application()
    connection = connected(host, application)
    host.take()
    connection.send(b"x" * 1460, 0.1)
    too_big = icmp_error(IcmpReason.TOO_BIG, sent(host), sender=THEIRS, mtu=600)
    assert [len(packet.data) for _, packet in host.receive(too_big, 0, 0.15)] == [560]
    connection.send(b"x" * 1000, 0.16)
    assert [len(packet.data) for _, packet in host.take()] == [560, 440]


def test_three_acknowledgements_of_the_same_byte_have_it_repeated_before_the_timeout() -> None:
    host, application = make_host(), Application()
    connection = connected(host, application)
    host.take()
    connection.send(b"x" * 5840, 0.1)
    first, second, *_ = (packet for _, packet in host.take())
    acknowledge = answer(first, ACK, sequence=7001)
    acknowledge.acknowledgement = second.sequence
    repeated = [packet.sequence for _ in range(5) for _, packet in host.receive(acknowledge.copy(), 0, 0.15)]
    assert repeated == [second.sequence]


def test_a_peer_that_never_acknowledges_is_given_up_in_the_end() -> None:
    host, application = make_host(), Application()
    connected(host, application).send(b"x", 0.1)
    while host.wake_at < NEVER:
        now = host.wake_at
        host.tick(now)
    assert application.story == [Opened(), Failed(errno.ETIMEDOUT)]
    assert 600 < now < 1800  # RFC 9293 3.8.3 wants 100 s at least, tcp_retries2 gives some 15 minutes
    assert host.connections == []


def test_what_a_closed_connection_held_is_forgotten_after_a_minute() -> None:
    host, application = make_host(), Application()
    connection = connected(host, application)
    connection.close(0.2)
    fin = host.take()[-1][1]
    host.receive(answer(fin, ACK | FIN, sequence=7001), 0, 0.3)
    assert state_of(connection) is State.CLOSING
    last = answer(fin, ACK, sequence=7002)
    last.acknowledgement = fin.sequence + 1
    host.receive(last, 0, 0.4)
    assert state_of(connection) is State.TIME_WAIT
    host.tick(60.5)
    assert host.connections == []


def test_a_dial_takes_over_a_4_tuple_that_is_only_kept_in_time_wait() -> None:
    host, application = make_host(), Application()
    connection = connected(host, application)
    connection.shutdown(0.2)
    fin = host.take()[-1][1]
    last = answer(fin, ACK | FIN, sequence=7001)
    last.acknowledgement = fin.sequence + 1
    host.receive(last, 0, 0.3)
    assert application.story == [Opened(), Ended()]
    assert state_of(connection) is State.TIME_WAIT
    host.dial(PEER, application, now=0.4, number=5000)
    assert sent(host).sequence == fin.sequence + 1 + 65537


def test_a_host_with_two_interfaces_answers_by_the_one_whose_address_was_used() -> None:
    second = Interface(name="eth1", addresses=("10.2.0.2/24", "2001:db8:b::2/64"), routes=("0.0.0.0/0", "::/0"))
    host, application = make_host((*ONE_WAY_OUT, second)), Application()
    host.listen(5000, application)
    for port, address in enumerate(("10.1.0.2", "10.2.0.2")):
        syn = tcp_packet(THEIRS, 9, address_bytes(address), 5000, SYN)
        assert [number for number, _ in host.receive(syn, port, 0.0)] == [port]
    host.dial(PEER, application, now=0.0, number=6000)
    host.dial(PEER, application, now=0.0, number=6000, source=address_bytes("10.2.0.2"))
    host.dial((address_bytes("2001:db8::9"), 9), application, now=0.0, number=6000)
    dialled = [(port, address_text(packet.source)) for port, packet in host.take()]
    assert dialled == [(0, "10.1.0.2"), (1, "10.2.0.2"), (1, "2001:db8:b::2")]


@pytest.mark.parametrize(
    ("remote", "source", "number"),
    [("2001:db8::9", "", errno.ENETUNREACH), ("198.51.100.2", "10.9.9.9", errno.EADDRNOTAVAIL)],
)
def test_a_dial_without_route_or_from_a_foreign_address_fails_at_once(remote: str, source: str, number: int) -> None:
    host = make_host()
    with pytest.raises(OSError) as refused:  # noqa: PT011 - the number is what counts
        host.dial((address_bytes(remote), 9), Application(), now=0.0, source=address_bytes(source) if source else b"")
    assert refused.value.errno == number


def test_a_host_that_moves_hears_nothing_at_its_old_address_and_dials_from_the_new_one() -> None:
    host, application = make_host(), Application()
    connected(host, application)
    host.take()
    host.replace_interfaces((Interface(name="eth0", addresses=("10.7.0.2/24",), routes=("0.0.0.0/0",)),))
    host.receive(tcp_packet(THEIRS, 9, OURS, 5000, RST, sequence=7001), 0, 1.0)
    assert application.story == [Opened()]
    host.dial(PEER, application, now=1.0, number=5000)
    assert sent(host).source == address_bytes("10.7.0.2")


def test_what_is_for_somebody_else_is_dropped_and_an_echo_request_is_answered() -> None:
    host = make_host()
    assert host.receive(tcp_packet(THEIRS, 9, THEIRS, 5000, SYN), 0, 0.0) == ()
    ((port, reply),) = host.receive(Packet(4, THEIRS, OURS, ICMP, source_port=77), 0, 0.0)
    assert (port, reply.destination, reply.destination_port) == (0, THEIRS, 77)


def test_an_application_may_end_a_connection_in_the_middle_of_what_it_is_told() -> None:
    host = make_host()
    story: list[Happening] = []

    def quit_at_once(connection: Connection, happening: Happening, now: float) -> None:
        story.append(happening)
        connection.abort(now)

    host.dial(PEER, quit_at_once, now=0.0, number=5000)
    emissions = host.receive(answer(sent(host), SYN | ACK), 0, 0.1)
    assert [packet.flags for _, packet in emissions] == [ACK, RST | ACK]
    assert story == [Opened()]
    host.listen(6000, quit_at_once)
    ((_, syn_ack),) = host.receive(tcp_packet(THEIRS, 9, OURS, 6000, SYN, sequence=6999), 0, 0.0)
    host.receive(answer(syn_ack, ACK | FIN, data=b"hello"), 0, 0.2)
    assert story == [Opened(), Accepted()]
    assert host.connections == []
