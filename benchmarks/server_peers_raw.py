"""Mailbox clients that cost next to nothing, so that what is measured is the server: WebSocket frames by hand."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

__all__ = ["Peer"]

_HANDSHAKE = (
    b"GET /v1 HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Peer(asyncio.Protocol):
    """One side. What it gets, other than acks and pings, comes out of :meth:`get`."""

    def __init__(self, side: str) -> None:
        self.side = side
        self._data = b""
        self._open = False
        self._lost = False
        self._frames: list[dict[str, Any]] = []
        self._waiter: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def connect(cls, port: int, side: str, *, source: str | None = None) -> Peer:
        """Welcomed and bound."""
        loop = asyncio.get_running_loop()
        local = None if source is None else (source, 0)
        _, peer = await loop.create_connection(lambda: cls(side), "127.0.0.1", port, local_addr=local)
        await peer.get("welcome")
        peer.say({"type": "bind", "appid": "bench", "side": side})
        return peer

    def say(self, frame: dict[str, Any]) -> None:
        """Sends one frame, with a mask of zeros (RFC 6455 section 5.3)."""
        assert self._transport is not None
        data = json.dumps(frame).encode()
        length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
        self._transport.write(b"\x81" + length + b"\0\0\0\0" + data)

    async def get(self, kind: str, *, other_than: str | None = None) -> dict[str, Any]:
        """The next frame of this kind; of messages, the next that is not by side ``other_than``."""
        while True:
            while self._frames:
                frame = self._frames.pop(0)
                if frame["type"] == "error":
                    raise ConnectionError(frame["error"])
                if frame["type"] == kind and (other_than is None or frame["side"] != other_than):
                    return frame
            if self._lost:
                raise ConnectionError("the server has gone")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    async def wait_lost(self) -> None:
        """Returns when the server has gone."""
        with suppress(ConnectionError):
            while True:
                await self.get("nothing")

    def close(self) -> None:
        assert self._transport is not None
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(_HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._open:
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head:
                self.connection_lost(None)
                return
            self._open, self._data = True, rest
        while (frame := self._next_frame()) is not None:
            if frame["type"] not in ("ack", "pong"):
                self._frames.append(frame)
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._wake()

    def _next_frame(self) -> dict[str, Any] | None:
        data = self._data
        if len(data) < 2:
            return None
        length, start = data[1], 2
        if length == 126:
            length, start = int.from_bytes(data[2:4], "big"), 4
        if len(data) < start + length:
            return None
        opcode, payload = data[0] & 0x0F, data[start : start + length]
        self._data = data[start + length :]
        if opcode == 9 and self._transport is not None:
            self._transport.write(bytes([0x8A, 0x80 | length]) + b"\0\0\0\0" + payload)
        if opcode != 1:
            return {"type": "ack"}
        frame: dict[str, Any] = json.loads(payload)
        return frame

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
