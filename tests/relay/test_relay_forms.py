"""A leg finds the form that gets through: boxes that pass only what they know, and a server that is real."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
import trustme

from midair.config import ProxyURL, ServerURL
from midair.errors import QuotaError
from midair.port import listen_tcp
from midair.relay import RelayError, open_leg
from midair.relay.client import HEDGE_SECONDS, _first_to_answer, _Way
from midair.relay.wire import PREAMBLE_BYTES
from midair.server import Server
from middle_box import middle_box

TOKEN = b"t" * 32
SIDES = (b"a" * 8, b"b" * 8)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@asynccontextmanager
async def server_of(authority: trustme.CA) -> AsyncIterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with Server([listen_tcp("127.0.0.1", 0)], ssl_context=context) as server:
        yield server


def at(port: int, *, secure: bool, proxy: ProxyURL | None = None) -> ServerURL:
    return ServerURL(secure=secure, host="127.0.0.1", port=port, proxy=proxy)


def legs_by_kind(server: Server) -> dict[str, float]:
    lines = server.metrics.render().decode().splitlines()
    found = [line.split() for line in lines if line.startswith("midair_connections_total{")]
    return {name.split('"')[1]: float(value) for name, value in found if float(value)}


async def check_they_talk(one: socket.socket, other: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with one, other:
        for source, target in ((one, other), (other, one)):
            await loop.sock_sendall(source, b"hello")
            assert await asyncio.wait_for(loop.sock_recv(target, 5), 5) == b"hello"


@pytest.mark.parametrize("secure", [False, True])
async def test_where_nothing_stands_between_legs_are_plain(
    secure: bool, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    async with server_of(authority) as server:
        url = at(server.endpoints[0].port, secure=secure)
        await check_they_talk(
            *await asyncio.gather(*[open_leg(url, TOKEN, side, timeout=5, ssl_context=trusting) for side in SIDES])
        )
        assert legs_by_kind(server) == {"relay": 2}


@pytest.mark.parametrize(("lets", "secure"), [("tls", True), ("http", False)])
@pytest.mark.parametrize("otherwise", ["hold", "close"])
async def test_a_box_that_passes_only_what_it_knows_is_passed(
    lets: str, secure: bool, otherwise: str, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    """One side is behind it; the other's leg is plain. It costs the hedge where the box is silent, and nothing where it
    closes."""
    async with server_of(authority) as server:
        port = server.endpoints[0].port
        async with middle_box(lets, to=("127.0.0.1", port), otherwise=otherwise) as box:
            started = asyncio.get_running_loop().time()
            behind = open_leg(at(box.port, secure=secure), TOKEN, SIDES[0], timeout=5, ssl_context=trusting)
            free = open_leg(at(port, secure=secure), TOKEN, SIDES[1], timeout=5, ssl_context=trusting)
            await check_they_talk(*await asyncio.gather(behind, free))
            took = asyncio.get_running_loop().time() - started
            assert (box.passed, box.stopped) == (1, 1)
        assert legs_by_kind(server) == {"relay": 1, "tls" if secure else "http": 1}
        assert (took > HEDGE_SECONDS) is (otherwise == "hold")


async def test_through_a_proxy_the_leg_is_in_a_websocket_from_the_start(
    authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    """It sees nothing it does not know, even where it would let it pass."""
    async with server_of(authority) as server, middle_box("tls", to=None) as box:
        proxy = ProxyURL(scheme="http", host="127.0.0.1", port=box.port)
        url = at(server.endpoints[0].port, secure=True, proxy=proxy)
        legs = [open_leg(url, TOKEN, side, timeout=5, ssl_context=trusting) for side in SIDES]
        await check_they_talk(*await asyncio.gather(*legs))
        assert (box.passed, box.stopped) == (2, 0)


async def test_a_certificate_that_is_not_trusted_is_named_beside_what_the_plain_leg_met(authority: trustme.CA) -> None:
    async with server_of(authority) as server:
        to = ("127.0.0.1", server.endpoints[0].port)
        async with middle_box("tls", to=to, otherwise="close") as box:
            with pytest.raises(RelayError, match=r"without an answer; in a WebSocket: .*certificate") as caught:
                await open_leg(at(box.port, secure=True), TOKEN, SIDES[0], timeout=5)
            assert caught.value.word == "protocol"


async def test_cancelling_and_being_late_leave_nothing_behind(authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    async with server_of(authority) as server, middle_box("tls", to=("127.0.0.1", server.endpoints[0].port)) as box:
        leg = open_leg(at(box.port, secure=True), TOKEN, SIDES[0], timeout=1, ssl_context=trusting)
        with pytest.raises(RelayError, match="did not come"):
            await leg
        opening = asyncio.create_task(
            open_leg(at(box.port, secure=True), TOKEN, SIDES[0], timeout=5, ssl_context=trusting)
        )
        await until(lambda: bool(server._relay._waiting))
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await until(lambda: server._admission.total == 0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - nothing to wait on: it is the other side that changes
            await asyncio.sleep(0.005)


# -- scripted relays --


@asynccontextmanager
async def scripted(*answers: bytes | asyncio.Event) -> AsyncIterator[tuple[ServerURL, list[bytes]]]:
    """To the n-th connection it says the n-th answer, when its event is set where it is one (then OK); and what each
    connection began with."""
    heard: list[bytes] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(heard)
        heard.append(b"")
        answer = answers[number]
        heard[number] = await reader.readexactly(PREAMBLE_BYTES)
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            answer = b"OK\n"
        writer.write(answer)
        await over.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield at(server.sockets[0].getsockname()[1], secure=False), heard
    finally:
        over.set()
        server.close()


async def test_a_refusal_is_final() -> None:
    async with scripted(b"ERR quota no more today\n") as (url, heard):
        with pytest.raises(QuotaError, match="no more today"):
            await open_leg(url, TOKEN, SIDES[0], timeout=5)
        assert len(heard) == 1


async def test_a_plain_leg_that_is_slow_is_used_where_there_is_no_websocket() -> None:
    slow = asyncio.Event()
    async with scripted(slow, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as (url, heard):
        opening = asyncio.create_task(open_leg(url, TOKEN, SIDES[0], timeout=5))
        await until(lambda: heard[1:] != [] and heard[1].startswith(b"GET /relay HTTP/1.1\r\n"))
        slow.set()
        (await opening).close()


async def test_a_plain_refusal_that_comes_late_ends_it_all_the_same() -> None:
    """Before the deadline, though the other form is silent."""
    silent = asyncio.Event()
    slow = asyncio.Event()

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = await reader.readexactly(PREAMBLE_BYTES)
        if said.startswith(b"GET "):
            slow.set()
            await silent.wait()
        else:
            await slow.wait()
            writer.write(b"ERR quota no more today\n")
        writer.close()

    server = await asyncio.start_server(answered, "127.0.0.1", 0)
    try:
        with pytest.raises(QuotaError, match="no more today"):
            await open_leg(at(server.sockets[0].getsockname()[1], secure=False), TOKEN, SIDES[0], timeout=15)
    finally:
        silent.set()
        server.close()


async def test_when_both_forms_come_at_once_the_plain_one_is_used_and_the_other_closed() -> None:
    plain, other = socket.socketpair()
    both = asyncio.Event()

    class Way:
        async def plain(self) -> tuple[socket.socket, bool]:
            await both.wait()
            return plain, False

        async def websocket(self) -> tuple[socket.socket, bool]:
            both.set()
            await asyncio.sleep(0)
            return other, False

    with plain, other:
        assert await _first_to_answer(cast("_Way", Way())) == (plain, False)
        await until(lambda: other.fileno() < 0)
        assert plain.fileno() >= 0
