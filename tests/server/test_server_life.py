"""The reflector, and how a server starts, suffers and ends."""

from __future__ import annotations

import asyncio
import errno
import socket
from dataclasses import replace

import pytest
from server_peers import MailboxPeer, dial, eventually, metric, port_of, read_all, running

from midair.config import ServerLimits
from midair.endpoint import Endpoint
from midair.port import accept, listen_tcp
from midair.server import Server
from midair.stun.client import request_binding
from midair.stun.framing import Deframer
from midair.stun.wire import BINDING, Message, MessageClass, Software, XorMappedAddress, decode, encode

LIMITS = ServerLimits()


def binding(number: int) -> bytes:
    return encode(
        Message(
            method=BINDING,
            message_class=MessageClass.REQUEST,
            transaction_id=number.to_bytes(12, "big"),
            attributes=(Software("test"),),
        )
    )


async def test_the_reflector_tells_where_the_connection_comes_from_and_keeps_it() -> None:
    async with running() as server:
        with await dial(server) as sock:
            mapped = Endpoint.from_sockaddr(sock.getsockname())
            for number in range(3):
                assert await request_binding(sock, number.to_bytes(12, "big"), deadline=5) == mapped
            assert metric(server, "midair_stun_requests_total") == 3
            assert metric(server, 'midair_open_connections{kind="stun"}') == 1
        await eventually(lambda: server._admission.total == 0)


async def test_pipelined_requests_in_odd_pieces_are_answered_in_order() -> None:
    async with running() as server:
        with await dial(server) as sock:
            mapped = Endpoint.from_sockaddr(sock.getsockname())
            sent = b"".join(map(binding, range(50)))
            for start in range(0, len(sent), 33):
                await asyncio.get_running_loop().sock_sendall(sock, sent[start : start + 33])
                await asyncio.sleep(0)
            sock.shutdown(socket.SHUT_WR)
            answers = [decode(answer) for answer in Deframer().feed(await read_all(sock))]
        assert [int.from_bytes(answer.transaction_id, "big") for answer in answers] == list(range(50))
        assert {answer.first(XorMappedAddress) for answer in answers} == {XorMappedAddress(mapped)}


async def test_a_connection_has_only_so_many_requests() -> None:
    async with running(limits=replace(LIMITS, stun_requests_per_connection=3)) as server:
        with await dial(server) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"".join(map(binding, range(10))))
            assert len(Deframer().feed(await read_all(sock))) == 3
        await eventually(lambda: server._admission.total == 0)
        assert metric(server, 'midair_refusals_total{reason="stun-requests"}') == 1


@pytest.mark.parametrize("garbage", [b"\0" * 40, b"\0\1\xff\xff" + b"x" * 40, binding(0) + b"GET / HTTP/1.1\r\n\r\n"])
async def test_garbage_closes_the_reflector(garbage: bytes) -> None:
    async with running() as server:
        with await dial(server) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, garbage)
            await read_all(sock)
        await eventually(lambda: server._admission.total == 0)
        assert metric(server, 'midair_refusals_total{reason="stun-malformed"}') == 1


async def test_a_silent_reflector_connection_is_closed_after_its_time() -> None:
    async with running(limits=replace(LIMITS, stun_idle_seconds=0.2)) as server:
        with await dial(server) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"\0\1\0")
            assert await read_all(sock) == b""


async def test_draining_sends_the_mailbox_away_and_takes_nobody_in() -> None:
    async with running() as server:
        port = port_of(server)
        silent, reflected = await dial(server), await dial(server)
        await request_binding(reflected, b"t" * 12, deadline=5)
        async with MailboxPeer.connected(server, "alice") as alice:
            await server.drain()
            await alice.socket.wait_closed()
            assert alice.socket.close_code == 1001
        for sock in (silent, reflected):
            assert await read_all(sock) == b""
            sock.close()
        with socket.socket() as late, pytest.raises(ConnectionRefusedError):
            late.connect(("127.0.0.1", port))
        await server.drain()
        await server.stop()


async def test_a_mailbox_client_that_does_not_answer_the_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(limits=replace(LIMITS, drain_seconds=0.2)) as server:
        with await dial(server) as sock:
            await asyncio.get_running_loop().sock_sendall(
                sock,
                b"GET /v1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            )
            await eventually(lambda: len(server._mailboxes._connections) == 1)
            started = asyncio.get_running_loop().time()
            await server.drain()
            assert asyncio.get_running_loop().time() - started < 3
            assert b"\x88" in await read_all(sock)


async def test_a_system_without_descriptors_is_asked_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    async def failing_at_first(listener: socket.socket, *, pause: bool) -> tuple[socket.socket, Endpoint]:
        nonlocal calls
        calls += 1
        if calls <= 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return await accept(listener, pause=pause)

    monkeypatch.setattr("midair.server.server.accept", failing_at_first)
    monkeypatch.setattr("midair.server.server.ACCEPT_PAUSE_SECONDS", 0.1)
    async with running() as server:
        started = asyncio.get_running_loop().time()
        with await dial(server) as sock:
            await request_binding(sock, b"t" * 12, deadline=5)
        assert asyncio.get_running_loop().time() - started > 0.1
        assert metric(server, 'midair_refusals_total{reason="accept"}') == 2


async def test_one_server_listens_on_several_sockets() -> None:
    listeners = [listen_tcp("127.0.0.1", 0), listen_tcp("127.0.0.1", 0)]
    async with Server(listeners) as server:
        assert len({endpoint.port for endpoint in server.endpoints}) == 2
        for endpoint in server.endpoints:
            with socket.socket() as sock:
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, endpoint.to_sockaddr())
                await request_binding(sock, b"t" * 12, deadline=5)


async def test_a_fault_of_ours_in_one_connection_is_logged_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as server:
        monkeypatch.setattr(server._reflector, "serve", None)
        with await dial(server) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, binding(0))
            assert await read_all(sock) == b""
        assert "a connection failed" in caplog.text
        async with MailboxPeer.connected(server, "alice") as alice:
            monkeypatch.setattr(server._mailboxes._office, "received", None)
            await alice.send("ping", ping=1)
            await alice.socket.wait_closed()
            assert alice.socket.close_code == 1011
        await eventually(lambda: server._admission.total == 0)
