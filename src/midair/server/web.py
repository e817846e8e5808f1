"""Drives one HTTP connection: a page, or the mailbox WebSocket, with or without TLS below.

``websockets`` parses and writes (its Sans-I/O layer); this file moves the bytes, and bounds them. What comes in is read
in pieces of 16 KiB, and no further while messages wait to be handled or the client does not read what goes out. What
goes out waits as frames, whose texts the mailbox keeps anyway, and is written only as fast as the client reads.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import msgspec
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from midair.rendezvous import wire
from midair.server.http import MAILBOX_PATH, Pages, path_of, plain, unavailable
from midair.server.metrics import Metrics

__all__ = ["MailboxHandler", "WebConnection", "WebSettings"]

log = logging.getLogger("midair.server.web")
websocket_log = logging.getLogger("websockets.server")

MAX_HEAD_BYTES = 16 * 1024
"""Request line and headers together; more than the 8 KiB most servers take for each line, and far more than is sent."""
READ_BYTES = 16 * 1024
MAX_UNHANDLED_MESSAGES = 16
WRITE_BUFFER_BYTES = 64 * 1024
"""With more than this unread by the client, frames wait outside of the socket's buffer."""
LINGER_SECONDS = 5.0
"""How long a client may take to read the end and close."""
PINGS_IN_IDLE_TIME = 3
"""Two may be lost."""

_read_buffer = memoryview(bytearray(READ_BYTES))
"""One for all connections: it is emptied in the same callback that has filled it."""


