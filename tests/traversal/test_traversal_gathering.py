"""Gathering: the home router beside the reflector, and which ports and families are ours. Router and reflector are
stand-ins; the real router is in test_traversal_mapped.py."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self

import pytest

from midair import events
from midair.config import ServerURL, TraversalOptions
from midair.endpoint import Endpoint, Family
from midair.errors import NoPathError, UsageError
from midair.nat.check.report import Allocation, NatReport, Opening
from midair.nat.mapping import Gateway, PortMapping, Protocol
from midair.nat.told import Known, understand
from midair.port import LocalPort, PortUnavailableError, source_address
from midair.traversal import PathResult, connect_peers, gathering, mapped_port, runner
from midair.traversal.candidates import CandidateType
from midair.traversal.gathering import Gathered, gather
from midair.traversal.knowledge import Earlier
from midair.traversal.result import Leftovers
from midair.traversal.runner import _open_port

FAR_SERVER = ServerURL(secure=False, host="198.51.100.9", port=7420)
HERE = ServerURL(secure=False, host="127.0.0.1", port=9)
MAPPED = Endpoint.parse("203.0.113.7:40999")
REFLEXIVE = Endpoint.parse("203.0.113.7:40123")


class Router:
    """Stands in for PortMapper: what it gives, and when; counts who has a port there."""

    def __init__(self) -> None:
        self.external: list[Endpoint] = [MAPPED]
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked: list[int] = []
        self.gateways: list[str] = []
        self.held = 0

    def __call__(self, *, gateways: Sequence[Gateway]) -> _Mapper:
        self.gateways = [str(each.address) for each in gateways]
        return _Mapper(self)


class _Mapper:
    def __init__(self, router: Router) -> None:
        self.router = router
        self.mappings: tuple[PortMapping, ...] = ()

    async def __aenter__(self) -> Self:
        self.router.held += 1
        return self

    async def open_mapping(self, number: int, *, budget: float) -> None:
        self.router.asked.append(number)
        try:
            async with asyncio.timeout(budget):
                await self.router.answers.wait()
        except TimeoutError:
            return
        self.mappings = tuple(
            PortMapping(
                protocol=Protocol.PCP,
                gateway=ip_address("192.0.2.1"),
                internal=Endpoint.of("192.0.2.5", number),
                external=external,
                lifetime=7200,
            )
            for external in self.router.external
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.sleep(0)
        self.router.held -= 1


@pytest.fixture
async def router(monkeypatch: pytest.MonkeyPatch) -> Router:
    found = Router()

    async def gateways() -> list[Gateway]:
        return [Gateway(address=ip_address("192.0.2.1")), Gateway(address=ip_address("fe80::1"), interface="eth0")]

    monkeypatch.setattr(mapped_port, "PortMapper", found)
    monkeypatch.setattr(mapped_port, "default_gateways", gateways)
    return found


Ask = Callable[[Any, LocalPort, Endpoint], Awaitable[None]]


@pytest.fixture
def reflector(monkeypatch: pytest.MonkeyPatch) -> Callable[[Ask], None]:
    """Puts somebody else in the reflector's place."""
    return lambda ask: monkeypatch.setattr(gathering._Reflections, "ask", ask)


async def answers(seen: Any, port: LocalPort, reflector: Endpoint) -> None:
    """After a while, as the internet does; that is when the router has answered."""
    await asyncio.sleep(0.02)
    seen.mappings.append((port.number, REFLEXIVE))


async def keeps_the_port(seen: Any, port: LocalPort, reflector: Endpoint) -> None:
    seen.mappings.append((port.number, Endpoint.of("203.0.113.77", port.number)))


async def is_dead(seen: Any, port: LocalPort, reflector: Endpoint) -> None:
    return


def ignore(event: events.Event) -> None:
    return


async def gathered(
    server: ServerURL = FAR_SERVER,
    *,
    port_mapping: bool = True,
    families: tuple[Family, ...] = (4, 6),
    earlier: Sequence[Earlier] = (),
    on_event: events.Listener = ignore,
) -> tuple[Gathered, Leftovers]:
    leftovers = Leftovers()
    leftovers.ports.append(LocalPort.open(families=families))
    found = await gather(
        leftovers.ports[0], server, wait=2.0, port_mapping=port_mapping, earlier=earlier, on_event=on_event
    )
    leftovers.ports += found.fan
    leftovers.mapped = found.mapped
    return found, leftovers


def of_kind(found: Gathered, kind: CandidateType) -> list[Endpoint]:
    return [each.endpoint for each in found.candidates if each.type is kind]


# -- the router's port --


