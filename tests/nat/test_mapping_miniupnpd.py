"""Against a real router: Linux with miniupnpd, which speaks all three protocols."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

import pytest
from nat_home import HOST, HOST_6, OUTSIDE, ROUTER, ROUTER_6, Home

from midair.endpoint import Endpoint
from midair.lab.kernel.names import MAPPED_DESTINATION, MAPPED_FORWARD, MAPPED_SOURCE, TABLE
from midair.lab.parts import Miniupnpd, ServiceUnavailable
from midair.lab.parts.service import Service, program
from midair.nat.mapping import Gateway, Outcome, PortMapper, PortMapping, Protocol, Result, datagrams, machine
from midair.nat.mapping.gateway import default_gateways
from midair.port import LocalPort, accept

pytestmark = pytest.mark.lab

EACH = pytest.mark.parametrize("protocol", list(Protocol))
PATIENCE = 3.0
"""For an answer on a machine that is busy with other tests; a router that is there answers long before."""


@pytest.fixture
def home() -> Iterator[Home]:
    with Home() as home:
        yield home


def miniupnpd(home: Home, **options: str) -> Miniupnpd:
    try:
        return Miniupnpd(home.router, options={"min_lifetime": "2", **options})
    except ServiceUnavailable as lack:
        pytest.skip(str(lack))


def forgetful_miniupnpd(home: Home) -> Service:
    """One whose clock begins when it starts, as RFC 6887 section 8.5 wants it of a server that has lost its mappings;
    the lab's own counts from the start of the machine."""
    settings = f"""
ext_ifname=wan
listening_ip=lan0
enable_upnp=no
enable_natpmp=yes
upnp_table_name={TABLE}
upnp_nat_table_name={TABLE}
upnp_forward_chain={MAPPED_FORWARD}
upnp_nat_chain={MAPPED_DESTINATION}
upnp_nat_postrouting_chain={MAPPED_SOURCE}
allow 1024-65535 0.0.0.0/0 1024-65535
"""
    argv = [program("miniupnpd", "miniupnpd-nftables"), "-d", "-f", "{configuration}", "-P", "{scratch}"]
    return Service(home.router, argv, listens=[("udp", 5351)], configuration=settings)


@contextlib.asynccontextmanager
async def greeting(port: LocalPort) -> AsyncIterator[None]:
    """Whoever connects to the port reads "hello"."""

    async def serve(family: int) -> None:
        listener = port.listen(6 if family == 6 else 4)
        while True:
            sock, _ = await accept(listener)
            with sock:
                sock.send(b"hello")

    async with asyncio.TaskGroup() as tasks:
        servers = [tasks.create_task(serve(family)) for family in port.families]
        yield
        for server in servers:
            server.cancel()


@pytest.fixture
def nothing_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """miniupnpd 2.3.1 forgets whose an IPv6 pinhole is when the request for it comes twice: after that it answers its
    deletion by NOT_AUTHORIZED."""
    monkeypatch.setattr(machine, "FIRST_WAIT_SECONDS", PATIENCE)


def upnpc(home: Home, *arguments: str) -> str:
    """Another client of the same router, told where it is so that it need not search for two seconds."""
    return home.host.run(("upnpc", "-i", "-u", f"http://{ROUTER}:5000/rootDesc.xml", *arguments)).stdout


async def until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in the router
            await asyncio.sleep(0.02)


def of_ipv4(mappings: list[PortMapping]) -> PortMapping:
    (mapping,) = (mapping for mapping in mappings if mapping.external.family == 4)
    return mapping


@EACH
def test_a_stranger_reaches_us_through_the_mapping_and_not_after_it_is_removed(home: Home, protocol: Protocol) -> None:
    async def scenario() -> None:
        with LocalPort.open() as port:
            async with greeting(port):
                assert await home.dial(OUTSIDE, port.number) == "TimeoutError"
                async with PortMapper(protocols=[protocol]) as mapper:
                    mapping = of_ipv4(await mapper.open_mapping(port.number, budget=PATIENCE))
                    assert mapping.protocol is protocol
                    assert mapping.internal == Endpoint.of(HOST, port.number)
                    assert mapping.external == Endpoint.of(OUTSIDE, port.number)
                    assert mapping.lifetime == 7200
                    assert mapping.public
                    assert mapper.report.double_nat is False
                    assert await home.dial(OUTSIDE, mapping.external.port) == "hello"
                assert await home.dial(OUTSIDE, port.number) == "TimeoutError"
                assert home.mapped_ports() == set()

    with miniupnpd(home):
        home.play(scenario())


@pytest.mark.usefixtures("nothing_repeated")
def test_a_stranger_reaches_us_through_an_ipv6_pinhole(home: Home) -> None:
    async def scenario() -> None:
        with LocalPort.open() as port:
            async with greeting(port):
                assert await home.dial(HOST_6, port.number) == "TimeoutError"
                async with PortMapper(protocols=[Protocol.PCP]) as mapper:
                    mappings = await mapper.open_mapping(port.number, budget=PATIENCE)
                    (pinhole,) = (mapping for mapping in mappings if mapping.external.family == 6)
                    assert pinhole.internal == pinhole.external == Endpoint.of(HOST_6, port.number)
                    assert await home.dial(HOST_6, port.number) == "hello"
                assert await home.dial(HOST_6, port.number) == "TimeoutError"
                assert home.mapped_ports() == set()

    with miniupnpd(home):
        home.play(scenario())


