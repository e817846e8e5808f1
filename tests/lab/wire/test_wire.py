"""The wire between real network stacks: what it carries, when, and what the kernels make of it."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from wire_site import (
    A6,
    B6,
    CORE,
    INSIDE_A,
    A,
    B,
    connected,
    outcome,
    round_trips,
    site,
    tcp_socket,
)

from midair.lab.behaviour import LinkBehaviour, NatBehaviour
from midair.lab.blueprint import Blueprint, Cable, HostPart, Interface, NatPart
from midair.lab.capture import syn_story
from midair.lab.namespace import Namespace
from midair.lab.wire import Interfaces, Wire, WireError, readdress
from midair.lab.wire.tun import can_open_tun

pytestmark = pytest.mark.lab

KINDS = [
    pytest.param(False, id="TUN", marks=pytest.mark.skipif(not can_open_tun(), reason="/dev/net/tun is closed to us")),
    pytest.param(True, id="veth"),
]


# -- carrying --


@pytest.mark.parametrize("ethernet", KINDS)
@pytest.mark.parametrize("address", [B, B6], ids=["IPv4", "IPv6"])
def test_a_connection_carries_bytes_both_ways(ethernet: bool, address: str) -> None:
    with site(ethernet=ethernet) as place, connected(place, address=address) as (near, far):
        data = os.urandom(300_000)
        for sender, receiver in ((near, far), (far, near)):
            sender.setblocking(False)
            sent = received = 0
            while received < len(data):
                readable, writable, _ = select.select([receiver], [sender] if sent < len(data) else [], [], 5.0)
                assert readable or writable
                if writable:
                    sent += sender.send(data[sent : sent + 60_000])
                if readable:
                    piece = receiver.recv(65536)
                    assert piece == data[received : received + len(piece)]
                    received += len(piece)
            sender.setblocking(True)


@pytest.mark.parametrize("ethernet", KINDS)
def test_a_delay_of_50_ms_each_way_makes_round_trips_of_100_ms(ethernet: bool) -> None:
    # Each way crosses the links of both hosts.
    with site(link=LinkBehaviour(delay=0.025), ethernet=ethernet) as place, connected(place) as (near, far):
        times = round_trips(near, far, 8)
        assert 0.1 <= times[0] < 0.103  # the others are late when something else has the processor


@pytest.mark.parametrize("ethernet", KINDS)
def test_no_interface_speaks_unasked(ethernet: bool) -> None:
    """No router is solicited, no group joined, no address checked for duplicates."""
    with Namespace("a") as a, Interfaces(ethernet=ethernet) as interfaces:
        plug = interfaces.make(
            a, Interface(name="eth0", addresses=("192.0.2.2/24", "2001:db8::2/64"), routes=("0.0.0.0/0", "::/0"))
        )
        readable, _, _ = select.select([plug.descriptor], [], [], 0.5)
        assert not readable


def test_all_addresses_can_be_used_at_once() -> None:
    with site() as place, place.a.entered():
        for family, address in ((socket.AF_INET, A), (socket.AF_INET6, A6)):
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.bind((address, 4000))


@pytest.mark.parametrize("ethernet", KINDS)
def test_a_second_interface_is_the_way_out_for_what_is_sent_from_its_address(ethernet: bool) -> None:
    first = Interface(name="eth0", addresses=("198.51.100.2/24", "2001:db8:a::2/64"), routes=("0.0.0.0/0", "::/0"))
    second = Interface(name="wlan0", addresses=("100.64.0.2/24", "2001:db8:c::2/64"), routes=("0.0.0.0/0", "::/0"))
    with Namespace("a") as a, Interfaces(ethernet=ethernet) as interfaces:
        plugs = [interfaces.make(a, part, number=number) for number, part in enumerate((first, second))]
        for source, destination, way_out in (
            ("", "203.0.113.9", 0),
            ("198.51.100.2", "203.0.113.9", 0),
            ("100.64.0.2", "203.0.113.9", 1),
            ("", "2001:db8:b::9", 0),
            ("2001:db8:c::2", "2001:db8:b::9", 1),
        ):
            with (
                a.entered(),
                socket.socket(socket.AF_INET6 if ":" in destination else socket.AF_INET, socket.SOCK_DGRAM) as sock,
            ):
                if source:
                    sock.bind((source, 0))
                sock.sendto(b"hello", (destination, 9))
            readable, _, _ = select.select([plug.descriptor for plug in plugs], [], [], 2.0)
            assert readable == [plugs[way_out].descriptor], (source, destination)
            os.read(readable[0], 2000)


def test_a_hop_too_many_is_an_error_of_connect() -> None:
    with site() as place, tcp_socket(place.a) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
        sock.connect_ex((B, 9))
        assert outcome(sock) == errno.EHOSTUNREACH


def test_a_destination_that_nobody_has_is_an_error_of_connect() -> None:
    with site() as place, tcp_socket(place.a) as sock:
        sock.connect_ex(("100.64.0.1", 9))
        assert outcome(sock) == errno.ENETUNREACH


@pytest.mark.parametrize("ethernet", KINDS)
def test_a_narrow_link_is_found_by_the_kernel_and_nothing_is_lost(ethernet: bool) -> None:
    with site(link=LinkBehaviour(mtu=1300), ethernet=ethernet) as place, connected(place) as (near, far):
        data = os.urandom(20_000)
        near.sendall(data)
        received = b""
        while len(received) < len(data):
            received += far.recv(65536)
        assert received == data
        mtu_of_the_path = near.getsockopt(socket.IPPROTO_IP, 14)  # IP_MTU
        assert mtu_of_the_path == 1300


def test_a_rate_is_kept() -> None:
    with site(link=LinkBehaviour(rate=20e6)) as place, connected(place) as (near, far):
        size = 500_000
        start = time.perf_counter()
        near.setblocking(False)
        sent = received = 0
        while received < size:
            _, writable, _ = select.select([far], [near] if sent < size else [], [], 5.0)
            if writable:
                sent += near.send(bytes(min(65536, size - sent)))
            else:
                received += len(far.recv(65536))
        seconds = time.perf_counter() - start
        assert size * 8 / 20e6 < seconds < 2 * size * 8 / 20e6


@pytest.mark.skipif(not can_open_tun(), reason="/dev/net/tun is closed to us")
def test_with_offload_segments_stay_large_and_bytes_right_through_two_nats() -> None:
    behaviour = NatBehaviour()
    with (
        site(nat_a=behaviour, nat_b=behaviour, offload=True) as place,
        tcp_socket(place.a, port=4000) as near,
        tcp_socket(place.b, port=5000) as far,
    ):
        near.connect_ex((B, 5000))
        far.connect_ex((A, 4000))
        assert outcome(near) == 0
        assert outcome(far) == 0
        data = os.urandom(2_000_000)
        before = place.wire.statistics().received
        sent, received = 0, b""
        while len(received) < len(data):
            readable, writable, _ = select.select([far], [near] if sent < len(data) else [], [], 5.0)
            assert readable or writable
            if writable:
                sent += near.send(data[sent : sent + 200_000])
            if readable:
                received += far.recv(1 << 20)
        assert received == data
        # In segments of the MTU these would be 1382 packets, and their acknowledgements.
        assert place.wire.statistics().received - before < 700


# -- changing while running --


def test_a_link_is_cut_and_comes_back() -> None:
    with site() as place, connected(place) as (near, far):
        place.wire.set_link(("a", 0), there=LinkBehaviour(up=False))
        near.sendall(b"unheard")
        assert not select.select([far], [], [], 0.3)[0]
        place.wire.set_link(("a", 0), there=LinkBehaviour())
        assert far.recv(100) == b"unheard"


def test_exactly_the_named_syn_is_lost() -> None:
    with site() as place, tcp_socket(place.b, port=7000) as listener:
        listener.listen()
        place.wire.set_link(("a", 0), there=LinkBehaviour(lose_syns=(2,)))
        seconds = []
        for _ in range(3):
            with tcp_socket(place.a) as sock:
                start = time.perf_counter()
                sock.connect_ex((B, 7000))
                assert outcome(sock) == 0
                seconds.append(time.perf_counter() - start)
        # The kernel sends a SYN again after a second.
        assert seconds[0] < 0.5
        assert 0.9 < seconds[1] < 1.5
        assert seconds[2] < 0.5


def test_a_host_that_moves_has_its_new_address_and_its_old_connections_are_dead() -> None:
    moved = "198.51.100.77"
    with site() as place, connected(place) as (near, far):
        part = place.parts["a"]
        assert isinstance(part, HostPart)
        old = part.interfaces[0]
        new = replace(old, addresses=(f"{moved}/24",), routes=("0.0.0.0/0",))
        readdress(place.a, old, new)
        with tcp_socket(place.a, moved) as sock:
            sock.connect_ex((B, 7000))
            assert outcome(sock) == 0
            assert sock.getsockname()[0] == moved
        with place.a.entered(), socket.socket() as sock, pytest.raises(OSError, match="Cannot assign"):
            sock.bind((A, 0))
        far.sendall(b"to where you were")
        assert not select.select([near], [], [], 0.3)[0]
        readdress(place.a, new, old)
        assert near.recv(100) == b"to where you were"


def test_a_nat_that_moves_has_its_new_address_and_an_empty_table() -> None:
    with site(nat_a=NatBehaviour()) as place, connected(place) as (near, far):
        assert far.getpeername()[0] == A
        [entry] = place.wire.nat_entries("nat_a")
        assert entry.inside == (INSIDE_A, near.getsockname()[1])
        part = place.parts["nat_a"]
        assert isinstance(part, NatPart)
        place.wire.replace(replace(part, outside=("198.51.100.77",)))
        assert place.wire.nat_entries("nat_a") == []
        with tcp_socket(place.b, port=7001) as listener, tcp_socket(place.a) as sock:
            listener.listen()
            sock.connect_ex((B, 7001))
            assert outcome(sock) == 0
            listener.settimeout(2.0)
            accepted, (address, _) = listener.accept()
            accepted.close()
            assert address == "198.51.100.77"


def test_a_router_that_gets_other_routes_uses_them_at_once() -> None:
    with site() as place, tcp_socket(place.a) as sock:
        place.wire.replace(replace(CORE, routes=(("198.51.100.0/24", 0),)))
        sock.connect_ex((B, 9))
        assert outcome(sock) == errno.ENETUNREACH


# -- simultaneous open, in the lab's own capture --


def test_two_syns_cross_and_both_ends_connect(tmp_path: Path) -> None:
    """RFC 9293 3.5, figure 8: SYN and SYN, then SYN-ACK from both ends, and both calls of connect() return."""
    path = tmp_path / "open.pcapng"
    behaviour = NatBehaviour()
    with (
        site(link=LinkBehaviour(delay=0.025), nat_a=behaviour, nat_b=behaviour) as place,
        tcp_socket(place.a, port=4000) as near,
        tcp_socket(place.b, port=5000) as far,
    ):
        place.wire.start_capture(path, nodes=("a", "b"))
        start = time.perf_counter()
        near.connect_ex((B, 5000))
        far.connect_ex((A, 4000))
        assert outcome(near) == 0
        assert outcome(far) == 0
        assert 0.1 <= time.perf_counter() - start < 0.3
        near.send(b"hello")
        assert select.select([far], [], [], 2.0)[0]
        assert far.recv(100) == b"hello"
        place.wire.stop_capture()
    told = [line.split(" ms ")[1].split() for line in syn_story(path)]
    expected = [
        ["a:0", "sent", "SYN", "10.1.0.2:4000", ">", "203.0.113.2:5000"],
        ["b:0", "sent", "SYN", "10.2.0.2:5000", ">", "198.51.100.2:4000"],
        ["b:0", "received", "SYN", "198.51.100.2:4000", ">", "10.2.0.2:5000"],
        ["a:0", "received", "SYN", "203.0.113.2:5000", ">", "10.1.0.2:4000"],
        ["b:0", "sent", "SYN-ACK", "10.2.0.2:5000", ">", "198.51.100.2:4000"],
        ["a:0", "sent", "SYN-ACK", "10.1.0.2:4000", ">", "203.0.113.2:5000"],
        ["a:0", "received", "SYN-ACK", "203.0.113.2:5000", ">", "10.1.0.2:4000"],
        ["b:0", "received", "SYN-ACK", "198.51.100.2:4000", ">", "10.2.0.2:5000"],
    ]
    # What happens at a is in order, and so is what happens at b; which of the two is first is open.
    for node in ("a:0", "b:0"):
        assert [line for line in told if line[0] == node] == [line for line in expected if line[0] == node]
    times = [float(line.split(" ms ")[0]) for line in syn_story(path)]
    sent_last, received_first = times[1], times[2]
    assert sent_last < received_first, "the SYNs did not cross"
    assert times[2] - times[0] >= 49.9


# -- being told, and dying --


def test_a_wire_counts_its_packets() -> None:
    with site() as place:
        before = place.wire.statistics()
        with connected(place):
            after = place.wire.statistics()
        assert after.received - before.received >= 3
        assert after.delivered - before.delivered == after.received - before.received
        assert (after.malformed, after.refused) == (0, 0)


def test_a_request_that_cannot_be_done_is_refused_and_the_wire_goes_on(tmp_path: Path) -> None:
    with site() as place:
        for request in (
            lambda: place.wire.set_link(("nobody", 0), there=LinkBehaviour()),
            lambda: place.wire.set_link(99, there=LinkBehaviour()),
            lambda: place.wire.nat_entries("core"),
            lambda: place.wire.start_capture(tmp_path / "no" / "such" / "folder"),
        ):
            with pytest.raises(WireError):
                request()
        with connected(place) as (near, far):
            assert round_trips(near, far, 1)


def test_a_network_that_cannot_be_is_refused_with_the_reason_and_another_may_follow() -> None:
    with Wire() as wire:
        with pytest.raises(WireError, match="nobody"):
            wire.start(Blueprint(cables=(Cable(node="nobody", port=0, other_node="a", other_port=0),)), {})
        wire.start(Blueprint(), {})
        assert wire.statistics().received == 0


def test_a_wire_that_dies_says_so_at_the_next_request_and_at_the_end() -> None:
    wire = Wire()
    wire.start(Blueprint(), {})
    os.kill(wire.pid, 9)
    for ask in (wire.statistics, wire.stop_capture, wire.close):
        with pytest.raises(WireError, match="ended by itself"):
            ask()


def test_a_wire_is_started_once_and_before_anything_is_asked_of_it() -> None:
    with Wire() as wire:
        with pytest.raises(WireError, match="not been started"):
            wire.statistics()
        wire.start(Blueprint(), {})
        with pytest.raises(WireError, match="started before"):
            wire.start(Blueprint(), {})
        assert wire.statistics().received == 0


def test_closing_twice_is_fine_and_afterwards_nothing_can_be_asked() -> None:
    wire = Wire()
    wire.close()
    wire.close()
    with pytest.raises(WireError, match="closed"):
        wire.statistics()


def test_what_a_capture_recorded_is_complete_when_it_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    with site() as place:
        place.wire.start_capture(path)
        with connected(place):
            pass
        place.wire.stop_capture()
        [syn] = [line for line in syn_story(path, nodes=["b"]) if " SYN " in line]
        assert "received" in syn
        size = path.stat().st_size
        with connected(place):
            pass
        assert path.stat().st_size == size
