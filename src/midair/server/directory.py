"""Which node has the waiting leg of a pair: the interface, and how that node is reached.

A node that gets the second leg of a pair whose first waits elsewhere dials that node and joins its own client to that
connection. Clients need not know that there are several nodes, nor be able to reach each.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import Protocol

from midair.endpoint import Endpoint
from midair.port import connect_tcp
from midair.relay.wire import MAX_ANSWER_BYTES, OK, Preamble
from midair.server.node_wire import encode_node_preamble

__all__ = ["Directory", "Elsewhere", "reach"]

REACH_SECONDS = 5.0
"""For the dial and the answer together: the nodes are near each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """The node that has the partner."""

    node: str
    address: Endpoint


class Directory(Protocol):
    """What the nodes tell each other of their legs."""

    @property
    def node(self) -> str:
        """This node's name."""

    @property
    def key(self) -> bytes | None:
        """What the nodes share and nobody else has; None while it is not known."""

    async def arrive(self, preamble: Preamble) -> Elsewhere | None:
        """A leg is here. None: it is the first of its pair, or its partner is here too.

        The answer that names a node is given once: should the partner be there no longer, asking again makes this leg
        the first. Raises: StoreUnavailable.
        """


async def reach(place: Elsewhere, preamble: Preamble, key: bytes) -> socket.socket:
    """A connection on which the partner speaks, non-blocking. Raises: OSError, TimeoutError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(REACH_SECONDS):
        sock = await connect_tcp(str(place.address.address), place.address.port, timeout=REACH_SECONDS)
        try:
            await loop.sock_sendall(sock, encode_node_preamble(preamble, key=key, node=place.node))
            answer = b""
            # No more than an OK is long: what follows it is the partner's.
            while len(answer) < len(OK):
                more = await loop.sock_recv(sock, len(OK) - len(answer))
                if not more:
                    raise ConnectionError("the node gave no answer")
                answer += more
            if answer != OK:
                answer += await loop.sock_recv(sock, MAX_ANSWER_BYTES)
                raise ConnectionError(f"the node refused: {answer[:40]!r}")
        except BaseException:
            sock.close()
            raise
    return sock
