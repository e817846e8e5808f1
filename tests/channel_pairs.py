"""Two ends of one authenticated connection, for tests that speak over it."""

from __future__ import annotations

import asyncio
import os
import socket

from midair.channel import Channel, Role, SessionKey, authenticate

__all__ = ["pair"]

KEY = SessionKey(os.urandom(32))


async def pair() -> tuple[Channel, Channel]:
    """The two ends of one connection, in the bulk phase."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.setblocking(False)
    far.setblocking(False)
    a, b = await asyncio.gather(
        authenticate(near, KEY, Role.A, os.urandom(32)), authenticate(far, KEY, Role.B, os.urandom(32))
    )
    a.sock.setblocking(True)
    b.sock.setblocking(True)
    return a, b
