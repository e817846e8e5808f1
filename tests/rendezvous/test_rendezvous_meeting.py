"""Meetings over real WebSockets, with a server on loopback that can be made to misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NoReturn

import pytest
import trustme
from rendezvous_support import Connection, MemoryServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from midair.config import ServerURL
from midair.errors import (
    PeerLostError,
    QuotaError,
    RemoteProtocolError,
    ServerUnreachableError,
    UnknownCodeError,
    UsageError,
    WrongCodeError,
)
from midair.rendezvous import Meeting, meet_as_receiver, meet_as_sender, wire
from midair.rendezvous.conversation import MAX_MESSAGES
from midair.rendezvous.meeting import MAX_MESSAGE_BYTES

CODE = "7-acorn-volcano"
Handler = Callable[[ServerConnection], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[ServerURL]:
    async with serve(handler, "127.0.0.1", 0, ssl=tls, compression=None, ping_interval=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield ServerURL(secure=tls is not None, host="127.0.0.1", port=port)


class Mailboxes:
    """The memory server behind real WebSockets."""

    def __init__(self) -> None:
        self.memory = MemoryServer()
        self.websockets: list[ServerConnection] = []

    async def handle(self, websocket: ServerConnection) -> None:
        connection = self.memory.accept()
        self.websockets.append(websocket)
        try:
            await self._flush(connection, websocket)
            async for data in websocket:
                frame = wire.decode_client_frame(data)
                assert not isinstance(frame, wire.Unknown)
                self.memory.take(connection, frame)
                for other, socket in zip(self.memory.connections, self.websockets, strict=True):
                    await self._flush(other, socket)
        except ConnectionClosed:
            pass
        finally:
            self.memory.connections.remove(connection)
            self.websockets.remove(websocket)

    async def _flush(self, connection: Connection, websocket: ServerConnection) -> None:
        while connection.frames:
            with contextlib.suppress(ConnectionClosed):
                await websocket.send(wire.encode(connection.frames.popleft()))


async def meet_both(server: ServerURL, tls: ssl.SSLContext | None = None) -> tuple[Meeting, Meeting]:
    code: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    sender = asyncio.create_task(
        meet_as_sender(server, app_versions={"n": 1}, on_code=code.set_result, ssl_context=tls)
    )
    receiver = await meet_as_receiver(server, await code, app_versions={"n": 2}, ssl_context=tls)
    return await sender, receiver


async def test_two_peers_meet_and_exchange_messages() -> None:
    async with listening(Mailboxes().handle) as server:
        sender, receiver = await meet_both(server)
        async with sender, receiver:
            assert sender.key == receiver.key
            assert sender.derive("x") == receiver.derive("x") != receiver.derive("y")
            assert len(sender.derive("x", 20)) == 20
            assert sender.peer_versions == {"n": 2, "role": "receiver"}
            await sender.send(b"ping")
            assert await receiver.receive() == b"ping"
            await receiver.send(b"pong" * 6000)
            assert await sender.receive() == b"pong" * 6000


async def test_neither_key_nor_code_shows_in_the_repr() -> None:
    async with listening(Mailboxes().handle) as server:
        sender, receiver = await meet_both(server)
        async with sender, receiver:
            shown = repr(sender) + repr(sender._mailbox) + repr(sender._mailbox._machine)
            assert sender.code.partition("-")[2] not in shown
            assert sender.key.hex() not in shown
            assert repr(sender.key) not in shown


async def test_a_meeting_goes_on_when_all_connections_break() -> None:
    mailboxes = Mailboxes()
    async with listening(mailboxes.handle) as server:
        sender, receiver = await meet_both(server)
        async with sender, receiver:
            for websocket in list(mailboxes.websockets):
                websocket.transport.abort()
            await sender.send(b"still there")
            assert await receiver.receive() == b"still there"


async def test_leaving_leaves_nothing_at_the_server() -> None:
    mailboxes = Mailboxes()
    async with listening(mailboxes.handle) as server:
        sender, receiver = await meet_both(server)
        await asyncio.gather(sender.close(), receiver.close(), sender.close())
        await sender.close()
        assert mailboxes.memory.mailboxes == {}
        assert mailboxes.memory.nameplates == {}
        with pytest.raises(PeerLostError):
            await sender.send(b"x")
        with pytest.raises(PeerLostError):
            await receiver.receive()


async def test_close_ends_a_receive_that_waits() -> None:
    async with listening(Mailboxes().handle) as server:
        sender, receiver = await meet_both(server)
        waiting = asyncio.create_task(receiver.receive())
        await asyncio.sleep(0)
        await receiver.close()
        with pytest.raises(PeerLostError):
            await waiting
        await sender.close()


async def test_cancelling_a_receive_loses_no_message() -> None:
    async with listening(Mailboxes().handle) as server:
        sender, receiver = await meet_both(server)
        async with sender, receiver:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await receiver.receive()
            await sender.send(b"later")
            assert await receiver.receive() == b"later"


async def test_a_message_too_long_or_one_too_many_is_the_callers_mistake() -> None:
    async with listening(Mailboxes().handle) as server:
        sender, receiver = await meet_both(server)
        async with sender, receiver:
            with pytest.raises(ValueError, match="over the limit"):
                await sender.send(bytes(MAX_MESSAGE_BYTES + 1))
            await sender.send(bytes(MAX_MESSAGE_BYTES))
            for _ in range(MAX_MESSAGES - 1):
                await sender.send(b"x")
            with pytest.raises(ValueError, match="more than"):
                await sender.send(b"x")
            assert len([await receiver.receive() for _ in range(MAX_MESSAGES)]) == MAX_MESSAGES


async def test_a_wrong_code_reaches_both_and_shows_neither_code() -> None:
    async with listening(Mailboxes().handle) as server:
        errors = await asyncio.gather(
            meet_as_sender(server, code=CODE, app_versions={}),
            meet_as_receiver(server, "7-acorn-tornado", app_versions={}),
            return_exceptions=True,
        )
        for error in errors:
            assert isinstance(error, WrongCodeError)
            assert "acorn" not in str(error) + repr(error) + error.hint


async def test_an_unknown_code_ends_after_the_wait_and_leaves_nothing() -> None:
    mailboxes = Mailboxes()
    async with listening(mailboxes.handle) as server:
        with pytest.raises(UnknownCodeError):
            await meet_as_receiver(server, CODE, app_versions={}, wait=0.05)
        assert mailboxes.memory.nameplates == {}
        assert mailboxes.memory.moods.popitem()[1] == "lonely"


async def test_a_text_that_is_no_code_is_refused_before_anything_is_sent() -> None:
    server = ServerURL.parse("ws://127.0.0.1:1")
    with pytest.raises(UsageError):
        await meet_as_receiver(server, "acorn", app_versions={})
    with pytest.raises(UsageError):
        await meet_as_sender(server, code="acorn", app_versions={})


async def test_cancelling_a_waiting_sender_gives_the_number_back() -> None:
    mailboxes = Mailboxes()
    async with listening(mailboxes.handle) as server:
        ready = asyncio.Event()
        sender = asyncio.create_task(meet_as_sender(server, app_versions={}, on_code=lambda _: ready.set()))
        await ready.wait()
        assert mailboxes.memory.nameplates
        sender.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sender
        assert mailboxes.memory.nameplates == {}
        assert mailboxes.memory.mailboxes == {}
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "midair-meeting"]


async def test_an_exception_of_the_callback_reaches_the_caller() -> None:
    def fails(code: str) -> None:
        raise RuntimeError("the terminal is gone")

    mailboxes = Mailboxes()
    async with listening(mailboxes.handle) as server:
        with pytest.raises(RuntimeError, match="the terminal is gone"):
            await meet_as_sender(server, app_versions={}, on_code=fails)
        assert mailboxes.memory.nameplates == {}


async def test_a_mistake_in_our_own_code_is_raised_and_not_waited_for() -> None:
    async with listening(Mailboxes().handle) as server:
        with pytest.raises(AssertionError):
            await meet_as_sender(server, app_versions={}, word_count=1)


async def test_versions_that_cannot_be_told_are_the_callers_mistake() -> None:
    server = ServerURL.parse("ws://127.0.0.1:1")
    with pytest.raises(TypeError):
        await meet_as_sender(server, app_versions={"not json": object()})
    with pytest.raises(ValueError, match="over the limit"):
        await meet_as_receiver(server, CODE, app_versions={"long": "x" * MAX_MESSAGE_BYTES})


# Servers that are none, or hostile


async def test_nothing_listens_there(unused_tcp_port: int) -> None:
    server = ServerURL.parse(f"127.0.0.1:{unused_tcp_port}")
    with pytest.raises(ServerUnreachableError, match=rf"ws://127\.0\.0\.1:{unused_tcp_port} .*nothing listens there"):
        await meet_as_sender(server, app_versions={})


async def test_a_name_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ServerUnreachableError, match="name cannot be resolved"):
        await meet_as_sender(ServerURL.parse("ws://midair.invalid:7420"), app_versions={})


@pytest.mark.parametrize(("status", "kind"), [(404, ServerUnreachableError), (429, QuotaError)])
async def test_a_web_server_that_is_no_mailbox(status: int, kind: type[Exception]) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(status, "no\n")

    async with serve(Mailboxes().handle, "127.0.0.1", 0, process_request=refuse) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        with pytest.raises(kind):
            await meet_as_sender(ServerURL.parse(f"127.0.0.1:{port}"), app_versions={})


async def test_a_server_that_speaks_something_else() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n\r\n")
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ServerUnreachableError, match="speaks no HTTP"):
            await meet_as_sender(ServerURL.parse(f"127.0.0.1:{port}"), app_versions={})


@pytest.mark.parametrize(
    "data",
    ["garbage", b"\xff\x00", "[]", '{"type":"claimed"}', '{"type":"closed","x":' + "[" * 60_000 + "]" * 60_000 + "}"],
)
async def test_garbage_ends_the_meeting_at_once(data: str | bytes) -> None:
    async def handle(websocket: ServerConnection) -> None:
        await websocket.send(data)
        await websocket.wait_closed()

    async with listening(handle) as server:
        with pytest.raises(RemoteProtocolError, match="breaks its protocol"):
            await meet_as_sender(server, app_versions={})


async def test_a_server_that_sends_garbage_is_told_that_we_leave() -> None:
    heard: list[str] = []

    async def handle(websocket: ServerConnection) -> None:
        await websocket.send(wire.encode(wire.Claimed(mailbox="box")))
        async for data in websocket:
            frame = wire.decode_client_frame(data)
            heard.append(type(frame).__name__)
            if isinstance(frame, wire.Open):
                await websocket.send("garbage")

    async with listening(handle) as server:
        with pytest.raises(RemoteProtocolError):
            await meet_as_sender(server, code=CODE, app_versions={})
    assert heard[-2:] == ["Release", "Close"]


async def test_a_frame_over_the_limit_ends_the_meeting_unread() -> None:
    async def handle(websocket: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            await websocket.send("x" * (wire.MAX_FRAME_BYTES + 1))
            await websocket.wait_closed()

    async with listening(handle) as server:
        with pytest.raises(RemoteProtocolError, match="too large"):
            await meet_as_sender(server, app_versions={})


async def test_a_server_that_closes_at_once_is_not_asked_again() -> None:
    count = 0

    async def handle(websocket: ServerConnection) -> None:
        nonlocal count
        count += 1

    async with listening(handle) as server:
        with pytest.raises(ServerUnreachableError, match="closed the connection"):
            await meet_as_sender(server, app_versions={})
    assert count == 1


async def test_a_limit_named_by_the_server_is_a_quota() -> None:
    async def handle(websocket: ServerConnection) -> None:
        await websocket.send(wire.encode(wire.Error(error="limit: 50 mailboxes for one address")))
        await websocket.wait_closed()

    async with listening(handle) as server:
        with pytest.raises(QuotaError, match="50 mailboxes for one address"):
            await meet_as_sender(server, app_versions={})


async def test_a_server_that_answers_nothing_delays_a_cancel_by_no_more_than_two_seconds() -> None:
    connected, over = asyncio.Event(), asyncio.Event()

    async def handle(websocket: ServerConnection) -> None:
        # Not even the closing handshake is answered.
        websocket.transport.pause_reading()
        connected.set()
        await over.wait()

    async with serve(handle, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=0.1) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        sender = asyncio.create_task(meet_as_sender(ServerURL.parse(f"127.0.0.1:{port}"), app_versions={}))
        await connected.wait()
        started = time.monotonic()
        sender.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sender
        took = time.monotonic() - started
        over.set()
    assert took < 2.5


async def test_cancelling_twice_leaves_no_task() -> None:
    connected = asyncio.Event()

    async def handle(websocket: ServerConnection) -> None:
        connected.set()
        await websocket.wait_closed()

    async with listening(handle) as server:
        sender = asyncio.create_task(meet_as_sender(server, app_versions={}))
        await connected.wait()
        sender.cancel()
        await asyncio.sleep(0.05)
        sender.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sender
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "midair-meeting"]


# TLS


async def test_a_meeting_over_tls_and_a_certificate_nobody_vouches_for() -> None:
    authority = trustme.CA()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with listening(Mailboxes().handle, tls=serving) as server:
        sender, receiver = await meet_both(server, trusting)
        async with sender, receiver:
            await sender.send(b"over tls")
            assert await receiver.receive() == b"over tls"
        with pytest.raises(ServerUnreachableError, match="certificate is not trusted"):
            await meet_as_sender(server, app_versions={})
