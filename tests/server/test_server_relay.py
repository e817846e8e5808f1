"""Relay legs over real sockets: both ways of moving the bytes."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from hashlib import blake2b

import pytest
from server_peers import dial, eventually, metric, port_of, read_all, running

from midair.config import ServerLimits, ServerURL
from midair.errors import QuotaError
from midair.relay import RelayError, open_leg
from midair.relay.wire import PREAMBLE_BYTES, Preamble, encode_preamble
from midair.server import Server
from midair.server.buffers import Buffer, Buffers, CopyBuffer, SpliceBuffer
from midair.server.relay import Relay

LIMITS = ServerLimits()
TOKEN, OTHER_TOKEN = b"t" * 32, b"o" * 32
A, B, C = b"a" * 8, b"b" * 8, b"c" * 8


@pytest.fixture(params=[SpliceBuffer, CopyBuffer], autouse=True)
def buffer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test here runs with each of them."""
    monkeypatch.setattr("midair.server.server.Relay", partial(Relay, new_buffer=request.param))


async def leg(server: Server, side: bytes, token: bytes = TOKEN, *, timeout: float = 5) -> socket.socket:
    return await open_leg(ServerURL(secure=False, host="127.0.0.1", port=port_of(server)), token, side, timeout=timeout)


@asynccontextmanager
async def pair(server: Server, token: bytes = TOKEN) -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    """Two legs that are joined."""
    first, second = await asyncio.gather(leg(server, A, token), leg(server, B, token))
    with first, second:
        yield first, second


@asynccontextmanager
async def waiting(server: Server, side: bytes = A, token: bytes = TOKEN) -> AsyncIterator[socket.socket]:
    """A leg that has said its preamble and waits at the server."""
    loop = asyncio.get_running_loop()
    with await dial(server) as sock:
        await loop.sock_sendall(sock, encode_preamble(Preamble(token=token, side=side)))
        await eventually(lambda: any(leg.side == side for leg in server._relay._waiting.values()))
        yield sock


