"""Routers that answer wrongly, late, too much, or for somebody else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from fake_router import (
    FakeRouter,
    another_address,
    ask,
    at_its_place,
    description,
    fake_router,
    found_at,
    igd,
    nat_pmp_yes,
    pcp_yes,
    response,
)

from midair.endpoint import Endpoint
from midair.nat.mapping import Outcome, Protocol, upnp
from midair.port import hear_group

BY_DATAGRAM = (Protocol.PCP, Protocol.NAT_PMP)


GARBAGE: list[Callable[[bytes], list[bytes]]] = [
    lambda request: [b""],
    lambda request: [b"\xff" * 60],
    lambda request: [request],
    lambda request: [bytes((2, 0x81, 0, 0)) + bytes(56)],
    lambda request: [pcp_yes(request)[:-4]],
    lambda request: [pcp_yes(request) + bytes(2000)],
    lambda request: [pcp_yes(request[:24] + b"\0" * 12 + request[36:])],  # another nonce
    lambda request: [b"x" * 1000] * 200,
]


@pytest.mark.parametrize("answer", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_is_passed_over(answer: Callable[[bytes], list[bytes]]) -> None:
    async with fake_router(datagrams=lambda request: answer(request) if request[0] == 2 else []) as router:
        mappings, results, _ = await ask(router, *BY_DATAGRAM, budget=0.2)
    assert mappings == []
    assert {result.outcome for result in results.values()} == {Outcome.SILENT}


async def test_an_answer_from_anybody_but_the_router_is_not_heard() -> None:
    def answer(request: bytes) -> list[bytes]:
        return [pcp_yes(request)] if request[0] == 2 else nat_pmp_yes(request)

    async with fake_router(datagrams=answer, answer_from=another_address()) as router:
        mappings, results, _ = await ask(router, *BY_DATAGRAM, budget=0.2)
    assert router.received
    assert mappings == []
    assert {result.outcome for result in results.values()} == {Outcome.SILENT}


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"])
async def test_an_outside_address_that_cannot_be_one_is_broken(address: str) -> None:
    async with fake_router(datagrams=lambda request: [pcp_yes(request, external=address)]) as router:
        mappings, results, _ = await ask(router, Protocol.PCP)
    assert mappings == []
    assert results[Protocol.PCP].outcome is Outcome.BROKEN


@contextlib.asynccontextmanager
async def victim() -> AsyncIterator[tuple[str, list[bytes]]]:
    """Somewhere else, which must not be connected to."""
    visits: list[bytes] = []

    async def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(await reader.read(1000))
        writer.close()

    address = another_address()
    server = await asyncio.start_server(visited, str(address), 5000)
    try:
        yield f"http://{address}:5000/ctl", visits
    finally:
        server.close()


@pytest.mark.parametrize("at", ["the victim's", "the gateway's"])
async def test_a_search_answered_by_somebody_else_is_not_followed(at: str) -> None:
    """The impostor hears the search, which goes to everybody; the gateway itself does not answer it."""
    heard: list[bytes] = []
    loop = asyncio.get_running_loop()
    async with victim() as (elsewhere, visits), fake_router(serve=igd()) as gateway:
        impostor, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, (str(another_address()), 0))

        def answer(data: bytes, sender: Endpoint) -> None:
            heard.append(data)
            location = elsewhere if at == "the victim's" else gateway.location()
            impostor.sendto(found_at(location), sender.to_sockaddr())

        everybody = Endpoint.of("239.255.255.250", 1900)
        group = await hear_group(everybody, at=Endpoint.of("127.0.0.1", 0), on_datagram=answer)
        try:
            mappings, results, _ = await ask(gateway, Protocol.UPNP, budget=0.2)
        finally:
            impostor.close()
            group.close()
    assert any(b"M-SEARCH" in data for data in heard)
    assert (mappings, visits, gateway.requests) == ([], [], [])
    assert results[Protocol.UPNP].outcome is Outcome.SILENT


async def test_a_description_elsewhere_is_not_fetched() -> None:
    async with victim() as (elsewhere, visits), fake_router(search=lambda router: [found_at(elsewhere)]) as router:
        mappings, results, _ = await ask(router, Protocol.UPNP, budget=0.2)
    assert router.searches
    assert (mappings, visits) == ([], [])
    assert results[Protocol.UPNP].outcome is Outcome.SILENT


async def test_a_redirect_is_not_followed() -> None:
    async with victim() as (elsewhere, visits):

        async def redirect(router: FakeRouter, request: bytes, writer: asyncio.StreamWriter) -> None:
            writer.write(response("", "302 Found", f"Location: {elsewhere}\r\n"))

        async with fake_router(search=at_its_place, serve=redirect) as router:
            mappings, _, _ = await ask(router, Protocol.UPNP, budget=0.2)
        assert router.requests
        assert (mappings, visits) == ([], [])


async def test_a_description_that_is_not_there_is_not_used_whatever_it_says() -> None:
    async def not_found(router: FakeRouter, request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(response(description(), "404 Not Found"))

    async with fake_router(search=at_its_place, serve=not_found) as router:
        mappings, _, _ = await ask(router, Protocol.UPNP, budget=0.2)
    assert mappings == []
    assert len(router.requests) == 1


async def test_a_control_url_elsewhere_is_not_used() -> None:
    async with victim() as (elsewhere, visits):

        async def lead_away(router: FakeRouter, request: bytes, writer: asyncio.StreamWriter) -> None:
            writer.write(response(description(elsewhere)))

        async with fake_router(search=at_its_place, serve=lead_away) as router:
            mappings, _, _ = await ask(router, Protocol.UPNP, budget=0.2)
        assert router.requests
        assert (mappings, visits) == ([], [])


async def test_a_flood_of_descriptions_is_not_followed_beyond_a_few() -> None:
    async def nothing(router: FakeRouter, request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(response("<root/>"))

    async with fake_router(
        search=lambda router: [found_at(router.location(f"/{n}")) for n in range(100)], serve=nothing
    ) as router:
        mappings, _, _ = await ask(router, Protocol.UPNP, budget=0.2)
    assert mappings == []
    assert len(router.requests) <= upnp.LOCATIONS_MAX


async def endless(router: FakeRouter, request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n<root>")
    while True:
        writer.write(b"<device>" * 1000)
        await writer.drain()


async def long_head(router: FakeRouter, request: bytes, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"X: y\r\n" * 1000)
        await writer.drain()


async def drip(router: FakeRouter, request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


async def say_nothing(router: FakeRouter, request: bytes, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def laugh(router: FakeRouter, request: bytes, writer: asyncio.StreamWriter) -> None:
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 20 if n else "ha"}">' for n in range(10))
    writer.write(response(f"<!DOCTYPE root [{entities}]><root>&a9;</root>"))


async def hang_up(router: FakeRouter, request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")


@pytest.mark.parametrize("serve", [endless, long_head, drip, say_nothing, laugh, hang_up])
async def test_a_description_that_is_endless_slow_or_a_bomb_ends_within_the_budget(
    serve: Callable[[FakeRouter, bytes, asyncio.StreamWriter], object],
) -> None:
    async with fake_router(search=at_its_place, serve=serve) as router:  # type: ignore[arg-type]
        mappings, results, _ = await ask(router, Protocol.UPNP, budget=0.2)
    assert router.requests
    assert mappings == []
    assert results[Protocol.UPNP].outcome is Outcome.SILENT  # so far: it is searched for three seconds


async def test_a_search_that_only_found_nonsense_says_so_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upnp, "SEARCH_SECONDS", 0.3)
    async with fake_router(search=at_its_place, serve=laugh) as router:
        _, results, _ = await ask(router, Protocol.UPNP, budget=1.0)
    assert results[Protocol.UPNP].outcome is Outcome.BROKEN
    assert results[Protocol.UPNP].text == "XML with a document type"


async def test_replies_to_actions_are_bounded_too() -> None:
    async def serve(router: FakeRouter, request: bytes, writer: asyncio.StreamWriter) -> None:
        if b"#" in request.partition(b"\r\n\r\n")[0]:
            await endless(router, request, writer)
        writer.write(response(description()))

    async with fake_router(search=at_its_place, serve=serve) as router:
        mappings, results, _ = await ask(router, Protocol.UPNP, budget=0.2)
    assert mappings == []
    assert results[Protocol.UPNP].outcome is Outcome.BROKEN
    assert results[Protocol.UPNP].text == "the response is too long"


async def test_a_router_that_never_confirms_a_removal_does_not_hold_us_up() -> None:
    def never(request: bytes) -> list[bytes]:
        return [pcp_yes(request)] if request[4:8] != bytes(4) else []

    async with fake_router(datagrams=never) as router:
        (mapping,), _, _ = await ask(router, Protocol.PCP)
    assert mapping.protocol is Protocol.PCP
    assert len([request for request in router.received if request[4:8] == bytes(4)]) >= 2
