"""Each kind of Linux router does what its behaviour says, axis by axis, seen by real sockets on the wire."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from itertools import count
from typing import TYPE_CHECKING

import pytest
from kernel_site import (
    Site,
    connected,
    eventually,
    fates,
    icmp_types,
    listening,
    outcomes,
    raw_socket,
    received,
    site,
    start_dialling,
    talk,
    tcp_socket,
)

from midair.lab.behaviour import (
    Filtering,
    Hairpin,
    Mapping,
    NatBehaviour,
    PortRule,
    Reaction,
    SequenceCheck,
    SimultaneousOpen,
    Unsolicited,
)
from midair.lab.description import KernelKind
from midair.lab.kernel import behaviour_of, connection_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from midair.lab.namespace import Namespace

pytestmark = pytest.mark.lab

CONES = (KernelKind.CONE, KernelKind.CONE_ADDRESS_FILTER, KernelKind.CONE_HAIRPIN)
RST_AT_ONCE = struct.pack("ii", 1, 0)  # struct linger: closing sends RST
ports = count(20000)


@pytest.fixture(scope="module", params=KernelKind)
def kind(request: pytest.FixtureRequest) -> KernelKind:
    found: KernelKind = request.param
    return found


@pytest.fixture(scope="module")
def behaviour(kind: KernelKind) -> NatBehaviour:
    return behaviour_of(kind)


@pytest.fixture(scope="module")
def place(kind: KernelKind) -> Iterator[Site]:
    """One router for all tests of a kind; each uses ports of its own."""
    with site(kind) as found:
        yield found


@pytest.fixture
def port() -> int:
    """Not used by another test."""
    return next(ports)


def refusal(behaviour: NatBehaviour) -> str:
    """What a host gets that dials and is not let in."""
    return "silence" if behaviour.unsolicited in (Unsolicited.DROP, Unsolicited.SILENT_DMZ) else "ECONNREFUSED"


def refusal6(kind: KernelKind, behaviour: NatBehaviour) -> str:
    """The same by IPv6, where nothing is the router's own."""
    return "silence" if kind is KernelKind.MASQUERADE_DMZ else refusal(behaviour)


def udp_socket(place: Namespace, port: int) -> socket.socket:
    with place.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.bind(("0.0.0.0", port))
    return sock


def entries(place: Site, *words: str) -> list[str]:
    """The connections in the router's table with all of these words."""
    return [line for line in connection_table(place.router).splitlines() if set(words) <= set(line.split())]


def seconds_left(place: Site, *words: str) -> float:
    (entry,) = entries(place, *words)
    return float(entry.split()[4])


def test_the_outside_port_follows_the_mapping(place: Site, behaviour: NatBehaviour, port: int) -> None:
    """Towards two ports of one address, another address, and the first endpoint once more."""
    first, second = place.server.address, place.server.addresses[1]
    seen = []
    with contextlib.ExitStack() as stack:
        listeners = {number: stack.enter_context(listening(place.server, number)) for number in (7001, 7002)}
        for address, number in ((first, 7001), (first, 7002), (second, 7001), (first, 7001)):
            dialler = stack.enter_context(tcp_socket(place.a, port))
            accepted, peer = connected(dialler, listeners[number], address)
            stack.enter_context(accepted)
            assert peer[0] == place.a.outside
            assert (peer[0] == place.a.address) == (behaviour.mapping is Mapping.NONE)
            seen.append(peer[1])
            talk(dialler, accepted)
            assert not behaviour.rewrites_payload
            if len(seen) == 1:
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_AT_ONCE)
                accepted.close()
                with pytest.raises(ConnectionResetError):
                    dialler.recv(1)
                dialler.close()
    if behaviour.mapping is Mapping.CONNECTION_DEPENDENT:
        assert behaviour.allocation.rule is PortRule.RANDOM
        assert len({port, *seen}) >= 4  # of five: once in many thousand runs two random ones are the same
        assert all(behaviour.allocation.low <= number <= behaviour.allocation.high for number in seen)
    else:
        assert behaviour.allocation.rule is PortRule.PRESERVING_UNTIL_CLASH
        assert seen == [port] * 4