async def receive(sock: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    async with asyncio.timeout(5):
        while len(data) < count and (more := await loop.sock_recv(sock, count - len(data))):
            data += more
    return data


async def all_gone(server: Server) -> None:
    """Every connection, and with it every pipe, is let go of."""
    await eventually(lambda: server._admission.total == 0)
    assert server._relay._legs == 0
    assert not server._relay._waiting
    assert not server._relay._waiting_owners
    assert metric(server, "midair_open_relay_pairs") == 0


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_two_legs_are_one_connection() -> None:
    async with running() as server:
        loop = asyncio.get_running_loop()
        before = descriptors()
        async with pair(server) as (first, second):
            for source, target in ((first, second), (second, first), (first, second)):
                await loop.sock_sendall(source, b"hello")
                assert await receive(target, 5) == b"hello"
            assert metric(server, "midair_relay_pairs_total") == 1
            assert metric(server, "midair_open_relay_pairs") == 1
            assert metric(server, "midair_relay_bytes_total") == 15
        await all_gone(server)
        assert descriptors() == before


async def test_large_data_passes_whole_both_ways_at_once() -> None:
    block = os.urandom(1 << 20)
    blocks = 64

    async def send(sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for number in range(blocks):
            await loop.sock_sendall(sock, number.to_bytes(4, "big") + block[4:])
        sock.shutdown(socket.SHUT_WR)

    async def digest(sock: socket.socket) -> str:
        loop = asyncio.get_running_loop()
        digest, buffer = blake2b(), bytearray(1 << 20)
        while count := await loop.sock_recv_into(sock, buffer):
            digest.update(memoryview(buffer)[:count])
        return digest.hexdigest()

    expected = blake2b()
    for number in range(blocks):
        expected.update(number.to_bytes(4, "big") + block[4:])
    async with running() as server:
        async with pair(server) as (first, second):
            _, one, other, _ = await asyncio.gather(send(first), digest(second), digest(first), send(second))
        assert one == other == expected.hexdigest()
        assert metric(server, "midair_relay_bytes_total") == 2 * blocks << 20
        await all_gone(server)


async def test_the_end_of_one_direction_leaves_the_other_open() -> None:
    async with running() as server, pair(server) as (first, second):
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(first, b"last words")
        first.shutdown(socket.SHUT_WR)
        assert await read_all(second) == b"last words"
        await loop.sock_sendall(second, b"answer")
        assert await receive(first, 6) == b"answer"
        second.shutdown(socket.SHUT_WR)
        assert await read_all(first) == b""
        await all_gone(server)


async def fill_up(sock: socket.socket) -> int:
    """Sends to who does not read; how much went in, but for a part of 64 KiB."""
    sent = 0
    try:
        while True:  # until nothing more goes in, for as long as the kernel may take to move it on
            async with asyncio.timeout(0.3):
                await asyncio.get_running_loop().sock_sendall(sock, bytes(1 << 16))
            sent += 1 << 16
    except TimeoutError:
        return sent


async def test_a_slow_reader_stops_the_sender_and_loses_nothing() -> None:
    async with running() as server, pair(server) as (first, second):
        sent = await fill_up(first)
        assert sent < 64 << 20
        first.shutdown(socket.SHUT_WR)
        received = len(await read_all(second))
        assert sent <= received <= sent + (1 << 16)


async def test_a_leg_of_another_token_meets_nobody() -> None:
    async with running() as server, pair(server) as (first, second):
        with pytest.raises(RelayError) as caught:
            await leg(server, B, OTHER_TOKEN, timeout=0.2)
        assert caught.value.word == "timeout"
        await asyncio.get_running_loop().sock_sendall(first, b"still")
        assert await receive(second, 5) == b"still"


async def test_a_third_leg_waits_for_a_fourth_and_leaves_the_pair_alone() -> None:
    async with running() as server, pair(server) as (first, second), waiting(server, C):
        await asyncio.get_running_loop().sock_sendall(first, b"still")
        assert await receive(second, 5) == b"still"
        with await leg(server, A):
            assert metric(server, "midair_open_relay_pairs") == 2


async def test_a_leg_that_dials_again_replaces_the_one_that_waits() -> None:
    async with running() as server:
        async with waiting(server, A) as old:
            redialled = asyncio.create_task(leg(server, A))
            assert (await read_all(old)).startswith(b"ERR replaced ")
        with await leg(server, B) as partner, await redialled as first:
            await asyncio.get_running_loop().sock_sendall(partner, b"to the new one")
            assert await receive(first, 14) == b"to the new one"
        await all_gone(server)


async def test_a_leg_that_goes_while_it_waits_is_forgotten() -> None:
    async with running() as server:
        async with waiting(server):
            pass
        await all_gone(server)
        async with pair(server) as (first, second):
            await asyncio.get_running_loop().sock_sendall(first, b"x")
            assert await receive(second, 1) == b"x"


async def test_a_partner_that_does_not_come_is_a_refusal() -> None:
    async with running(limits=replace(LIMITS, relay_wait_seconds=0.1)) as server:
        with pytest.raises(RelayError, match="refused: the partner did not come") as caught:
            await leg(server, A)
        assert caught.value.word == "timeout"
        await all_gone(server)
        assert metric(server, 'midair_refusals_total{reason="relay-timeout"}') == 1


async def test_what_is_said_before_the_partner_is_there_is_a_refusal() -> None:
    async with running() as server:
        async with waiting(server) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"early")
            assert (await read_all(sock)).startswith(b"ERR protocol ")
        await all_gone(server)


@pytest.mark.parametrize("tail", [b"\n" * 82, b"x" * 1000, b"00" * 32 + b" " + b"00" * 8 + b"\r"])
async def test_what_is_no_preamble_is_a_refusal(tail: bytes) -> None:
    assert len(tail) >= PREAMBLE_BYTES - len(b"MIDAIR-RELAY/1 ")
    async with running() as server:
        with await dial(server) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"MIDAIR-RELAY/1 " + tail)
            assert (await read_all(sock)).startswith(b"ERR protocol ")
        await all_gone(server)


