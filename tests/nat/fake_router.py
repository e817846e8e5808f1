"""A router of our own making at a loopback address, which answers as a test wants it to: wrongly, late, or too much."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import IPv4Address
from typing import Any

import pytest

from midair.nat.mapping import Gateway, PortMapper, PortMapping, Protocol, Result
from midair.nat.mapping.mapper import REMOVAL_SECONDS

BUDGET = 0.4
"""More than the default, for a machine that is busy with other tests."""

Datagrams = Callable[[bytes], list[bytes]]
Serve = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
"""Takes a whole request and writes what it wants."""

SERVICE = "urn:schemas-upnp-org:service:WANIPConnection:{version}"


class FakeRouter:
    """What it was sent, and where it is."""

    def __init__(self) -> None:
        if sys.platform != "linux":
            pytest.skip("only Linux has the whole of 127.0.0.0/8")
        self.address = another_address()
        self.gateway = Gateway(address=self.address, interface="lo")
        self.received: list[bytes] = []
        """Datagrams to its port for PCP and NAT-PMP."""
        self.searches = 0
        self.requests: list[bytes] = []
        """HTTP requests, whole."""
        self.deleted: list[str] = []
        """Ports that DeletePortMapping named."""

    @property
    def actions(self) -> list[str]:
        """The SOAP actions it was asked for."""
        heads = [request.partition(b"\r\n\r\n")[0].decode() for request in self.requests]
        return [head.partition("#")[2].partition('"')[0] for head in heads if "#" in head]

    def location(self, path: str = "/desc.xml", port: int = 5000) -> str:
        return f"http://{self.address}:{port}{path}"


def another_address() -> IPv4Address:
    """One that no other test uses at the same time."""
    return IPv4Address((127 << 24) + random.randrange(0x10000, 0xFFFFFF))


@contextlib.asynccontextmanager
async def fake_router(
    *,
    datagrams: Datagrams | None = None,
    search: Callable[[FakeRouter], list[bytes]] | None = None,
    serve: Callable[[FakeRouter, bytes, asyncio.StreamWriter], Awaitable[None]] | None = None,
    answer_from: IPv4Address | None = None,
) -> AsyncIterator[FakeRouter]:
    """``answer_from``: datagrams are answered from there instead of the router's own address."""
    router = FakeRouter()
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        other = None
        if answer_from is not None:
            other, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, (str(answer_from), 5351))
            stack.callback(other.close)

        async def listen(port: int, answers: Callable[[bytes], list[bytes]]) -> None:
            protocol = _Answering(answers, other)
            transport, _ = await loop.create_datagram_endpoint(lambda: protocol, (str(router.address), port))
            stack.callback(transport.close)

        if datagrams is not None:

            def take(data: bytes) -> list[bytes]:
                router.received.append(data)
                return datagrams(data)

            await listen(5351, take)
        if search is not None:

            def found(_: bytes) -> list[bytes]:
                router.searches += 1
                return search(router)

            await listen(1900, found)
        if serve is not None:
            handlers: set[asyncio.Task[Any]] = set()

            async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = asyncio.current_task()
                assert task is not None
                handlers.add(task)
                with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
                    request = await _request(reader)
                    router.requests.append(request)
                    await serve(router, request, writer)
                    await writer.drain()

            server = await asyncio.start_server(handle, str(router.address), 5000)
            stack.push_async_callback(_end, handlers)
            stack.callback(server.close)
        yield router


async def _end(handlers: set[asyncio.Task[Any]]) -> None:
    for handler in handlers:
        handler.cancel()
    await asyncio.gather(*handlers, return_exceptions=True)


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), 0)
    return head + await reader.readexactly(length)


class _Answering(asyncio.DatagramProtocol):
    def __init__(self, answers: Datagrams, other: asyncio.DatagramTransport | None) -> None:
        self._answers = answers
        self._other = other

    def connection_made(self, transport: Any) -> None:  # asyncio's own is not an asyncio.DatagramTransport
        self._transport: asyncio.DatagramTransport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        for answer in self._answers(data):
            (self._other or self._transport).sendto(answer, addr)