async def test_the_port_the_router_gives_is_a_candidate_of_its_own_kind(
    router: Router, reflector: Callable[[Ask], None]
) -> None:
    """Between the others: RFC 6544 4.2 prefers it to what a reflector saw."""
    reflector(answers)
    found, leftovers = await gathered()
    assert of_kind(found, CandidateType.MAPPED) == [MAPPED]
    assert of_kind(found, CandidateType.SERVER_REFLEXIVE) == [REFLEXIVE]
    kinds = [each.type for each in found.candidates]
    assert kinds.index(CandidateType.MAPPED) < kinds.index(CandidateType.SERVER_REFLEXIVE)
    assert found.candidates[kinds.index(CandidateType.MAPPED)].priority >> 24 == 105
    assert router.asked == [leftovers.ports[0].number]
    await leftovers.close()


async def test_the_port_is_told_with_who_gave_it(router: Router, reflector: Callable[[Ask], None]) -> None:
    told: list[events.Event] = []
    reflector(answers)
    _, leftovers = await gathered(on_event=told.append)
    number = leftovers.ports[0].number
    assert events.Mapped(local=f"192.0.2.5:{number}", external=str(MAPPED), protocol="pcp") in told
    await leftovers.close()


@pytest.mark.parametrize("address", ["10.0.0.4", "192.168.1.4", "100.64.7.7"])
async def test_a_router_behind_another_nat_gives_no_candidate(
    router: Router, reflector: Callable[[Ask], None], address: str
) -> None:
    reflector(answers)
    router.external = [Endpoint.of(address, 40999)]
    found, leftovers = await gathered()
    assert of_kind(found, CandidateType.MAPPED) == []
    await leftovers.close()


@pytest.mark.parametrize("case", ["loopback", "an address of ours", "off"])
async def test_the_router_is_not_asked_for_a_server_on_this_machine_or_when_that_is_off(
    router: Router, reflector: Callable[[Ask], None], case: str
) -> None:
    server, port_mapping = FAR_SERVER if case == "off" else HERE, case != "off"
    if case == "an address of ours":
        own = source_address(4)
        if own is None:
            pytest.skip("this machine has no other address than loopback")
        server = ServerURL(secure=False, host=str(own.address), port=9)
    reflector(answers)
    found, leftovers = await gathered(server, port_mapping=port_mapping)
    assert router.asked == []
    assert found.mapped is None
    await leftovers.close()


async def test_once_the_reflector_has_answered_the_router_is_not_waited_for(
    router: Router, reflector: Callable[[Ask], None]
) -> None:
    reflector(keeps_the_port)
    router.answers.clear()
    started = time.monotonic()
    found, leftovers = await gathered()
    assert time.monotonic() - started < 0.24
    assert of_kind(found, CandidateType.MAPPED) == []
    await leftovers.close()


async def test_where_the_nat_changes_ports_the_router_has_its_quarter_of_a_second(
    router: Router, reflector: Callable[[Ask], None]
) -> None:
    reflector(answers)
    router.answers.clear()
    started = time.monotonic()
    _, leftovers = await gathered()
    assert time.monotonic() - started > 0.2
    await leftovers.close()


@pytest.mark.parametrize(
    ("opening", "waited_for"), [(Opening.NOT_OFFERED, False), (Opening.REFUSED, False), (Opening.OPENED, True)]
)
async def test_a_router_that_is_known_to_open_nothing_is_asked_and_not_waited_for(
    opening: Opening, waited_for: bool, router: Router, reflector: Callable[[Ask], None]
) -> None:
    reflector(answers)
    router.answers.clear()
    known = Known(report=NatReport(family=4, allocation=Allocation.RANDOM), opening=opening)
    here = {str(each.address) for each in gathering.host_endpoints(1, (4,), loopback=False)}
    started = time.monotonic()
    found, leftovers = await gathered(earlier=[(each, str(REFLEXIVE.address), known) for each in here])
    assert (time.monotonic() - started > 0.2) == waited_for
    assert len(router.asked) == 1
    assert understand(found.reports[0]).opening is opening
    await leftovers.close()


async def test_with_a_dead_reflector_the_router_has_its_quarter_of_a_second(
    router: Router, reflector: Callable[[Ask], None]
) -> None:
    reflector(is_dead)
    found, leftovers = await gathered()
    assert of_kind(found, CandidateType.MAPPED) == [MAPPED]
    await leftovers.close()
    router.answers.clear()
    started = time.monotonic()
    found, leftovers = await gathered()
    assert 0.2 < time.monotonic() - started < 1.0
    assert of_kind(found, CandidateType.MAPPED) == []
    await leftovers.close()


async def test_the_port_is_held_as_long_as_the_leftovers(router: Router, reflector: Callable[[Ask], None]) -> None:
    reflector(answers)
    _, leftovers = await gathered()
    assert router.held == 1
    await leftovers.close()
    assert router.held == 0
    await leftovers.close()