async def test_a_preamble_in_pieces_is_put_together() -> None:
    async with running() as server:
        with await dial(server) as sock:
            for byte in encode_preamble(Preamble(token=TOKEN, side=A)):
                await asyncio.get_running_loop().sock_sendall(sock, bytes([byte]))
                await asyncio.sleep(0)
            with await leg(server, B):
                assert await receive(sock, 3) == b"OK\n"


async def test_a_pair_is_cut_at_its_bytes() -> None:
    async with running(limits=replace(LIMITS, relay_bytes=100_000)) as server:
        async with pair(server) as (first, second):
            await asyncio.get_running_loop().sock_sendall(second, b"y" * 40_000)
            assert await receive(first, 40_000) == b"y" * 40_000
            await asyncio.get_running_loop().sock_sendall(first, b"x" * 60_001)
            assert len(await read_all(second)) <= 60_000
        await all_gone(server)
        assert metric(server, "midair_relay_bytes_total") == 100_000
        assert metric(server, 'midair_refusals_total{reason="relay-bytes"}') == 1


async def test_a_pair_that_carries_exactly_its_bytes_is_not_cut() -> None:
    async with running(limits=replace(LIMITS, relay_bytes=100_000)) as server:
        async with pair(server) as (first, second):
            await asyncio.get_running_loop().sock_sendall(first, b"x" * 100_000)
            first.shutdown(socket.SHUT_WR)
            assert len(await read_all(second)) == 100_000
            second.shutdown(socket.SHUT_WR)
            assert await read_all(first) == b""
        await all_gone(server)
        assert metric(server, 'midair_refusals_total{reason="relay-bytes"}') == 0


async def test_a_pair_that_carries_nothing_is_closed_and_one_that_does_is_not() -> None:
    async with running(limits=replace(LIMITS, relay_idle_seconds=0.4)) as server, pair(server) as (first, second):
        for _ in range(8):
            await asyncio.get_running_loop().sock_sendall(first, b"x")
            assert await receive(second, 1) == b"x"
            await asyncio.sleep(0.1)  # the pace of a sender, not a wait for something
        assert await read_all(first) == b""
        assert await read_all(second) == b""
        await all_gone(server)
        assert metric(server, 'midair_refusals_total{reason="relay-idle"}') == 1


async def test_a_leg_that_breaks_ends_the_pair() -> None:
    async with running() as server, pair(server) as (first, second):
        first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        first.close()  # with a RST
        await read_all(second)
        await all_gone(server)


async def test_a_server_with_all_legs_it_can_hold_says_so() -> None:
    async with running(limits=replace(LIMITS, relay_legs=2)) as server:
        async with pair(server):
            with pytest.raises(QuotaError, match="no room for another leg"):
                await leg(server, A, OTHER_TOKEN)
            assert metric(server, 'midair_refusals_total{reason="relay-legs"}') == 1
        await all_gone(server)
        async with pair(server, OTHER_TOKEN):
            pass


async def test_one_address_has_only_so_many_legs_that_wait() -> None:
    async with running(limits=replace(LIMITS, relay_waiting_per_address=1)) as server:
        async with waiting(server, A):
            with pytest.raises(QuotaError, match="your address"):
                await leg(server, A, OTHER_TOKEN)
            with await leg(server, B):  # the partner does not wait
                pass
        await all_gone(server)


async def test_an_address_with_too_many_connections_is_told_in_the_words_of_the_relay() -> None:
    async with running(limits=replace(LIMITS, connections_per_address=1)) as server:
        async with waiting(server):
            with pytest.raises(QuotaError, match="too many connections"):
                await leg(server, B)
        await all_gone(server)


