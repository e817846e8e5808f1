"""IP packets, as far as a router, a NAT and a host need to understand them. Pure.

A packet that came from a kernel keeps its bytes in ``raw``; a change of a header field changes them too, checksums
included (RFC 1624), so that handing it on costs nothing. A packet made here, by a NAT or by the simulated net, has no
bytes until ``to_bytes`` is called.

Understood are IPv4 (RFC 791) and IPv6 (RFC 8200) with TCP, UDP, ICMP echo and ICMP errors (RFC 792, RFC 4443).
Everything else, fragments and extension headers among it, is a packet with addresses and no ports.
"""

from __future__ import annotations

import struct
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
    "icmp_error",
    "parse",
    "tcp_packet",
]

ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ICMP6: Final = 58
_FRAGMENT: Final = 44

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10

_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_TCP = struct.Struct("!HHIIBBHHH")
_PORTS = struct.Struct("!HHH")
_WORD = struct.Struct("!H")
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
        "_transport",
        "acknowledgement",
        "data",
        "destination",
        "destination_port",
        "flags",
        "mtu",
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
    acknowledgement: int
    reason: IcmpReason | None
    """Of an ICMP error we understand."""
    quoted: Packet | None
    """Of an ICMP error: the packet it is about, as far as it was quoted."""
    mtu: int
    """Of TOO_BIG."""
    data: bytes
    """Payload of a packet without ``raw``."""
    raw: bytearray | None
    partial: bool
    """The transport checksum in ``raw`` covers only the pseudo header yet (a kernel left the rest to hardware)."""

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
        self._transport = transport

    # -- reading --

    @property
    def is_syn(self) -> bool:
        """Whether it asks for a connection: SYN without ACK and RST."""
        return self.flags & (SYN | ACK | RST) == SYN

    @property
    def payload(self) -> bytes:
        """What TCP or UDP carries."""
        if self.raw is None:
            return self.data
        return bytes(memoryview(self.raw)[self._payload_start() :])

    @property
    def length(self) -> int:
        """Bytes on the wire."""
        if self.raw is not None:
            return len(self.raw)
        network = 20 if self.version == 4 else 40
        if self.reason is not None and self.quoted is not None:
            return network + 8 + min(self.quoted.length, _QUOTED_BYTES)
        return network + (20 if self.protocol == TCP else 8) + len(self.data)

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
                raw[8] -= 1
                checksum = (raw[10] << 8 | raw[11]) + 0x100
                checksum = (checksum & 0xFFFF) + (checksum >> 16)
                raw[10], raw[11] = checksum >> 8, checksum & 0xFF
            else:
                raw[7] -= 1
        return True

    def replace_payload(self, old: bytes, new: bytes) -> None:
        """Replaces bytes in what TCP or UDP carries.

        Raises: ValueError when both are not equally long, since nothing here renumbers a TCP stream.
        """
        if len(old) != len(new):
            raise ValueError("a payload keeps its length")
        if self.raw is None:
            self.data = self.data.replace(old, new)
            return
        start = self._payload_start()
        payload = self.payload
        if old in payload:
            self.raw[start:] = payload.replace(old, new)
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
        return struct.pack("!BBHHH", kind, 0, 0, self.source_port or self.destination_port, 0) + self.data

    def _seal(self, raw: bytearray) -> None:
        """Computes the transport checksum of ``raw`` anew."""
        start = self._transport
        offset = {TCP: 16, UDP: 6, ICMP: 2, ICMP6: 2}.get(self.protocol)
        if offset is None or not start:
            return
        _WORD.pack_into(raw, start + offset, 0)
        total = _sum(memoryview(raw)[start:])
        if self.protocol != ICMP:
            total += _sum(self.source) + _sum(self.destination) + self.protocol + len(raw) - start
        checksum = ~_folded(total) & 0xFFFF
        _WORD.pack_into(raw, start + offset, checksum or (0xFFFF if self.protocol == UDP else 0))

    def _payload_start(self) -> int:
        raw, start = self.raw, self._transport
        assert raw is not None
        if self.protocol == TCP:
            return start + (raw[start + 12] >> 4) * 4
        return start + 8

    def _rewrite(self, where: int, old: bytes, new: bytes, port_offset: int, old_port: int, new_port: int) -> None:
        """Writes an address and a port into ``raw`` and corrects the checksums by the difference (RFC 1624)."""
        raw, start = self.raw, self._transport
        assert raw is not None
        difference = _words(new) - _words(old)
        raw[where : where + len(new)] = new
        if self.version == 4 and difference:
            _adjust(raw, 10, difference)
        if not start:
            return
        protocol = self.protocol
        if protocol in (TCP, UDP):
            checksum = start + (16 if protocol == TCP else 6)
            if self.partial:
                # It is the sum of the pseudo header itself, not its complement; ports are summed later.
                total = _folded((raw[checksum] << 8 | raw[checksum + 1]) + difference % 0xFFFF)
                raw[checksum], raw[checksum + 1] = total >> 8, total & 0xFF
                difference = 0
            else:
                difference += new_port - old_port
            if new_port != old_port:
                _WORD.pack_into(raw, start + port_offset, new_port)
            if difference and not (protocol == UDP and not raw[checksum] and not raw[checksum + 1]):
                _adjust(raw, checksum, difference)
        elif old_port or new_port:  # ICMP echo: the identifier, of one of its sides
            _WORD.pack_into(raw, start + 4, new_port)
            _adjust(raw, start + 2, new_port - old_port + (difference if protocol == ICMP6 else 0))
        elif protocol == ICMP6:
            _adjust(raw, start + 2, difference)


