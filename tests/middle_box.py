"""What stands between a client and the server and lets through only what it knows: in a test's own event loop, or as a
program in a host of the lab (``python middle_box.py --help``).

It looks at the first bytes of a connection. ``tls``: a TLS ClientHello passes. ``http``: the opening of a WebSocket
passes, if it is right in every way and the server takes it, and then frames, each of which is looked at. What does not
pass is held without a word, or closed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import struct
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

__all__ = ["MiddleBox", "middle_box"]

PIECE = 1 << 16
_FIRST_LINE = re.compile(rb"[A-Z]+ \S+ HTTP/1\.1\r\n")
_UPGRADE = re.compile(rb"GET /\S* HTTP/1\.1\r\n(?:[A-Za-z0-9-]+: [ -~]+\r\n)+\r\n")
_WANTED = (
    rb"\r\nHost: \S+\r\n",
    rb"\r\nUpgrade: websocket\r\n",
    rb"\r\nConnection: Upgrade\r\n",
    rb"\r\nSec-WebSocket-Version: 13\r\n",
    rb"\r\nSec-WebSocket-Key: [A-Za-z0-9+/]{22}==\r\n",
)
_CONNECT = re.compile(rb"CONNECT ([0-9.]+):([0-9]+) HTTP/1\.1\r\n(?:[^\r\n]+\r\n)*\r\n")


class MiddleBox:
    """One of them; ``port`` is where it listens."""

    def __init__(self, lets: str, otherwise: str, to: tuple[str, int] | None) -> None:
        """``to`` is where all connections lead; None: it is a proxy, and asked by CONNECT."""
        self.port = 0
        self.passed = 0
        """Connections it has let through."""
        self.stopped = 0
        """Connections it has not, or has cut."""
        self._lets = lets
        self._otherwise = otherwise
        self._to = to
        self._open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self._open.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                to = self._to or await self._asked(reader, writer)
                await (self._tls if self._lets == "tls" else self._http)(reader, writer, to)
        finally:
            writer.close()
            self._open = {each for each in self._open if not each.transport.is_closing()}

    def cut(self) -> None:
        """Ends all connections there are."""
        for writer in list(self._open):
            writer.transport.abort()

    async def _asked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int]:
        match = _CONNECT.fullmatch(await reader.readuntil(b"\r\n\r\n"))
        if match is None:
            raise ConnectionError("no CONNECT")
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return match[1].decode(), int(match[2])

    async def _tls(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: tuple[str, int]) -> None:
        first = await reader.readexactly(6)
        # A handshake record of TLS, with a ClientHello in it: RFC 8446 5.1 and 4.
        if first[:2] != b"\x16\x03" or first[5] != 1:
            await self._stop(reader)
            return
        server = await self._reach(to)
        server[1].write(first)
        await self._both(_pass(reader, server[1]), _pass(server[0], writer))

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: tuple[str, int]) -> None:
        head = await reader.readexactly(1)
        if head.isupper():
            head += await reader.readuntil(b"\n")
        if _FIRST_LINE.fullmatch(head):
            head += await reader.readuntil(b"\r\n\r\n")
        if not _UPGRADE.fullmatch(head) or not all(re.search(wanted, head) for wanted in _WANTED):
            await self._stop(reader)
            return
        server = await self._reach(to)
        server[1].write(head)
        answer = await server[0].readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 101 "):
            self.stopped += 1
            return
        writer.write(answer)
        await self._both(_pass_frames(reader, server[1], masked=True), _pass_frames(server[0], writer, masked=False))

    async def _reach(self, to: tuple[str, int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.passed += 1
        server = await asyncio.open_connection(*to)
        self._open.add(server[1])
        return server

    async def _both(self, *directions: Coroutine[object, object, None]) -> None:
        tasks = [asyncio.create_task(direction) for direction in directions]
        try:
            await asyncio.gather(*tasks)
        except ValueError:
            self.stopped += 1
        finally:
            for task in tasks:
                task.cancel()

    async def _stop(self, reader: asyncio.StreamReader) -> None:
        self.stopped += 1
        if self._otherwise == "hold":
            while await reader.read(PIECE):
                pass


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def _pass_frames(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, masked: bool) -> None:
    """Raises: ValueError for what is no frame (RFC 6455 5.2)."""
    try:
        while True:
            head = await reader.readexactly(2)
            if head[0] & 0x70 or head[0] & 0x0F not in (0, 1, 2, 8, 9, 10) or bool(head[1] & 0x80) is not masked:
                raise ValueError("no frame of this side's")
            length = head[1] & 0x7F
            extended = await reader.readexactly({126: 2, 127: 8}.get(length, 0))
            if extended:
                length = struct.unpack(">H" if len(extended) == 2 else ">Q", extended)[0]
            rest = await reader.readexactly(length + (4 if masked else 0))
            writer.write(head + extended + rest)
            await writer.drain()
    except asyncio.IncompleteReadError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def middle_box(
    lets: str, *, to: tuple[str, int] | None, otherwise: str = "hold", listen: tuple[str, int] = ("127.0.0.1", 0)
) -> AsyncIterator[MiddleBox]:
    """One that stands as long as the block."""
    box = MiddleBox(lets, otherwise, to)
    serving: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(box.serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(connected, *listen)
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        box.cut()
        await asyncio.gather(*serving, return_exceptions=True)


async def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("lets", choices=("tls", "http"))
    parser.add_argument("otherwise", choices=("hold", "close"))
    parser.add_argument("listen")
    parser.add_argument("to", nargs="?", help="without it, a proxy that understands CONNECT")
    options = parser.parse_args()
    listen, to = (
        (text.rpartition(":")[0], int(text.rpartition(":")[2])) if text else None
        for text in (options.listen, options.to)
    )
    assert listen is not None
    async with middle_box(options.lets, to=to, otherwise=options.otherwise, listen=listen):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
