"""The client's end of a leg in a WebSocket, against a server that is scripted or real."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve

from midair.config import ServerURL
from midair.port import connect_tcp, listen_tcp
from midair.relay import websocket_leg
from midair.relay.client import _answer
from midair.relay.websocket_leg import LegSocket, open_websocket
from midair.relay.wire import MESSAGE_BYTES, OK, Preamble, encode_preamble
from midair.server import Server

Script = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[LegSocket]:
    """A leg to a server that does ``script``."""
    async with serve(script, "127.0.0.1", 0, compression=None, max_size=MESSAGE_BYTES) as server:
        url = ServerURL(secure=False, host="127.0.0.1", port=next(iter(server.sockets)).getsockname()[1])
        with await open_websocket(url, await connect_tcp(url.host, url.port, timeout=5), None) as leg:
            carrying = set(websocket_leg._carrying)
            yield leg
        async with asyncio.timeout(5):
            await asyncio.gather(*carrying)


async def read_all(leg: socket.socket) -> bytes:
    data = b""
    async with asyncio.timeout(5):
        while more := await asyncio.get_running_loop().sock_recv(leg, 1 << 16):
            data += more
    return data


async def test_what_is_said_goes_in_messages_of_a_bounded_size_and_ends_with_an_empty_one() -> None:
    sizes: list[int] = []

    async def script(server: ServerConnection) -> None:
        async for message in server:
            sizes.append(len(message))
            if not message:
                await server.send(b"")

    async with scripted(script) as leg:
        await asyncio.get_running_loop().sock_sendall(leg, b"x" * 300_000)
        leg.shutdown(socket.SHUT_WR)
        assert await read_all(leg) == b""
    assert sum(sizes) == 300_000
    assert max(sizes) <= MESSAGE_BYTES
    assert sizes.index(0) == len(sizes) - 1


@pytest.mark.parametrize("how", ["close", "abort", "text", "large"])
async def test_a_server_that_ends_or_lies_ends_the_leg(how: str) -> None:
    async def script(server: ServerConnection) -> None:
        await server.send(b"hello")
        match how:
            case "close":
                await server.close()
            case "abort":
                await server.recv()
                server.transport.abort()
            case "text":
                await server.send("words")
            case "large":
                await server.send(b"x" * (MESSAGE_BYTES + 1))
        await server.wait_closed()

    async with scripted(script) as leg:
        await asyncio.get_running_loop().sock_sendall(leg, b"?")
        assert await read_all(leg) == b"hello"


async def test_a_leg_that_is_closed_is_let_go_of_though_the_partner_is_silent() -> None:
    closed = asyncio.Event()

    async def script(server: ServerConnection) -> None:
        await server.wait_closed()
        closed.set()

    async with scripted(script) as leg:
        leg.close()
        await asyncio.wait_for(closed.wait(), 5)


def test_what_was_said_last_is_said_though_the_loop_ends() -> None:
    """As after ``asyncio.run``: the leg is closed, and nobody waits."""
    before = 400_000
    received = bytearray()

    async def partner(port: int) -> bytes:
        url = ServerURL(secure=False, host="127.0.0.1", port=port)
        leg = await open_websocket(url, await connect_tcp(url.host, url.port, timeout=5), None)
        with leg:
            leg.send(encode_preamble(Preamble(token=b"t" * 32, side=b"b" * 8)))
            assert await _answer(leg) == OK
            return await read_all(leg)

    async def talker(port: int) -> None:
        url = ServerURL(secure=False, host="127.0.0.1", port=port)
        leg = await open_websocket(url, await connect_tcp(url.host, url.port, timeout=5), None)
        with leg:
            leg.send(encode_preamble(Preamble(token=b"t" * 32, side=b"a" * 8)))
            assert await _answer(leg) == OK
            await asyncio.get_running_loop().sock_sendall(leg, b"x" * before)

    async def main() -> None:
        async with Server([listen_tcp("127.0.0.1", 0)]) as server:
            port = server.endpoints[0].port
            listening = asyncio.create_task(partner(port))
            await asyncio.to_thread(asyncio.run, talker(port))
            received.extend(await listening)

    asyncio.run(main())
    assert len(received) == before