async def test_cancelling_the_gathering_gives_the_port_back(router: Router, reflector: Callable[[Ask], None]) -> None:
    asked = asyncio.Event()

    async def hangs(seen: Any, port: LocalPort, reflector: Endpoint) -> None:
        asked.set()
        await asyncio.Event().wait()

    reflector(hangs)
    with LocalPort.open() as port:
        task = asyncio.ensure_future(gather(port, FAR_SERVER, wait=5.0, on_event=ignore))
        await asked.wait()
        await asyncio.sleep(0.02)
        assert router.held == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert router.held == 0


async def test_cancelling_the_end_still_gives_the_port_back(router: Router, reflector: Callable[[Ask], None]) -> None:
    reflector(answers)
    _, leftovers = await gathered()
    leftovers.retiring.add(loser := asyncio.ensure_future(asyncio.sleep(5)))
    closing = asyncio.ensure_future(leftovers.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait({closing, loser})
    assert router.held == 0


class Mailbox:
    """One end of an exchange."""

    def __init__(self, outbox: asyncio.Queue[bytes], inbox: asyncio.Queue[bytes]) -> None:
        self._outbox, self._inbox = outbox, inbox

    async def send(self, message: bytes) -> None:
        self._outbox.put_nowait(message)

    async def receive(self) -> bytes:
        return await self._inbox.get()


async def two_peers(*options: TraversalOptions) -> list[PathResult | BaseException]:
    there, back = asyncio.Queue[bytes](), asyncio.Queue[bytes]()
    boxes = Mailbox(there, back), Mailbox(back, there)
    peers = (
        connect_peers(
            box, session_key=b"k" * 32, controlling=box is boxes[0], server=HERE, options=each, on_event=ignore
        )
        for box, each in zip(boxes, options, strict=True)
    )
    return list(await asyncio.gather(*peers, return_exceptions=True))


async def test_a_session_holds_its_port_to_its_end_and_no_longer(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gather_as_if_far(port: LocalPort, *arguments: Any, **more: Any) -> Gathered:
        found = await gather(port, *arguments, **more)
        mapped = mapped_port.MappedPort(port.number, port.families)
        await mapped.answered()
        return replace(found, mapped=mapped)

    monkeypatch.setattr(runner, "gather", gather_as_if_far)
    direct = TraversalOptions(policy="direct", deadline=3.0)
    for held, result in zip((1, 0), await two_peers(direct, direct), strict=True):
        assert isinstance(result, PathResult)
        await result.close_leftovers()
        result.channel.abort()
        assert router.held == held
    for failure in await two_peers(direct, replace(direct, policy="relay")):
        assert isinstance(failure, NoPathError)
    assert router.held == 0


async def test_a_system_that_cannot_ask_gives_no_candidate(
    router: Router, reflector: Callable[[Ask], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_gateways() -> list[Gateway]:
        raise PermissionError("not here")

    monkeypatch.setattr(mapped_port, "default_gateways", no_gateways)
    reflector(is_dead)
    found, leftovers = await gathered()
    assert of_kind(found, CandidateType.MAPPED) == []
    await leftovers.close()


# -- families --


@pytest.mark.parametrize("family", [4, 6])
async def test_only_the_families_that_are_wanted_are_gathered_and_asked_for(
    router: Router, reflector: Callable[[Ask], None], family: Family
) -> None:
    reflector(answers)
    router.external = [MAPPED, Endpoint.parse("[2001:db8::7]:40999")]
    found, leftovers = await gathered(families=(family,))
    assert {each.family for each in of_kind(found, CandidateType.HOST)} <= {family}
    assert router.gateways == [{4: "192.0.2.1", 6: "fe80::1"}[family]]
    assert [each.family for each in of_kind(found, CandidateType.MAPPED)] == [family]
    await leftovers.close()


# -- our port --


def taken(number: int = 0) -> socket.socket:
    return socket.create_server(("0.0.0.0", number))


def test_of_a_range_the_first_free_port_is_ours() -> None:
    with taken() as first:
        low = first.getsockname()[1]
        with _open_port(TraversalOptions(local_port=(low, low + 20))) as port:
            assert low < port.number <= low + 20
            with _open_port(TraversalOptions(local_port=(low, low + 20))) as next_port:
                assert port.number < next_port.number <= low + 20


def test_a_range_that_is_taken_is_never_left() -> None:
    with taken() as first:
        number = first.getsockname()[1]
        for wanted in (number, (number, number)):
            with pytest.raises(PortUnavailableError, match=str(number)):
                _open_port(TraversalOptions(local_port=wanted))


def test_our_port_is_only_on_the_families_that_are_wanted() -> None:
    with _open_port(TraversalOptions(families=(4,))) as port:
        assert port.families == {4}


@pytest.mark.parametrize("wanted", [(0, 10), (20, 10), (1, 65536), 70000, -1])
def test_what_is_no_port_or_range_is_refused_at_once(wanted: int | tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=r"no port|no range"):
        TraversalOptions(local_port=wanted)


def test_no_family_at_all_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="IPv4, IPv6 or both"):
        TraversalOptions(families=())
