"""IP packets, as far as a router, a NAT and a host need to understand them. Pure.

A packet that came from a kernel keeps its bytes in ``raw``; a change of a header field changes them too, checksums
included (RFC 1624), so that handing it on costs nothing. A packet made here, by a NAT or by the simulated net, has no
bytes until ``to_bytes`` is called.

Understood are IPv4 (RFC 791) and IPv6 (RFC 8200) with TCP, UDP, ICMP echo and ICMP errors (RFC 792, RFC 4443).
Everything else, fragments and extension headers among it, is a packet with addresses and no ports.
"""

from __future__ import annotations

import struct
import sys
from enum import Enum
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

__all__ = [
    "ACK",
    "FIN",
    "ICMP",
    "ICMP6",
    "PSH",
    "RST",
    "SYN",
    "TCP",
    "UDP",
    "IcmpReason",
    "MalformedPacket",
    "Packet",
    "address_bytes",
    "address_text",
    "echo_reply",
    "icmp_error",
    "is_multicast",
    "parse",
    "tcp_packet",
]

ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ICMP6: Final = 58

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10

_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_IPV4_TCP = struct.Struct("!xxHxxHBxxx4s4sHHIIBB")
_TCP = struct.Struct("!HHIIBBHHH")
_UDP = struct.Struct("!HHHH")
_PORTS_AND_SEQUENCE = struct.Struct("!HHI")
_ECHO = struct.Struct("!BBHHH")
_WORD = struct.Struct("!H")
_UNDERSTOOD_IN_4: Final = frozenset({TCP, UDP, ICMP})
_UNDERSTOOD_IN_6: Final = frozenset({TCP, UDP, ICMP6})
_ICMP_ERRORS: Final = frozenset({3, 11, 12})
"""Types that quote a packet and are not obsolete; of ICMPv6 all below 128."""
_CHECKSUM_OFFSETS: Final = {TCP: 16, UDP: 6, ICMP: 2, ICMP6: 2}
_NEW: Final = object.__new__
_QUOTED_BYTES = 576 - 20 - 8
"""How much of a packet an ICMP error quotes (RFC 1812 4.3.2.3)."""


class MalformedPacket(ValueError):
    """These bytes are no IP packet."""


class IcmpReason(Enum):
    """Why a packet came back: type and code in ICMP (RFC 792) and in ICMPv6 (RFC 4443)."""

    NET_UNREACHABLE = ((3, 0), (1, 0))
    HOST_UNREACHABLE = ((3, 1), (1, 3))
    PORT_UNREACHABLE = ((3, 3), (1, 4))
    TOO_BIG = ((3, 4), (2, 0))
    ADMIN_PROHIBITED = ((3, 13), (1, 1))
    TIME_EXCEEDED = ((11, 0), (3, 0))


_REASONS = {
    (version, value): reason for reason in IcmpReason for version, value in zip((4, 6), reason.value, strict=True)
}