def test_of_two_hosts_with_one_port_the_first_keeps_it(
    place: Site, kind: KernelKind, behaviour: NatBehaviour, port: int
) -> None:
    address = place.server.address
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listening(place.server, 7001))
        further = stack.enter_context(listening(place.server, 7002))
        seen = []
        for host, towards in ((place.a, listener), (place.b, further), (place.b, listener)):
            dialler = stack.enter_context(tcp_socket(host, port))
            accepted, peer = connected(dialler, towards, address)
            stack.enter_context(accepted)
            talk(dialler, accepted)
            seen.append(peer[1])
    a, b_elsewhere, b = seen
    if behaviour.mapping is Mapping.NONE:
        assert seen == [port] * 3
    elif behaviour.mapping is Mapping.CONNECTION_DEPENDENT:
        assert a != b
    else:
        assert behaviour.allocation.rule is PortRule.PRESERVING_UNTIL_CLASH
        assert a == port != b
        # Linux tells connections apart: both may have the port towards different endpoints. The cones do not do that.
        assert b_elsewhere == (b if kind in CONES else port)


def test_a_mapping_lets_in_whom_the_filtering_says(place: Site, behaviour: NatBehaviour, port: int) -> None:
    no = refusal(behaviour)
    expected = {
        Filtering.ENDPOINT_INDEPENDENT: ["connected", "connected", no],
        Filtering.ADDRESS_DEPENDENT: ["connected", no, no],
        Filtering.CONNECTION_DEPENDENT: [no, no, no],
    }[behaviour.filtering]
    with (
        listening(place.server, 7001) as reflector,
        tcp_socket(place.a, port) as dialler,
        listening(place.a, port),
    ):
        accepted, (outside, mapped) = connected(dialler, reflector, place.server.address)
        with accepted:
            # From another port of the same address, from another address, and to a port without a mapping.
            probes = [(place.server, outside, mapped), (place.proxy, outside, mapped), (place.server, outside, 999)]
            assert fates(probes, expected) == expected
            talk(dialler, accepted)


def test_a_rst_takes_the_connections_entry_and_its_permission_but_not_the_mapping(
    place: Site, behaviour: NatBehaviour, port: int
) -> None:
    expected = refusal(behaviour) if behaviour.filtering is Filtering.CONNECTION_DEPENDENT else "connected"
    server = place.server.address
    with (
        listening(place.server, 7001) as reflector,
        tcp_socket(place.a, port) as dialler,
        tcp_socket(place.a, port) as refused,
        listening(place.a, port),
    ):
        accepted, (outside, mapped) = connected(dialler, reflector, server)
        with accepted:
            start_dialling(refused, server, 7009)  # where nobody listens
            assert outcomes([refused], ["ECONNREFUSED"]) == ["ECONNREFUSED"]
            assert (behaviour.on_rst is Reaction.DELETES) == (not entries(place, f"sport={port}", "dport=7009"))
            with tcp_socket(place.server, 7009) as back:
                start_dialling(back, outside, mapped)
                assert outcomes([back], [expected]) == [expected]
            talk(dialler, accepted)


def test_an_unsolicited_syn_meets_the_reaction_even_where_somebody_listens(
    place: Site, behaviour: NatBehaviour, port: int
) -> None:
    before = place.counts()
    with listening(place.a, port), raw_socket(place.server, socket.IPPROTO_ICMP) as errors:
        expected = [refusal(behaviour)]
        assert fates([(place.server, place.a.outside, port)], expected) == expected
        messages = icmp_types(received(errors))
    assert messages == ([(3, 3)] if behaviour.unsolicited is Unsolicited.ICMP_PORT else [])
    after = place.counts()
    assert (after.incoming - before.incoming, after.refused - before.refused) == (1, 1)
    assert after.outgoing == before.outgoing


