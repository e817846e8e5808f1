"""ICMP through a NAT: errors are known by the packet they quote, echoes by their identifier (RFC 5508)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nat_bench import Bench, datagram, ends

from midair.lab.behaviour import Allocation, Filtering, Hairpin, Mapping, NatBehaviour, PortRule, Reaction, Unsolicited
from midair.lab.node import INSIDE_PORT, OUTSIDE_PORT
from midair.lab.packet import ICMP, SYN, TCP, UDP, IcmpReason, address_bytes, echo_reply, icmp_error

RANDOM_PORTS = NatBehaviour(allocation=Allocation(rule=PortRule.RANDOM))
FIREWALL = NatBehaviour(mapping=Mapping.NONE)
PROTOCOLS = [TCP, UDP, ICMP]


def remote_of(bench: Bench, protocol: int) -> tuple[str, int]:
    return bench.remote(port=0 if protocol == ICMP else 443)


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("behaviour", [RANDOM_PORTS, FIREWALL], ids=["NAT", "firewall"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("reason", IcmpReason)
def test_an_error_from_the_internet_reaches_the_host_as_if_there_were_no_nat(
    reason: IcmpReason, protocol: int, behaviour: NatBehaviour, ipv6: bool
) -> None:
    bench = Bench(behaviour, ipv6=ipv6)
    inside, remote = (bench.host(), 5000), remote_of(bench, protocol)
    outside = bench.first(inside, remote, protocol=protocol)
    assert outside is not None
    error = bench.error_about(outside, remote, reason, sender=bench.remote(7)[0], protocol=protocol)
    error.mtu = 1300 if reason is IcmpReason.TOO_BIG else 0
    arrived = bench.arrive(error)
    assert arrived is not None
    assert (arrived.reason, arrived.mtu, arrived.ttl) == (reason, error.mtu, 63)
    assert ends(arrived) == ((bench.remote(7)[0], 0), (inside[0], 0))
    assert arrived.quoted is not None
    assert ends(arrived.quoted) == (inside, remote)


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("behaviour", [RANDOM_PORTS, FIREWALL], ids=["NAT", "firewall"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_error_from_inside_comes_from_the_outside_address(
    protocol: int, behaviour: NatBehaviour, ipv6: bool
) -> None:
    """The host refuses what was sent to it, or a router behind the NAT does: the internet must not see who."""
    bench = Bench(behaviour, ipv6=ipv6)
    inside, remote = (bench.host(), 5000), remote_of(bench, protocol)
    outside = bench.first(inside, remote, protocol=protocol)
    assert outside is not None
    for sender in (bench.host(), bench.host(4)):
        error = bench.error_about(remote, inside, IcmpReason.PORT_UNREACHABLE, sender=sender, protocol=protocol)
        left = bench.leave(error)
        assert left is not None
        assert ends(left) == ((outside[0] if outside != inside else sender, 0), (remote[0], 0))
        assert left.quoted is not None
        assert ends(left.quoted) == (remote, outside)
        assert left.ttl == 63


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_error_about_no_connection_goes_nowhere(protocol: int) -> None:
    bench = Bench(RANDOM_PORTS)
    inside, remote = (bench.host(), 5000), remote_of(bench, protocol)
    outside = bench.first(inside, remote, protocol=protocol)
    assert outside is not None
    other_port, other_remote = (outside[0], outside[1] ^ 1), (bench.remote(1)[0], remote[1])
    for source, destination in ((other_port, remote), (outside, other_remote), (remote, outside)):
        error = bench.error_about(source, destination, IcmpReason.PORT_UNREACHABLE, sender=remote[0], protocol=protocol)
        error.destination = address_bytes(outside[0])
        assert bench.send(error, OUTSIDE_PORT) == []
    stray = bench.error_about(other_remote, inside, IcmpReason.PORT_UNREACHABLE, sender=inside[0], protocol=protocol)
    assert bench.send(stray, INSIDE_PORT) == []


def test_an_error_about_a_syn_that_was_let_out_untranslated_is_not_understood() -> None:
    bench = Bench(RANDOM_PORTS)
    inside, remote = (bench.host(), 5000), bench.remote()
    bench.first(inside, remote)
    error = bench.error_about(inside, remote, IcmpReason.HOST_UNREACHABLE, sender=remote[0])
    assert bench.send(error, OUTSIDE_PORT) == []


def test_an_error_does_not_keep_a_connection_alive() -> None:
    """RFC 7857 7: what comes unasked for must not refresh."""
    bench = Bench(NatBehaviour())
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.first(inside, remote)
    assert outside is not None
    bench.wait(200)
    assert bench.arrive(bench.error_about(outside, remote, IcmpReason.HOST_UNREACHABLE, sender=remote[0]))
    bench.wait(41)
    assert bench.nat.entries(bench.now) == []


def test_an_error_that_deletes_deletes_that_connection_only() -> None:
    bench = Bench(NatBehaviour(on_icmp=Reaction.DELETES))
    inside, remote, other = (bench.host(), 5000), bench.remote(), bench.remote(1)
    outside = bench.first(inside, remote)
    bench.first(inside, other)
    assert outside is not None
    assert bench.arrive(bench.error_about(outside, remote, IcmpReason.HOST_UNREACHABLE, sender=remote[0]))
    assert [entry.remote for entry in bench.nat.entries(0)] == [other]


@pytest.mark.parametrize("ipv6", [False, True])
def test_a_ping_gets_its_reply_and_nobody_elses(ipv6: bool) -> None:
    bench = Bench(RANDOM_PORTS, ipv6=ipv6)
    remote = bench.remote(port=0)
    requests = [bench.leave(datagram((bench.host(n), 77), remote, protocol=ICMP, data=b"ping"), n) for n in (0, 1)]
    identifiers = set()
    for number, request in enumerate(requests):
        assert request is not None
        assert request.is_echo_request
        assert request.payload == b"ping"
        identifiers.add((request.source, request.source_port))
        reply = bench.arrive(echo_reply(request))
        assert reply is not None
        assert ends(reply) == (remote, (bench.host(number), 77))
        assert reply.payload == b"ping"
    assert len(identifiers) == 2


def test_a_ping_from_the_internet_is_let_in_to_an_exposed_host_only() -> None:
    for behaviour, passes in ((NatBehaviour(), False), (NatBehaviour(unsolicited=Unsolicited.PASS), True)):
        bench = Bench(replace(behaviour, filtering=Filtering.ENDPOINT_INDEPENDENT))
        request = datagram((bench.remote()[0], 9), ("198.51.100.1", 0), protocol=ICMP)
        arrived = bench.arrive(request)
        assert (arrived is not None) == passes
        if arrived is not None:
            assert ends(arrived)[1] == (bench.host(), 0)
            reply = bench.leave(echo_reply(arrived))
            assert reply is not None
            assert ends(reply) == (("198.51.100.1", 0), (bench.remote()[0], 9))


def test_the_nat_answers_a_ping_to_its_inside_address() -> None:
    bench = Bench(NatBehaviour())
    reply = bench.reaction(datagram((bench.host(), 9), ("10.0.0.1", 0), protocol=ICMP, data=b"abc"), INSIDE_PORT)
    assert reply is not None
    assert (ends(reply), reply.payload) == ((("10.0.0.1", 0), (bench.host(), 9)), b"abc")
    assert bench.send(datagram((bench.host(), 9), ("10.0.0.1", 80)), INSIDE_PORT) == []


def test_icmp_that_is_neither_echo_nor_error_is_dropped() -> None:
    bench = Bench(NatBehaviour(unsolicited=Unsolicited.PASS))
    for port, source, destination in (
        (INSIDE_PORT, bench.host(), bench.remote()[0]),
        (0, "192.0.2.10", "198.51.100.1"),
    ):
        packet = datagram((source, 9), (destination, 0), protocol=ICMP)
        packet.to_bytes()[20] = 13  # timestamp
        assert bench.send(packet, port) == []


@pytest.mark.parametrize("port", [OUTSIDE_PORT, INSIDE_PORT])
def test_no_error_is_answered_by_an_error(port: int) -> None:
    """RFC 1122 3.2.2: not even one whose time to live ends here."""
    bench = Bench(NatBehaviour())
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.first(inside, remote)
    assert outside is not None
    if port == OUTSIDE_PORT:
        error = bench.error_about(outside, remote, IcmpReason.HOST_UNREACHABLE, sender=remote[0])
    else:
        error = bench.error_about(remote, inside, IcmpReason.HOST_UNREACHABLE, sender=inside[0])
    error.ttl = 1
    assert bench.send(error, port) == []


def test_an_expired_packet_is_reported_to_its_sender_as_he_sent_it_and_leaves_no_trace() -> None:
    bench = Bench(RANDOM_PORTS)
    inside, remote = (bench.host(), 5000), bench.remote()
    syn = bench.segment(inside, remote, SYN, ttl=1)
    report = bench.reaction(syn, INSIDE_PORT)
    assert report is not None
    assert report.reason is IcmpReason.TIME_EXCEEDED
    assert ends(report) == (("10.0.0.1", 0), (inside[0], 0))
    assert report.quoted is not None
    assert ends(report.quoted) == (inside, remote)
    assert bench.nat.entries(0) == []
    outside = bench.first(inside, remote)
    assert outside is not None
    report = bench.reaction(bench.segment(remote, outside, SYN, ttl=1))
    assert report is not None
    assert report.quoted is not None
    assert ends(report.quoted) == (remote, outside)
    assert ends(report) == ((outside[0], 0), (remote[0], 0))


def test_a_syn_that_would_not_be_forwarded_does_not_expire() -> None:
    """It is for the NAT itself: the knob decides."""
    bench = Bench(NatBehaviour(unsolicited=Unsolicited.RST))
    answer = bench.reaction(bench.segment(bench.remote(), ("198.51.100.1", 5000), SYN, ttl=1))
    assert answer is not None
    assert answer.protocol == TCP


def test_an_error_about_a_hairpin_is_translated_twice() -> None:
    bench = Bench(replace(RANDOM_PORTS, hairpin=Hairpin.EXTERNAL_SOURCE, filtering=Filtering.ENDPOINT_INDEPENDENT))
    one, other = (bench.host(0), 5000), (bench.host(1), 6000)
    target = bench.first(other, bench.remote(), host=1)
    assert target is not None
    [(port, arrived)] = bench.send(bench.segment(one, target, SYN), INSIDE_PORT)
    assert port == INSIDE_PORT + 1
    refusal = icmp_error(IcmpReason.PORT_UNREACHABLE, arrived, sender=address_bytes(other[0]))
    [(port, back)] = bench.send(refusal, INSIDE_PORT + 1)
    assert port == INSIDE_PORT
    assert ends(back) == ((target[0], 0), (one[0], 0))
    assert back.quoted is not None
    assert ends(back.quoted) == (one, target)
