"""Asking the server about one port of ours: how it looks there, and what comes of a connection back."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator
from typing import Final

from midair.endpoint import Endpoint
from midair.nat.check.judge import Reflection
from midair.nat.check.wire import DialBack, Origin, Result, decode_answer, encode_request
from midair.port import LocalPort, retire
from midair.stun import StunConnection, StunError

__all__ = ["ANSWER_SECONDS", "FAILURES", "Asking", "reflect_once", "reflected", "trustworthy"]

CONNECT_SECONDS: Final = 3.5
"""Two SYNs may be lost."""
ANSWER_SECONDS: Final = 3.0
OTHERS_MAX: Final = 4
"""Other endpoints of the server that are asked."""
FAILURES = (OSError, StunError)  # TimeoutError, ConnectFailedError are OSErrors


class Asking(StunConnection):
    """A connection to the reflector, and how it looks at both ends."""

    def __init__(self, sock: socket.socket, server: Endpoint) -> None:
        super().__init__(sock)
        self.server = server
        self.local = Endpoint.from_sockaddr(sock.getsockname())
        self.others: list[Endpoint] = []

    async def reflect(self) -> Reflection:
        """Raises: StunError; OSError."""
        mapped, self.others = await self.binding(secrets.token_bytes(12), deadline=ANSWER_SECONDS)
        return Reflection(self.server, mapped)

    async def dial_back(self, wanted: DialBack) -> Result | None:
        """None when the server does not do that."""
        transaction_id = secrets.token_bytes(12)
        with contextlib.suppress(*FAILURES):
            answer = decode_answer(
                await self.ask(
                    encode_request(wanted, transaction_id), transaction_id, deadline=wanted.seconds + ANSWER_SECONDS
                )
            )
            return answer if isinstance(answer, Result) else None
        return None

    async def announced_dial(self, seconds: int) -> tuple[Origin | Result, bytes]:
        """Has the server dial us while our own SYN is on its way: where from, or why not, and the id of the answer that
        is to follow. Raises: StunError; OSError."""
        transaction_id = secrets.token_bytes(12)
        request = encode_request(DialBack(crossing=True, seconds=seconds), transaction_id)
        return decode_answer(await self.ask(request, transaction_id, deadline=ANSWER_SECONDS)), transaction_id


@contextlib.asynccontextmanager
async def reflected(server: Endpoint) -> AsyncIterator[tuple[LocalPort, Asking, Reflection]]:
    """A new port that has asked the server, and the connection, which holds the mapping until the end of the block.

    Raises: OSError, TimeoutError among them; StunError; PortUnavailableError.
    """
    with LocalPort.open(families=(server.family,)) as port:
        async with asyncio.timeout(CONNECT_SECONDS):
            sock = await port.connect(server)
        with sock:
            connection = Asking(sock, server)
            yield port, connection, await connection.reflect()


async def reflect_once(port: LocalPort, server: Endpoint, stack: contextlib.AsyncExitStack) -> Reflection | None:
    """A port that may have asked others already; None when the server cannot be reached there. The connection is the
    stack's."""
    with contextlib.suppress(*FAILURES):
        async with asyncio.timeout(CONNECT_SECONDS):
            sock = await port.connect(server)
        stack.push_async_callback(retire, sock)
        return await Asking(sock, server).reflect()
    return None


def trustworthy(others: list[Endpoint], server: Endpoint) -> list[Endpoint]:
    """Other endpoints of the server that we ask: on its own address, or on another global one. A server must not send
    us to our own network."""
    fitting = [
        each
        for each in dict.fromkeys(others)
        if each.family == server.family
        and each.port
        and (each.address == server.address or each.address.is_global or not server.address.is_global)
    ]
    own = [each for each in fitting if each.address == server.address]
    elsewhere = sorted(
        (each for each in fitting if each.address != server.address), key=lambda each: each.port != server.port
    )
    return [*own[: OTHERS_MAX // 2], *elsewhere][:OTHERS_MAX]