# -- what an ordinary one says --


async def ask(
    router: FakeRouter, *protocols: Protocol, budget: float = BUDGET
) -> tuple[list[PortMapping], dict[Protocol, Result], bool | None]:
    """Asks and leaves; both take as long as they may at most."""
    began = time.monotonic()
    async with PortMapper(gateways=[router.gateway], protocols=protocols) as mapper:
        mappings = await mapper.open_mapping(40000, budget=budget)
        assert time.monotonic() - began < budget + 0.3
        report = mapper.report
        left = time.monotonic()
    assert time.monotonic() - left < REMOVAL_SECONDS + 0.3
    return mappings, {result.protocol: result for result in report.results}, report.double_nat


def pcp_yes(request: bytes, *, external: str = "203.0.113.1", result: int = 0) -> bytes:
    """PCP's answer to a request for a mapping, whatever the lifetime."""
    head = bytes((2, 0x81, 0, result)) + request[4:8] + struct.pack("!I", 77) + bytes(12)
    address = bytes(10) + b"\xff\xff" + IPv4Address(external).packed
    return head + request[24:42] + request[40:42] + address


def nat_pmp_yes(request: bytes, *, external: str = "203.0.113.1") -> list[bytes]:
    if request == b"\0\0":
        return [struct.pack("!BBHI", 0, 128, 0, 77) + IPv4Address(external).packed]
    internal, _, lifetime = struct.unpack("!HHI", request[4:])
    return [struct.pack("!BBHIHHI", 0, 130, 0, 77, internal, internal, lifetime)]


def found_at(location: str) -> bytes:
    """The answer to a search."""
    target = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
    return f"HTTP/1.1 200 OK\r\nST: {target}\r\nLOCATION: {location}\r\n\r\n".encode()


def at_its_place(router: FakeRouter) -> list[bytes]:
    return [found_at(router.location())]


def response(body: str | bytes, status: str = "200 OK", headers: str = "") -> bytes:
    data = body.encode() if isinstance(body, str) else body
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(data)}\r\n\r\n".encode() + data


def description(control: str = "/ctl", *, version: int = 1) -> str:
    service = f"<serviceType>{SERVICE.format(version=version)}</serviceType><controlURL>{control}</controlURL>"
    return f'<?xml version="1.0"?><root><device><serviceList><service>{service}</service></serviceList></device></root>'


def reply(action: str, **values: str) -> bytes:
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in values.items())
    return response(f'<Envelope><Body><u:{action}Response xmlns:u="u">{inside}</u:{action}Response></Body></Envelope>')


def fault(code: int) -> bytes:
    error = f"<Fault><detail><UPnPError><errorCode>{code}</errorCode></UPnPError></detail></Fault>"
    return response(f"<Envelope><Body>{error}</Body></Envelope>", "500 Internal Server Error")


def argument(request: bytes, name: str) -> str:
    """One argument of an action."""
    return request.partition(f"<{name}>".encode())[2].partition(b"<")[0].decode()


def igd(
    *, version: int = 1, address: str = "203.0.113.1", add: Callable[[bytes, int], bytes] | None = None
) -> Callable[[FakeRouter, bytes, asyncio.StreamWriter], Awaitable[None]]:
    """An ordinary router by UPnP; ``add`` answers the n-th (from 0) request for a mapping, None with yes."""
    asked = 0

    async def serve(router: FakeRouter, request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        if request.startswith(b"GET "):
            writer.write(response(description(version=version)))
            return
        match router.actions[-1]:
            case "GetExternalIPAddress" as action:
                writer.write(reply(action, NewExternalIPAddress=address))
            case ("AddPortMapping" | "AddAnyPortMapping") as action:
                yes = reply(action, NewReservedPort=argument(request, "NewExternalPort"))
                writer.write(yes if add is None else add(request, asked))
                asked += 1
            case "DeletePortMapping" as action:
                router.deleted.append(argument(request, "NewExternalPort"))
                writer.write(reply(action))
            case _:
                writer.write(fault(401))

    return serve
