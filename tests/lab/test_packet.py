"""Packets: bytes to values and back, and checksums that stay right whatever is rewritten.

The checksums are judged by :mod:`packet_checks`, which shares nothing with the code.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packet_checks import ones_complement_sum, transport_of, verify

from midair.lab.packet import (
    ACK,
    FIN,
    ICMP,
    ICMP6,
    PSH,
    RST,
    SYN,
    TCP,
    UDP,
    IcmpReason,
    MalformedPacket,
    Packet,
    address_bytes,
    address_text,
    echo_reply,
    icmp_error,
    is_multicast,
    parse,
    tcp_packet,
)

INSIDE, OUTSIDE, REMOTE = (address_bytes(text) for text in ("10.0.0.2", "198.51.100.7", "192.0.2.10"))
INSIDE_6, OUTSIDE_6, REMOTE_6 = (address_bytes(text) for text in ("fd00::2", "2001:db8:1::7", "2001:db8:2::10"))


def with_options(raw: bytes | bytearray, options: bytes = b"\x94\x04\x00\x00" + b"\x01" * 4) -> bytearray:
    """The same IPv4 packet with options (RFC 791 3.1) in its header."""
    assert len(options) % 4 == 0
    header = bytearray(raw[:20]) + options
    header[0] = 0x40 | len(header) // 4
    struct.pack_into("!H", header, 2, len(raw) + len(options))
    struct.pack_into("!H", header, 10, 0)
    struct.pack_into("!H", header, 10, ~ones_complement_sum(bytes(header)) & 0xFFFF)
    return header + raw[20:]


def as_the_kernel_leaves_it(raw: bytes | bytearray) -> bytearray:
    """The same packet with CHECKSUM_PARTIAL: the pseudo header's sum where the checksum will be."""
    half = bytearray(raw)
    protocol, start, pseudo = transport_of(bytes(raw))
    struct.pack_into("!H", half, start + {TCP: 16, UDP: 6}[protocol], ones_complement_sum(pseudo))
    return half


def finished(raw: bytes | bytearray) -> bytearray:
    """What hardware does to it then."""
    whole = bytearray(raw)
    protocol, start, _ = transport_of(bytes(raw))
    struct.pack_into(
        "!H", whole, start + {TCP: 16, UDP: 6}[protocol], ~ones_complement_sum(bytes(raw[start:])) & 0xFFFF
    )
    return whole


def udp(source: bytes, source_port: int, destination: bytes, destination_port: int, data: bytes = b"") -> Packet:
    packet = Packet(4 if len(source) == 4 else 6, source, destination, UDP, 64, source_port, destination_port)
    packet.data = data
    return packet


def echo(source: bytes, destination: bytes, identifier: int, data: bytes = b"", *, sequence: int = 1) -> Packet:
    version = 4 if len(source) == 4 else 6
    packet = Packet(version, source, destination, ICMP if version == 4 else ICMP6, 64, identifier, 0)
    packet.sequence, packet.data = sequence, data
    return packet


def again(packet: Packet) -> Packet:
    """As it arrives elsewhere."""
    return parse(bytearray(packet.to_bytes()))


def summary(packet: Packet) -> tuple[object, ...]:
    return (
        packet.version,
        packet.source,
        packet.source_port,
        packet.destination,
        packet.destination_port,
        packet.protocol,
        packet.ttl,
        packet.flags,
        packet.sequence,
        packet.acknowledgement,
        packet.payload,
        packet.reason,
        packet.mtu,
    )


ports = st.integers(1, 65535)
v4 = st.binary(min_size=4, max_size=4)
v6 = st.binary(min_size=16, max_size=16)
payloads = st.binary(max_size=70)


