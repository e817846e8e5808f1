"""The NAT check is right about every kind of NAT that the lab has."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from midair.endpoint import Endpoint
from midair.lab import Host, Lab
from midair.lab import behaviour as lab
from midair.lab.catalogue import parse_box
from midair.nat.check.measure import measure
from midair.nat.check.report import Allocation, Filtering, Mapping, NatReport, Reaction, YesNo
from midair.port import ConnectFailedError, listen_tcp
from midair.server import Server

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]

PORT = 7420

MAPPINGS = {
    lab.Mapping.NONE: Mapping.NONE,
    lab.Mapping.ENDPOINT_INDEPENDENT: Mapping.ENDPOINT_INDEPENDENT,
    lab.Mapping.ADDRESS_DEPENDENT: Mapping.ADDRESS_DEPENDENT,
    lab.Mapping.ADDRESS_AND_PORT_DEPENDENT: Mapping.ADDRESS_AND_PORT_DEPENDENT,
    lab.Mapping.CONNECTION_DEPENDENT: Mapping.CONNECTION_DEPENDENT,
}
FILTERINGS = {
    lab.Filtering.ENDPOINT_INDEPENDENT: Filtering.ENDPOINT_INDEPENDENT,
    lab.Filtering.ADDRESS_DEPENDENT: Filtering.ADDRESS_DEPENDENT,
    lab.Filtering.ADDRESS_AND_PORT_DEPENDENT: Filtering.ADDRESS_AND_PORT_DEPENDENT,
    lab.Filtering.CONNECTION_DEPENDENT: Filtering.ADDRESS_AND_PORT_DEPENDENT,
}
REACTIONS = {
    lab.Unsolicited.DROP: Reaction.DROP,
    lab.Unsolicited.RST: Reaction.RST,
    lab.Unsolicited.ICMP_HOST: Reaction.ICMP_HOST,
    lab.Unsolicited.ICMP_PORT: Reaction.ICMP_PORT,
    lab.Unsolicited.ICMP_ADMIN: Reaction.ICMP_ADMIN,
    lab.Unsolicited.ICMP_LATE: Reaction.ICMP_LATE,
    lab.Unsolicited.PASS: Reaction.PASS,
    lab.Unsolicited.SILENT_DMZ: Reaction.DROP,  # nobody outside can tell
}
RULES = {
    lab.PortRule.PRESERVING: Allocation.PRESERVING,
    lab.PortRule.PRESERVING_UNTIL_CLASH: Allocation.PRESERVING,
    lab.PortRule.SEQUENTIAL: Allocation.SEQUENTIAL,
    lab.PortRule.BLOCKS: Allocation.BAND,
}

GROUPS = [
    ["drop", "rst", "icmp", "icmp-host", "icmp-admin", "icmp-late", "silent-dmz", "exposed"],
    ["full-cone", "restricted", "rfc5382", "symmetric", "symmetric-address", "symmetric-sequential", "symmetric-step2"],
    ["symmetric-blocks", "symmetric-band", "connection-dependent", "no-simopen", "no-simopen-rst", "mistranslates"],
    ["firewall", "firewall-rst", "firewall-icmp", "strict", "hairpin", "alg", "ttl-keeper", "carrier", "mobile"],
]


def expected(kind: lab.NatBehaviour) -> dict[str, Any]:
    translates = kind.translates
    passes = kind.unsolicited is lab.Unsolicited.PASS
    allocation = kind.allocation
    narrow = allocation.rule is lab.PortRule.RANDOM and allocation.high - allocation.low < 10_000
    rule = Allocation.BAND if narrow else RULES.get(allocation.rule, Allocation.RANDOM)
    changing = kind.mapping in (lab.Mapping.ADDRESS_AND_PORT_DEPENDENT, lab.Mapping.CONNECTION_DEPENDENT)
    crossing = YesNo.YES if kind.simultaneous_open is lab.SimultaneousOpen.PASSES else YesNo.NO
    turned = kind.hairpin is not lab.Hairpin.NONE
    return {
        "mapping": MAPPINGS[kind.mapping],
        "allocation": rule if translates else Allocation.NOT_MEASURED,
        "step": allocation.step if allocation.rule is lab.PortRule.SEQUENTIAL else 0,
        "filtering": Filtering.ENDPOINT_INDEPENDENT if passes else FILTERINGS[kind.filtering],
        "reaction": REACTIONS[kind.unsolicited],
        "simultaneous_open": YesNo.NOT_MEASURED if changing else crossing,
        "hairpin": (YesNo.YES if turned else YesNo.NO) if translates else YesNo.NOT_MEASURED,
    }


def inside(host: Host, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    with host.entered():
        return asyncio.run(work())


@contextlib.asynccontextmanager
async def serving(endpoints: Sequence[Endpoint]) -> AsyncIterator[None]:
    async with Server([listen_tcp(str(each.address), each.port) for each in endpoints]):
        yield


def checked(topologies: Sequence[str], *, second_port: bool = True, second_address: bool = True) -> list[NatReport]:
    """All at once, each by its own host."""
    with Lab(list(topologies)) as site, ThreadPoolExecutor(max_workers=1 + len(topologies)) as pool:
        first, second = (Endpoint.of(address, PORT) for address in site.server.addresses[:2])
        endpoints = [first]
        endpoints += [Endpoint(first.address, PORT + 1)] if second_port else []
        endpoints += [second] if second_address else []
        up: Future[Callable[[], object]] = Future()

        async def serve() -> None:
            over, loop = asyncio.Event(), asyncio.get_running_loop()
            async with serving(endpoints):
                up.set_result(lambda: loop.call_soon_threadsafe(over.set))
                await over.wait()

        server = pool.submit(inside, site.server, serve)
        stop = up.result(timeout=10)
        try:
            running = [pool.submit(inside, pair.a, lambda: measure(first)) for pair in site.pairs]
            return [each.result() for each in running]
        finally:
            stop()
            server.result()


@pytest.mark.parametrize("names", GROUPS, ids=lambda names: names[0])
def test_every_field_is_right_for_every_kind(names: list[str]) -> None:
    for name, report in zip(names, checked([f"{name} x none" for name in names]), strict=True):
        kind = parse_box(name).kind
        assert isinstance(kind, lab.NatBehaviour)
        found = {field: getattr(report, field) for field in expected(kind)}
        assert (name, found) == (name, expected(kind))


def test_a_public_address_is_found_to_be_one() -> None:
    (report,) = checked(["none x none"])
    assert report.mapping is Mapping.NONE
    assert report.mapped == report.local
    assert (report.filtering, report.reaction) == (Filtering.ENDPOINT_INDEPENDENT, Reaction.PASS)


def test_linux_routers_are_found_to_be_what_they_are() -> None:
    drop, random, reject, cone = checked(
        [
            f"kernel:{kind} x none"
            for kind in ("masquerade-drop", "masquerade-fully-random", "masquerade-reject-icmp", "cone-hairpin")
        ]
    )
    assert (drop.mapping, drop.allocation) == (Mapping.ENDPOINT_INDEPENDENT, Allocation.PRESERVING)
    assert (drop.filtering, drop.reaction) == (Filtering.ADDRESS_AND_PORT_DEPENDENT, Reaction.DROP)
    assert random.mapping in (Mapping.ADDRESS_AND_PORT_DEPENDENT, Mapping.CONNECTION_DEPENDENT)
    assert random.allocation is Allocation.RANDOM
    assert reject.reaction is Reaction.ICMP_PORT
    assert (cone.filtering, cone.hairpin) == (Filtering.ENDPOINT_INDEPENDENT, YesNo.YES)


def test_a_server_with_one_endpoint_cannot_tell_everything_and_the_report_says_so() -> None:
    drop, cone, symmetric = checked(
        ["drop x none", "full-cone x none", "symmetric x none"], second_port=False, second_address=False
    )
    for report in (drop, cone, symmetric):
        assert report.mapping is Mapping.NOT_MEASURED
        assert any("second address" in note for note in report.notes)
    assert drop.filtering is Filtering.ADDRESS_AND_PORT_DEPENDENT
    assert cone.filtering is Filtering.NOT_MEASURED
    assert (drop.allocation, symmetric.allocation) == (Allocation.PRESERVING, Allocation.RANDOM)


async def test_a_server_that_is_not_there_is_said_not_to_be() -> None:
    with pytest.raises(ConnectFailedError):
        await measure(Endpoint.of("127.0.0.1", 9))