class Packet:
    """One IP packet. Addresses are packed bytes, 4 or 16; ports of ICMP echo are its identifier (on the side of the
    asker) and 0."""

    __slots__ = (
        "_checksum",
        "_transport",
        "acknowledgement",
        "data",
        "destination",
        "destination_port",
        "flags",
        "mtu",
        "offload",
        "partial",
        "protocol",
        "quoted",
        "raw",
        "reason",
        "sequence",
        "source",
        "source_port",
        "ttl",
        "version",
    )

    version: int
    source: bytes
    destination: bytes
    ttl: int
    protocol: int
    source_port: int
    destination_port: int
    flags: int
    """TCP's; 0 otherwise."""
    sequence: int
    """TCP's, or that of an ICMP echo."""
    acknowledgement: int
    reason: IcmpReason | None
    """Of an ICMP error of a kind we know."""
    quoted: Packet | None
    """Of an ICMP error: the packet it is about, as far as it was quoted."""
    mtu: int
    """Of TOO_BIG."""
    data: bytes
    """Payload of a packet without ``raw``."""
    raw: bytearray | None
    partial: bool
    """The transport checksum in ``raw`` covers only the pseudo header yet (a kernel left the rest to hardware)."""
    offload: bytes
    """What a kernel said of the work it left to hardware: a ``struct virtio_net_hdr`` (VIRTIO 1.2, 5.1.6), or empty."""

    def __init__(
        self,
        version: int,
        source: bytes,
        destination: bytes,
        protocol: int,
        ttl: int = 64,
        source_port: int = 0,
        destination_port: int = 0,
        raw: bytearray | None = None,
        transport: int = 0,
    ) -> None:
        self.version = version
        self.source = source
        self.destination = destination
        self.protocol = protocol
        self.ttl = ttl
        self.source_port = source_port
        self.destination_port = destination_port
        self.flags = self.sequence = self.acknowledgement = self.mtu = 0
        self.reason = None
        self.quoted = None
        self.data = b""
        self.raw = raw
        self.partial = False
        self.offload = b""
        self._transport = transport
        self._checksum = 0

    # -- reading --

    @property
    def is_syn(self) -> bool:
        """Whether it asks for a connection: SYN without ACK and RST."""
        return self.flags & (SYN | ACK | RST) == SYN

    @property
    def is_icmp_error(self) -> bool:
        """Whether it is ICMP, but no echo: no ICMP error answers it (RFC 1122 3.2.2)."""
        return self.protocol in (ICMP, ICMP6) and not self.source_port and not self.destination_port

    @property
    def is_echo_request(self) -> bool:
        """Whether it is an ICMP echo request."""
        return self.protocol in (ICMP, ICMP6) and self.source_port != 0

    @property
    def may_be_fragmented(self) -> bool:
        """Whether a router may cut it in pieces: IPv4 without "don't fragment" (RFC 791 3.1)."""
        return self.version == 4 and self.raw is not None and not self.raw[6] & 0x40

    @property
    def payload(self) -> bytes:
        """What TCP, UDP or an ICMP echo carries; of anything else nothing."""
        if self.raw is None:
            return self.data
        return bytes(memoryview(self.raw)[self._payload_start() :]) if self._transport else b""

    @property
    def length(self) -> int:
        """Bytes on the wire."""
        if self.raw is not None:
            return len(self.raw)
        network = 20 if self.version == 4 else 40
        if self.reason is not None and self.quoted is not None:
            return network + 8 + min(self.quoted.length, _QUOTED_BYTES)
        return network + (20 if self.protocol == TCP else 8) + len(self.data)

    @property
    def segment_length(self) -> int:
        """Bytes of the largest packet it will be on a real link: a segment of it, when the kernel left it whole."""
        if self.offload and (segment_size := int.from_bytes(self.offload[4:6], sys.byteorder)):
            return self._payload_start() + segment_size
        return self.length

    def __repr__(self) -> str:
        flags = "".join(name for bit, name in ((SYN, "S"), (FIN, "F"), (RST, "R"), (ACK, "A")) if self.flags & bit)
        what = self.reason.name if self.reason else {TCP: f"TCP {flags}", UDP: "UDP"}.get(self.protocol, "")
        return (
            f"<{what or self.protocol} {address_text(self.source)}:{self.source_port} > "
            f"{address_text(self.destination)}:{self.destination_port}>"
        )

    # -- changing --

    def set_source(self, address: bytes, port: int) -> None:
        """Translates where it is from."""
        if self.raw is not None:
            self._rewrite(12 if self.version == 4 else 8, self.source, address, 0, self.source_port, port)
        self.source, self.source_port = address, port

    def set_destination(self, address: bytes, port: int) -> None:
        """Translates where it goes."""
        if self.raw is not None:
            self._rewrite(16 if self.version == 4 else 24, self.destination, address, 2, self.destination_port, port)
        self.destination, self.destination_port = address, port

    def decrement_ttl(self) -> bool:
        """One hop; False when that was the last, and the packet is unchanged then."""
        if self.ttl <= 1:
            return False
        self.ttl -= 1
        if (raw := self.raw) is not None:
            if self.version == 4:
                raw[8] = self.ttl
                if raw[10] < 0xFE:
                    raw[10] += 1
                else:
                    _subtract(raw, 10, -0x100)
            else:
                raw[7] = self.ttl
        return True

    def set_quoted_source(self, address: bytes, port: int) -> None:
        """Of an ICMP error: translates where the packet it is about was from."""
        assert self.quoted is not None
        self.quoted.set_source(address, port)
        self._requote(self.quoted)

    def set_quoted_destination(self, address: bytes, port: int) -> None:
        """Of an ICMP error: translates where the packet it is about was going."""
        assert self.quoted is not None
        self.quoted.set_destination(address, port)
        self._requote(self.quoted)

    def _requote(self, quoted: Packet) -> None:
        if self.raw is not None:
            start = self._transport + 8
            self.raw[start:] = quoted.to_bytes()[: len(self.raw) - start]
            self._seal(self.raw)

    def replace_payload(self, old: bytes, new: bytes) -> None:
        """Replaces bytes in what TCP or UDP carries.

        Raises: ValueError when both are not equally long, since nothing here renumbers a TCP stream.
        """
        if len(old) != len(new):
            raise ValueError("a payload keeps its length")
        if self.raw is None:
            self.data = self.data.replace(old, new)
            return
        payload = self.payload
        if old in payload:
            self.raw[self._payload_start() :] = payload.replace(old, new)
            if not self.partial:
                self._seal(self.raw)

    def copy(self) -> Packet:
        """A second one, which shares nothing that can change."""
        other = Packet(
            self.version,
            self.source,
            self.destination,
            self.protocol,
            self.ttl,
            self.source_port,
            self.destination_port,
            None if self.raw is None else bytearray(self.raw),
            self._transport,
        )
        other.flags, other.sequence, other.acknowledgement = self.flags, self.sequence, self.acknowledgement
        other.reason, other.mtu, other.data, other.partial = self.reason, self.mtu, self.data, self.partial
        other.offload, other._checksum = self.offload, self._checksum
        other.quoted = self.quoted.copy() if self.quoted is not None else None
        return other

    # -- bytes --

    def to_bytes(self) -> bytearray:
        """The packet as a kernel takes it; made at the first call."""
        if self.raw is None:
            self.raw = self._build()
        return self.raw

    def _build(self) -> bytearray:
        body = self._build_body()
        if self.version == 4:
            header = bytearray(
                _IPV4.pack(
                    0x45, 0, 20 + len(body), 0, 0x4000, self.ttl, self.protocol, 0, self.source, self.destination
                )
            )
            _WORD.pack_into(header, 10, ~_folded(_sum(header)) & 0xFFFF)
        else:
            header = bytearray(_IPV6.pack(6 << 28, len(body), self.protocol, self.ttl, self.source, self.destination))
        self._transport = len(header)
        self._checksum = self._transport + _CHECKSUM_OFFSETS[self.protocol]
        raw = header + body
        self._seal(raw)
        return raw

    def _build_body(self) -> bytes:
        if self.protocol == TCP:
            return (
                _TCP.pack(
                    self.source_port,
                    self.destination_port,
                    self.sequence,
                    self.acknowledgement,
                    5 << 4,
                    self.flags,
                    0 if self.flags & RST else 65535,
                    0,
                    0,
                )
                + self.data
            )
        if self.protocol == UDP:
            return struct.pack("!HHHH", self.source_port, self.destination_port, 8 + len(self.data), 0) + self.data
        if self.reason is not None and self.quoted is not None:
            kind, code = self.reason.value[self.version == 6]
            return struct.pack("!BBHI", kind, code, 0, self.mtu) + bytes(self.quoted.to_bytes()[:_QUOTED_BYTES])
        asking, answering = (8, 0) if self.version == 4 else (128, 129)
        kind = asking if self.source_port else answering
        return struct.pack("!BBHHH", kind, 0, 0, self.source_port or self.destination_port, self.sequence) + self.data

    def _seal(self, raw: bytearray) -> None:
        """Computes the transport checksum of ``raw`` anew."""
        if not self._checksum:
            return
        _WORD.pack_into(raw, self._checksum, 0)
        total = _sum(memoryview(raw)[self._transport :])
        if self.protocol != ICMP:
            total += _sum(self.source) + _sum(self.destination) + self.protocol + len(raw) - self._transport
        checksum = ~_folded(total) & 0xFFFF
        _WORD.pack_into(raw, self._checksum, checksum or (0xFFFF if self.protocol == UDP else 0))

    def _payload_start(self) -> int:
        raw, start = self.raw, self._transport
        assert raw is not None
        if self.protocol == TCP:
            return start + (raw[start + 12] >> 4) * 4
        return start + 8

    def _rewrite(self, where: int, old: bytes, new: bytes, port_offset: int, old_port: int, new_port: int) -> None:
        """Writes an address and a port into ``raw`` and corrects the checksums by the difference (RFC 1624)."""
        raw, start, at, protocol = self.raw, self._transport, self._checksum, self.protocol
        assert raw is not None
        difference = 0
        if old != new:
            difference = _difference(old, new)
            raw[where : where + len(new)] = new
            if self.version == 4:
                checksum = ((raw[10] << 8 | raw[11]) - difference) % 0xFFFF  # as _subtract does, without the call
                raw[10], raw[11] = checksum >> 8, checksum & 0xFF
        if not start:
            return
        if new_port != old_port:
            _WORD.pack_into(raw, start + (port_offset if protocol in (TCP, UDP) else 4), new_port)
        if self.partial:
            # It is the sum of the pseudo header itself, not its complement; ports are summed later.
            difference = -difference
        else:
            if protocol == ICMP:
                difference = 0  # there is no pseudo header
            difference += new_port - old_port
        if at:
            checksum = ((raw[at] << 8 | raw[at + 1]) - difference) % 0xFFFF
            if protocol == UDP and not checksum:
                checksum = 0xFFFF  # 0 would say that there is none (RFC 768)
            raw[at], raw[at + 1] = checksum >> 8, checksum & 0xFF