def parse(raw: bytearray, *, partial: bool = False) -> Packet:
    """Understands one packet; ``raw`` is the packet's from then on. ``partial``: see :attr:`Packet.partial`.

    Raises: MalformedPacket when it is not IP, or ends within its headers.
    """
    try:
        if raw[0] >> 4 == 4:
            first, _, total, _, fragment, ttl, protocol, _, source, destination = _IPV4.unpack_from(raw)
            start = (first & 15) * 4
            if start < 20 or total < start or total > len(raw):
                raise MalformedPacket("an IPv4 header with impossible lengths")
            if fragment & 0x3FFF:
                start = 0
            packet = Packet(4, source, destination, protocol, ttl, raw=raw, transport=start)
        elif raw[0] >> 4 == 6:
            _, _, protocol, ttl, source, destination = _IPV6.unpack_from(raw)
            start = 40 if protocol in (TCP, UDP, ICMP6) else 0
            packet = Packet(6, source, destination, protocol, ttl, raw=raw, transport=start)
        else:
            raise MalformedPacket(f"IP version {raw[0] >> 4}")
        packet.partial = partial
        if start:
            _parse_transport(packet, raw, start)
    except (struct.error, IndexError) as error:
        raise MalformedPacket("a packet that ends within its headers") from error
    return packet


def _parse_transport(packet: Packet, raw: bytearray, start: int) -> None:
    protocol = packet.protocol
    if protocol == TCP:
        (
            packet.source_port,
            packet.destination_port,
            packet.sequence,
            packet.acknowledgement,
            _,
            packet.flags,
            _,
            _,
            _,
        ) = _TCP.unpack_from(raw, start)
    elif protocol == UDP:
        packet.source_port, packet.destination_port, _ = _PORTS.unpack_from(raw, start)
    elif protocol in (ICMP, ICMP6):
        kind, code = raw[start], raw[start + 1]
        asking, answering = (8, 0) if protocol == ICMP else (128, 129)
        if kind == asking:
            packet.source_port = _WORD.unpack_from(raw, start + 4)[0]
        elif kind == answering:
            packet.destination_port = _WORD.unpack_from(raw, start + 4)[0]
        elif reason := _REASONS.get((packet.version, (kind, code))):
            packet.quoted = _parse_quoted(raw[start + 8 :])
            if packet.quoted is not None:
                packet.reason = reason
                packet.mtu = int.from_bytes(raw[start + 4 : start + 8], "big") if reason is IcmpReason.TOO_BIG else 0


def _parse_quoted(raw: bytearray) -> Packet | None:
    """The beginning of a packet, of which eight bytes behind the IP header are certain (RFC 792)."""
    try:
        if raw[0] >> 4 == 4:
            first, _, _, _, _, ttl, protocol, _, source, destination = _IPV4.unpack_from(raw)
            start = (first & 15) * 4
        else:
            _, _, protocol, ttl, source, destination = _IPV6.unpack_from(raw)
            start = 40
        packet = Packet(raw[0] >> 4, source, destination, protocol, ttl)
        if protocol in (TCP, UDP):
            packet.source_port, packet.destination_port, _ = _PORTS.unpack_from(raw, start)
            if protocol == TCP:
                packet.sequence = int.from_bytes(raw[start + 4 : start + 8], "big")
                packet.flags = raw[start + 13] if len(raw) > start + 13 else SYN
        elif protocol in (ICMP, ICMP6) and raw[start] in (8, 128):
            packet.source_port = _WORD.unpack_from(raw, start + 4)[0]
    except (struct.error, IndexError):
        return None
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
def _words(address: bytes) -> int:
    return sum(struct.unpack(f"!{len(address) // 2}H", address))


def _folded(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _adjust(raw: bytearray, where: int, difference: int) -> None:
    """Corrects the checksum at ``where`` for words whose sum has grown by ``difference`` (RFC 1624, equation 3)."""
    total = _folded((~(raw[where] << 8 | raw[where + 1]) & 0xFFFF) + difference % 0xFFFF)
    total = ~total & 0xFFFF
    raw[where], raw[where + 1] = total >> 8, total & 0xFF
