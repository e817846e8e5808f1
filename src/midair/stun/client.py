"""Asking a reflector, over a TCP connection that is already there, how this connection looks from outside.

The connection stays open: its NAT mapping is the one the punch is about, and RFC 8489 section 6.2.2 keeps it open until
the peers are connected, "as is required by some TCP NAT traversal techniques". Over TCP nothing is retransmitted; there
is one request and one timer.
"""

from __future__ import annotations

import asyncio
import socket

from midair.endpoint import Endpoint
from midair.stun.framing import Deframer
from midair.stun.wire import (
    BINDING,
    ErrorCode,
    MappedAddress,
    Message,
    MessageClass,
    OtherAddress,
    ResponseOrigin,
    StunError,
    XorMappedAddress,
    decode,
    encode,
)

__all__ = ["TI_SECONDS", "StunConnection", "request_binding"]

TI_SECONDS = 39.5
"""RFC 8489 section 6.2.2: how long a client waits for an answer over TCP."""
STRAY_MESSAGES_MAX = 16
"""Messages that are not our answer, such as answers to requests given up before; more is a flood."""


class StunConnection:
    """One connection to a server, on which several requests can be made one after the other.

    ``sock`` is connected and non-blocking, stays the caller's, and has nothing read past the last answer.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._deframer = Deframer()

    async def ask(self, request: bytes, transaction_id: bytes, *, deadline: float = TI_SECONDS) -> Message:
        """Sends a request and waits for its answer, ``deadline`` seconds at most.

        Raises: StunError; TimeoutError; OSError.
        """
        async with asyncio.timeout(deadline):
            await asyncio.get_running_loop().sock_sendall(self._sock, request)
            return await self.answer(transaction_id)

    async def answer(self, transaction_id: bytes) -> Message:
        """The next answer to a request. Raises: StunError; OSError."""
        for _ in range(STRAY_MESSAGES_MAX + 1):
            message = decode(await _next_message(self._sock, self._deframer))
            if _answers(message, transaction_id):
                return message
        raise StunError("the server sends other things than an answer")

    async def binding(self, transaction_id: bytes, *, deadline: float = TI_SECONDS) -> tuple[Endpoint, list[Endpoint]]:
        """The public endpoint of this connection, and where else the server can be asked.

        Raises: as :func:`request_binding`.
        """
        request = Message(method=BINDING, message_class=MessageClass.REQUEST, transaction_id=transaction_id)
        answer = await self.ask(encode(request), transaction_id, deadline=min(deadline, TI_SECONDS))
        mapped = _mapped_endpoint(answer)
        peer = Endpoint.from_sockaddr(self._sock.getpeername())
        return mapped, _other_endpoints(answer, peer)


async def request_binding(sock: socket.socket, transaction_id: bytes, *, deadline: float = TI_SECONDS) -> Endpoint:
    """The public endpoint of this connection, as its other end sees it.

    ``sock`` is connected and non-blocking, and is left open, with nothing read past the answer. ``transaction_id`` is
    12 random bytes. ``deadline`` is in seconds from now, ``TI_SECONDS`` at most. After a timeout or when cancelled,
    part of an answer may have been read: the connection still holds the mapping, but do not ask on it again.

    Raises: StunError, with ``code`` when the server answered with an error; TimeoutError; OSError.
    """
    mapped, _ = await StunConnection(sock).binding(transaction_id, deadline=deadline)
    return mapped


async def _next_message(sock: socket.socket, deframer: Deframer) -> bytes:
    loop = asyncio.get_running_loop()
    while True:
        data = await loop.sock_recv(sock, deframer.missing)
        if not data:
            raise StunError("the server closed the connection without an answer")
        if messages := deframer.feed(data):
            return messages[0]


def _answers(message: Message, transaction_id: bytes) -> bool:
    responses = (MessageClass.SUCCESS, MessageClass.ERROR)
    return message.transaction_id == transaction_id and message.message_class in responses


def _other_endpoints(answer: Message, peer: Endpoint) -> list[Endpoint]:
    """A server whose address is translated on the way names its other ports by the address it has itself, which is the
    one the answer came from: ours to it is ``peer``."""
    origin = answer.first(ResponseOrigin)
    others = [each.endpoint for each in answer.attributes if isinstance(each, OtherAddress)]
    own = [
        Endpoint(peer.address, each.port) if origin and each.address == origin.endpoint.address else each
        for each in others
    ]
    return [each for each in own if each != peer]


def _mapped_endpoint(answer: Message) -> Endpoint:
    if answer.method != BINDING:
        raise StunError("the answer is to another method")
    if answer.message_class is MessageClass.ERROR:
        error = answer.first(ErrorCode)
        if error is None:
            raise StunError("the server refused without a reason")
        raise StunError(f"the server refused with STUN error {error.code}", code=error.code)
    if unknown := answer.unknown_required():  # section 6.3.3: the transaction has failed
        raise StunError(f"the answer needs attribute 0x{unknown[0]:04x}, which we do not know")
    mapped = answer.first(XorMappedAddress) or answer.first(MappedAddress)
    if mapped is None:
        raise StunError("the answer has no address")
    # A dual-stack server may see an IPv4 client as ::ffff:192.0.2.1.
    endpoint = Endpoint.of(str(mapped.endpoint.address), mapped.endpoint.port)
    if endpoint.port == 0 or endpoint.address.is_unspecified or endpoint.address.is_multicast:
        raise StunError("the answer's address cannot be anybody's")
    return endpoint
