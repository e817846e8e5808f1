"""Tells what a new connection speaks by its first bytes, and leaves them where they are."""

from __future__ import annotations

import asyncio
import socket
from enum import Enum

from midair.relay.wire import ASKING_MAGIC, PREAMBLE_MAGIC
from midair.server.node_wire import NODE_MAGIC

__all__ = ["Kind", "classify", "detect"]

POLL_SECONDS = 0.05
"""How often a half-said preamble is looked at again: bytes that stay unread make the socket readable all along."""


class Kind(Enum):
    """What is spoken on a connection; the value is its name in the metrics."""

    STUN = "stun"
    TLS = "tls"
    RELAY = "relay"
    NODE = "node"
    HTTP = "http"


_MAGICS = {PREAMBLE_MAGIC: Kind.RELAY, ASKING_MAGIC: Kind.RELAY, NODE_MAGIC: Kind.NODE}
_LONGEST = max(map(len, _MAGICS))


def classify(first: bytes) -> Kind | None:
    """What begins with ``first`` (at least one byte); None when more is needed to tell.

    A STUN message begins with two zero bits (RFC 8489 section 5), and the two types of a binding (request, indication)
    with 0x00; a TLS handshake record with 0x16 (RFC 8446 section 5.1).
    """
    if first[0] in (0x00, 0x01):
        return Kind.STUN
    if first[0] == 0x16:
        return Kind.TLS
    for magic, kind in _MAGICS.items():
        if first.startswith(magic):
            return kind
    return None if any(magic.startswith(first) for magic in _MAGICS) else Kind.HTTP


async def detect(sock: socket.socket) -> Kind | None:
    """What the client speaks; None when it has gone without a word. The caller sets the deadline.

    Cancelling leaves the socket as it is. Raises: OSError.
    """
    while True:
        try:
            first = sock.recv(_LONGEST, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            await _readable(sock)
            continue
        if not first:
            return None
        kind = classify(first)
        if kind is not None:
            return kind
        await asyncio.sleep(POLL_SECONDS)


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(sock)