def parse(raw: bytearray, *, partial: bool = False) -> Packet:
    """Understands one packet; ``raw`` is the packet's from then on. ``partial``: see :attr:`Packet.partial`.

    Raises: MalformedPacket when it is not IP, or ends within its headers.
    """
    try:
        if raw[0] == 0x45 and raw[9] == TCP and (packet := _parse_tcp_over_ipv4(raw)) is not None:
            packet.partial = partial
            return packet
        if raw[0] >> 4 == 4:
            first, _, total, _, fragment, ttl, protocol, _, source, destination = _IPV4.unpack_from(raw)
            start = (first & 15) * 4
            if start < 20 or total < start:
                raise MalformedPacket("an IPv4 header with impossible lengths")
            if fragment & 0x3FFF or protocol not in _UNDERSTOOD_IN_4:
                start = 0
            packet = Packet(4, source, destination, protocol, ttl, raw=raw, transport=start)
        elif raw[0] >> 4 == 6:
            _, total, protocol, ttl, source, destination = _IPV6.unpack_from(raw)
            total += 40
            start = 40 if protocol in _UNDERSTOOD_IN_6 else 0
            packet = Packet(6, source, destination, protocol, ttl, raw=raw, transport=start)
        else:
            raise MalformedPacket(f"IP version {raw[0] >> 4}")
        if total != len(raw):
            if total > len(raw):
                raise MalformedPacket("a packet shorter than it says")
            del raw[total:]  # what a link has padded
        packet.partial = partial
        if start:
            _parse_transport(packet, raw, start)
    except (struct.error, IndexError) as error:
        raise MalformedPacket("a packet that ends within its headers") from error
    return packet


