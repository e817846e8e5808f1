"""The driver over loopback: proxies that answer rightly, wrongly, never, or are not there."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from midair.config import ProxyURL
from midair.errors import ProxyError, ServerUnreachableError
from midair.proxy import open_tunnel

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def proxy_that(answers: Answer, scheme: str, *, login: str = "") -> AsyncIterator[ProxyURL]:
    """A proxy on loopback that does this with each connection, and then closes it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                await answers(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield ProxyURL.parse(f"{scheme}://{login}127.0.0.1:{port}", named_by="ALL_PROXY")


def saying(*pieces: bytes) -> Answer:
    """Each piece when the client has said something."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            assert await reader.read(1000)
            writer.write(piece)
        await silent(reader, writer)

    return answer


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1000):
        pass


async def error_of(answers: Answer, scheme: str, *, login: str = "", timeout: float = 5.0) -> ProxyError:
    async with proxy_that(answers, scheme, login=login) as proxy:
        with pytest.raises(ProxyError) as caught:
            await open_tunnel(proxy, "example.org", 7420, timeout=timeout)
    assert caught.value.hint
    assert caught.value.exit_code == 21
    assert caught.value.message.isprintable()
    return caught.value


async def test_what_is_said_through_the_tunnel_arrives_and_what_comes_is_not_touched() -> None:
    async def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.write((await reader.readexactly(5)).upper())
        await reader.read(1)

    async with proxy_that(through, "http") as proxy:
        with await open_tunnel(proxy, "example.org", 7420, timeout=5) as sock:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, b"hello")
            assert await loop.sock_recv(sock, 100) == b"HELLO"


@pytest.mark.parametrize(
    ("scheme", "answers", "words"),
    [
        ("socks5", [b"\x05\xff"], "wants a user and password"),
        ("socks5", [b"\x05\x00", b"\x05\x02\x00"], "does not let us through to the server at example.org:7420"),
        ("socks5", [b"\x05\x00", b"\x05\x04\x00"], "cannot reach the server at example.org:7420 (host unreachable)"),
        ("socks5", [b"HTTP/1.1 400 Bad Request\r\n\r\n"], "is no SOCKS5 proxy"),
        ("http", [b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\n\r\n"], "another login than a user and password"),
        ("http", [b"\x05\xff"], "is no HTTP proxy"),
        ("http", [b""], "closed the connection without an answer"),
        ("http", [b"HTTP/1.1 200"], "closed the connection before it reached the server"),
    ],
)
async def test_each_way_to_fail_has_its_words(scheme: str, answers: list[bytes], words: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in answers:
            await reader.read(1000)
            writer.write(piece)
        await writer.drain()
        writer.write_eof()
        await reader.read(1000)

    error = await error_of(answer, scheme)
    assert words in error.message
    assert "ALL_PROXY" in error.message or "is no" in error.message


async def test_a_proxy_that_hangs_is_given_up_when_the_time_is_over() -> None:
    began = asyncio.get_running_loop().time()
    assert "does not answer within 0.1 s" in (await error_of(silent, "http", timeout=0.1)).message
    assert (
        "has not connected to the server at example.org:7420 within 0.5 s"
        in (await error_of(saying(b"\x05\x00"), "socks5", timeout=0.5)).message
    )
    assert asyncio.get_running_loop().time() - began < 4.0


async def test_a_proxy_that_drips_has_no_more_time_than_one_that_hangs() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.01)

    assert "within 0.2 s" in (await error_of(drip, "http", timeout=0.2)).message


async def test_a_proxy_that_is_not_there_is_said_to_be_away_and_the_server_with_it() -> None:
    async with proxy_that(silent, "socks5") as proxy:
        pass
    with pytest.raises(
        ServerUnreachableError, match=r"the proxy at socks5://127.*\(from ALL_PROXY\) cannot be reached: "
    ):
        await open_tunnel(proxy, "example.org", 7420, timeout=5)


@pytest.mark.parametrize("scheme", ["socks5", "http"])
async def test_no_error_shows_the_password(scheme: str) -> None:
    for answers in ([b"\x05\x02", b"\x01\x01"], [b"HTTP/1.1 407 No\r\n\r\n"], [b"?"]):
        error = await error_of(saying(*answers), scheme, login="ann:hunter2@")
        assert "hunter2" not in f"{error} {error.hint} {error!r} {error.__cause__!r}"


@pytest.mark.parametrize("how", ["refused", "cancelled"])
async def test_nothing_stays_open_when_it_comes_to_nothing(how: str) -> None:
    """A socket that is forgotten is a warning, and warnings are errors."""
    closed = asyncio.Event()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        if how == "refused":
            writer.write(b"HTTP/1.1 403 No\r\n\r\n")
        asked.set()
        while await reader.read(1000):
            pass
        closed.set()

    asked = asyncio.Event()
    async with proxy_that(watch, "http") as proxy:
        opening = asyncio.create_task(open_tunnel(proxy, "example.org", 7420, timeout=5))
        await asked.wait()
        if how == "cancelled":
            opening.cancel()
        await asyncio.wait([opening])
        await asyncio.wait_for(closed.wait(), 5)
        assert opening.cancelled() or isinstance(opening.exception(), ProxyError)
    gc.collect()
