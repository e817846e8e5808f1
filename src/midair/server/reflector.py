"""The reflector: answers STUN requests over TCP with the endpoint they came from (RFC 8489 section 6.2.2), and dials
back when a NAT check asks for it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence

from midair.config import ServerLimits
from midair.endpoint import Endpoint
from midair.nat.check.wire import CONNECT_BACK
from midair.port import retire
from midair.server.dialling_back import DiallingBack, all_endpoints, other_endpoints
from midair.server.metrics import Metrics
from midair.stun.framing import Deframer
from midair.stun.responder import respond
from midair.stun.wire import MessageClass, StunError, decode

__all__ = ["Reflector"]

MAX_REQUEST_BYTES = 548
"""RFC 8489 section 6.1: what a request may have where the path MTU is unknown. A binding request has under 100."""
SEND_SECONDS = 10.0
"""How long a client may leave its answers unread."""


class Reflector:
    """All STUN connections of one server."""

    def __init__(self, limits: ServerLimits, metrics: Metrics, listening: Sequence[Endpoint] = ()) -> None:
        """``listening``: all endpoints the server listens on."""
        self._limits = limits
        self._metrics = metrics
        self._listening = all_endpoints(listening)
        self._dialling_back = DiallingBack(limits, metrics, self._listening)

    async def serve(self, sock: socket.socket, source: Endpoint) -> None:
        """One connection, until it ends, errs, is silent for too long or has asked too often.

        The client closes it, as RFC 8489 section 6.2.2 wants: as long as it is open, the NAT keeps the mapping. The
        socket is closed in the end; cancelling closes it at once.
        """
        loop = asyncio.get_running_loop()
        local = Endpoint.from_sockaddr(sock.getsockname())
        deframer = Deframer(max_bytes=MAX_REQUEST_BYTES)
        left = self._limits.stun_requests_per_connection
        with sock, contextlib.suppress(OSError):  # TimeoutError is one
            while left > 0:
                async with asyncio.timeout(self._limits.stun_idle_seconds):
                    data = await loop.sock_recv(sock, 2048)
                if not data:
                    return
                try:
                    requests = deframer.feed(data)
                    answers = [await self._answer(sock, request, source, local) for request in requests[:left]]
                except StunError:
                    self._metrics.refused("stun-malformed")
                    break
                left -= len(requests)
                self._metrics.stun_requests.inc(len(answers))
                async with asyncio.timeout(SEND_SECONDS):
                    await loop.sock_sendall(sock, b"".join(answer for answer in answers if answer is not None))
            else:
                self._metrics.refused("stun-requests")
            await retire(sock)

    async def _answer(self, sock: socket.socket, request: bytes, source: Endpoint, local: Endpoint) -> bytes | None:
        """Raises: StunError; OSError, TimeoutError when the client has gone."""
        asked = decode(request)
        if asked.method == CONNECT_BACK and asked.message_class is MessageClass.REQUEST:
            return await self._dialling_back.answer(sock, asked, source, local)
        return respond(request, source, other_endpoints(self._listening, local), local)
