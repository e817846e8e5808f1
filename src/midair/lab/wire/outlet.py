"""Reading and writing IP packets through the descriptor of an interface."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from midair.lab.packet import MalformedPacket, parse
from midair.lab.wire.plug import HARDWARE, Framing

if TYPE_CHECKING:
    from midair.lab.packet import Packet
    from midair.lab.wire.plug import Plug

__all__ = ["Outlet"]

_LARGEST_PACKET = 65535
_BYTES_AT_ONCE = 256 * 1024
_BYTES_FOR_ONE = 8 * 1024
"""What a packet counts besides its length: 27 of the usual size are read at once, or four large segments. What is read
is to stay in a processor's caches until it is written."""
_NEEDS_CHECKSUM: Final = 1
"""VIRTIO_NET_HDR_F_NEEDS_CSUM, in the first byte of the header."""
_NO_OFFLOAD: Final = bytes(10)
_ETHERNET: Final = {4: HARDWARE * 2 + b"\x08\x00", 6: HARDWARE * 2 + b"\x86\xdd"}
_HEAD_BYTES: Final = {Framing.NONE: 0, Framing.OFFLOAD: len(_NO_OFFLOAD), Framing.ETHERNET: len(_ETHERNET[4])}

_packet_buffer = bytearray(_LARGEST_PACKET)


class Outlet:
    """An interface. It counts what passes it."""

    __slots__ = ("_buffers", "_descriptor", "_framing", "_head", "delivered", "malformed", "received", "refused")

    def __init__(self, plug: Plug) -> None:
        self._descriptor = plug.descriptor
        self._framing = plug.framing
        self._head = bytearray(_HEAD_BYTES[plug.framing])
        self._buffers = [self._head, _packet_buffer] if self._head else [_packet_buffer]
        self.received = self.delivered = self.malformed = self.refused = 0

    def read(self) -> list[Packet]:
        """What waits, up to a limit, so that other interfaces have their turn. What is no IP packet is dropped.

        Raises: OSError when the interface is down, or gone.
        """
        # First all is read, then all is parsed: one kind of work at a time goes faster through a processor's caches.
        readv, descriptor, buffers, head, buffer = os.readv, self._descriptor, self._buffers, self._head, _packet_buffer
        head_bytes = len(head)
        found: list[tuple[bytearray, bytes]] = []
        bytes_left = _BYTES_AT_ONCE
        try:
            while bytes_left > 0:
                length = readv(descriptor, buffers) - head_bytes
                found.append((buffer[:length], bytes(head) if head_bytes else b""))
                bytes_left -= length + _BYTES_FOR_ONE
        except BlockingIOError:
            pass
        self.received += len(found)
        packets = []
        for raw, offload in found:
            try:
                packet = parse(raw)
            except MalformedPacket:
                self.malformed += 1
                continue
            if self._framing is Framing.OFFLOAD:
                packet.offload = offload
                packet.partial = bool(offload[0] & _NEEDS_CHECKSUM)
            packets.append(packet)
        return packets

    def write(self, packet: Packet) -> None:
        """Hands a packet to the kernel; one that it does not take, because the interface is down or full, is lost."""
        raw = packet.raw
        if raw is None:
            raw = packet.to_bytes()
        try:
            if self._framing is Framing.NONE:
                os.write(self._descriptor, raw)
            elif self._framing is Framing.OFFLOAD:
                os.writev(self._descriptor, (packet.offload or _NO_OFFLOAD, raw))
            else:
                os.writev(self._descriptor, (_ETHERNET[packet.version], raw))
            self.delivered += 1
        except OSError:
            self.refused += 1
