"""A leg inside a WebSocket, made into a socket: whoever has it need not know.

The socket is one of a pair in this process. What is said there goes to the relay in messages, and the other way round,
by a task of the event loop, for as long as the leg lasts: it ends by itself when the leg is closed, when the server
ends it, and with the loop. Then it says what was still to be said, within a quarter of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from midair.config import ServerURL
from midair.port import tune_for_bulk
from midair.relay.wire import END, MESSAGE_BYTES, RELAY_PATH

__all__ = ["LegSocket", "open_websocket"]

QUEUED_MESSAGES = 4
"""What has come, and the leg's owner has not read. Behind it is TCP's window."""
WRITE_BUFFER_BYTES = 256 * 1024
HANG_UP_SECONDS = 0.5
"""For the closing handshake; then the connection is cut."""
LAST_WORDS_SECONDS = 0.25
ABANDONED_SECONDS = 1.0
"""How often it is looked whether a leg that says no more still has an owner."""

_carrying: set[asyncio.Task[None]] = set()
"""The event loop itself keeps tasks only as long as something else does."""


class LegSocket(socket.socket):
    """The end of a pair that stands for a connection elsewhere, and has its addresses."""

    def __init__(self, end: socket.socket, names: tuple[Any, Any]) -> None:
        super().__init__(fileno=end.detach())
        self._names = names

    def getsockname(self) -> Any:
        return self._names[0]

    def getpeername(self) -> Any:
        return self._names[1]


async def open_websocket(server: ServerURL, sock: socket.socket, ssl_context: ssl.SSLContext | None) -> LegSocket:
    """A leg to ``server`` over ``sock``, which is connected to it; in TLS when the server's address says so.

    The caller sets the deadline. On errors, and when cancelled, ``sock`` is closed. Raises: OSError, EOFError,
    WebSocketException.
    """
    leg, outer = _pair_for(sock)
    try:
        websocket = await _connect(server, sock, ssl_context)
    except BaseException:
        leg.close()
        outer.close()
        raise
    carrying = asyncio.get_running_loop().create_task(_carry(websocket, outer), name="midair-relay-leg")
    _carrying.add(carrying)
    carrying.add_done_callback(_carrying.discard)
    return leg


def _pair_for(sock: socket.socket) -> tuple[LegSocket, socket.socket]:
    try:
        tune_for_bulk(sock)
        sock.setblocking(False)
        names = sock.getsockname(), sock.getpeername()
        ours, outer = socket.socketpair()
    except BaseException:
        sock.close()
        raise
    leg = LegSocket(ours, names)
    leg.setblocking(False)
    outer.setblocking(False)
    return leg, outer


async def _connect(server: ServerURL, sock: socket.socket, ssl_context: ssl.SSLContext | None) -> ClientConnection:
    tls: dict[str, Any] = {"ssl": ssl_context or True} if server.secure else {}
    try:
        return await connect(
            f"{server}{RELAY_PATH}",
            sock=sock,
            compression=None,
            proxy=None,
            user_agent_header=None,
            open_timeout=None,
            close_timeout=HANG_UP_SECONDS,
            # The server pings.
            ping_interval=None,
            max_size=MESSAGE_BYTES,
            max_queue=QUEUED_MESSAGES,
            write_limit=WRITE_BUFFER_BYTES,
            **tls,
        )
    except ValueError as error:
        # A redirect that is not followed; what the server has answered says it better.
        if isinstance(error.__cause__, InvalidStatus):
            raise error.__cause__ from None
        raise


async def _carry(websocket: ClientConnection, outer: socket.socket) -> None:
    said_all = asyncio.Event()
    with outer:
        try:
            await _carry_both_ways(websocket, outer, said_all)
        except asyncio.CancelledError:
            await _say_the_rest(outer, websocket, said_all)
            raise
        finally:
            await _hang_up(websocket)


async def _carry_both_ways(websocket: ClientConnection, outer: socket.socket, said_all: asyncio.Event) -> None:
    try:
        async with asyncio.TaskGroup() as tasks:
            leaving = tasks.create_task(_leave(outer, websocket, said_all))
            await _arrive(websocket, outer)
            await said_all.wait()
            leaving.cancel()
    except* (OSError, ConnectionClosed):
        pass  # the leg's owner sees its end


async def _arrive(websocket: ClientConnection, outer: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while (message := await websocket.recv()) != END:
        if isinstance(message, str):
            raise ConnectionError("the relay speaks in text")
        await loop.sock_sendall(outer, message)
        await asyncio.sleep(0)  # nothing above waits where all goes well
    outer.shutdown(socket.SHUT_WR)


async def _leave(outer: socket.socket, websocket: ClientConnection, said_all: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(outer, MESSAGE_BYTES):
        await websocket.send(data)
        await asyncio.sleep(0)
    await websocket.send(END)
    said_all.set()
    while True:
        await asyncio.sleep(ABANDONED_SECONDS)
        outer.send(b"")  # EPIPE: the leg is not only silent, it is closed


async def _say_the_rest(outer: socket.socket, websocket: ClientConnection, said_all: asyncio.Event) -> None:
    if not said_all.is_set():
        with contextlib.suppress(OSError, ConnectionClosed):  # TimeoutError is one
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                while data := await asyncio.get_running_loop().sock_recv(outer, MESSAGE_BYTES):
                    await websocket.send(data)
                await websocket.send(END)


async def _hang_up(websocket: ClientConnection) -> None:
    try:
        await websocket.close()
    finally:
        websocket.transport.abort()
        await websocket.wait_closed()