@pytest.mark.usefixtures("nothing_repeated")
def test_all_are_asked_at_once_and_one_mapping_for_each_gateway_is_enough(home: Home) -> None:
    async def scenario() -> None:
        async with PortMapper() as mapper:
            started = time.monotonic()
            mappings = await mapper.open_mapping(40123, budget=PATIENCE)
            assert time.monotonic() - started < PATIENCE
            assert {mapping.external.family for mapping in mappings} == {4, 6}
            assert tuple(mappings) == mapper.mappings
            await until(lambda: Protocol.UPNP in mapper.report.offered)
            upnp = next(each for each in mapper.report.results if each.protocol is Protocol.UPNP)
            assert upnp.outcome in (Outcome.NOT_NEEDED, Outcome.MAPPED)
        assert home.mapped_ports() == set()

    with miniupnpd(home):
        home.play(scenario())


@EACH
def test_a_port_that_another_host_has_is_replaced_by_another(home: Home, protocol: Protocol) -> None:
    async def scenario() -> None:
        with LocalPort.open() as port:
            with home.as_another_host() as other:
                await asyncio.to_thread(upnpc, home, "-a", other, "1999", str(port.number), "tcp", "60")
            assert home.mapped_ports() == {1999, port.number}
            async with greeting(port), PortMapper(protocols=[protocol]) as mapper:
                mapping = of_ipv4(await mapper.open_mapping(port.number, budget=PATIENCE))
                assert mapping.external.port != port.number
                assert await home.dial(OUTSIDE, mapping.external.port) == "hello"
            assert home.mapped_ports() == {1999, port.number}

    with miniupnpd(home):
        home.play(scenario())


def test_a_mapping_outlives_its_lifetime_because_it_is_renewed(home: Home) -> None:
    """Of four with the same lifetime, that of upnpc, which does not renew, is gone."""

    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as stack:
            port = stack.enter_context(LocalPort.open())
            await stack.enter_async_context(greeting(port))
            mappers = {
                number: await stack.enter_async_context(PortMapper(protocols=[protocol], lifetime=5))
                for number, protocol in ((port.number, Protocol.PCP), (2001, Protocol.NAT_PMP), (2002, Protocol.UPNP))
            }
            mappings = {
                of_ipv4(await mapper.open_mapping(number, budget=PATIENCE)) for number, mapper in mappers.items()
            }
            await asyncio.to_thread(upnpc, home, "-a", HOST, "2003", "2003", "tcp", "5")
            assert home.mapped_ports() == {*mappers, 2003}
            await until(lambda: home.mapped_ports() == set(mappers))
            # Ours have been renewed by then.
            await until(lambda: time.monotonic() > asked + 7)
            assert home.mapped_ports() == set(mappers)
            assert mappings <= {mapping for mapper in mappers.values() for mapping in mapper.mappings}
            assert await home.dial(OUTSIDE, port.number) == "hello"
            assert await home.dial(HOST_6, port.number) == "hello"

    with miniupnpd(home, clean_ruleset_interval="1"):
        asked = time.monotonic()
        home.play(scenario())


