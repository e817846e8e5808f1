"""Two ways to close a connection: with care, so that nobody else is hurt, or at once.

A RST on a punched port is not only for its own connection: it can make a NAT drop the entry that the good connection
also uses. The kernel sends one when a socket is closed with unread data, or when data comes after the close.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

__all__ = ["abort", "retire"]

DRAIN_BYTES_MAX = 1024 * 1024
"""What is read and dropped at most: a loser of the race has sent a handshake, not a file."""


async def retire(sock: socket.socket, *, seconds: float = 1.0) -> None:
    """Closes so that no RST leaves: sends FIN, reads until the other side's FIN, or so long, or so much, then closes.

    Never raises OSError. Cancelling closes at once.
    """
    with sock, contextlib.suppress(OSError):  # TimeoutError is one
        sock.setblocking(False)
        sock.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(seconds):
            await _drain(sock)


async def _drain(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    buffer = bytearray(64 * 1024)
    drained = 0
    while drained < DRAIN_BYTES_MAX:
        count = await loop.sock_recv_into(sock, buffer)
        if count == 0:
            return
        drained += count


def abort(sock: socket.socket) -> None:
    """Closes at once, in both directions; a thread blocked in the socket wakes. Idempotent, never raises."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        sock.close()
