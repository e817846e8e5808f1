"""Behind a load balancer: the PROXY protocol, by hand and from a real HAProxy."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_peers import dial, eventually, metric, port_of, read_all, running

from midair.config import ServerLimits, ServerURL
from midair.endpoint import Endpoint
from midair.errors import UsageError
from midair.lab.programs import find_program
from midair.relay import open_leg
from midair.rendezvous import meet_as_receiver, meet_as_sender
from midair.server.proxied import SIGNATURE, ProxyHeaderError, networks, parse_header
from midair.stun.client import request_binding

LIMITS = ServerLimits()
ALICE = Endpoint.parse("203.0.113.7:4711")


def version_2(source: Endpoint, *, command: int = 1, extra: bytes = b"") -> bytes:
    family, packed = (0x11, 4) if source.family == 4 else (0x21, 16)
    body = source.address.packed + bytes(packed) + struct.pack(">HH", source.port, 7420) + extra
    return SIGNATURE + struct.pack(">BBH", 0x20 | command, family, len(body)) + body


@pytest.mark.parametrize(
    ("header", "endpoint"),
    [
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 7420\r\n", ALICE),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", Endpoint.parse("[2001:db8::1]:1")),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
        (version_2(ALICE), ALICE),
        (version_2(ALICE, extra=b"\x03\x00\x04abcd"), ALICE),
        (version_2(Endpoint.parse("[2001:db8::1]:1")), Endpoint.parse("[2001:db8::1]:1")),
        (version_2(ALICE, command=0), None),
        (SIGNATURE + b"\x21\x00\x00\x00", None),
    ],
)
def test_a_header_names_the_client_and_ends_where_it_ends(header: bytes, endpoint: Endpoint | None) -> None:
    assert parse_header(header) == (len(header), endpoint)
    assert parse_header(header + b"GET / HTTP/1.1") == (len(header), endpoint)
    for cut in range(len(header)):
        assert parse_header(header[:cut]) is None


@pytest.mark.parametrize(
    "header",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 70000 7420\r\n",
        b"PROXY TCP4 2001:db8::1 192.0.2.1 1 2\r\n",
        b"PROXY TCP4 300.0.113.7 192.0.2.1 1 2\r\n",
        b"PROXY UDP4 203.0.113.7 192.0.2.1 1 2\r\n",
        b"PROXY " + b"x" * 120,
        SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\xff\xff" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
        SIGNATURE + b"\x21\x12\x00\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
    ],
)
def test_what_is_no_header_is_refused(header: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        parse_header(header)


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\x00"])
)
def test_no_bytes_do_anything_else(data: bytes, start: bytes) -> None:
    try:
        found = parse_header(start + data)
    except ProxyHeaderError:
        return
    assert found is None or found[0] <= len(start + data)


def test_networks_are_checked_when_they_are_given() -> None:
    assert networks(["10.0.0.7", "2001:db8::/32"]) == (
        ipaddress.ip_network("10.0.0.7/32"),
        ipaddress.ip_network("2001:db8::/32"),
    )
    with pytest.raises(UsageError, match=r"10\.0\.0\.1/8"):
        networks(["10.0.0.1/8"])


@pytest.mark.parametrize("pace", [1, 1000])
async def test_the_reflector_answers_with_the_clients_address(pace: int) -> None:
    async with running(proxied_from=["127.0.0.1"]) as server:
        with await dial(server) as sock:
            header = version_2(ALICE)
            for start in range(0, len(header), pace):
                await asyncio.get_running_loop().sock_sendall(sock, header[start : start + pace])
                await asyncio.sleep(0)
            assert await request_binding(sock, b"t" * 12, deadline=5) == ALICE


async def test_only_the_proxy_may_say_whom_it_speaks_for() -> None:
    async with running(proxied_from=["192.0.2.0/24"]) as server:
        with await dial(server) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\n\r\n")
            assert (await read_all(sock)).startswith(b"HTTP/1.1 400 ")


async def test_a_proxy_without_its_header_is_closed_and_counted() -> None:
    async with running(proxied_from=["127.0.0.1"]) as server:
        with await dial(server) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await read_all(sock) == b""
        await eventually(lambda: server._admission.total == 0)
        assert metric(server, 'midair_refusals_total{reason="proxy-header"}') == 1


async def test_each_client_behind_a_proxy_has_only_its_own_connections() -> None:
    limits = replace(LIMITS, connections_per_address=2)
    async with running(limits=limits, proxied_from=["127.0.0.1"]) as server:
        loop = asyncio.get_running_loop()

        async def connect(source: Endpoint) -> socket.socket:
            sock = await dial(server)
            await loop.sock_sendall(sock, version_2(source))
            return sock

        held = [await connect(ALICE) for _ in range(2)]
        for sock in held:
            await request_binding(sock, b"t" * 12, deadline=5)
        with await connect(ALICE) as third:
            await loop.sock_sendall(third, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 503 " in await read_all(third)
        with await connect(Endpoint.parse("203.0.113.8:1")) as other:
            await request_binding(other, b"t" * 12, deadline=5)
        for sock in held:
            sock.close()
        await eventually(lambda: server._admission.total == 0)
        assert not server._admission._owners


@contextmanager
def haproxy(folder: Path, server_port: int, how: str) -> Iterator[int]:
    """A real HAProxy before the server: its port."""
    settings = folder / "haproxy.cfg"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings.write_text(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n"
            f"listen midair\n bind fd@{listener.fileno()}\n server one 127.0.0.1:{server_port} {how}\n"
        )
        command = [find_program("haproxy") or "haproxy", "-f", str(settings)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, pass_fds=[listener.fileno()]) as process:
            try:
                yield listener.getsockname()[1]
            finally:
                process.kill()


@pytest.mark.parametrize("how", ["send-proxy", "send-proxy-v2"])
async def test_behind_a_real_haproxy_clients_keep_their_addresses_and_everything_is_served(
    tmp_path: Path, how: str
) -> None:
    async with running(proxied_from=["127.0.0.1"]) as server:
        with haproxy(tmp_path, port_of(server), how) as port:
            url = ServerURL(secure=False, host="127.0.0.1", port=port)
            with socket.socket() as sock:
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
                assert await request_binding(sock, b"t" * 12, deadline=5) == Endpoint.from_sockaddr(sock.getsockname())
            sides = [open_leg(url, b"t" * 32, side * 8, timeout=5) for side in (b"a", b"b")]
            one, other = await asyncio.gather(*sides)
            with one, other:
                await asyncio.get_running_loop().sock_sendall(one, b"hello")
                assert await asyncio.get_running_loop().sock_recv(other, 5) == b"hello"
            code: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            sending = asyncio.create_task(meet_as_sender(url, app_versions={}, on_code=code.set_result))
            async with await meet_as_receiver(url, await code, app_versions={}) as receiver, await sending as sender:
                assert sender.key == receiver.key