@st.composite
def packets(draw: st.DrawFn, *, errors: bool = True) -> Packet:
    """Of every kind that is understood."""
    addresses = draw(st.sampled_from([v4, v6]))
    source, destination = draw(addresses), draw(addresses)
    kind = draw(st.sampled_from(["tcp", "udp", "echo", "reply", "error"] if errors else ["tcp", "udp", "echo"]))
    if kind == "error":
        about = draw(packets(errors=False).filter(lambda packet: len(packet.source) == len(source)))
        reason = draw(st.sampled_from(IcmpReason))
        mtu = draw(st.integers(68, 65535)) if reason is IcmpReason.TOO_BIG else 0
        return icmp_error(reason, about, sender=destination, mtu=mtu)
    if kind == "tcp":
        return tcp_packet(
            source,
            draw(ports),
            destination,
            draw(ports),
            draw(st.integers(0, 255)),
            sequence=draw(st.integers(0, 2**32 - 1)),
            acknowledgement=draw(st.integers(0, 2**32 - 1)),
            ttl=draw(st.integers(1, 255)),
            data=draw(payloads),
        )
    if kind == "udp":
        return udp(source, draw(ports), destination, draw(ports), draw(payloads))
    request = echo(source, destination, draw(ports), draw(payloads), sequence=draw(st.integers(0, 65535)))
    return request if kind == "echo" else echo_reply(request)


# -- building and reading --


@settings(deadline=None)
@given(packets())
def test_a_packet_is_built_with_right_checksums_and_read_back_as_it_was(packet: Packet) -> None:
    verify(packet.to_bytes())
    assert summary(again(packet))[:6] == summary(packet)[:6]
    if packet.quoted is None:
        assert summary(again(packet)) == summary(packet)
    else:
        assert again(packet).reason is packet.reason
        assert again(packet).mtu == packet.mtu
        quoted = again(packet).quoted
        assert quoted is not None
        assert summary(quoted)[:7] == summary(packet.quoted)[:7]


def test_an_ipv4_header_from_elsewhere_is_read_and_its_checksum_agrees() -> None:
    """The header that is the usual example of an IPv4 checksum."""
    raw = bytearray(bytes.fromhex("45000073000040004011b861c0a80001c0a800c7") + b"\x00\x35\x04\xd2\x00\x5f\x00\x00")
    raw += bytes(0x73 - len(raw))
    packet = parse(raw)
    assert (address_text(packet.source), address_text(packet.destination)) == ("192.168.0.1", "192.168.0.199")
    assert (packet.protocol, packet.ttl, packet.source_port, packet.destination_port) == (UDP, 64, 53, 1234)
    packet.set_source(packet.source, 54)
    assert raw[10:12] == bytes.fromhex("b861")
    packet.decrement_ttl()
    verify(raw)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 1399, 1400, 65000])
@pytest.mark.parametrize("addresses", [(INSIDE, REMOTE), (INSIDE_6, REMOTE_6)], ids=["IPv4", "IPv6"])
def test_odd_and_even_lengths_have_right_checksums(size: int, addresses: tuple[bytes, bytes]) -> None:
    data = bytes(number * 7 % 256 for number in range(size))
    source, destination = addresses
    for packet in (
        tcp_packet(source, 1, destination, 2, ACK, data=data),
        udp(source, 1, destination, 2, data),
        echo(source, destination, 9, data),
    ):
        verify(packet.to_bytes())
        assert again(packet).payload == data
        assert packet.length == len(packet.to_bytes())
        assert again(packet).length == packet.length


def test_the_length_is_known_before_the_bytes_are_made() -> None:
    big = tcp_packet(INSIDE, 1, REMOTE, 2, ACK, data=bytes(2000))
    for packet in (
        tcp_packet(INSIDE_6, 1, REMOTE_6, 2, SYN),
        icmp_error(IcmpReason.TOO_BIG, big, sender=REMOTE, mtu=1400),
        icmp_error(IcmpReason.PORT_UNREACHABLE, tcp_packet(INSIDE, 1, REMOTE, 2, SYN), sender=REMOTE),
    ):
        length = packet.length
        assert length == len(packet.to_bytes())


def test_tcp_flags_say_whether_it_asks_for_a_connection() -> None:
    for flags, asks in (
        (SYN, True),
        (SYN | PSH, True),
        (SYN | ACK, False),
        (SYN | RST, False),
        (ACK, False),
        (FIN, False),
    ):
        assert tcp_packet(INSIDE, 1, REMOTE, 2, flags).is_syn is asks


def test_a_packet_shows_what_it_is() -> None:
    assert repr(tcp_packet(INSIDE, 1, REMOTE, 2, SYN | ACK)) == "<TCP SA 10.0.0.2:1 > 192.0.2.10:2>"
    assert "PORT_UNREACHABLE" in repr(icmp_error(IcmpReason.PORT_UNREACHABLE, udp(INSIDE, 1, REMOTE, 2), sender=REMOTE))