class MailboxHandler(Protocol):
    """What is done with a mailbox WebSocket."""

    def opened(self, connection: WebConnection) -> None:
        """The handshake is done."""

    async def received(self, connection: WebConnection, data: bytes) -> None:
        """One whole message; the next one comes when this is done."""

    def closed(self, connection: WebConnection) -> None:
        """It is over; follows each ``opened``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """What all connections of one server share."""

    pages: Pages
    handler: MailboxHandler
    trouble: Callable[[], str | None]
    """Why nobody can meet here now; None when all is well."""
    metrics: Metrics
    message_bytes: int
    """One WebSocket message, at most."""
    waiting_frames: int
    """Frames that wait for a slow reader, at most."""
    idle_seconds: float
    """A WebSocket that says nothing for so long, pongs included, is closed."""


class WebConnection(asyncio.BufferedProtocol):
    """One connection. :meth:`run` is its life; the transport calls the rest."""

    def __init__(self, settings: WebSettings, *, refusal: str | None = None) -> None:
        """With ``refusal``, every request is answered with 503 and this text."""
        self._settings = settings
        self._refusal = refusal
        self._loop = asyncio.get_running_loop()
        self._ws = ServerProtocol(max_size=settings.message_bytes, logger=websocket_log)
        self._transport: asyncio.Transport | None = None
        self._head_bytes = 0
        self._head_tail = b""
        self._eof_written = False
        self._answered = asyncio.Event()  # the request is there and answered, or never will be
        self._lost = asyncio.Event()
        self._wake = asyncio.Event()
        self._inbox: deque[bytes] = deque()
        self._outbox: deque[wire.ServerFrame] = deque()
        self._partial: bytearray | None = None
        self._write_paused = False
        self._last_heard = self._loop.time()

    async def run(self, deadline: float) -> None:
        """Serves the connection until it is closed; ``deadline`` (the loop's time) is for the head of the request.

        Cancelling closes it at once.
        """
        try:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._answered.wait()
            except TimeoutError:
                self._settings.metrics.refused("silent")
                return
            if self._ws.state is State.OPEN:
                await self._serve_mailbox()
            async with asyncio.timeout(LINGER_SECONDS):
                await self._lost.wait()
        except TimeoutError:
            pass
        finally:
            self.abort()

    async def wait_lost(self) -> None:
        """Returns when the transport has let go of the socket."""
        await self._lost.wait()

    def send(self, frame: wire.ServerFrame) -> None:
        """Writes ``frame``, or keeps it until the client has read what is before it; dropped when the end has come."""
        if self._ws.state is not State.OPEN or self._transport is None or self._transport.is_closing():
            return
        if not self._write_paused:
            self._write(frame)
        elif len(self._outbox) < self._settings.waiting_frames:
            self._outbox.append(frame)
        else:
            self._settings.metrics.refused("slow-reader")
            self.abort()

    def go_away(self, code: CloseCode = CloseCode.GOING_AWAY) -> None:
        """Begins the closing handshake; a connection that is no WebSocket yet is closed at once."""
        if self._ws.state is State.OPEN:
            self._ws.send_close(code)
            self._flush()
        elif self._ws.state is State.CONNECTING and not self._ws.eof_sent:
            self.abort()
        self._wake.set()

    def abort(self) -> None:
        """Closes at once, what is unread is lost. Idempotent."""
        if self._transport is not None:
            self._transport.abort()

    async def _serve_mailbox(self) -> None:
        handler = self._settings.handler
        handler.opened(self)
        try:
            ping_at = self._loop.time() + self._settings.idle_seconds / PINGS_IN_IDLE_TIME
            while True:
                if self._inbox and (self._over or not self._write_paused):
                    await handler.received(self, self._inbox.popleft())
                    self._regulate_reading()
                    await asyncio.sleep(0)
                    continue
                if self._over:
                    return
                self._wake.clear()
                ping_at = self._keep_alive(ping_at)
                try:
                    async with asyncio.timeout_at(ping_at):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        except Exception:
            log.exception("a mailbox connection failed")
            self._ws.fail(CloseCode.INTERNAL_ERROR)
            self._flush()
        finally:
            handler.closed(self)

    @property
    def _over(self) -> bool:
        return self._lost.is_set() or self._ws.state is not State.OPEN

    def _keep_alive(self, ping_at: float) -> float:
        """Pings when it is time, gives up on the dead; when to be called again."""
        now = self._loop.time()
        idle = self._settings.idle_seconds
        if now - self._last_heard >= idle:
            self._settings.metrics.refused("idle")
            self.abort()
        if now < ping_at:
            return ping_at
        self._ws.send_ping(b"")
        self._flush()
        return now + idle / PINGS_IN_IDLE_TIME

    # What comes in, called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._last_heard = self._loop.time()
        data = bytes(_read_buffer[:nbytes])
        if not self._answered.is_set():
            # What a hasty client sends behind the head must not be parsed before the head is answered.
            head_bytes = self._head_part(data)
            self._feed(data[:head_bytes])
            data = data[head_bytes:]
        if data:
            self._feed(data)
        self._regulate_reading()
        self._wake.set()

    def eof_received(self) -> bool:
        self._ws.receive_eof()
        self._flush()
        return False  # the transport closes itself, after what is to be written

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()
        self._answered.set()
        self._wake.set()

    def pause_writing(self) -> None:
        self._write_paused = True
        self._regulate_reading()

    def resume_writing(self) -> None:
        self._write_paused = False
        while self._outbox and not self._write_paused and self._ws.state is State.OPEN:
            self._write(self._outbox.popleft())
        self._regulate_reading()
        self._wake.set()

    def _head_part(self, data: bytes) -> int:
        joined = self._head_tail + data
        end = joined.find(b"\r\n\r\n")
        if end >= 0:
            return end + 4 - len(self._head_tail)
        self._head_tail = joined[-3:]
        return len(data)

    def _feed(self, data: bytes) -> None:
        self._ws.receive_data(data)
        for event in self._ws.events_received():
            if isinstance(event, Request):
                self._respond(event)
            elif isinstance(event, Frame):
                self._collect(event)
        if not self._answered.is_set():
            self._head_bytes += len(data)
            self._check_head()
        self._flush()

    def _respond(self, request: Request) -> None:
        if self._refusal is not None:
            response = unavailable(self._refusal)
        elif path_of(request) == MAILBOX_PATH and request.method == "GET":
            trouble = self._settings.trouble()
            response = self._ws.accept(request) if trouble is None else unavailable(trouble)
        else:
            response = self._settings.pages.respond(request)
        self._ws.send_response(response)
        self._answered.set()

    def _check_head(self) -> None:
        if self._ws.eof_sent:  # the parser has given up, with an answer of its own or none
            if not any(self._ws.writes):
                self._put(plain(400, "Bad Request", "This is no HTTP request that is understood here.\n").serialize())
        elif self._head_bytes > MAX_HEAD_BYTES:
            self._ws.send_response(plain(431, "Request Header Fields Too Large", "The headers are too large.\n"))
        else:
            return
        self._settings.metrics.refused("http")
        self._answered.set()

    def _collect(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._partial = bytearray(frame.data)
        elif frame.opcode is Opcode.CONT and self._partial is not None:
            self._partial += frame.data
        else:
            return
        if frame.fin:
            self._inbox.append(bytes(self._partial))
            self._partial = None

    def _regulate_reading(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._write_paused or len(self._inbox) > MAX_UNHANDLED_MESSAGES:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # What goes out.

    def _write(self, frame: wire.ServerFrame) -> None:
        self._ws.send_text(wire.encode(msgspec.structs.replace(frame, server_tx=time.time())).encode())
        self._flush()

    def _flush(self) -> None:
        for data in self._ws.data_to_send():
            if data:
                self._put(data)
            else:
                self._end()

    def _put(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing() and not self._eof_written:
            self._transport.write(data)

    def _end(self) -> None:
        if self._transport is None or self._transport.is_closing() or self._eof_written:
            return
        self._eof_written = True
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()
