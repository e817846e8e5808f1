"""Drives one HTTP connection: a page, the mailbox WebSocket, or one with a relay leg in it; with or without TLS below.

What the bytes mean is said in :mod:`midair.server.web_head` and :mod:`midair.server.websocket`; this file moves them,
and bounds them. What comes in is read in pieces of 16 KiB, and no further while messages wait to be handled or the
client does not read what goes out. What goes out waits as frames, whose texts the mailbox keeps anyway, and is written
only as fast as the client reads; what is said in one round of the event loop, in one write.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol, cast

import msgspec
from websockets.frames import CloseCode

from midair.relay.wire import MESSAGE_BYTES, RELAY_PATH
from midair.rendezvous import wire
from midair.server.metrics import Metrics
from midair.server.web_head import Door, Head
from midair.server.web_leg import MAX_UNHANDLED_LEG_MESSAGES, ServeLeg, carry_leg
from midair.server.websocket import WebSocket

__all__ = ["MailboxHandler", "WebConnection", "WebSettings"]

log = logging.getLogger("midair.server.web")

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
_leg_buffer = memoryview(bytearray(MESSAGE_BYTES))
"""The same for those with a relay leg inside, which have more to say."""


class MailboxHandler(Protocol):
    """What is done with a mailbox WebSocket."""

    def opened(self, connection: WebConnection) -> None:
        """The handshake is understood; its answer goes out with what is said now."""

    async def received(self, connection: WebConnection, data: bytes) -> None:
        """One whole message; the next one comes when this is done."""

    def closed(self, connection: WebConnection) -> None:
        """Nothing more is received. Not said when the connection was cut before :meth:`WebConnection.run` began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """What all connections of one server share."""

    door: Door
    handler: MailboxHandler
    metrics: Metrics
    message_bytes: int
    """One WebSocket message, at most."""
    waiting_frames: int
    """Frames that wait for a slow reader, at most."""
    idle_seconds: float
    """A WebSocket that says nothing for so long, pongs included, is closed."""