def test_what_a_link_has_padded_is_cut_off() -> None:
    """Ethernet pads short frames to 60 bytes."""
    for packet in (tcp_packet(INSIDE, 1, REMOTE, 2, ACK, data=b"x"), udp(INSIDE_6, 1, REMOTE_6, 2, b"x")):
        raw = packet.to_bytes()
        padded = parse(bytearray(raw) + bytes(9))
        assert padded.raw == raw
        assert padded.payload == b"x"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[:0],
        lambda raw: raw[:19],
        lambda raw: raw[:30],
        lambda raw: raw[:-1],
        lambda raw: bytes([0x55]) + raw[1:],
        lambda raw: bytes([0x44]) + raw[1:],
        lambda raw: raw[:2] + b"\x00\x13" + raw[4:],
        lambda raw: raw[:32] + b"\x40" + raw[33:],
        lambda raw: raw[:32] + b"\xf0" + raw[33:],
    ],
    ids=["empty", "IP header", "TCP header", "last byte", "version", "header length", "total", "offset", "long offset"],
)
def test_a_spoilt_tcp_packet_is_malformed(spoil: Callable[[bytes], bytes]) -> None:
    raw = bytes(tcp_packet(INSIDE, 1, REMOTE, 2, ACK, data=b"data").to_bytes())
    with pytest.raises(MalformedPacket):
        parse(bytearray(spoil(raw)))


def test_a_udp_length_that_is_not_the_packets_is_malformed() -> None:
    for version, (source, destination) in ((4, (INSIDE, REMOTE)), (6, (INSIDE_6, REMOTE_6))):
        raw = udp(source, 1, destination, 2, b"data").to_bytes()
        raw[(20 if version == 4 else 40) + 5] += 1
        with pytest.raises(MalformedPacket):
            parse(raw)


@settings(deadline=None)
@given(st.binary(max_size=120))
def test_no_bytes_at_all_make_reading_fail_otherwise(raw: bytes) -> None:
    survives(bytearray(raw))


@settings(deadline=None)
@given(packets(), st.data())
def test_no_change_of_a_packet_makes_reading_fail_otherwise(packet: Packet, data: st.DataObject) -> None:
    raw = bytearray(packet.to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, min(len(raw), 100) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw))) :]
    survives(raw)


def survives(raw: bytearray) -> None:
    """Whatever can be read can be used."""
    try:
        packet = parse(raw)
    except MalformedPacket:
        return
    repr(packet)
    other = packet.copy()
    size = len(other.source)
    for each in (packet, icmp_error(IcmpReason.TIME_EXCEEDED, other, sender=other.destination)):
        each.decrement_ttl()
        if each.quoted is not None:
            each.set_quoted_source(bytes(size), 1 if each.quoted.source_port else 0)
            each.set_quoted_destination(bytes(size), 1 if each.quoted.destination_port else 0)
        each.set_source(bytes(size), 1 if each.source_port else 0)
        each.set_destination(bytes(size), 1 if each.destination_port else 0)
        each.replace_payload(b"a", b"b")
        assert len(each.to_bytes()) == each.length
        parse(bytearray(each.to_bytes()))


def test_a_fragment_and_an_unknown_protocol_have_addresses_and_no_ports() -> None:
    raw = bytes(tcp_packet(INSIDE, 1, REMOTE, 2, SYN).to_bytes())
    more = bytearray(raw)
    more[6] = 0x20
    later = bytearray(raw)
    later[7] = 1
    strange = bytearray(raw)
    strange[9] = 47
    v6_icmp_in_v4 = bytearray(raw)
    v6_icmp_in_v4[9] = ICMP6
    fragment6 = bytearray(tcp_packet(INSIDE_6, 1, REMOTE_6, 2, SYN).to_bytes())
    fragment6[6] = 44
    for spoilt in (more, later, strange, v6_icmp_in_v4, fragment6):
        packet = parse(bytearray(spoilt))
        assert (packet.source_port, packet.destination_port, packet.flags, packet.payload) == (0, 0, 0, b"")
        size = len(packet.source)
        packet.set_source(bytes(range(size)), 0)
        packet.set_destination(bytes(range(size)), 0)
        packet.decrement_ttl()
        assert packet.raw is not None
        behind = 20 if size == 4 else 40
        assert packet.raw[behind:] == spoilt[behind:]
        if size == 4:
            assert ones_complement_sum(bytes(packet.raw[:20])) != 0xFFFF, "the test has spoilt this checksum itself"


