"""One connection to a Redis: what is asked in one round of the event loop goes out in one write."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from midair.port import connect_tcp
from midair.server.shared.redis_address import RedisAddress
from midair.server.shared.resp import Argument, Replies, Reply, ReplyError, RespError, encode_command

__all__ = ["RedisConnection", "open_redis"]

MAX_WAITING: Final = 20_000
"""Commands that wait for their answers."""
MAX_UNSENT_BYTES: Final = 64 << 20
"""Commands the system has not taken yet."""


class RedisConnection(asyncio.Protocol):
    """Made by :func:`open_redis`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._replies = Replies()
        self._unwritten: list[bytes] = []
        self._unwritten_bytes = 0
        self._unanswered: deque[asyncio.Future[Reply]] = deque()
        self._heard = self._loop.time()
        self._on_push: Callable[[Reply], None] | None = None
        self.lost: Final[asyncio.Future[None]] = self._loop.create_future()
        """Done when it is over, for whatever reason."""

    @property
    def full(self) -> bool:
        """Nothing more is to be asked now."""
        unsent = self._unwritten_bytes + (self._transport.get_write_buffer_size() if self._transport else 0)
        return len(self._unanswered) >= MAX_WAITING or unsent >= MAX_UNSENT_BYTES

    @property
    def silent_since(self) -> float | None:
        """When, on the loop's clock, it last made progress with what it was asked; None when nothing is."""
        return self._heard if self._unanswered else None

    def ask(self, *words: Argument) -> asyncio.Future[Reply]:
        """The answer; ReplyError is one. Fails with ConnectionError when the connection ends before it."""
        answer: asyncio.Future[Reply] = self._loop.create_future()
        if self.lost.done() or self._transport is None:
            _fail(answer)
            return answer
        if not self._unanswered:
            self._heard = self._loop.time()
        if not self._unwritten:
            self._loop.call_soon(self._flush)
        data = encode_command(*words)
        self._unwritten.append(data)
        self._unwritten_bytes += len(data)
        self._unanswered.append(answer)
        return answer

    async def say(self, *words: Argument) -> Reply:
        """Asks, and waits. Raises: ReplyError, ConnectionError."""
        reply = await self.ask(*words)
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    async def subscribe(self, channel: str, on_push: Callable[[Reply], None]) -> None:
        """From here on the connection only hears: each message on the channel, payload alone, goes to ``on_push``.

        Raises: ReplyError, ConnectionError.
        """
        await self.say("SUBSCRIBE", channel)
        self._on_push = on_push

    def pause(self) -> None:
        """Nothing more is heard until :meth:`resume`."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Ends it. Idempotent."""
        if self._transport is not None:
            self._transport.abort()
        self._end()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            replies = self._replies.feed(data)
        except RespError:
            self.abort()
            return
        if replies:
            self._heard = self._loop.time()
        for reply in replies:
            if self._on_push is not None:
                if isinstance(reply, list) and len(reply) == 3 and reply[0] == b"message":
                    self._on_push(reply[2])
            elif self._unanswered:
                answer = self._unanswered.popleft()
                if not answer.done():
                    answer.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _flush(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._unwritten))
        self._unwritten.clear()
        self._unwritten_bytes = 0

    def _end(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        while self._unanswered:
            _fail(self._unanswered.popleft())


def _fail(answer: asyncio.Future[Reply]) -> None:
    if not answer.done():
        answer.set_exception(ConnectionError("the connection to Redis has ended"))
        answer.exception()  # not everybody who asks waits for the answer


async def open_redis(address: RedisAddress, *, timeout: float) -> RedisConnection:
    """Connected, logged in, in its database. Cancelling closes it.

    Raises: OSError (TimeoutError and ssl.SSLError are among them), ReplyError.
    """
    loop = asyncio.get_running_loop()
    connection: RedisConnection | None = None
    try:
        async with asyncio.timeout(timeout):
            if address.host is None:
                _, connection = await loop.create_unix_connection(RedisConnection, address.path)
            else:
                connection = await _open_tcp(address, address.host, timeout=timeout)
            if address.password:
                await connection.say("AUTH", *([address.user] if address.user else []), address.password)
            if address.database:
                await connection.say("SELECT", address.database)
            return connection
    except BaseException:
        if connection is not None:
            connection.abort()
        raise


async def _open_tcp(address: RedisAddress, host: str, *, timeout: float) -> RedisConnection:
    loop = asyncio.get_running_loop()
    sock = await connect_tcp(host, address.port, timeout=timeout)
    transport, connection = await loop.connect_accepted_socket(RedisConnection, sock)
    if address.secure:
        context = ssl.create_default_context(cafile=address.ca_file)
        secured = await loop.start_tls(transport, connection, context, server_hostname=host)
        assert secured is not None
        connection.connection_made(secured)
    return connection