class WebConnection(asyncio.BufferedProtocol):
    """One connection. :meth:`run` is its life; the transport calls the rest."""

    def __init__(self, settings: WebSettings, *, serve_leg: ServeLeg, refusal: str | None = None) -> None:
        """With ``refusal``, every request is answered with 503 and this text."""
        self._settings = settings
        self._serve_leg = serve_leg
        self._loop = asyncio.get_running_loop()
        self._head: Head | None = Head(settings.door, refusal)  # until it is answered
        self._socket: WebSocket | None = None  # from then on
        self._transport: asyncio.Transport | None = None
        self._eof_written = False
        self._answered = asyncio.Event()  # the request is there and answered, or never will be
        self._lost = asyncio.Event()
        self._waiter: asyncio.Future[None] | None = None
        self._inbox: deque[bytes] = deque()
        self._outbox: deque[wire.ServerFrame] = deque()
        self._flushing = False
        self._unwritten_bytes = 0
        self._write_paused = False
        self._writable: asyncio.Event | None = None
        """Not None: there is a relay leg inside."""
        self._last_heard = self._loop.time()
        self._keeping_alive: asyncio.TimerHandle | None = None

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
            if self._socket is not None:
                self._begin_pings()
                await (self._serve_mailbox() if self._writable is None else self._carry_leg(deadline))
            async with asyncio.timeout(LINGER_SECONDS):
                await self._lost.wait()
        except TimeoutError:
            pass
        finally:
            if self._keeping_alive is not None:
                self._keeping_alive.cancel()
            self.abort()

    async def wait_lost(self) -> None:
        """Returns when the transport has let go of the socket."""
        await self._lost.wait()

    def send(self, frame: wire.ServerFrame) -> None:
        """Writes ``frame``, or keeps it until the client has read what is before it; dropped when the end has come."""
        if self._over or self._transport is None or self._transport.is_closing():
            return
        if not self._write_paused:
            self._write(frame)
        elif len(self._outbox) < self._settings.waiting_frames:
            self._outbox.append(frame)
        else:
            self._settings.metrics.refused("slow-reader")
            self.abort()

    def go_away(self, code: CloseCode = CloseCode.GOING_AWAY) -> None:
        """Begins the closing handshake; what is no WebSocket yet is closed at once. A leg is the relay's to end."""
        if self._socket is not None:
            if self._writable is None:
                self._socket.close(code)
                self._flush()
        elif not self._answered.is_set():
            self.abort()
        self._wake()

    def abort(self) -> None:
        """Closes at once, what is unread is lost. Idempotent."""
        if self._transport is not None:
            self._transport.abort()

    # A relay leg.

    async def next_message(self) -> bytes | None:
        """Waits for the next one; None when there will be none."""
        while not self._inbox:
            if self._over:
                return None
            await self._woken()
        message = self._inbox.popleft()
        if message and self._inbox and self._inbox[0]:  # many small ones are passed on as one; an empty one is the end
            whole = [message]
            while self._inbox and self._inbox[0]:
                whole.append(self._inbox.popleft())
            message = b"".join(whole)
        self._regulate_reading()
        return message

    async def put_message(self, data: bytes) -> None:
        """Says one, when the client has read most of those before; nothing happens when the connection is gone."""
        assert self._writable is not None
        await self._writable.wait()
        if self._socket is not None:
            self._socket.send_binary(data)
            self._flush()

    async def _carry_leg(self, deadline: float) -> None:
        try:
            await carry_leg(self, lambda inner: self._serve_leg(inner, deadline))
            if self._socket is not None:
                self._socket.close(CloseCode.NORMAL_CLOSURE)
                self._flush()
        except OSError as error:
            log.warning("no sockets for a relay leg: %s", error)
            self._settings.metrics.refused("relay-pipes")
            self._fail(CloseCode.TRY_AGAIN_LATER)

    # The mailbox.

    async def _serve_mailbox(self) -> None:
        handler = self._settings.handler
        try:
            while True:
                if self._inbox and (self._over or not self._write_paused):
                    await handler.received(self, self._inbox.popleft())
                    self._regulate_reading()
                    if self._inbox:
                        await asyncio.sleep(0)
                    continue
                if self._over:
                    return
                await self._woken()
        except Exception:
            log.exception("a mailbox connection failed")
            self._fail(CloseCode.INTERNAL_ERROR)
        finally:
            handler.closed(self)

    @property
    def _over(self) -> bool:
        return self._socket is None or not self._socket.is_open or self._lost.is_set()

    async def _woken(self) -> None:
        """Until something has come, or nothing will."""
        self._waiter = self._loop.create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _begin_pings(self) -> None:
        seconds = self._settings.idle_seconds / PINGS_IN_IDLE_TIME
        self._keeping_alive = self._loop.call_later(seconds, self._keep_alive)

    def _keep_alive(self) -> None:
        """Gives up on the dead, and pings the others: what stands between may end what nothing passes through."""
        if self._socket is None or self._over:
            return
        if self._loop.time() - self._last_heard >= self._settings.idle_seconds:
            self._settings.metrics.refused("idle")
            self.abort()
            return
        self._socket.send_ping()
        self._flush()
        self._begin_pings()

    # What comes in, called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _read_buffer if self._writable is None else _leg_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._last_heard = self._loop.time()
        data = bytes(self.get_buffer(0)[:nbytes])
        if self._head is not None:
            data = self._read_head(self._head, data)
        if data and self._socket is not None:
            self._collect(self._socket, data)
        self._regulate_reading()
        self._wake()

    def eof_received(self) -> bool:
        return False  # the transport closes itself, after what is to be written

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()
        self._answered.set()
        self._wake()
        self._resume_leg()

    def pause_writing(self) -> None:
        self._write_paused = True
        if self._writable is not None:
            self._writable.clear()
        self._regulate_reading()

    def resume_writing(self) -> None:
        self._write_paused = False
        self._resume_leg()
        while self._outbox and not self._write_paused and not self._over:
            self._write(self._outbox.popleft())
        self._regulate_reading()
        self._wake()

    def _resume_leg(self) -> None:
        if self._writable is not None:
            self._writable.set()

    def _read_head(self, head: Head, data: bytes) -> bytes:
        """What is behind the head."""
        answer, rest = head.read(data)
        if answer is not None:
            self._head = None
            if answer.opens is None:
                self._put(answer.data)
                self._end()
            else:
                self._open(answer.opens, answer.data)
            self._answered.set()
        return rest

    def _open(self, path: str, answer: bytes) -> None:
        leg = path == RELAY_PATH
        self._socket = WebSocket(max_message_bytes=MESSAGE_BYTES if leg else self._settings.message_bytes)
        self._socket.outgoing.append(answer)
        if leg:
            self._writable = asyncio.Event()
            self._writable.set()
            self._flush()
        else:
            self._settings.handler.opened(self)  # what it says goes out with the answer

    def _collect(self, socket: WebSocket, data: bytes) -> None:
        for is_text, message in socket.receive(data):
            if is_text and self._writable is not None:
                self._settings.metrics.refused("relay-text")
                socket.fail(CloseCode.UNSUPPORTED_DATA)
                break
            self._inbox.append(message)
        self._flush()

    def _regulate_reading(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._writable is None:
            full = self._write_paused or len(self._inbox) > MAX_UNHANDLED_MESSAGES
        else:
            # Its directions do not wait for each other, but who reads no pongs gets no more.
            unread = self._transport.get_write_buffer_size()
            full = len(self._inbox) > MAX_UNHANDLED_LEG_MESSAGES or unread > WRITE_BUFFER_BYTES + 2 * MESSAGE_BYTES
        if full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # What goes out.

    def _write(self, frame: wire.ServerFrame) -> None:
        assert self._socket is not None
        text = wire.encode(msgspec.structs.replace(frame, server_tx=time.time())).encode()
        self._socket.send_text(text)
        self._unwritten_bytes += len(text)
        if self._unwritten_bytes > WRITE_BUFFER_BYTES:
            self._flush()
        elif not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _fail(self, code: CloseCode) -> None:
        if self._socket is not None:
            self._socket.fail(code)
            self._flush()

    def _flush(self) -> None:
        self._flushing = False
        self._unwritten_bytes = 0
        if self._socket is None:
            return
        if self._socket.outgoing:
            self._put(b"".join(self._socket.outgoing))
            self._socket.outgoing.clear()
        if self._socket.ended:
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
