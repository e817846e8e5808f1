"""Capture files: what is written is read again, and tells how a connection began."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest

from midair.lab.capture import CaptureWriter, read_capture, syn_story
from midair.lab.network import Direction
from midair.lab.packet import ACK, RST, SYN, IcmpReason, address_bytes, icmp_error, parse, tcp_packet

A, B = address_bytes("10.1.0.2"), address_bytes("203.0.113.2")
A6, B6 = address_bytes("2001:db8:a::2"), address_bytes("2001:db8:b::2")
NOON = 1_700_000_000_123_456_789


def a_capture() -> bytes:
    """Of a SYN that is answered by RST, and one over IPv6 whose answer is an ICMP error; with data in between."""
    file = io.BytesIO()
    writer = CaptureWriter(file)
    syn = tcp_packet(A, 4000, B, 5000, SYN)
    writer.write(NOON, "a", 0, Direction.SENT, syn)
    writer.write(NOON + 50_000_000, "b", 1, Direction.RECEIVED, syn)
    writer.write(NOON + 51_000_000, "b", 1, Direction.SENT, tcp_packet(B, 5000, A, 4000, RST | ACK))
    writer.write(NOON + 60_000_000, "a", 0, Direction.SENT, tcp_packet(A, 4000, B, 5000, ACK, data=b"odd"))
    syn6 = tcp_packet(A6, 4001, B6, 5000, SYN)
    writer.write(NOON + 70_000_000, "a", 0, Direction.SENT, syn6)
    error = icmp_error(IcmpReason.PORT_UNREACHABLE, syn6, sender=B6)
    writer.write(NOON + 80_000_000, "a", 0, Direction.RECEIVED, error)
    return file.getvalue()


def test_what_was_written_is_read_again_with_its_time_place_and_direction() -> None:
    records = list(read_capture(io.BytesIO(a_capture())))
    assert [(record.time - NOON, record.node, record.port, record.direction) for record in records[:3]] == [
        (0, "a", 0, Direction.SENT),
        (50_000_000, "b", 1, Direction.RECEIVED),
        (51_000_000, "b", 1, Direction.SENT),
    ]
    assert bytes(records[3].packet.payload) == b"odd"
    assert records[5].packet.reason is IcmpReason.PORT_UNREACHABLE


def test_the_file_is_pcapng() -> None:
    """The blocks, as draft-ietf-opsawg-pcapng has them, taken apart by hand."""
    data, kinds, directions = a_capture(), [], []
    assert struct.unpack_from("<IIIHHq", data) == (0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1)
    position = 0
    while position < len(data):
        kind, length = struct.unpack_from("<II", data, position)
        assert length % 4 == 0
        assert struct.unpack_from("<I", data, position + length - 4)[0] == length
        kinds.append(kind)
        if kind == 1:
            assert struct.unpack_from("<HHI", data, position + 8) == (108, 0, 0)  # LINKTYPE_LOOP, no limit of size
        if kind == 6:  # epb_flags: 1 for inbound, 2 for outbound; then the end of options, and the length again
            directions.append(struct.unpack_from("<HHI", data, position + length - 16))
        position += length
    assert kinds == [0x0A0D0D0A, 1, 6, 1, 6, 6, 6, 6, 6]
    assert directions == [(2, 4, bits) for bits in (2, 1, 2, 2, 2, 1)]


def test_the_story_has_syns_resets_and_errors_and_leaves_out_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "story.pcapng"
    path.write_bytes(a_capture())
    assert syn_story(path) == [
        "     0.0 ms  a:0 sent      SYN 10.1.0.2:4000 > 203.0.113.2:5000",
        "    50.0 ms  b:1 received  SYN 10.1.0.2:4000 > 203.0.113.2:5000",
        "    51.0 ms  b:1 sent      RST 203.0.113.2:5000 > 10.1.0.2:4000",
        "    70.0 ms  a:0 sent      SYN [2001:db8:a::2]:4001 > [2001:db8:b::2]:5000",
        "    80.0 ms  a:0 received  ICMP port unreachable from 2001:db8:b::2 about"
        " [2001:db8:a::2]:4001 > [2001:db8:b::2]:5000",
    ]
    assert [line.split()[2] for line in syn_story(path, nodes=["b"])] == ["b:1", "b:1"]


def test_a_syn_ack_is_told_from_a_syn(tmp_path: Path) -> None:
    path = tmp_path / "story.pcapng"
    with path.open("wb") as file:
        CaptureWriter(file).write(NOON, "a", 0, Direction.SENT, tcp_packet(A, 1, B, 2, SYN | ACK))
    assert syn_story(path) == ["     0.0 ms  a:0 sent      SYN-ACK 10.1.0.2:1 > 203.0.113.2:2"]


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_capture_whose_writer_was_killed_ends_with_its_last_whole_packet(cut: int) -> None:
    assert len(list(read_capture(io.BytesIO(a_capture()[:-cut])))) == 5


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n and so on and so on", struct.pack("<II", 6, 12) + bytes(200), bytes(64)]
)
def test_what_is_no_capture_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no capture"):
        list(read_capture(io.BytesIO(data)))


def test_writing_does_not_change_the_packet() -> None:
    packet = parse(tcp_packet(A, 1, B, 2, ACK, data=b"odd").to_bytes())
    before = bytes(packet.to_bytes())
    CaptureWriter(io.BytesIO()).write(NOON, "a", 0, Direction.SENT, packet)
    assert packet.to_bytes() == before