def test_a_mapping_that_the_router_has_forgotten_is_made_again_when_it_says_that_it_started(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Up to five seconds, so that not all hosts of a network ask at once.
    monkeypatch.setattr(datagrams, "RECOVERY_SECONDS_MAX", 0.0)

    async def scenario() -> None:
        try:
            daemon = forgetful_miniupnpd(home)
        except ServiceUnavailable as lack:
            pytest.skip(str(lack))
        try:
            async with PortMapper(protocols=[Protocol.PCP]) as mapper:
                await mapper.open_mapping(40123, budget=PATIENCE)
                mapped = time.monotonic()
                daemon.close()
                home.reset_rules()
                assert home.mapped_ports() == set()
                # Its clock must be behind by more than the two seconds that are put down to rounding.
                await until(lambda: time.monotonic() > mapped + 4)
                daemon = await asyncio.to_thread(forgetful_miniupnpd, home)
                await until(lambda: home.mapped_ports() == {40123}, seconds=3)
        finally:
            daemon.close()

    home.play(scenario())


@EACH
def test_a_router_behind_another_nat_refuses(protocol: Protocol) -> None:
    async def scenario() -> tuple[Result, ...]:
        async with PortMapper(protocols=[protocol]) as mapper:
            assert await mapper.open_mapping(40123, budget=PATIENCE) == []
            return mapper.report.results

    with Home(outside="100.64.1.1", ipv6=False) as home, miniupnpd(home):
        (result,) = home.play(scenario())
        assert home.mapped_ports() == set()
    assert result.gateway == ip_address(ROUTER)
    assert result.outcome is Outcome.REFUSED
    assert (result.code, result.text) == {
        Protocol.PCP: (8, "NO_RESOURCES"),
        Protocol.NAT_PMP: (3, "network failure"),
        Protocol.UPNP: (None, "it has no outside address"),
    }[protocol]


def test_a_router_that_offers_nothing_ends_it_within_the_budget(home: Home) -> None:
    async def scenario() -> None:
        async with PortMapper() as mapper:
            started = time.monotonic()
            assert await mapper.open_mapping(40123, budget=0.25) == []
            assert time.monotonic() - started < 0.5
            outcomes = {(each.protocol, each.gateway.version): each.outcome for each in mapper.report.results}
            left = time.monotonic()
        assert time.monotonic() - left < 0.5
        # The port for PCP is closed, and the router says so; a search has nobody to say that.
        assert outcomes == {
            (Protocol.PCP, 4): Outcome.NOT_SPOKEN,
            (Protocol.NAT_PMP, 4): Outcome.NOT_SPOKEN,
            (Protocol.UPNP, 4): Outcome.SILENT,
            (Protocol.PCP, 6): Outcome.NOT_SPOKEN,
        }
        assert mapper.report.double_nat is None
        assert mapper.report.offered == frozenset()

    home.play(scenario())


def test_a_router_that_drops_everything_ends_it_within_the_budget(home: Home) -> None:
    async def scenario() -> None:
        async with PortMapper() as mapper:
            started = time.monotonic()
            assert await mapper.open_mapping(40123, budget=0.25) == []
            assert time.monotonic() - started < 0.5
            assert {each.outcome for each in mapper.report.results} == {Outcome.SILENT}
            left = time.monotonic()
        assert time.monotonic() - left < 0.5

    home.router.run(("nft", "add table inet deaf; add chain inet deaf in { type filter hook input priority -300; }"))
    home.router.run(("nft", "add rule inet deaf in iifname lan0 meta l4proto { udp, tcp } drop"))
    home.play(scenario())


def test_a_host_without_a_default_route_has_nobody_to_ask(home: Home) -> None:
    async def scenario() -> None:
        async with PortMapper() as mapper:
            assert await mapper.open_mapping(40123) == []
            assert mapper.report.results == ()

    home.host.run(("ip", "route", "flush", "default"))
    home.host.run(("ip", "-6", "route", "flush", "default"))
    home.play(scenario())


@pytest.mark.usefixtures("nothing_repeated")
def test_a_cancelled_session_removes_its_mapping(home: Home) -> None:
    async def session(mapped: asyncio.Event) -> None:
        async with PortMapper() as mapper:
            await mapper.open_mapping(40123, budget=PATIENCE)
            mapped.set()
            await asyncio.Event().wait()

    async def scenario() -> None:
        mapped = asyncio.Event()
        task = asyncio.create_task(session(mapped))
        await mapped.wait()
        assert home.mapped_ports() == {40123}
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert home.mapped_ports() == set()

    with miniupnpd(home):
        home.play(scenario())


@EACH
def test_the_mapping_is_the_one_that_another_client_sees(home: Home, protocol: Protocol) -> None:
    """upnpc lists what the router holds, whoever asked for it."""

    async def scenario() -> str:
        async with PortMapper(protocols=[protocol]) as mapper:
            await mapper.open_mapping(40123, budget=PATIENCE)
            return await asyncio.to_thread(upnpc, home, "-l")

    with miniupnpd(home):
        listing = home.play(scenario())
    assert f"TCP 40123->{HOST}:40123" in listing


def test_natpmpc_is_the_same_client_to_the_router_as_we_are(home: Home) -> None:
    """It gets the same external port for our internal one, and may remove our mapping."""

    def natpmpc(*arguments: str) -> str:
        return home.host.run(("natpmpc", "-g", ROUTER, "-a", *arguments)).stdout

    async def scenario() -> None:
        async with PortMapper(protocols=[Protocol.NAT_PMP]) as mapper:
            mapping = of_ipv4(await mapper.open_mapping(40123, budget=PATIENCE))
            asked = await asyncio.to_thread(natpmpc, "40123", "40123", "tcp", "60")
            assert f"Public IP address : {mapping.external.address}" in asked
            assert f"Mapped public port {mapping.external.port} protocol TCP to local port 40123" in asked
            await asyncio.to_thread(natpmpc, "0", "40123", "tcp", "0")
            assert home.mapped_ports() == set()

    with miniupnpd(home):
        home.play(scenario())


def test_upnp_is_not_searched_at_a_gateway_with_a_public_address(home: Home) -> None:
    async def scenario() -> None:
        public = [Gateway(address=ip_address(OUTSIDE), interface="eth0")]
        async with PortMapper(gateways=public, protocols=[Protocol.UPNP]) as mapper:
            assert await mapper.open_mapping(40123) == []
            assert mapper.report.results == ()

    home.play(scenario())


def test_the_gateways_are_those_of_the_thread_that_asks(home: Home) -> None:
    """A thread can be in another network namespace than its process, as in the lab."""
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(lambda: home.play(default_gateways())).result()
    assert found == [
        Gateway(address=ip_address(ROUTER), interface="eth0"),
        Gateway(address=ip_address(ROUTER_6), interface="eth0"),
    ]
