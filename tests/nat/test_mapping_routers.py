"""Honest routers with habits of their own, and the mapper's own manners."""

from __future__ import annotations

import asyncio
import time
from ipaddress import IPv4Address

import pytest
from fake_router import (
    BUDGET,
    FakeRouter,
    argument,
    ask,
    at_its_place,
    fake_router,
    fault,
    igd,
    nat_pmp_yes,
    pcp_yes,
    reply,
)

from midair.nat.mapping import Gateway, Outcome, PortMapper, Protocol, mapper, upnp

BY_DATAGRAM = (Protocol.PCP, Protocol.NAT_PMP)


def only_nat_pmp(request: bytes) -> list[bytes]:
    return [] if request[0] == 2 else nat_pmp_yes(request)


async def test_an_old_router_that_is_silent_to_pcp_is_asked_by_nat_pmp_within_the_budget() -> None:
    async with fake_router(datagrams=only_nat_pmp) as router:
        mappings, results, _ = await ask(router, *BY_DATAGRAM)
    assert [mapping.protocol for mapping in mappings] == [Protocol.NAT_PMP]
    assert results[Protocol.PCP].outcome is Outcome.SILENT
    removal = router.received[-1]
    assert (removal[:2], removal[-4:]) == (b"\0\2", bytes(4))


async def test_a_router_that_knows_nat_pmp_only_says_so_and_is_asked_at_once() -> None:
    def answer(request: bytes) -> list[bytes]:
        return [bytes.fromhex("0080000100000009")] if request[0] == 2 else nat_pmp_yes(request)

    async with fake_router(datagrams=answer) as router:
        mappings, results, _ = await ask(router, *BY_DATAGRAM)
    assert [mapping.protocol for mapping in mappings] == [Protocol.NAT_PMP]
    assert results[Protocol.PCP].outcome is Outcome.NOT_SPOKEN


@pytest.mark.parametrize("protocol", list(Protocol))
async def test_a_private_outside_address_shows_another_nat(protocol: Protocol) -> None:
    def answer(request: bytes) -> list[bytes]:
        if request[0] == 2:
            return [pcp_yes(request, external="192.168.0.2")]
        return nat_pmp_yes(request, external="192.168.0.2")

    serve = igd(address="192.168.0.2")
    async with fake_router(datagrams=answer, search=at_its_place, serve=serve) as router:
        (mapping,), results, double_nat = await ask(router, protocol)
    assert not mapping.public
    assert double_nat is True
    assert results[protocol].outcome is Outcome.MAPPED


async def test_an_address_mismatch_shows_another_nat_too_and_ends_it_at_once() -> None:
    async with fake_router(datagrams=lambda request: [pcp_yes(request, result=12)]) as router:
        async with asyncio.timeout(3):
            mappings, results, double_nat = await ask(router, *BY_DATAGRAM, budget=10.0)
    assert mappings == []
    assert (results[Protocol.PCP].outcome, results[Protocol.PCP].code) == (Outcome.REFUSED, 12)
    assert double_nat is True


async def test_a_router_with_permanent_leases_only_gets_one_and_it_is_deleted_at_the_end() -> None:
    def add(request: bytes, _: int) -> bytes:
        return reply("AddPortMapping") if argument(request, "NewLeaseDuration") == "0" else fault(725)

    async with fake_router(search=at_its_place, serve=igd(add=add)) as router:
        (mapping,), _, _ = await ask(router, Protocol.UPNP)
    assert mapping.lifetime is None
    assert router.deleted == ["40000"]


async def test_taken_ports_are_given_up_for_others() -> None:
    def add(_: bytes, count: int) -> bytes:
        return fault(718) if count < 2 else reply("AddPortMapping")

    async with fake_router(search=at_its_place, serve=igd(add=add)) as router:
        (mapping,), _, _ = await ask(router, Protocol.UPNP)
    assert mapping.external.port != 40000
    assert router.deleted == [str(mapping.external.port)]


async def test_when_all_ports_are_taken_it_ends() -> None:
    async with fake_router(search=at_its_place, serve=igd(add=lambda *_: fault(718))) as router:
        mappings, results, _ = await ask(router, Protocol.UPNP)
    assert mappings == []
    assert (results[Protocol.UPNP].outcome, results[Protocol.UPNP].code) == (Outcome.REFUSED, 718)
    assert router.actions.count("AddPortMapping") == 1 + upnp.OTHER_PORTS
    assert router.deleted == []


async def test_a_router_of_version_two_picks_the_port() -> None:
    def add(request: bytes, _: int) -> bytes:
        return reply("AddAnyPortMapping", NewReservedPort=str(int(argument(request, "NewExternalPort")) + 7))

    async with fake_router(search=at_its_place, serve=igd(version=2, add=add)) as router:
        (mapping,), _, _ = await ask(router, Protocol.UPNP)
    assert mapping.external.port == 40007
    assert router.deleted == ["40007"]


@pytest.mark.parametrize(("code", "name"), [(606, "Action not authorized"), (727, "ExternalPortOnlySupportsWildcard")])
async def test_a_refusal_is_told_with_its_number(code: int, name: str) -> None:
    async with fake_router(search=at_its_place, serve=igd(add=lambda *_: fault(code))) as router:
        mappings, results, _ = await ask(router, Protocol.UPNP)
    assert mappings == []
    assert (results[Protocol.UPNP].code, results[Protocol.UPNP].text) == (code, name)


