"""A leg opens against a scripted relay."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from midair.config import ServerURL
from midair.errors import QuotaError
from midair.relay import RelayError, open_leg
from midair.relay.wire import PREAMBLE_BYTES, Preamble, parse_preamble

TOKEN, SIDE = b"t" * 32, b"s" * 8

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def relay(script: Script) -> AsyncIterator[ServerURL]:
    """A server that does ``script`` with each connection; one must have ended before the block does, or with it."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        finally:
            writer.close()
            ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield ServerURL(secure=False, host="127.0.0.1", port=server.sockets[0].getsockname()[1])
        async with asyncio.timeout(5):
            await ended.wait()
    finally:
        server.close()


def answering(*pieces: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = await reader.readexactly(PREAMBLE_BYTES)
        if not said.startswith(b"GET /relay "):  # the other form, when this one has led to no relay
            assert parse_preamble(said) == Preamble(token=TOKEN, side=SIDE, asks=True)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return script


async def test_a_leg_is_open_when_the_partner_is_there() -> None:
    async with relay(answering(b"OK\n")) as url:
        with await open_leg(url, TOKEN, SIDE, timeout=5) as sock:
            assert sock.gettimeout() == 0
            assert await asyncio.get_running_loop().sock_recv(sock, 10) == b""


async def test_what_the_partner_says_at_once_is_left_in_the_socket() -> None:
    async with relay(answering(b"OK\nOK\nhello")) as url:
        with await open_leg(url, TOKEN, SIDE, timeout=5) as sock:
            assert await asyncio.get_running_loop().sock_recv(sock, 100) == b"OK\nhello"


async def test_an_answer_in_pieces_is_put_together() -> None:
    async with relay(answering(b"O", b"K", b"\nx")) as url:
        with await open_leg(url, TOKEN, SIDE, timeout=5) as sock:
            assert await asyncio.get_running_loop().sock_recv(sock, 100) == b"x"


async def test_a_leg_that_has_to_wait_is_open_when_the_partner_is_there() -> None:
    async with relay(answering(b"WAIT\nO", b"K\nOK\n")) as url:
        with await open_leg(url, TOKEN, SIDE, timeout=5) as sock:
            assert await asyncio.get_running_loop().sock_recv(sock, 100) == b"OK\n"


async def test_a_relay_over_its_limits_is_a_quota_error() -> None:
    async with relay(answering(b"ERR quota too many legs\n")) as url:
        with pytest.raises(QuotaError, match="too many legs"):
            await open_leg(url, TOKEN, SIDE, timeout=5)


async def test_another_refusal_names_its_word() -> None:
    async with relay(answering(b"ERR ", b"replaced by a newer leg\n")) as url:
        with pytest.raises(RelayError, match="by a newer leg") as caught:
            await open_leg(url, TOKEN, SIDE, timeout=5)
        assert caught.value.word == "replaced"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"OK",
        b"WAIT",
        b"WAIT\nWAIT\n",
        b"WAIT\nWAITING\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"ERR quota \x1b[2J\n",
        b"ERR " + b"x" * 1000,
        b"OKAY\n",
        b"\n",
    ],
)
async def test_what_is_no_relay_is_a_relay_error(answer: bytes) -> None:
    async with relay(answering(answer)) as url:
        with pytest.raises(RelayError) as caught:
            await open_leg(url, TOKEN, SIDE, timeout=5)
        assert caught.value.word == "protocol"


async def _until_eof(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    assert len(await reader.read()) == PREAMBLE_BYTES  # read() ends when the client has closed


async def test_a_partner_that_does_not_come_is_a_timeout_and_the_socket_is_closed() -> None:
    async with relay(_until_eof) as url:
        with pytest.raises(RelayError) as caught:
            await open_leg(url, TOKEN, SIDE, timeout=0.2)
        assert caught.value.word == "timeout"


async def test_cancelling_closes_the_socket() -> None:
    connected = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(PREAMBLE_BYTES)
        connected.set()
        assert await reader.read() == b""

    async with relay(script) as url:
        task = asyncio.create_task(open_leg(url, TOKEN, SIDE, timeout=5))
        await connected.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_nobody_listening_is_a_relay_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(RelayError) as caught:
        await open_leg(ServerURL(secure=False, host="127.0.0.1", port=port), TOKEN, SIDE, timeout=5)
    assert caught.value.word == "unreachable"
