"""A relay leg inside a WebSocket, made into a socket: for the relay it is a leg like any other.

Between the two stands a pair of sockets of this process. So any two legs can be joined, here or at two nodes, all rules
are the same (tokens, quotas, silence), only content is counted, and a slow reader is felt through the pair's buffers as
through TCP's window. It costs two descriptors, and the copies that splice(2) saves a plain leg.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

from midair.relay.wire import END, MESSAGE_BYTES

__all__ = ["MAX_UNHANDLED_LEG_MESSAGES", "Messages", "ServeLeg", "carry_leg"]

MAX_UNHANDLED_LEG_MESSAGES = 1
"""One more is taken, whole; they are large, and there are the buffers of sockets behind them."""
LAST_WORDS_SECONDS = 5.0
"""How long a client may take to read what is still to be said when its leg has ended."""


ServeLeg = Callable[[socket.socket, float], Awaitable[None]]
"""Takes a leg's socket, and the loop's time by which its preamble must be there; ends when the leg does."""


class Messages(Protocol):
    """The WebSocket."""

    async def next_message(self) -> bytes | None:
        """Waits for the next one; None when there will be none."""

    async def put_message(self, data: bytes) -> None:
        """Says one, when the client has read most of those before; nothing happens when the connection is gone."""


async def carry_leg(messages: Messages, serve: Callable[[socket.socket], Awaitable[None]]) -> None:
    """Has ``serve`` take a socket for a leg while what is said there and in ``messages`` is carried between the two.

    Ends when ``serve`` has, and its last words are said. Cancelling cuts the leg. Raises: OSError when there are no
    sockets.
    """
    inner, outer = socket.socketpair()
    with inner, outer:
        inner.setblocking(False)
        outer.setblocking(False)
        async with asyncio.TaskGroup() as tasks:
            arriving = tasks.create_task(_arrive(messages, outer))
            leaving = tasks.create_task(_leave(outer, messages))
            await serve(inner)
            inner.close()
            await asyncio.wait({leaving}, timeout=LAST_WORDS_SECONDS)
            arriving.cancel()
            leaving.cancel()


async def _arrive(messages: Messages, outer: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):  # the relay has ended the leg
        while message := await messages.next_message():
            await loop.sock_sendall(outer, message)
            await asyncio.sleep(0)  # nothing above waits where all goes well
        if message == END:
            outer.shutdown(socket.SHUT_WR)
            await messages.next_message()  # the end of the connection: nothing else may follow
        outer.shutdown(socket.SHUT_RDWR)


async def _leave(outer: socket.socket, messages: Messages) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while data := await loop.sock_recv(outer, MESSAGE_BYTES):
            await messages.put_message(data)
            await asyncio.sleep(0)
    await messages.put_message(END)