# -- rewriting --


@settings(deadline=None)
@given(packets(), st.data())
def test_rewriting_changes_what_it_says_and_keeps_every_checksum_right(packet: Packet, data: st.DataObject) -> None:
    address = v4 if packet.version == 4 else v6
    raw = bytearray(packet.to_bytes())
    if packet.version == 4 and data.draw(st.booleans()):
        raw = with_options(raw)
    packet = parse(raw)
    payload = packet.payload
    source, destination = data.draw(address), data.draw(address)
    source_port = data.draw(ports) if packet.source_port else 0
    destination_port = data.draw(ports) if packet.destination_port else 0
    expected = [*summary(packet)]
    expected[1:5] = [source, source_port, destination, destination_port]
    packet.set_source(source, source_port)
    packet.set_destination(destination, destination_port)
    if packet.decrement_ttl():
        assert isinstance(expected[6], int)
        expected[6] -= 1
    assert [*summary(packet)] == expected
    assert packet.raw is raw
    assert [*summary(parse(bytearray(raw)))] == expected
    assert packet.payload == payload
    verify(raw)


@settings(deadline=None)
@given(packets(errors=False), st.data())
def test_a_packet_without_bytes_is_rewritten_alike(packet: Packet, data: st.DataObject) -> None:
    address = data.draw(v4 if packet.version == 4 else v6)
    port = data.draw(ports) if packet.destination_port else 0
    parsed = again(packet)
    for each in (packet, parsed):
        each.set_destination(address, port)
        each.decrement_ttl()
        each.replace_payload(b"\0\0", b"ab")
    assert summary(packet) == summary(parsed)
    assert packet.to_bytes() == parsed.raw


def test_translating_there_and_back_restores_the_very_bytes() -> None:
    for packet in (
        tcp_packet(INSIDE, 5000, REMOTE, 443, ACK, data=b"odd"),
        udp(INSIDE, 5000, REMOTE, 443, b"even"),
        echo(INSIDE, REMOTE, 5000),
    ):
        parsed = again(packet)
        parsed.set_source(OUTSIDE, 6000)
        assert parsed.raw != packet.raw
        parsed.set_source(INSIDE, 5000)
        assert parsed.raw == packet.raw


def test_the_last_hop_leaves_the_packet_as_it_is() -> None:
    for addresses in ((INSIDE, REMOTE), (INSIDE_6, REMOTE_6)):
        for ttl in (0, 1):
            packet = again(tcp_packet(addresses[0], 1, addresses[1], 2, SYN, ttl=ttl))
            before = bytes(packet.to_bytes())
            assert not packet.decrement_ttl()
            assert packet.to_bytes() == before
            assert packet.ttl == ttl


def test_every_time_to_live_counts_down_to_one_with_right_checksums() -> None:
    for identification in range(0, 65536, 257):  # so that the header checksum passes all carries
        raw = bytearray(tcp_packet(INSIDE, 1, REMOTE, 2, SYN, ttl=255).to_bytes())
        struct.pack_into("!HH", raw, 4, identification, 0)
        struct.pack_into("!H", raw, 10, 0)
        struct.pack_into("!H", raw, 10, ~ones_complement_sum(bytes(raw[:20])) & 0xFFFF)
        packet = parse(raw)
        for left in (254, 253, 252):
            assert packet.decrement_ttl()
            assert raw[8] == packet.ttl == left
            verify(raw)


