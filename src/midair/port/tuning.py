"""Socket options of a connection that carries bulk data.

SO_SNDBUF and SO_RCVBUF are never set: setting one turns the kernel's own sizing off, and that knows the path better.
"""

from __future__ import annotations

import socket
import sys

__all__ = ["tune_for_bulk"]

_LINUX_NUMBERS = {"TCP_NOTSENT_LOWAT": 25, "TCP_USER_TIMEOUT": 18}
"""From linux/tcp.h, for Pythons that do not name them."""

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("TCP_NODELAY", 1),
    ("TCP_NOTSENT_LOWAT", 128 * 1024),  # bytes; what is not sent yet can still move to a better path
    ("TCP_KEEPIDLE", 10),  # seconds
    ("TCP_KEEPALIVE", 10),  # seconds; macOS's name for TCP_KEEPIDLE
    ("TCP_KEEPINTVL", 5),  # seconds
    ("TCP_KEEPCNT", 3),
    ("TCP_USER_TIMEOUT", 30_000),  # milliseconds that sent data may stay unacknowledged
)


def tune_for_bulk(sock: socket.socket) -> None:
    """For the bulk phase: blocking without a timeout, no Nagle, and a dead peer noticed within about 30 s.

    An option this system lacks is left out. Raises: OSError only when the socket is closed.
    """
    sock.setblocking(True)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS:
        number = _number(name, sys.platform)
        if number is not None:
            try:
                sock.setsockopt(socket.IPPROTO_TCP, number, value)
            except OSError:
                continue  # a kernel older than its headers: nothing here is needed to be right, only to be quick


def _number(name: str, platform: str) -> int | None:
    number: int | None = getattr(socket, name, None)
    if number is None and platform.startswith("linux"):
        return _LINUX_NUMBERS.get(name)
    return number