@pytest.mark.parametrize(
    ("address", "outcome", "text"),
    [
        ("", Outcome.REFUSED, "it has no outside address"),
        ("0.0.0.0", Outcome.REFUSED, "it has no outside address"),
        ("127.0.0.1", Outcome.BROKEN, "an outside address that cannot be one"),
    ],
)
async def test_a_router_that_is_not_connected_is_asked_for_no_port(address: str, outcome: Outcome, text: str) -> None:
    async with fake_router(search=at_its_place, serve=igd(address=address)) as router:
        mappings, results, _ = await ask(router, Protocol.UPNP)
    assert mappings == []
    assert (results[Protocol.UPNP].outcome, results[Protocol.UPNP].text) == (outcome, text)
    assert router.actions == ["GetExternalIPAddress"]


async def test_the_first_mapping_ends_the_wait() -> None:
    """Nobody answers the search for UPnP, and the budget is long."""
    async with fake_router(datagrams=lambda request: [pcp_yes(request)]) as router, asyncio.timeout(3):
        mappings, _, _ = await ask(router, *Protocol, budget=10.0)
    assert [mapping.protocol for mapping in mappings] == [Protocol.PCP]


async def test_upnp_asks_for_no_port_when_pcp_has_one() -> None:
    async with (
        fake_router(datagrams=lambda request: [pcp_yes(request)], search=at_its_place, serve=igd()) as router,
        PortMapper(gateways=[router.gateway]) as ours,
    ):
        await ours.open_mapping(40000, budget=BUDGET)
        async with asyncio.timeout(3):
            while Protocol.UPNP not in ours.report.offered:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        assert {result.outcome for result in ours.report.results if result.protocol is Protocol.UPNP} == {
            Outcome.NOT_NEEDED
        }
    assert "AddPortMapping" not in router.actions


async def test_an_answer_after_the_budget_is_not_lost() -> None:
    async def slow(router: FakeRouter, request: bytes, writer: asyncio.StreamWriter) -> None:
        if b"#AddPortMapping" in request:
            await go.wait()
        await igd()(router, request, writer)

    go = asyncio.Event()
    async with fake_router(search=at_its_place, serve=slow) as router, PortMapper(gateways=[router.gateway]) as ours:
        assert await ours.open_mapping(40000, budget=0.2) == []
        go.set()
        async with asyncio.timeout(3):
            while not ours.mappings:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)


async def test_a_mapping_whose_answer_never_came_is_deleted_all_the_same() -> None:
    async def deaf(router: FakeRouter, request: bytes, writer: asyncio.StreamWriter) -> None:
        if b"#AddPortMapping" in request:
            await asyncio.Event().wait()
        await igd()(router, request, writer)

    async with fake_router(search=at_its_place, serve=deaf) as router:
        mappings, results, _ = await ask(router, Protocol.UPNP)
    assert mappings == []
    assert results[Protocol.UPNP].outcome is Outcome.SILENT
    assert router.deleted == ["40000"]


async def test_a_renewal_that_is_refused_loses_the_mapping_when_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def add(_: bytes, count: int) -> bytes:
        return fault(501) if count else reply("AddPortMapping")

    monkeypatch.setattr(upnp, "RENEWAL_SECONDS_MIN", 0.05)
    async with (
        fake_router(search=at_its_place, serve=igd(add=add)) as router,
        PortMapper(gateways=[router.gateway], protocols=[Protocol.UPNP], lifetime=1) as ours,
    ):
        (mapping,) = await ours.open_mapping(40000, budget=BUDGET)
        began = time.monotonic()
        async with asyncio.timeout(5):
            while ours.mappings:
                assert ours.mappings == (mapping,)
                await asyncio.sleep(0.01)
        assert time.monotonic() - began > 0.8
        (result,) = ours.report.results
        assert (result.outcome, result.code) == (Outcome.REFUSED, 501)


async def test_what_is_raised_within_the_context_comes_out_as_it_is() -> None:
    class OwnError(Exception):
        pass

    async def fail(router: FakeRouter) -> None:
        async with PortMapper(gateways=[router.gateway], protocols=[Protocol.UPNP]) as ours:
            await ours.open_mapping(40000, budget=BUDGET)
            raise OwnError

    async with fake_router(search=at_its_place, serve=igd()) as router:
        with pytest.raises(OwnError):
            await fail(router)
    assert router.deleted == ["40000"]


@pytest.mark.parametrize("port", [0, -1, 65536])
async def test_only_a_port_can_be_asked_for(port: int) -> None:
    async with PortMapper(gateways=[]) as ours:
        with pytest.raises(ValueError, match="mapped"):
            await ours.open_mapping(port)


async def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stumble(*_: object) -> None:
        raise ZeroDivisionError

    async def use(router: FakeRouter) -> None:
        async with PortMapper(gateways=[router.gateway]):
            await asyncio.sleep(0)

    monkeypatch.setattr(mapper, "find_services", stumble)
    async with fake_router() as router:
        with pytest.raises(ZeroDivisionError):
            await use(router)


async def test_a_gateway_that_is_ourselves_is_not_asked() -> None:
    async with PortMapper(gateways=[Gateway(address=IPv4Address("127.0.0.1"), interface="lo")]) as ours:
        assert await ours.open_mapping(40000) == []
        assert ours.report.results == ()