@pytest.mark.parametrize(
    "addresses", [(INSIDE, REMOTE, OUTSIDE), (INSIDE_6, REMOTE_6, OUTSIDE_6)], ids=["IPv4", "IPv6"]
)
def test_a_checksum_that_hardware_will_finish_stays_the_pseudo_headers(addresses: tuple[bytes, bytes, bytes]) -> None:
    inside, remote, outside = addresses
    for whole in (tcp_packet(inside, 5000, remote, 443, ACK, data=b"odd"), udp(inside, 5000, remote, 443, b"odd")):
        packet = parse(as_the_kernel_leaves_it(whole.to_bytes()), partial=True)
        packet.set_source(outside, 6000)
        packet.set_destination(inside, 7000)
        packet.decrement_ttl()
        packet.replace_payload(b"odd", b"ODD")
        raw = packet.to_bytes()
        assert raw == as_the_kernel_leaves_it(raw)
        verify(finished(raw))
        assert packet.payload == b"ODD"
        assert packet.copy().partial


def test_a_udp_packet_without_checksum_stays_without() -> None:
    raw = udp(INSIDE, 5000, REMOTE, 443, b"data").to_bytes()
    raw[26:28] = b"\0\0"
    packet = parse(raw)
    packet.set_source(OUTSIDE, 6000)
    packet.replace_payload(b"data", b"DATA")
    assert raw[26:28] == b"\0\0"
    verify(raw)


def test_a_udp_checksum_that_comes_out_as_zero_is_written_as_all_ones() -> None:
    """Zero means that there is no checksum (RFC 768), and IPv6 forbids that (RFC 8200 8.1)."""
    for addresses in ((INSIDE, REMOTE), (INSIDE_6, REMOTE_6)):
        found = 0
        for port in range(1, 65536):
            packet = again(udp(addresses[0], 5000, addresses[1], 443))
            packet.set_source(addresses[0], port)
            raw, start = packet.to_bytes(), 20 if len(addresses[0]) == 4 else 40
            assert raw[start + 6 : start + 8] != b"\0\0"
            if raw[start + 6 : start + 8] == b"\xff\xff":
                verify(raw)
                assert udp(addresses[0], port, addresses[1], 443).to_bytes() == raw
                found += 1
        assert found == 1


@settings(deadline=None)
@given(st.binary(max_size=30), st.binary(max_size=30))
def test_a_replaced_payload_is_sealed(before: bytes, after: bytes) -> None:
    data = before + INSIDE + after
    for packet in (tcp_packet(INSIDE, 1, REMOTE, 2, ACK, data=data), udp(INSIDE, 1, REMOTE, 2, data)):
        parsed = again(packet)
        parsed.replace_payload(INSIDE, OUTSIDE)
        assert parsed.payload == data.replace(INSIDE, OUTSIDE)
        verify(parsed.raw)


def test_a_payload_keeps_its_length() -> None:
    with pytest.raises(ValueError, match="length"):
        tcp_packet(INSIDE, 1, REMOTE, 2, ACK, data=b"abc").replace_payload(b"abc", b"abcd")


def test_a_header_option_is_no_payload() -> None:
    """A NAT that rewrites payload must not touch a TCP header with options."""
    raw = tcp_packet(INSIDE, 1, REMOTE, 2, SYN, data=b"\x02\x04\x05\xb4" + b"rest").to_bytes()
    raw[32] = 6 << 4
    packet = parse(raw)
    assert packet.payload == b"rest"
    packet.replace_payload(b"\x05\xb4", b"\0\0")
    assert raw[40:44] == b"\x02\x04\x05\xb4"


def test_a_copy_shares_nothing_that_can_change() -> None:
    error = again(icmp_error(IcmpReason.PORT_UNREACHABLE, tcp_packet(INSIDE, 1, REMOTE, 2, SYN), sender=REMOTE))
    before, copy = summary(error), error.copy()
    raw = bytes(error.to_bytes())
    copy.set_source(OUTSIDE, 0)
    copy.set_quoted_source(OUTSIDE, 9)
    copy.decrement_ttl()
    assert summary(error) == before
    assert bytes(error.to_bytes()) == raw
    assert error.quoted is not None
    assert error.quoted.source == INSIDE
    verify(copy.raw)


# -- ICMP --


