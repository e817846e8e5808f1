"""Whether the checksums and lengths of a packet are right, judged independently: word by word, as RFC 1071 says."""

from __future__ import annotations

import struct

from midair.lab.packet import ICMP, UDP

__all__ = ["ones_complement_sum", "transport_of", "verify"]


def ones_complement_sum(data: bytes) -> int:
    """RFC 1071, word by word."""
    total = 0
    for position in range(0, len(data), 2):
        high = data[position]
        low = data[position + 1] if position + 1 < len(data) else 0
        total += (high << 8) + low
        if total > 0xFFFF:
            total -= 0xFFFF
    return total


def transport_of(raw: bytes) -> tuple[int, int, bytes]:
    """Protocol, where the transport header begins, and the pseudo header."""
    if raw[0] >> 4 == 4:
        start = (raw[0] & 15) * 4
        return raw[9], start, raw[12:20] + struct.pack("!HH", raw[9], len(raw) - start)
    return raw[6], 40, raw[8:40] + struct.pack("!II", len(raw) - 40, raw[6])


def verify(raw: bytes | bytearray | None) -> None:
    """Asserts that every checksum of a packet is right, and every length."""
    assert raw is not None
    raw = bytes(raw)
    if raw[0] >> 4 == 4:
        assert int.from_bytes(raw[2:4], "big") == len(raw)
        assert ones_complement_sum(raw[: (raw[0] & 15) * 4]) == 0xFFFF
    else:
        assert int.from_bytes(raw[4:6], "big") == len(raw) - 40
    protocol, start, pseudo = transport_of(raw)
    if protocol == UDP:
        checksum = raw[start + 6 : start + 8]
        assert int.from_bytes(raw[start + 4 : start + 6], "big") == len(raw) - start
        if checksum == b"\0\0":
            assert raw[0] >> 4 == 4
            return
    assert ones_complement_sum((b"" if protocol == ICMP else pseudo) + raw[start:]) == 0xFFFF
