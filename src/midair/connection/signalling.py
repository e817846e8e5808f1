"""Messages through somebody else's server, sealed: it can lose them, but not read, change, repeat or reorder them."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

from midair.errors import RemoteProtocolError
from midair.rendezvous.keys import UnsealError, derive_key, seal, unseal

__all__ = ["Receive", "SealedExchange", "Send"]

Send = Callable[[bytes], Awaitable[object]]
"""Sends one message to the peer."""
Receive = Callable[[], Awaitable[bytes]]
"""The peer's next message; whole, and in the order they were sent."""


class SealedExchange:
    """An :class:`midair.traversal.Exchange` over two functions of a program's own, and a secret both sides have."""

    def __init__(self, send: Send, receive: Receive, *, secret: bytes, controlling: bool) -> None:
        self._send = send
        self._receive = receive
        self._key = derive_key(secret, "midair signalling")
        self._sides = ("controlling", "controlled") if controlling else ("controlled", "controlling")
        self._sent = 0
        self._received = 0

    async def send(self, message: bytes) -> None:
        """Raises: what the program's function does."""
        phase = str(self._sent)
        self._sent += 1
        await self._send(seal(self._key, self._sides[0], phase, message, os.urandom(24)))

    async def receive(self) -> bytes:
        """Raises: RemoteProtocolError; what the program's function does."""
        sealed = await self._receive()
        try:
            message = unseal(self._key, self._sides[1], str(self._received), bytes(sealed))
        except UnsealError as error:
            raise RemoteProtocolError(
                "the other side's message does not open: it has another secret, or both took the same role, or a "
                "message was lost or changed on its way"
            ) from error
        self._received += 1
        return message