def _parse_tcp_over_ipv4(raw: bytearray) -> Packet | None:
    """Nearly every packet of a busy wire is one of these, so they have a way of their own, three times as fast; None
    when there is anything unusual about it. Raises: struct.error."""
    packet = _NEW(Packet)
    (
        total,
        fragment,
        packet.ttl,
        packet.source,
        packet.destination,
        packet.source_port,
        packet.destination_port,
        packet.sequence,
        packet.acknowledgement,
        offset,
        packet.flags,
    ) = _IPV4_TCP.unpack_from(raw)
    if total != len(raw) or fragment & 0x3FFF or offset < 0x50 or 20 + (offset >> 4) * 4 > total:
        return None
    packet.version, packet.protocol, packet.raw = 4, TCP, raw
    packet._transport, packet._checksum = 20, 36
    packet.reason = packet.quoted = None
    packet.data = packet.offload = b""
    packet.mtu = 0
    return packet


def _parse_transport(packet: Packet, raw: bytearray, start: int) -> None:
    protocol = packet.protocol
    if protocol == TCP:
        (
            packet.source_port,
            packet.destination_port,
            packet.sequence,
            packet.acknowledgement,
            offset,
            packet.flags,
            _,
            _,
            _,
        ) = _TCP.unpack_from(raw, start)
        offset = (offset >> 4) * 4
        if offset < 20 or start + offset > len(raw):
            raise MalformedPacket("a TCP header with an impossible length")
        packet._checksum = start + 16
    elif protocol == UDP:
        packet.source_port, packet.destination_port, length, checksum = _UDP.unpack_from(raw, start)
        if start + length != len(raw):
            raise MalformedPacket("a UDP length other than the packet's")
        packet._checksum = start + 6 if checksum else 0
    else:
        kind, code, _, identifier, sequence = _ECHO.unpack_from(raw, start)
        packet._checksum = start + 2
        asking, answering = (8, 0) if protocol == ICMP else (128, 129)
        if kind == asking:
            packet.source_port, packet.sequence = identifier, sequence
        elif kind == answering:
            packet.destination_port, packet.sequence = identifier, sequence
        elif kind in _ICMP_ERRORS if protocol == ICMP else kind < 128:
            packet.quoted = _parse_quoted(raw[start + 8 :])
            if packet.quoted is not None:
                packet.reason = _REASONS.get((packet.version, (kind, code)))
            if packet.reason is IcmpReason.TOO_BIG:
                packet.mtu = sequence if protocol == ICMP else identifier << 16 | sequence