async def test_a_server_that_gets_no_more_pipes_relays_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(size: int) -> SpliceBuffer:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("midair.server.server.Relay", partial(Relay, new_buffer=none_left))
    async with running() as server:
        async with pair(server) as (first, second):
            await asyncio.get_running_loop().sock_sendall(first, b"x" * 300_000)
            assert await receive(second, 300_000) == b"x" * 300_000
        await all_gone(server)


async def test_pairs_whose_readers_keep_up_share_one_buffer_and_each_slow_reader_keeps_a_small_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out: list[Buffer] = []
    lend, take_back = Buffers.lend, Buffers.take_back

    def remembered(buffers: Buffers) -> Buffer:
        out.append(lend(buffers))
        return out[-1]

    def forgotten(buffers: Buffers, buffer: Buffer) -> None:
        out.remove(buffer)
        take_back(buffers, buffer)

    monkeypatch.setattr(Buffers, "lend", remembered)
    monkeypatch.setattr(Buffers, "take_back", forgotten)
    async with running() as server, AsyncExitStack() as stack:
        buffers = server._relay._buffers
        legs = [await stack.enter_async_context(pair(server, bytes([number]) * 32)) for number in range(70)]
        before = descriptors()
        for source, target in legs:
            await asyncio.get_running_loop().sock_sendall(source, b"x" * 1000)
            assert await receive(target, 1000) == b"x" * 1000
        assert len(buffers._kept) == 1
        assert descriptors() <= before + 2
        assert await asyncio.gather(*[fill_up(source) for source, _ in legs[:5]])
        assert len(out) == 5
        assert max(buffer.held for buffer in out) <= 64 << 10
        assert {buffer.made_for for buffer in out} == {64 << 10}
        assert descriptors() <= before + 2 * 6
    assert not out
    assert not buffers._kept


async def test_stopping_closes_pairs_and_legs_that_wait_at_once() -> None:
    before = descriptors()
    async with running() as server, pair(server) as (first, second), waiting(server, C) as third:
        await server.stop()
        for sock in (first, second, third):
            assert await read_all(sock) == b""
        assert server._admission.total == 0
    assert descriptors() == before


async def test_draining_lets_a_pair_finish_and_sends_waiting_legs_away() -> None:
    async with running() as server, pair(server) as (first, second), waiting(server, C) as third:
        draining = asyncio.create_task(server.drain())
        assert (await read_all(third)).startswith(b"ERR stopping ")
        await asyncio.get_running_loop().sock_sendall(first, b"to the end")
        assert await receive(second, 10) == b"to the end"
        assert not draining.done()
        for sock in (first, second):
            sock.shutdown(socket.SHUT_WR)
        third.close()
        await draining
        assert await read_all(first) == b""


async def test_a_leg_that_says_its_preamble_while_the_server_drains_is_sent_away() -> None:
    async with running() as server, pair(server) as (first, second):
        loop = asyncio.get_running_loop()
        preamble = encode_preamble(Preamble(token=OTHER_TOKEN, side=A))
        with await dial(server) as late:
            await loop.sock_sendall(late, preamble[:50])
            await eventually(lambda: metric(server, 'midair_open_connections{kind="relay"}') == 3)
            draining = asyncio.create_task(server.drain())
            await eventually(lambda: server._relay._stopping)
            await loop.sock_sendall(late, preamble[50:])
            assert (await read_all(late)).startswith(b"ERR stopping ")
        for sock in (first, second):
            sock.shutdown(socket.SHUT_WR)
        await draining


async def test_draining_cuts_a_pair_that_does_not_finish() -> None:
    limits = replace(LIMITS, drain_seconds=0.2)
    async with running(limits=limits) as server, pair(server) as (first, second):
        await server.drain()
        for sock in (first, second):
            assert await read_all(sock) == b""
