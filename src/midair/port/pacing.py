"""How a connection's path is doing, as the kernel knows it, and a bound to the rate at which it sends."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from dataclasses import dataclass

from midair.errors import UsageError

__all__ = ["PathReading", "check_pacing", "pace", "read_path"]

_TCP_INFO = 11
_INFO = struct.Struct("=16xI48xI28xI16xQ20xI")
"""Of struct tcp_info (linux/tcp.h): snd_mss, rtt, total_retrans, bytes_acked (since 4.1), min_rtt (since 4.6). Eight
bytes stand in front, then numbers of 32 and 64 bits; times are in microseconds."""
_SO_MAX_PACING_RATE = 47
"""asm-generic/socket.h. Since 4.13 it holds without a packet scheduler of its own: TCP does the pacing itself."""
_RATE = struct.Struct("@L")
_NO_BOUND = 2 ** (8 * _RATE.size) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PathReading:
    """Of one moment. Seconds and bytes."""

    round_trip: float
    """Smoothed over about one round trip (RFC 6298 2.3)."""
    shortest: float
    """The shortest round trip of the last minutes."""
    segment: int
    """Content of one packet."""
    acknowledged: int
    """All bytes the other side has confirmed so far."""
    repeated: int
    """All segments sent once more so far: what was lost, or seemed to be."""


def check_pacing() -> None:
    """Raises: UsageError where nobody knows how a path is doing, or nobody can be told how fast to send."""
    if not sys.platform.startswith("linux"):
        raise UsageError(
            "this system does not tell how busy a path is, so that nobody can give way on it",
            hint="--limit-rate leaves room for others.",
        )


def read_path(sock: socket.socket) -> PathReading | None:
    """None where the system does not tell, nothing was measured yet, or the socket is closed."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _INFO.size)
    except (OSError, ValueError):
        return None
    if len(info) < _INFO.size:
        return None
    segment, round_trip, repeated, acknowledged, shortest = _INFO.unpack(info)
    if not round_trip or not segment:
        return None
    return PathReading(
        round_trip=round_trip / 1e6,
        shortest=min(shortest, round_trip) / 1e6,
        segment=segment,
        acknowledged=acknowledged,
        repeated=repeated,
    )


def pace(sock: socket.socket, rate: float | None) -> None:
    """Send at most ``rate`` bytes a second, evenly; None is without a bound. Without effect on a closed socket, and on
    systems other than Linux."""
    if sys.platform.startswith("linux"):
        bound = _NO_BOUND if rate is None else max(1, min(int(rate), _NO_BOUND - 1))
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, _RATE.pack(bound))