def test_only_a_silent_host_leaves_an_entry_that_moves_the_port_of_the_same_connection_later(
    place: Site, behaviour: NatBehaviour, port: int
) -> None:
    before = place.counts().incoming
    with listening(place.server, 7001) as listener, tcp_socket(place.a, port) as dialler:
        with tcp_socket(place.server, 7001) as early:
            start_dialling(early, place.a.outside, port)
            assert eventually(lambda: place.counts().incoming == before + 1)
        accepted, (_, seen) = connected(dialler, listener, place.server.address)
        with accepted:
            talk(dialler, accepted)
    if behaviour.unsolicited is Unsolicited.SILENT_DMZ:
        assert seen != port
    elif behaviour.mapping is not Mapping.CONNECTION_DEPENDENT:
        assert seen == port


def test_an_icmp_error_reaches_the_host_and_leaves_the_entry(place: Site, behaviour: NatBehaviour, port: int) -> None:
    """And what is left is Linux' trap: the other side's SYN passes to the listener, whose SYN-ACK has another sequence
    number than the SYN that made the entry."""
    address = place.server.address
    with (
        tcp_socket(place.a, port) as short_lived,
        tcp_socket(place.server, 7003) as other_side,
        raw_socket(place.server, socket.IPPROTO_TCP) as arriving,
    ):
        short_lived.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 2)  # as far as the internet's router
        start_dialling(short_lived, address, 7003)
        assert outcomes([short_lived], ["EHOSTUNREACH"]) == ["EHOSTUNREACH"]
        assert behaviour.on_icmp is Reaction.KEEPS
        (entry,) = entries(place, f"sport={port}", "dport=7003")
        assert "SYN_SENT" in entry
        assert behaviour.timers.opening - 5 < seconds_left(place, f"sport={port}", "dport=7003")
        assert seconds_left(place, f"sport={port}", "dport=7003") <= behaviour.timers.opening
        mapped = int(re.findall(r"dport=(\d+)", entry)[1])
        before = place.counts().refused
        with listening(place.a, port):
            start_dialling(other_side, place.a.outside, mapped)
            # A firewall lets the SYN-ACK pass as it is, which makes half a connection: what follows it is dropped.
            expected = ["connected" if behaviour.mapping is Mapping.NONE else "silence"]
            assert outcomes([other_side], expected) == expected
        assert place.counts().refused == before
        sources = {
            socket.inet_ntoa(packet[12:16])
            for packet in received(arriving)
            if packet[22:24] == (7003).to_bytes(2, "big") and packet[33] & 0x12 == 0x12  # SYN and ACK
        }
    assert sources == (set() if behaviour.sequence_check is SequenceCheck.DROP else {place.a.address})


def test_two_dials_that_cross_become_one_connection(place: Site, behaviour: NatBehaviour) -> None:
    """Nobody listens. Where every connection has another port, the other side dials the wrong one, and takes the SYN
    that arrives for a stranger's."""
    kept = behaviour.mapping is not Mapping.CONNECTION_DEPENDENT
    expected = ["connected", "connected"] if kept else ["ECONNREFUSED", "silence"]
    assert behaviour.simultaneous_open is SimultaneousOpen.PASSES

    def cross() -> list[str]:
        own, other = next(ports), next(ports)
        with tcp_socket(place.a, own) as a, tcp_socket(place.proxy, other) as proxy:
            start_dialling(a, place.proxy.address, other)
            start_dialling(proxy, place.a.outside, own)
            return outcomes([a, proxy], expected)

    # Both SYNs are on their way within 5 ms, unless the computer is busy.
    assert any(cross() == expected for _ in range(5))


def test_every_packet_loses_one_from_its_time_to_live(place: Site, behaviour: NatBehaviour, port: int) -> None:
    assert behaviour.decrements_ttl
    with (
        listening(place.server, 7001) as listener,
        raw_socket(place.server, socket.IPPROTO_TCP) as arriving,
        tcp_socket(place.a, port) as dialler,
    ):
        dialler.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 40)
        accepted, (_, mapped) = connected(dialler, listener, place.server.address)
        accepted.close()
        ttls = {packet[8] for packet in received(arriving) if packet[20:22] == mapped.to_bytes(2, "big")}
    assert ttls == {38}  # the internet's router is the second


