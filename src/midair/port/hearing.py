"""How long a connection has been silent, as the kernel knows it: it hears the bytes of a record that is not whole yet,
which may take long on a slow path."""

from __future__ import annotations

import socket
import struct
import sys

__all__ = ["seconds_since_heard"]

_TCP_INFO = 11
_LAST_DATA_RECEIVED = struct.Struct("=52xI")
"""``tcpi_last_data_recv`` of struct tcp_info (linux/tcp.h): eight bytes, then numbers of 32 bits; milliseconds."""


def seconds_since_heard(sock: socket.socket) -> float | None:
    """Since data came in last, or since it was connected; None where the system does not tell, or it is closed."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _LAST_DATA_RECEIVED.size)
    except (OSError, ValueError):
        return None
    if len(info) < _LAST_DATA_RECEIVED.size:
        return None
    milliseconds: int = _LAST_DATA_RECEIVED.unpack(info)[0]
    return milliseconds / 1000
