"""What stands before each packet at an interface, read and written."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator

import pytest

from midair.lab.packet import ACK, SYN, address_bytes, tcp_packet
from midair.lab.wire.outlet import Outlet
from midair.lab.wire.plug import HARDWARE, Framing, Plug

A, B = address_bytes("10.1.0.2"), address_bytes("203.0.113.2")
A6, B6 = address_bytes("2001:db8:a::2"), address_bytes("2001:db8:b::2")
SEGMENT = bytes(tcp_packet(A, 4000, B, 5000, ACK, data=b"hello").to_bytes())
SEGMENT6 = bytes(tcp_packet(A6, 4000, B6, 5000, ACK, data=b"hello").to_bytes())
TO_BE_SUMMED = bytes.fromhex("0101 2800 0400 1400 1000")
"""A ``struct virtio_net_hdr``, little endian: to be summed from byte 20, to be cut into pieces of 4 bytes."""
NOTHING_TO_DO = bytes(10)


@pytest.fixture
def kernel() -> Iterator[tuple[socket.socket, int]]:
    """One end of a pair of sockets that keep packets apart, and the descriptor of the other, which does not block."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        for sock in (ours, theirs):
            sock.setblocking(False)
        yield ours, theirs.fileno()


@pytest.mark.parametrize("raw", [SEGMENT, SEGMENT6], ids=["IPv4", "IPv6"])
def test_without_framing_packets_are_as_they_are(kernel: tuple[socket.socket, int], raw: bytes) -> None:
    sock, descriptor = kernel
    outlet = Outlet(Plug(descriptor=descriptor, framing=Framing.NONE))
    sock.send(raw)
    [packet] = outlet.read()
    assert (packet.payload, packet.offload, packet.partial) == (b"hello", b"", False)
    outlet.write(packet)
    assert sock.recv(2000) == raw


@pytest.mark.parametrize(("raw", "kind"), [(SEGMENT, b"\x08\x00"), (SEGMENT6, b"\x86\xdd")], ids=["IPv4", "IPv6"])
def test_an_ethernet_header_is_taken_off_and_the_right_one_put_on(
    kernel: tuple[socket.socket, int], raw: bytes, kind: bytes
) -> None:
    sock, descriptor = kernel
    outlet = Outlet(Plug(descriptor=descriptor, framing=Framing.ETHERNET))
    sock.send(b"whoever sent it"[:12] + kind + raw)
    [packet] = outlet.read()
    assert packet.to_bytes() == raw
    outlet.write(packet)
    assert sock.recv(2000) == HARDWARE + HARDWARE + kind + raw


def test_what_a_kernel_left_to_hardware_goes_on_to_the_next_kernel(kernel: tuple[socket.socket, int]) -> None:
    sock, descriptor = kernel
    outlet = Outlet(Plug(descriptor=descriptor, framing=Framing.OFFLOAD))
    for header in (TO_BE_SUMMED, NOTHING_TO_DO):
        sock.send(header + SEGMENT)
    unfinished, finished = outlet.read()
    assert unfinished.partial
    assert not finished.partial
    assert unfinished.segment_length == 44
    for packet in (unfinished, finished):
        outlet.write(packet)
    assert [sock.recv(2000) for _ in range(2)] == [TO_BE_SUMMED + SEGMENT, NOTHING_TO_DO + SEGMENT]


def test_what_was_made_here_has_nothing_left_to_do(kernel: tuple[socket.socket, int]) -> None:
    sock, descriptor = kernel
    outlet = Outlet(Plug(descriptor=descriptor, framing=Framing.OFFLOAD))
    packet = tcp_packet(A, 4000, B, 5000, SYN)
    outlet.write(packet)
    assert sock.recv(2000) == NOTHING_TO_DO + packet.to_bytes()


def test_packets_do_not_share_their_bytes(kernel: tuple[socket.socket, int]) -> None:
    sock, descriptor = kernel
    outlet = Outlet(Plug(descriptor=descriptor, framing=Framing.NONE))
    sock.send(SEGMENT)
    sock.send(SEGMENT6)
    assert [bytes(packet.to_bytes()) for packet in outlet.read()] == [SEGMENT, SEGMENT6]


def test_one_interface_does_not_keep_the_others_waiting() -> None:
    reading, writing = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)  # O_DIRECT: it keeps packets apart, as a TUN does
    try:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 20)
        for _ in range(100):
            os.write(writing, SEGMENT)
        outlet = Outlet(Plug(descriptor=reading, framing=Framing.NONE))
        counts = []
        while packets := outlet.read():
            counts.append(len(packets))
        assert sum(counts) == 100
        assert max(counts) < 50
    finally:
        os.close(reading)
        os.close(writing)


def test_what_is_no_packet_is_counted_and_dropped_alone(kernel: tuple[socket.socket, int]) -> None:
    sock, descriptor = kernel
    outlet = Outlet(Plug(descriptor=descriptor, framing=Framing.NONE))
    for data in (b"no packet", SEGMENT, SEGMENT[:30], b"\x00"):
        sock.send(data)
    assert [packet.payload for packet in outlet.read()] == [b"hello"]
    assert (outlet.received, outlet.malformed) == (4, 3)


def test_what_an_interface_does_not_take_is_counted(kernel: tuple[socket.socket, int]) -> None:
    sock, descriptor = kernel
    outlet = Outlet(Plug(descriptor=descriptor, framing=Framing.NONE))
    outlet.write(tcp_packet(A, 4000, B, 5000, SYN))
    sock.close()
    outlet.write(tcp_packet(A, 4000, B, 5000, SYN))
    assert (outlet.delivered, outlet.refused) == (1, 1)
