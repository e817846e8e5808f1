"""What the tests of the server share: a server of their own on loopback, and clients that speak to it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect

from midair.config import ServerLimits
from midair.port import listen_tcp
from midair.server import MailboxStore, Server
from midair.server.proxied import networks
from midair.server.secrets import Secrets
from midair.server.shared import Link, Shared

__all__ = ["APP", "MailboxPeer", "dial", "eventually", "http", "linked", "metric", "port_of", "read_all", "running"]

APP = "example.org/app"


class Deaf:
    """Hears of a link that it is up, and nothing else."""

    def __init__(self) -> None:
        self.up = asyncio.Event()

    async def published(self, payload: bytes) -> None:
        pass

    async def joined(self, *, forgotten: bool) -> None:
        self.up.set()


@asynccontextmanager
async def linked(url: str) -> AsyncIterator[Link]:
    """A link to a Redis that is up."""
    link, deaf = Link(url), Deaf()
    task = asyncio.create_task(link.run(deaf))
    try:
        async with asyncio.timeout(5):
            await deaf.up.wait()
        yield link
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def running(
    *,
    limits: ServerLimits | None = None,
    store: MailboxStore | None = None,
    shared: Shared | None = None,
    proxied_from: Sequence[str] = (),
    ssl_context: ssl.SSLContext | None = None,
    motd: str | None = None,
    secrets: Secrets | None = None,
) -> AsyncIterator[Server]:
    """A server on a loopback port of the kernel's choice."""
    listener = listen_tcp("127.0.0.1", 0)
    async with Server(
        [listener],
        limits=limits,
        store=store,
        shared=shared,
        proxied_from=networks(proxied_from),
        ssl_context=ssl_context,
        motd=motd,
        secrets=secrets,
    ) as server:
        yield server


def port_of(server: Server) -> int:
    return server.endpoints[0].port


async def dial(server: Server) -> socket.socket:
    """A connected non-blocking socket."""
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port_of(server)))
    return sock


async def read_all(sock: socket.socket) -> bytes:
    """What comes until the end, or until the connection is reset."""
    loop = asyncio.get_running_loop()
    data = b""
    async with asyncio.timeout(10):
        while True:
            try:
                more = await loop.sock_recv(sock, 1 << 16)
            except ConnectionError:
                return data
            if not more:
                return data
            data += more


async def http(server: Server, request: bytes) -> bytes:
    """The whole response to ``request``."""
    with await dial(server) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, request)
        return await read_all(sock)


def metric(server: Server, name: str) -> float:
    """The value of one line of /metrics; ``name`` with its labels. 0 when it is not there."""
    match = re.search(rf"^{re.escape(name)} (\S+)$", server.metrics.render().decode(), re.MULTILINE)
    return 0.0 if match is None else float(match[1])


async def eventually(condition: Callable[[], bool]) -> None:
    """Returns when ``condition`` holds; fails after some seconds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - nothing to wait on: it is the other side that changes
            await asyncio.sleep(0.005)


class MailboxPeer:
    """One mailbox WebSocket of a client that does what it is told."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._id = 0

    @classmethod
    @asynccontextmanager
    async def connected(cls, server: Server, side: str | None = None) -> AsyncIterator[Self]:
        """A connection that has been welcomed, and bound when it has a side."""
        async with connect(f"ws://127.0.0.1:{port_of(server)}/v1", compression=None, ping_interval=None) as socket:
            peer = cls(socket)
            assert (await peer.receive())["type"] == "welcome"
            if side is not None:
                await peer.ask("bind", appid=APP, side=side)
            yield peer

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(5):
            frame: dict[str, Any] = json.loads(await self.socket.recv())
        assert isinstance(frame.pop("server_tx"), float)
        return frame

    async def expect(self, kind: str) -> dict[str, Any]:
        """The next frame, which is of this type."""
        frame = await self.receive()
        assert frame["type"] == kind, frame
        return frame

    async def ask(self, kind: str, **fields: Any) -> None:
        """Sends, and reads the ack."""
        self._id += 1
        await self.send(kind, id=str(self._id), **fields)
        assert await self.receive() == {"type": "ack", "id": str(self._id)}
