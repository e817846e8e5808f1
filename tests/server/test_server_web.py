"""Pages and the manners of HTTP, over real sockets."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from contextlib import suppress
from dataclasses import replace

import pytest
import trustme
from server_peers import dial, eventually, http, metric, port_of, read_all, running
from websockets.asyncio.client import connect

from midair.config import ServerLimits, ServerURL
from midair.relay import open_leg
from midair.server.metrics import Counts
from midair.server.page import render
from midair.stun.client import request_binding

LIMITS = ServerLimits()
HURRIED = replace(LIMITS, first_bytes_seconds=0.2)


def request(path: str = "/", method: str = "GET", *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: example.org", *headers, "", ""]).encode()


async def test_the_health_check_says_ok() -> None:
    async with running() as server:
        answer = await http(server, request("/healthz"))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nok\n")


async def test_the_page_explains_itself_and_loads_nothing() -> None:
    async with running(motd="<b>Be kind</b>") as server:
        head, _, body = (await http(server, request("/?x=1"))).decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Type: text/html; charset=utf-8" in head
    policy = next(line for line in head.split("\r\n") if line.startswith("Content-Security-Policy: "))
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "midair send --server ws://example.org FILE" in body
    assert 'name="viewport"' in body
    assert "&lt;b&gt;Be kind&lt;/b&gt;" in body
    assert not re.search(r"<script|<link|<img|src=|href=", body)


@pytest.mark.parametrize("host", ["<script>alert(1)</script>", "a b", '"', "x" * 1000, ""])
async def test_a_hostile_host_header_does_not_get_into_the_page(host: str) -> None:
    async with running() as server:
        answer = await http(server, f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert b"ws://THIS-SERVER" in answer
    assert b"alert" not in answer


async def test_two_host_headers_are_none() -> None:
    async with running() as server:
        assert b"ws://THIS-SERVER" in await http(server, request("/", "GET", "Host: example.com"))


async def test_the_metrics_are_prometheus_text() -> None:
    async with running() as server:
        await http(server, request("/healthz"))
        answer = await http(server, request("/metrics"))
    assert b"\r\nContent-Type: text/plain; version=0.0.4" in answer
    assert b'\nmidair_connections_total{kind="http"} 2.0\n' in answer
    assert b"127.0.0.1" not in answer


async def test_head_gets_the_headers_only() -> None:
    async with running() as server:
        answer = await http(server, request("/healthz", "HEAD"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 3\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request("/nowhere"), 404),
        (request("/v1x"), 404),
        (request("/", "POST"), 405),
        (request("/", "DELETE"), 405),
        (request("/v1", "POST"), 405),
        (request("/", "MOVE"), 405),
        (request("/v1"), 426),
        (request("/v1", "GET", "Connection: Upgrade", "Upgrade: websocket"), 400),
        (request("/", "POST", "Content-Length: 5") + b"hello", 400),
        (request("/", "POST", "Transfer-Encoding: chunked"), 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"\xff\xfe\xfd\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: \x00\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (request("/", "GET", *["X: " + "y" * 4000] * 20), 431),
        (request("/", "GET", *["X: y"] * 200), 431),
    ],
)
async def test_a_wrong_request_gets_an_error_answer(sent: bytes, status: int) -> None:
    async with running() as server:
        answer = await http(server, sent)
        assert answer.split(b"\r\n")[0].split(b" ")[:2] == [b"HTTP/1.1", str(status).encode()]
        assert (await http(server, request("/healthz"))).endswith(b"ok\n")


async def test_headers_without_an_end_are_refused() -> None:
    async with running() as server:
        answer = await http(server, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000)
        assert answer.startswith(b"HTTP/1.1 431 ")
        await eventually(lambda: metric(server, 'midair_open_connections{kind="http"}') == 0)


@pytest.mark.parametrize("said", [b"", b"G", b"GET / HT", b"M", b"MIDAIR-RELAY/1 ", b"MIDAIR-RELAY/1 00"])
async def test_who_does_not_say_enough_is_closed_at_the_deadline(said: bytes) -> None:
    async with running(limits=HURRIED) as server:
        started = asyncio.get_running_loop().time()
        await http(server, said)
        assert 0.1 < asyncio.get_running_loop().time() - started < 3
        await eventually(lambda: server._admission.total == 0)
        assert metric(server, 'midair_refusals_total{reason="silent"}') == 1


async def test_a_request_in_small_pieces_does_not_move_the_deadline() -> None:
    async with running(limits=HURRIED) as server:
        with await dial(server) as sock:
            loop = asyncio.get_running_loop()
            started = loop.time()
            with suppress(ConnectionError):
                while loop.time() - started < 3:  # the pace of a client, not a wait for something
                    await loop.sock_sendall(sock, b"G")
                    await asyncio.sleep(0.02)
            assert loop.time() - started < 3


async def test_a_client_that_leaves_without_a_word_leaves_nothing() -> None:
    async with running() as server:
        (await dial(server)).close()
        await eventually(lambda: server._admission.total == 0)


async def test_a_page_nobody_reads_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midair.server.web.LINGER_SECONDS", 0.2)
    async with running() as server:
        with await dial(server) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, request("/"))
            await eventually(lambda: metric(server, 'midair_connections_total{kind="http"}') == 1)
            await eventually(lambda: server._admission.total == 0)


async def test_above_its_limit_an_address_is_told_in_http() -> None:
    async with running(limits=replace(LIMITS, connections_per_address=1)) as server:
        with await dial(server):
            answer = await http(server, request("/v1"))
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"too many connections from your address" in answer
            assert metric(server, 'midair_refusals_total{reason="connections-per-address"}') == 1
        await eventually(lambda: server._admission.total == 0)
        assert (await http(server, request("/healthz"))).endswith(b"ok\n")


async def test_a_flood_of_connections_is_dropped_and_the_server_lives() -> None:
    async with running(limits=replace(LIMITS, connections=5)) as server:
        socks = [await dial(server) for _ in range(120)]
        await eventually(lambda: metric(server, 'midair_refusals_total{reason="dropped"}') > 0)
        assert server._admission.total <= 5 + 64
        for sock in socks:
            sock.close()
        await eventually(lambda: server._admission.total == 0)
        assert (await http(server, request("/healthz"))).endswith(b"ok\n")


class Tls:
    """A certificate for 127.0.0.1 and a client that trusts it."""

    def __init__(self) -> None:
        authority = trustme.CA()
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self.server)
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)


@pytest.fixture(scope="module")
def tls() -> Tls:
    return Tls()


async def test_pages_and_the_mailbox_are_there_inside_tls(tls: Tls) -> None:
    async with running(ssl_context=tls.server) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server), ssl=tls.client)
        writer.write(request("/"))
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert b"wss://example.org" in answer
        url = ServerURL(secure=True, host="127.0.0.1", port=port_of(server)).mailbox_url
        async with connect(url, ssl=tls.client, compression=None) as mailbox:
            assert '"welcome"' in str(await mailbox.recv())
            await mailbox.send('{"type":"ping","ping":1}')
            assert '"pong"' in str(await mailbox.recv())
        await eventually(lambda: server._admission.total == 0)


async def test_http_and_stun_are_spoken_in_the_clear_beside_tls(tls: Tls) -> None:
    async with running(ssl_context=tls.server) as server:
        assert (await http(server, request("/healthz"))).endswith(b"ok\n")
        with await dial(server) as sock:
            host, port = sock.getsockname()
            assert str(await request_binding(sock, b"t" * 12, deadline=5)) == f"{host}:{port}"


async def test_a_tls_handshake_that_does_not_go_on_is_closed_at_the_deadline(tls: Tls) -> None:
    async with running(ssl_context=tls.server, limits=HURRIED) as server:
        await http(server, b"\x16\x03\x01")
        await eventually(lambda: server._admission.total == 0)
        assert metric(server, 'midair_refusals_total{reason="tls-handshake"}') == 1


async def test_garbage_for_tls_is_closed(tls: Tls) -> None:
    async with running(ssl_context=tls.server) as server:
        await http(server, b"\x16\x03\x01\x00\x05hello" + b"x" * 10_000)
        await eventually(lambda: server._admission.total == 0)


async def test_stopping_in_the_middle_of_tls_leaves_nothing(tls: Tls) -> None:
    async with running(ssl_context=tls.server) as server:
        url = f"wss://127.0.0.1:{port_of(server)}/v1"
        mailbox = await connect(url, ssl=tls.client, compression=None)
        half = await dial(server)
        await asyncio.get_running_loop().sock_sendall(half, b"\x16\x03\x01")
        await eventually(lambda: metric(server, 'midair_open_connections{kind="tls"}') == 2)
        await server.stop()
        assert server._admission.total == 0
        assert await read_all(half) == b""
        half.close()
        await mailbox.close()


async def test_tls_without_a_certificate_is_closed() -> None:
    async with running() as server:
        assert await http(server, b"\x16\x03\x01\x00\x05hello") == b""
        assert metric(server, 'midair_refusals_total{reason="tls-not-configured"}') == 1


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        (Counts(waiting=0, met=0, relayed=0, relayed_bytes=0, seconds=3), ["0 B", "less than a minute"]),
        (
            Counts(waiting=12, met=1000, relayed=130, relayed_bytes=2_345_000_000, seconds=7300),
            ["1,000", "2.35 GB", "87 %", "2 hours"],
        ),
        (Counts(waiting=1, met=1, relayed=2, relayed_bytes=999, seconds=86_400), ["999 B", "About 0 %", "1 day ago"]),
        (Counts(waiting=1, met=1, relayed=0, relayed_bytes=10**18, seconds=90), ["1,000 PB", "100 %", "1 minute"]),
    ],
)
def test_the_page_shows_what_happens_here(counts: Counts, shown: list[str]) -> None:
    body = render("example.org", secure=True, motd=None, counts=counts).decode()
    assert [words for words in shown if words not in body] == []


async def test_the_page_counts_as_relayed_only_what_went_through_the_relay() -> None:
    async with running() as server:
        for token, size in ((b"t" * 32, 100), (b"u" * 32, 5000)):
            first, second = await asyncio.gather(
                *[
                    open_leg(
                        ServerURL(secure=False, host="127.0.0.1", port=port_of(server)), token, side * 8, timeout=5
                    )
                    for side in (b"a", b"b")
                ]
            )
            with first, second:
                await asyncio.get_running_loop().sock_sendall(first, b"x" * size)
                first.shutdown(socket.SHUT_WR)
                assert len(await read_all(second)) == size
        await eventually(lambda: metric(server, "midair_open_relay_pairs") == 0)
        assert server.metrics.counts().relayed == 1
        assert metric(server, "midair_relay_pairs_total") == 2