def _parse_quoted(raw: bytearray) -> Packet | None:
    """The beginning of a packet, of which eight bytes behind the IP header are certain (RFC 792)."""
    try:
        if raw[0] >> 4 == 4:
            first, _, _, _, fragment, ttl, protocol, _, source, destination = _IPV4.unpack_from(raw)
            start = (first & 15) * 4
            if start < 20 or fragment & 0x1FFF or protocol not in _UNDERSTOOD_IN_4:
                return None
        elif raw[0] >> 4 == 6:
            _, _, protocol, ttl, source, destination = _IPV6.unpack_from(raw)
            start = 40
            if protocol not in _UNDERSTOOD_IN_6:
                return None
        else:
            return None
        packet = Packet(raw[0] >> 4, source, destination, protocol, ttl, raw=raw, transport=start)
        if protocol == TCP:
            packet.source_port, packet.destination_port, packet.sequence = _PORTS_AND_SEQUENCE.unpack_from(raw, start)
            packet.flags = raw[start + 13] if len(raw) > start + 13 else SYN
        elif protocol == UDP:
            packet.source_port, packet.destination_port, _, checksum = _UDP.unpack_from(raw, start)
            if not checksum:
                return packet
        else:
            kind, _, _, identifier, packet.sequence = _ECHO.unpack_from(raw, start)
            if kind in (8, 128):
                packet.source_port = identifier
            elif kind in (0, 129):
                packet.destination_port = identifier
    except (struct.error, IndexError):
        return None
    checksum = start + _CHECKSUM_OFFSETS[protocol]
    packet._checksum = checksum if checksum + 2 <= len(raw) else 0
    return packet


def tcp_packet(
    source: bytes,
    source_port: int,
    destination: bytes,
    destination_port: int,
    flags: int,
    *,
    sequence: int = 0,
    acknowledgement: int = 0,
    ttl: int = 64,
    data: bytes = b"",
) -> Packet:
    """A TCP segment."""
    packet = Packet(4 if len(source) == 4 else 6, source, destination, TCP, ttl, source_port, destination_port)
    packet.flags, packet.data = flags, data
    packet.sequence, packet.acknowledgement = sequence & 0xFFFFFFFF, acknowledgement & 0xFFFFFFFF
    return packet


def icmp_error(reason: IcmpReason, about: Packet, *, sender: bytes, mtu: int = 0) -> Packet:
    """What ``sender`` answers to a packet that cannot go on. The caller sees to it that no ICMP error is answered by
    another (RFC 1122 3.2.2)."""
    packet = Packet(about.version, sender, about.source, ICMP if about.version == 4 else ICMP6)
    packet.reason, packet.quoted, packet.mtu = reason, about.copy(), mtu
    return packet


def echo_reply(request: Packet) -> Packet:
    """The answer to an ICMP echo request, from the address that was asked."""
    reply = Packet(request.version, request.destination, request.source, request.protocol)
    reply.destination_port, reply.sequence, reply.data = request.source_port, request.sequence, request.payload
    return reply


def is_multicast(address: bytes) -> bool:
    """Whether it names a group, or everybody on a link."""
    return address[0] == 0xFF if len(address) == 16 else address[0] >= 224


@lru_cache(maxsize=4096)
def address_bytes(text: str) -> bytes:
    """``192.0.2.1`` or ``2001:db8::1`` as a packet has it. Raises: ValueError."""
    return ip_address(text).packed


def address_text(address: bytes) -> str:
    """The same for people."""
    return str(ip_address(address))


def _sum(data: bytes | bytearray | memoryview) -> int:
    """The sum of all 16-bit words; an odd last byte is padded (RFC 1071). By arithmetic modulo 65535, in which every
    word counts the same whatever its position."""
    if len(data) % 2:
        data = bytes(data) + b"\0"
    total = int.from_bytes(data, "big")
    return total % 0xFFFF if total % 0xFFFF or not total else 0xFFFF


@lru_cache(maxsize=4096)
def _difference(old: bytes, new: bytes) -> int:
    """By how much the sum of the words grows."""
    return _sum(new) - _sum(old)


def _folded(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _subtract(raw: bytearray, where: int, difference: int) -> None:
    """Corrects the checksum at ``where`` for words whose sum has grown by ``difference`` (RFC 1624, equation 4)."""
    _WORD.pack_into(raw, where, ((raw[where] << 8 | raw[where + 1]) - difference) % 0xFFFF)
