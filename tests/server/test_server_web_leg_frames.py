"""Clients of the relay's WebSocket that speak frames by hand: odd ones, and ones that lie."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from dataclasses import replace

import pytest
from server_peers import dial, metric, read_all, running
from web_leg_peers import (
    CLOSE,
    CONTINUED,
    OTHER_TOKEN,
    PING,
    PONG,
    TEXT,
    UPGRADE,
    A,
    all_gone,
    frame,
    hand_made,
    pair,
    pair_elsewhere,
    raw_leg,
    receive,
    web_leg,
)

from midair.config import ServerLimits
from midair.relay.wire import MESSAGE_BYTES, Preamble, encode_preamble

LIMITS = ServerLimits()


async def test_messages_in_any_pieces_with_pings_between_are_one_stream() -> None:
    async with running() as server, hand_made(server) as (sock, partner):
        said = (
            frame(b"he", fin=False),
            frame(b"are you there", opcode=PING),
            frame(b"ll", opcode=CONTINUED, fin=False, mask=b"\0\0\0\0"),
            frame(b"", opcode=CONTINUED, fin=False),
            frame(b"o", opcode=CONTINUED),
            frame(b"", opcode=PONG),
            frame(b" again" * 100),
        )
        for byte in b"".join(said):
            await asyncio.get_running_loop().sock_sendall(sock, bytes([byte]))
            await asyncio.sleep(0)
        assert await receive(partner, 605) == b"hello" + b" again" * 100
        assert await receive(sock, 15) == b"\x8a\x0dare you there"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (frame(b"x", mask=None), 1002),
        (frame(b"x", rsv=0x40), 1002),
        (frame(b"x", opcode=3), 1002),
        (frame(b"x", opcode=11), 1002),
        (frame(b"x", opcode=CONTINUED), 1002),
        (frame(b"x", fin=False) + frame(b"y"), 1002),
        (frame(b"x" * 126, opcode=PING), 1002),
        (frame(b"x", opcode=PING, fin=False), 1002),
        (frame(b"x", opcode=CLOSE), 1002),
        (frame(b"words", opcode=TEXT), 1003),
        (frame(b"x" * (MESSAGE_BYTES + 1)), 1009),
        (b"\x82\xff" + b"\x7f" + b"\xff" * 7, 1009),
        (b"\x82\xff" + b"\xff" * 8, 1009),
        (frame(b"x" * MESSAGE_BYTES, fin=False) + frame(b"y", opcode=CONTINUED), 1009),
    ],
)
async def test_a_frame_that_must_not_be_ends_the_leg_and_its_pair(said: bytes, code: int) -> None:
    async with running() as server:
        async with hand_made(server) as (sock, partner):
            with suppress(ConnectionError):
                await asyncio.get_running_loop().sock_sendall(sock, said)
            answer = await read_all(sock)
            assert answer[:1] == b"\x88"
            assert struct.unpack(">H", answer[2:4])[0] == code
            assert await read_all(partner) == b""
        await all_gone(server)
        async with pair(server) as (first, second):
            await asyncio.get_running_loop().sock_sendall(first, b"still")
            assert await receive(second, 5) == b"still"


@pytest.mark.parametrize("said", [frame(b"early"), frame(encode_preamble(Preamble(token=OTHER_TOKEN, side=A)))])
async def test_what_is_said_before_the_partner_is_there_is_a_refusal(said: bytes) -> None:
    async with running() as server:
        with await web_leg(server, A) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, said)
            assert (await read_all(sock)).startswith(b"ERR protocol ")
        await all_gone(server)


async def test_what_follows_the_end_of_a_direction_ends_the_leg() -> None:
    async with running() as server:
        async with hand_made(server) as (sock, partner):
            await asyncio.get_running_loop().sock_sendall(sock, frame(b"all") + frame(b"") + frame(b"more"))
            assert await read_all(partner) == b"all"
            with suppress(ConnectionError):
                async with asyncio.timeout(5):
                    while True:  # until the pair has ended
                        await asyncio.get_running_loop().sock_sendall(partner, b"x")
                        await asyncio.sleep(0.01)
            assert await receive(sock, 6) == b"\x82\x00\x88\x02\x03\xe8"
        await all_gone(server)


async def test_who_opens_a_websocket_and_says_no_preamble_is_closed_at_the_deadline() -> None:
    async with running(limits=replace(LIMITS, first_bytes_seconds=0.2)) as server:
        with await raw_leg(server) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, frame(b"MIDAIR-RELAY/1 00"))
            assert await receive(sock, 6) == b"\x82\x00\x88\x02\x03\xe8"
        await all_gone(server)
        assert metric(server, 'midair_refusals_total{reason="silent"}') == 1


async def test_pings_whose_answers_nobody_reads_are_no_longer_taken() -> None:
    ping = frame(b"x" * 125, opcode=PING) * 500
    async with running() as server:
        async with hand_made(server) as (sock, partner):
            taken = 0
            with suppress(TimeoutError):
                while taken < 1000:
                    async with asyncio.timeout(0.5):
                        await asyncio.get_running_loop().sock_sendall(sock, ping)
                    taken += 1
            assert taken < 1000
            async with pair_elsewhere(server) as (first, second):
                await asyncio.get_running_loop().sock_sendall(first, b"still")
                assert await receive(second, 5) == b"still"
            sock.close()
            assert await read_all(partner) == b""
        await all_gone(server)


async def test_a_flood_of_tiny_messages_does_not_hold_the_others_up() -> None:
    """They are turned into a stream one by one, and the others have their turn between them."""
    tiny = frame(b"x") * 5_000
    async with running() as server, hand_made(server) as (sock, partner), pair_elsewhere(server) as (first, second):
        loop = asyncio.get_running_loop()
        flooding = asyncio.create_task(loop.sock_sendall(sock, tiny))
        slowest = 0.0
        for _ in range(20):
            started = loop.time()
            await loop.sock_sendall(first, b"still")
            assert await receive(second, 5) == b"still"
            slowest = max(slowest, loop.time() - started)
        assert await receive(partner, 5_000) == b"x" * 5_000
        await flooding
        assert slowest < 0.5


async def test_a_request_for_the_relay_that_opens_no_websocket_is_told_so() -> None:
    async with running() as server:
        with await dial(server) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"GET /relay HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await read_all(sock)).startswith(b"HTTP/1.1 426 ")
        await all_gone(server)


async def test_an_address_with_too_many_connections_gets_no_leg_in_a_websocket() -> None:
    async with running(limits=replace(LIMITS, connections_per_address=1)) as server:
        with await raw_leg(server), await dial(server) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, UPGRADE)
            assert (await read_all(sock)).startswith(b"HTTP/1.1 503 ")
        await all_gone(server)