def test_hairpinning_is_as_described(place: Site, kind: KernelKind, behaviour: NatBehaviour, port: int) -> None:
    with (
        listening(place.server, 7001) as reflector,
        tcp_socket(place.a, port) as dialler,
        listening(place.a, port) as listener,
        tcp_socket(place.b, port) as neighbour,
    ):
        accepted, (outside, mapped) = connected(dialler, reflector, place.server.address)
        with accepted:
            if behaviour.hairpin is Hairpin.EXTERNAL_SOURCE:
                turned, peer = connected(neighbour, listener, outside, mapped)
                with turned:
                    assert peer[0] == outside
                    assert peer[1] != port  # which is a's
                    talk(neighbour, turned)
                assert fates([(place.b, outside, 999)], ["silence"]) == ["silence"]
            elif behaviour.mapping is Mapping.NONE:
                turned, peer = connected(neighbour, listener, outside, mapped)
                with turned:
                    assert peer == (place.b.address, port)
            else:
                # It reaches the router's own stack, which has no such port.
                start_dialling(neighbour, outside, mapped)
                assert outcomes([neighbour], ["ECONNREFUSED"]) == ["ECONNREFUSED"]


def test_hosts_on_one_lan_reach_each_other_by_their_own_addresses(place: Site, port: int) -> None:
    with listening(place.b, port) as listener, tcp_socket(place.a, port) as dialler:
        accepted, peer = connected(dialler, listener, place.b.address)
        with accepted:
            assert peer == (place.a.address, port)
            talk(dialler, accepted)


def test_entries_last_as_described(place: Site, behaviour: NatBehaviour, port: int) -> None:
    def left() -> float:
        return seconds_left(place, f"sport={port}", "dport=7004")

    with listening(place.server, 7004) as listener, tcp_socket(place.a, port) as dialler:
        accepted, _ = connected(dialler, listener, place.server.address)
        with accepted:
            talk(dialler, accepted)
            # Shorter as long as something is not acknowledged.
            assert eventually(lambda: left() > behaviour.timers.established - 10)
            assert left() <= behaviour.timers.established
        assert dialler.recv(1) == b""
    assert eventually(lambda: bool(entries(place, f"sport={port}", "dport=7004", "TIME_WAIT")))
    assert behaviour.timers.closing - 10 < left() <= behaviour.timers.closing


def test_udp_has_the_same_mapping_and_filtering(place: Site, behaviour: NatBehaviour, port: int) -> None:
    anybody = behaviour.filtering is Filtering.ENDPOINT_INDEPENDENT
    with contextlib.ExitStack() as stack:
        inside, reflector, stranger = (
            stack.enter_context(udp_socket(*where))
            for where in ((place.a, port), (place.server, 7005), (place.proxy, 0))
        )
        inside.sendto(b"ask", (place.server.address, 7005))
        _, (outside, mapped) = reflector.recvfrom(100)
        assert outside == place.a.outside
        assert (mapped == port) == (behaviour.mapping is not Mapping.CONNECTION_DEPENDENT)
        left = seconds_left(place, "udp", f"sport={port}", "dport=7005")
        assert behaviour.timers.udp - 5 < left <= behaviour.timers.udp
        stranger.sendto(b"push", (outside, mapped))
        reflector.sendto(b"answer", (outside, mapped))
        assert inside.recv(100) == (b"push" if anybody else b"answer")  # the ways are equally long


def test_ipv6_is_filtered_and_never_translated(
    place: Site, kind: KernelKind, behaviour: NatBehaviour, port: int
) -> None:
    own, server = place.a.addresses6[0], place.server.addresses6[0]
    with (
        listening(place.server, 7006, address=server) as listener,
        tcp_socket(place.a, port, address=own) as dialler,
        listening(place.a, port, address=own),
    ):
        accepted, peer = connected(dialler, listener, server)
        with accepted:
            assert peer == (own, port)
            talk(dialler, accepted)
            before = place.counts().refused
            expected = [refusal6(kind, behaviour)]
            assert fates([(place.server, own, port)], expected) == expected
            assert place.counts().refused == before + 1
