"""Relay legs in WebSockets, with TLS and without, joined to each other and to plain ones."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b

import pytest
import trustme
from server_peers import dial, eventually, metric, read_all, running
from web_leg_peers import OTHER_TOKEN, TOKEN, A, B, all_gone, frame, leg, pair, raw_leg, receive, web_leg

from midair.config import ServerLimits
from midair.endpoint import Endpoint
from midair.errors import QuotaError
from midair.relay import RelayError
from midair.relay.wire import OK, WAIT, Preamble, encode_preamble

LIMITS = ServerLimits()
FORMS = ("plain", "websocket", "tls")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def serving_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    "forms", [(one, other) for one in FORMS for other in FORMS if (one, other) != ("plain", "plain")]
)
async def test_any_two_forms_are_joined_and_each_direction_ends_by_itself(
    forms: tuple[str, str], serving_tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    before = descriptors()
    async with running(ssl_context=serving_tls) as server:
        loop = asyncio.get_running_loop()
        async with pair(server, forms, trusting) as (first, second):
            for source, target in ((first, second), (second, first)):
                await loop.sock_sendall(source, b"hello")
                assert await receive(target, 5) == b"hello"
            await loop.sock_sendall(first, b"last words")
            first.shutdown(socket.SHUT_WR)
            assert await read_all(second) == b"last words"
            await loop.sock_sendall(second, b"answer")
            assert await receive(first, 6) == b"answer"
            second.shutdown(socket.SHUT_WR)
            assert await read_all(first) == b""
        assert metric(server, "midair_relay_bytes_total") == 26
        await all_gone(server)
    await eventually(lambda: descriptors() == before)


@pytest.mark.parametrize("forms", [("plain", "tls"), ("tls", "websocket")])
async def test_large_data_passes_whole_both_ways_at_once(
    forms: tuple[str, str], serving_tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    data = [os.urandom(8 << 20), os.urandom((8 << 20) + 1)]

    async def send(sock: socket.socket, what: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(sock, what)
        sock.shutdown(socket.SHUT_WR)

    async with running(ssl_context=serving_tls) as server:
        async with pair(server, forms, trusting) as (first, second):
            _, _, one, other = await asyncio.gather(
                send(first, data[0]), send(second, data[1]), read_all(first), read_all(second)
            )
        assert [blake2b(each).digest() for each in (other, one)] == [blake2b(each).digest() for each in data]
        assert metric(server, "midair_relay_bytes_total") == sum(map(len, data))
        await all_gone(server)


async def test_a_leg_has_the_addresses_of_the_connection_it_stands_for() -> None:
    async with running() as server, pair(server) as (first, _):
        assert Endpoint.from_sockaddr(first.getpeername()) == server.endpoints[0]
        assert Endpoint.from_sockaddr(first.getsockname()).address.is_loopback
        assert first.gettimeout() == 0


async def test_a_slow_reader_stops_the_sender_and_loses_nothing() -> None:
    async with running() as server, pair(server) as (first, second):
        sent = 0
        with suppress(TimeoutError):
            while True:  # until nothing more goes in, for as long as the kernel may take to move it on
                async with asyncio.timeout(0.3):
                    await asyncio.get_running_loop().sock_sendall(first, bytes(1 << 16))
                sent += 1 << 16
        assert sent < 32 << 20
        first.shutdown(socket.SHUT_WR)
        received = len(await read_all(second))
        assert sent <= received <= sent + (1 << 16)


async def test_only_content_is_counted_and_a_pair_is_cut_at_its_byte() -> None:
    async with running(limits=replace(LIMITS, relay_bytes=100_000)) as server:
        async with pair(server) as (first, second):
            await asyncio.get_running_loop().sock_sendall(second, b"y" * 40_000)
            assert await receive(first, 40_000) == b"y" * 40_000
            await asyncio.get_running_loop().sock_sendall(first, b"x" * 60_001)
            assert len(await read_all(second)) <= 60_000
        await all_gone(server)
        assert metric(server, "midair_relay_bytes_total") == 100_000
        assert metric(server, 'midair_refusals_total{reason="relay-bytes"}') == 1


async def test_a_refusal_is_said_as_in_a_plain_leg() -> None:
    async with running(limits=replace(LIMITS, relay_legs=2)) as server:
        async with pair(server):
            with pytest.raises(QuotaError, match="no room for another leg"):
                await leg(server, "websocket", A, token=OTHER_TOKEN)
        await all_gone(server)


async def test_a_partner_that_does_not_come_is_a_refusal() -> None:
    async with running(limits=replace(LIMITS, relay_wait_seconds=0.1)) as server:
        with pytest.raises(RelayError, match="the partner did not come"):
            await leg(server, "websocket", A)
        await all_gone(server)


async def test_a_leg_that_is_closed_while_it_waits_is_forgotten() -> None:
    async with running() as server:
        with await web_leg(server, A):
            await eventually(lambda: bool(server._relay._waiting))
        await all_gone(server)


@pytest.mark.parametrize("which", [0, 1])
async def test_a_leg_that_breaks_ends_the_pair(which: int) -> None:
    """Where a direction has ended already, only the break can end the other."""
    async with running() as server:
        with await raw_leg(server) as broken:
            await asyncio.get_running_loop().sock_sendall(broken, frame(encode_preamble(Preamble(token=TOKEN, side=A))))
            with await leg(server, ("plain", "websocket")[which], B) as partner:
                broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                broken.close()  # with a RST
                assert await read_all(partner) == b""
        await all_gone(server)


async def test_draining_sends_waiting_legs_away_and_lets_pairs_finish() -> None:
    async with running() as server, pair(server) as (first, second):
        with await web_leg(server, A, token=OTHER_TOKEN) as third:
            await eventually(lambda: bool(server._relay._waiting))
            draining = asyncio.create_task(server.drain())
            assert (await read_all(third)).startswith(b"ERR stopping ")
        await asyncio.get_running_loop().sock_sendall(first, b"to the end")
        assert await receive(second, 10) == b"to the end"
        assert not draining.done()
        for sock in (first, second):
            sock.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(draining, 5)


async def test_a_leg_that_waits_is_pinged_and_one_that_never_answers_is_given_up() -> None:
    async with running(limits=replace(LIMITS, connection_idle_seconds=0.6)) as server:
        with await raw_leg(server) as dead, await web_leg(server, A) as alive:
            await asyncio.get_running_loop().sock_sendall(
                dead, frame(encode_preamble(Preamble(token=OTHER_TOKEN, side=A)))
            )
            assert await read_all(dead) in (b"\x89\x00" * 2, b"\x89\x00" * 3)  # pings
            with await leg(server, "websocket", B):
                assert await receive(alive, 3) == OK
        await all_gone(server)
        assert metric(server, 'midair_refusals_total{reason="idle"}') == 1


async def test_who_asks_is_told_to_wait() -> None:
    async with running() as server:
        with await dial(server) as sock:
            preamble = encode_preamble(Preamble(token=TOKEN, side=A, asks=True))
            await asyncio.get_running_loop().sock_sendall(sock, preamble)
            assert await receive(sock, len(WAIT)) == WAIT
            with await leg(server, "websocket", B):
                assert await receive(sock, 3) == OK
        await all_gone(server)


async def test_a_plain_leg_that_comes_late_does_not_replace_the_one_its_client_uses() -> None:
    async with running() as server:
        with await web_leg(server, A) as used:
            await eventually(lambda: bool(server._relay._waiting))
            with await dial(server) as late:
                preamble = encode_preamble(Preamble(token=TOKEN, side=A, asks=True))
                await asyncio.get_running_loop().sock_sendall(late, preamble)
                assert (await read_all(late)).startswith(b"ERR replaced ")
            with await leg(server, "plain", B):
                assert await receive(used, 3) == OK
        await all_gone(server)
