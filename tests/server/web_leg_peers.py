"""What the tests of relay legs in WebSockets share: legs of each form, and frames made by hand."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server_peers import dial, eventually, metric, port_of

from midair.config import ServerURL
from midair.port import connect_tcp
from midair.relay import open_leg
from midair.relay.client import _answer
from midair.relay.websocket_leg import open_websocket
from midair.relay.wire import OK, Preamble, encode_preamble
from midair.server import Server

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUED",
    "OTHER_TOKEN",
    "PING",
    "PONG",
    "TEXT",
    "TOKEN",
    "UPGRADE",
    "A",
    "B",
    "all_gone",
    "frame",
    "hand_made",
    "leg",
    "pair",
    "pair_elsewhere",
    "raw_leg",
    "receive",
    "web_leg",
]

TOKEN, OTHER_TOKEN = b"t" * 32, b"o" * 32
A, B = b"a" * 8, b"b" * 8
UPGRADE = (
    b"GET /relay HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
BINARY, CONTINUED, TEXT, CLOSE, PING, PONG = 2, 0, 1, 8, 9, 10


async def leg(
    server: Server, form: str, side: bytes, trusting: ssl.SSLContext | None = None, token: bytes = TOKEN
) -> socket.socket:
    """One that is joined."""
    if form == "plain":
        return await open_leg(ServerURL(secure=False, host="127.0.0.1", port=port_of(server)), token, side, timeout=5)
    async with asyncio.timeout(5):
        sock = await web_leg(server, side, trusting if form == "tls" else None, token)
        try:
            assert await _answer(sock) == OK
        except BaseException:
            sock.close()
            raise
    return sock


async def web_leg(
    server: Server, side: bytes, trusting: ssl.SSLContext | None = None, token: bytes = TOKEN
) -> socket.socket:
    """One that has said its preamble."""
    url = ServerURL(secure=trusting is not None, host="127.0.0.1", port=port_of(server))
    sock = await open_websocket(url, await connect_tcp(url.host, url.port, timeout=5), trusting)
    await asyncio.get_running_loop().sock_sendall(sock, encode_preamble(Preamble(token=token, side=side)))
    return sock


@asynccontextmanager
async def pair(
    server: Server, forms: tuple[str, str] = ("websocket", "websocket"), trusting: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    first, second = await asyncio.gather(*[leg(server, *each, trusting) for each in zip(forms, (A, B), strict=True)])
    with first, second:
        yield first, second


async def receive(sock: socket.socket, count: int) -> bytes:
    data = b""
    async with asyncio.timeout(5):
        while len(data) < count and (more := await asyncio.get_running_loop().sock_recv(sock, count - len(data))):
            data += more
    return data


async def all_gone(server: Server) -> None:
    await eventually(lambda: server._admission.total == 0)
    assert server._relay._legs == 0
    assert not server._relay._waiting
    assert metric(server, "midair_open_relay_pairs") == 0


async def raw_leg(server: Server) -> socket.socket:
    """A WebSocket at the relay that says nothing by itself."""
    sock = await dial(server)
    await asyncio.get_running_loop().sock_sendall(sock, UPGRADE)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await asyncio.get_running_loop().sock_recv(sock, 1)
    assert head.startswith(b"HTTP/1.1 101 ")
    return sock


def frame(
    payload: bytes, *, opcode: int = BINARY, fin: bool = True, mask: bytes | None = b"mask", rsv: int = 0
) -> bytes:
    """RFC 6455 5.2."""
    first = (0x80 if fin else 0) | rsv | opcode
    length = len(payload)
    masked = 0x80 if mask is not None else 0
    if length < 126:
        head = struct.pack(">BB", first, masked | length)
    elif length < 1 << 16:
        head = struct.pack(">BBH", first, masked | 126, length)
    else:
        head = struct.pack(">BBQ", first, masked | 127, length)
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


@asynccontextmanager
async def hand_made(server: Server) -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    """A leg whose frames are made by hand, joined to an ordinary one."""
    with await raw_leg(server) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, frame(encode_preamble(Preamble(token=TOKEN, side=A))))
        with await leg(server, "plain", B) as partner:
            assert await receive(sock, 5) == b"\x82\x03OK\n"
            yield sock, partner


@asynccontextmanager
async def pair_elsewhere(server: Server) -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    first, second = await asyncio.gather(*[leg(server, "websocket", side, token=OTHER_TOKEN) for side in (A, B)])
    with first, second:
        yield first, second
