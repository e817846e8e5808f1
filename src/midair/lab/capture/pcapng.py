"""Capture files that Wireshark and tcpdump read: pcapng (draft-ietf-opsawg-pcapng), one interface for each place.

A place is a port of a node, ``a:0``. A packet is recorded where it is sent and where it is received, with its
direction, so that a loss, a delay and a translation can be seen in one file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from midair.lab.network import Direction
from midair.lab.packet import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from midair.lab.packet import Packet

__all__ = ["CaptureWriter", "Record", "read_capture"]

_INTERFACE, _ENHANCED_PACKET = 1, 6
_BEGINNING: Final = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
"""A section header: version 1.0, little endian, length unknown."""
_LOOPBACK = 108
"""LINKTYPE_LOOP: an address family, as BSD numbers them, before each packet. (LINKTYPE_RAW needs none, but libpcap does
not read a second interface of that type.)"""
_FAMILIES: Final = {4: struct.pack("!I", 2), 6: struct.pack("!I", 30)}
_OPTION_END, _OPTION_INTERFACE_NAME, _OPTION_PACKET_FLAGS, _OPTION_TIME_RESOLUTION = 0, 2, 2, 9
_NANOSECONDS = 9
_DIRECTION_BITS = {Direction.RECEIVED: 1, Direction.SENT: 2}
_DIRECTIONS = {bits: direction for direction, bits in _DIRECTION_BITS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A packet at a place."""

    time: int
    """Nanoseconds since 1970."""
    node: str
    port: int
    direction: Direction
    packet: Packet


class CaptureWriter:
    """Writes a capture to a file that is open for writing; flushing and closing it is the caller's business."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._interfaces: dict[tuple[str, int], int] = {}
        file.write(_BEGINNING)

    def write(self, time: int, node: str, port: int, direction: Direction, packet: Packet) -> None:
        """``time`` in nanoseconds since 1970."""
        interface = self._interfaces.get((node, port))
        if interface is None:
            interface = self._add_interface(node, port)
        raw = _FAMILIES[packet.version] + packet.to_bytes()
        body = struct.pack("<IIIII", interface, time >> 32, time & 0xFFFFFFFF, len(raw), len(raw)) + _padded(raw)
        flags = _option(_OPTION_PACKET_FLAGS, struct.pack("<I", _DIRECTION_BITS[direction]))
        self._file.write(_block(_ENHANCED_PACKET, body + flags + _option(_OPTION_END, b"")))

    def _add_interface(self, node: str, port: int) -> int:
        number = self._interfaces[node, port] = len(self._interfaces)
        options = (
            _option(_OPTION_INTERFACE_NAME, f"{node}:{port}".encode())
            + _option(_OPTION_TIME_RESOLUTION, bytes([_NANOSECONDS]))
            + _option(_OPTION_END, b"")
        )
        self._file.write(_block(_INTERFACE, struct.pack("<HHI", _LOOPBACK, 0, 0) + options))
        return number


def read_capture(file: BinaryIO) -> Iterator[Record]:
    """What a :class:`CaptureWriter` wrote, in its order. A file whose writer was killed ends early.

    Raises: ValueError when it is no capture of ours.
    """
    places: list[tuple[str, int]] = []
    if (beginning := file.read(len(_BEGINNING))) != _BEGINNING[: len(beginning)]:
        raise ValueError("this is no capture of the lab's")
    while len(header := file.read(8)) == 8:
        kind, length = struct.unpack("<II", header)
        body = file.read(length - 8)
        if len(body) < length - 8:
            return
        try:
            if kind == _INTERFACE:
                node, _, port = _options(body, 8)[_OPTION_INTERFACE_NAME].decode().rpartition(":")
                places.append((node, int(port)))
            elif kind == _ENHANCED_PACKET:
                yield _record(body, places)
        except (struct.error, LookupError, ValueError) as error:
            raise ValueError(f"this is no capture of the lab's: {error}") from error


def _record(body: bytes, places: list[tuple[str, int]]) -> Record:
    interface, high, low, length, _ = struct.unpack_from("<IIIII", body)
    node, port = places[interface]
    (bits,) = struct.unpack("<I", _options(body, 20 + _aligned(length))[_OPTION_PACKET_FLAGS])
    return Record(
        time=high << 32 | low,
        node=node,
        port=port,
        direction=_DIRECTIONS[bits],
        packet=parse(bytearray(body[24 : 20 + length])),
    )


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + length + body + length


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _options(body: bytes, start: int) -> dict[int, bytes]:
    options: dict[int, bytes] = {}
    while True:
        code, length = struct.unpack_from("<HH", body, start)
        if code == _OPTION_END:
            return options
        options[code] = body[start + 4 : start + 4 + length]
        start += 4 + _aligned(length)


def _padded(data: bytes) -> bytes:
    return data + bytes(_aligned(len(data)) - len(data))


def _aligned(length: int) -> int:
    return (length + 3) & ~3