@pytest.mark.parametrize("reason", IcmpReason)
@pytest.mark.parametrize("addresses", [(INSIDE, REMOTE), (INSIDE_6, REMOTE_6)], ids=["IPv4", "IPv6"])
def test_an_icmp_error_has_the_registered_type_and_code(reason: IcmpReason, addresses: tuple[bytes, bytes]) -> None:
    about = tcp_packet(addresses[0], 5000, addresses[1], 443, SYN, sequence=77)
    error = icmp_error(reason, about, sender=addresses[1], mtu=1400 if reason is IcmpReason.TOO_BIG else 0)
    raw, start = error.to_bytes(), 20 if len(addresses[0]) == 4 else 40
    kind, code = reason.value[len(addresses[0]) == 16]
    assert (raw[start], raw[start + 1]) == (kind, code)
    read = again(error)
    assert read.is_icmp_error
    assert (read.reason, read.mtu) == (reason, error.mtu)
    assert (read.source, read.destination) == (addresses[1], addresses[0])
    assert read.quoted is not None
    assert (read.quoted.source_port, read.quoted.sequence, read.quoted.flags) == (5000, 77, SYN)
    verify(raw)


def test_the_mtu_of_icmp_is_sixteen_bits_of_icmpv6_thirty_two() -> None:
    """RFC 1191 4, RFC 4443 3.2; RFC 4884 uses a byte before it."""
    raw = icmp_error(IcmpReason.TOO_BIG, udp(INSIDE, 1, REMOTE, 2), sender=REMOTE, mtu=1400).to_bytes()
    raw[25] = 7
    assert parse(raw).mtu == 1400
    raw = icmp_error(IcmpReason.TOO_BIG, udp(INSIDE_6, 1, REMOTE_6, 2), sender=REMOTE_6, mtu=0x10578).to_bytes()
    assert parse(raw).mtu == 0x10578


def test_a_long_packet_is_quoted_in_part() -> None:
    big = tcp_packet(INSIDE, 1, REMOTE, 2, ACK, data=bytes(range(256)) * 6)
    error = icmp_error(IcmpReason.TOO_BIG, big, sender=REMOTE, mtu=1280)
    assert len(error.to_bytes()) == 576
    verify(error.to_bytes())
    read = again(error)
    read.set_quoted_source(OUTSIDE, 6000)
    assert len(read.to_bytes()) == 576
    error.set_quoted_source(OUTSIDE, 6000)
    assert error.to_bytes() == read.to_bytes()
    verify(read.raw)


@settings(deadline=None)
@given(packets(errors=False), st.integers(0, 60).filter(lambda cut: cut != 9), st.data())
def test_a_quoted_packet_is_translated_in_an_error_that_verifies(packet: Packet, cut: int, data: st.DataObject) -> None:
    """However much was quoted beyond the eight bytes that are certain, but for half a checksum of TCP; its own checksum
    is right too if it is there."""
    address = data.draw(v4 if packet.version == 4 else v6)
    port = data.draw(ports)
    header = 20 if packet.version == 4 else 40
    about = again(packet)
    error = icmp_error(IcmpReason.PORT_UNREACHABLE, about, sender=packet.destination)
    raw = error.to_bytes()
    quoted_bytes = len(raw) - header - 8
    del raw[header + 8 + min(quoted_bytes, header + 8 + cut) :]
    struct.pack_into("!H", raw, 2 if packet.version == 4 else 4, len(raw) - (0 if packet.version == 4 else 40))
    error = parse(resealed(raw))
    error.set_quoted_source(address, port)
    verify(error.raw)
    about.set_source(address, port)
    assert error.raw is not None
    quoted = bytes(error.raw[header + 8 :])
    assert quoted == bytes(about.to_bytes()[: len(quoted)])
    read = parse(bytearray(error.raw)).quoted
    assert read is not None
    assert (read.source, read.source_port) == (address, port)


def test_half_a_quoted_checksum_is_left_as_it_is() -> None:
    raw = icmp_error(IcmpReason.TIME_EXCEEDED, tcp_packet(INSIDE, 1, REMOTE, 2, SYN), sender=REMOTE).to_bytes()
    del raw[28 + 20 + 17 :]
    struct.pack_into("!H", raw, 2, len(raw))
    error = parse(resealed(raw))
    half = raw[-1]
    error.set_quoted_source(OUTSIDE, 6000)
    verify(error.raw)
    assert error.length == 28 + 20 + 17
    assert raw[-1] == half


def resealed(raw: bytearray) -> bytearray:
    """With the checksums computed anew, by this file."""
    protocol, start, pseudo = transport_of(bytes(raw))
    if raw[0] >> 4 == 4:
        struct.pack_into("!H", raw, 10, 0)
        struct.pack_into("!H", raw, 10, ~ones_complement_sum(bytes(raw[:start])) & 0xFFFF)
    struct.pack_into("!H", raw, start + 2, 0)
    total = ones_complement_sum((b"" if protocol == ICMP else pseudo) + bytes(raw[start:]))
    struct.pack_into("!H", raw, start + 2, ~total & 0xFFFF)
    return raw


def test_a_quote_behind_ip_options_is_found() -> None:
    about = parse(with_options(tcp_packet(INSIDE, 5000, REMOTE, 443, SYN).to_bytes()))
    error = again(icmp_error(IcmpReason.TIME_EXCEEDED, about, sender=REMOTE))
    assert error.quoted is not None
    assert (error.quoted.source_port, error.quoted.flags) == (5000, SYN)
    error.set_quoted_destination(OUTSIDE, 444)
    verify(error.raw)
    assert error.raw is not None
    verify(error.raw[28:])


def test_an_error_of_an_unknown_kind_can_be_translated_all_the_same() -> None:
    """Protocol unreachable, for one: a NAT translates it (RFC 5508 REQ-4), though nobody here asks for its reason."""
    raw = icmp_error(IcmpReason.PORT_UNREACHABLE, tcp_packet(INSIDE, 1, REMOTE, 2, SYN), sender=REMOTE).to_bytes()
    raw[21] = 2
    error = parse(resealed(raw))
    assert error.reason is None
    assert error.quoted is not None
    error.set_quoted_source(OUTSIDE, 6000)
    verify(error.raw)


@pytest.mark.parametrize(
    "quote",
    [
        b"",
        bytes([0x45]) + bytes(18),
        bytes([0x60]) + bytes(50),
        bytes([0x15]) + bytes(40),
        bytes([0x41]) + bytes(40),
        bytes([0x45]) + bytes(8) + bytes([47]) + bytes(30),
        bytes([0x45]) + bytes(6) + bytes([1]) + bytes([64, TCP]) + bytes(30),
    ],
    ids=["nothing", "short", "wrong family", "no version", "short header", "unknown protocol", "fragment"],
)
def test_an_error_about_something_else_is_one_without_a_quote(quote: bytes) -> None:
    raw = icmp_error(IcmpReason.PORT_UNREACHABLE, tcp_packet(INSIDE, 1, REMOTE, 2, SYN), sender=REMOTE).to_bytes()[:28]
    raw += quote
    struct.pack_into("!H", raw, 2, len(raw))
    error = parse(resealed(raw))
    assert (error.quoted, error.reason) == (None, None)
    assert error.is_icmp_error


def test_an_echo_and_its_reply_have_the_identifier_on_the_askers_side() -> None:
    for source, destination in ((INSIDE, REMOTE), (INSIDE_6, REMOTE_6)):
        request = echo(source, destination, 77, b"abc", sequence=5)
        read = again(request)
        assert (read.source_port, read.destination_port, read.sequence, read.payload) == (77, 0, 5, b"abc")
        assert read.is_echo_request
        reply = again(echo_reply(read))
        assert (reply.source_port, reply.destination_port, reply.sequence, reply.payload) == (0, 77, 5, b"abc")
        assert (reply.source, reply.destination) == (destination, source)
        assert not reply.is_echo_request
        verify(reply.raw)
        error = again(icmp_error(IcmpReason.PORT_UNREACHABLE, reply, sender=source))
        assert error.quoted is not None
        assert (error.quoted.source_port, error.quoted.destination_port) == (0, 77)


def test_addresses_are_written_as_people_write_them() -> None:
    for text in ("192.0.2.1", "2001:db8::1"):
        assert address_text(address_bytes(text)) == text
        assert address_bytes(text) == ip_address(text).packed
    with pytest.raises(ValueError, match="not appear"):
        address_bytes("192.0.2")


def test_groups_are_told_from_hosts() -> None:
    for text, group in (
        ("224.0.0.1", True),
        ("255.255.255.255", True),
        ("ff02::1", True),
        ("192.0.2.1", False),
        ("fe80::1", False),
    ):
        assert is_multicast(address_bytes(text)) is group
