"""Measures the NAT between here and a server, for one address family.

First a look at the ports that new connections get, since whatever else is going on would take some of them. Then all
experiments beside each other, each from a port of its own, since what one has sent would change what another finds. It
takes as long as the slowest, which waits eight seconds for an answer that RFC 5382 wants to come after six.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from midair.endpoint import Endpoint
from midair.nat.check.asking import FAILURES, Asking, reflect_once, reflected, trustworthy
from midair.nat.check.crossing import measure_crossing
from midair.nat.check.hops import routers_towards
from midair.nat.check.judge import (
    Reflection,
    judge_allocation,
    judge_filtering,
    judge_mapping,
    judge_nats,
    judge_pooling,
    judge_reaction,
)
from midair.nat.check.report import Allocation, Mapping, NatReport, YesNo
from midair.nat.check.wire import SECONDS_MAX, DialBack, Result
from midair.port import LocalPort, PortUnavailableError

__all__ = ["measure"]

BURSTS: Final = 2
PROBES: Final = 6
"""In a burst."""
HAIRPIN_SECONDS: Final = 2.0
UNUSED_PORTS: Final = 2
"""Ports that were never used and are dialled: a lost answer to one would pass for silence."""
AGAIN: Final = 3
"""Connections to one endpoint, each after the one before."""
WEB_PORTS: Final = (443, 80)
_CHANGING: Final = (Mapping.ADDRESS_AND_PORT_DEPENDENT, Mapping.CONNECTION_DEPENDENT)


async def measure(server: Endpoint, *, seconds: float = 25.0) -> NatReport:
    """What the NAT before this host does, as the server at that endpoint lets us find out; a field that could not be
    measured says so. Takes ``seconds`` at most.

    Raises: ConnectFailedError when the server cannot be reached, StunError when it is no reflector, TimeoutError;
    PortUnavailableError. Cancelling closes everything.
    """
    async with asyncio.timeout(seconds), reflected(server) as (port, connection, first):
        others = trustworthy(connection.others, server)
        local = Endpoint(connection.local.address, port.number)
        bursts = await _samples(server)
        seen, dials_back, unsolicited, crossing, hairpin, hops = await asyncio.gather(
            _reflections(port, first, others),
            _dials_back(server),
            _reaction(connection),
            measure_crossing(server),
            _hairpin(server),
            routers_towards(server, local),
        )
    others_seen, again, only_web = seen
    reached_elsewhere = any(each.asked.address != server.address for each in others_seen)
    mapping = judge_mapping(local, first, others_seen, again)
    allocation = _judged_allocation(local, first, bursts)
    pooling = judge_pooling(local, [first, *(reflection for burst in bursts for _, reflection in burst)], others_seen)
    filtering = judge_filtering(*dials_back, reached_elsewhere=reached_elsewhere)
    reaction = judge_reaction(unsolicited)
    nats = judge_nats(local, first.mapped, hops) if server.family == 4 else (0, "")
    judged = (mapping, allocation, pooling, filtering, reaction, crossing, hairpin, nats, only_web)
    report = NatReport(
        family=server.family,
        local=local,
        mapped=first.mapped,
        mapping=mapping[0],
        pooling=pooling[0],
        filtering=filtering[0],
        reaction=reaction[0],
        simultaneous_open=crossing[0],
        hairpin=hairpin[0],
        nats=nats[0],
        only_web=only_web[0],
        notes=tuple(dict.fromkeys(note for _, note in judged if note)),
        **allocation[0],
    )
    return _without_the_untold(report)


def _without_the_untold(report: NatReport) -> NatReport:
    """What would be a finding elsewhere tells nothing here."""
    if report.mapping is Mapping.NONE:
        report = replace(report, hairpin=YesNo.NOT_MEASURED, allocation=Allocation.NOT_MEASURED)
    note = ""
    if report.simultaneous_open is YesNo.NO:
        if report.only_web is not YesNo.NO:
            note = "whether dials may cross cannot be told where perhaps only the ports of the web can be dialled"
        unknown = report.mapping is Mapping.NOT_MEASURED and report.allocation is not Allocation.PRESERVING
        if report.mapping in _CHANGING or unknown:
            note = "whether dials may cross cannot be told where each connection has another port"
    if note:
        return replace(report, simultaneous_open=YesNo.NOT_MEASURED, notes=(*report.notes, note))
    return report


async def _samples(server: Endpoint) -> list[list[tuple[int, Reflection]]]:
    """Which outside endpoints new local ports get: the ports and these, burst by burst."""
    async with contextlib.AsyncExitStack() as stack:

        async def probe() -> tuple[int, Reflection] | None:
            with contextlib.suppress(*FAILURES, PortUnavailableError):
                port, _, reflection = await stack.enter_async_context(reflected(server))
                return port.number, reflection
            return None

        bursts = [await asyncio.gather(*(probe() for _ in range(PROBES))) for _ in range(BURSTS)]
    return [[each for each in burst if each is not None] for burst in bursts]


def _judged_allocation(
    local: Endpoint, first: Reflection, bursts: Sequence[Sequence[tuple[int, Reflection]]]
) -> tuple[dict[str, Any], str]:
    """The fields, and a note when there are none."""
    if sum(map(len, bursts)) < PROBES:
        return {}, "which ports are taken was not measured: the server answered too rarely"
    ports = [[(own, reflection.mapped.port) for own, reflection in burst] for burst in bursts]
    allocation, step, band = judge_allocation((local.port, first.mapped.port), ports)
    return {"allocation": allocation, "step": step, "band": band}, ""


async def _reflections(
    port: LocalPort, first: Reflection, others: list[Endpoint]
) -> tuple[list[Reflection], list[Reflection], tuple[YesNo, str]]:
    """One port of ours as the other endpoints of the server see it, and as the last of them sees it again as long as
    that changes. Also whether only the web's ports can be dialled."""
    again: list[Reflection] = []
    async with contextlib.AsyncExitStack() as stack:
        answers = await asyncio.gather(*(reflect_once(port, other, stack) for other in others))
        seen = [each for each in answers if each is not None]
        if any(each.mapped != first.mapped for each in seen):
            latest = seen[-1]
            while len(again) < AGAIN:
                await stack.aclose()  # the connection to the same endpoint has to be over
                seen_again = await reflect_once(port, latest.asked, stack)
                if seen_again is None:
                    break
                again.append(seen_again)
                if seen_again.mapped == latest.mapped:
                    break
                latest = seen_again
    return seen, again, _only_web(first.asked, others, {each.asked for each in seen})


def _only_web(server: Endpoint, others: Sequence[Endpoint], reached: set[Endpoint]) -> tuple[YesNo, str]:
    if any(each.port not in WEB_PORTS for each in (server, *reached)):
        return YesNo.NO, ""
    closed = [each.port for each in others if each.port not in WEB_PORTS]
    if closed:
        return YesNo.YES, f"the server's port {closed[0]} cannot be reached, unless its own firewall is why"
    return YesNo.NOT_MEASURED, "whether other ports than 80 and 443 can be dialled needs a server with such a port"


async def _dials_back(server: Endpoint) -> tuple[Result | None, Result | None]:
    """To two ports, each of which has sent to one endpoint of the server only: from another port there, and from
    another address."""

    async def let_in(wanted: DialBack) -> Result | None:
        with contextlib.suppress(*FAILURES, PortUnavailableError):
            async with reflected(server) as (port, connection, _):
                port.listen(server.family)
                return await connection.dial_back(wanted)
        return None

    return await asyncio.gather(let_in(DialBack()), let_in(DialBack(other_address=True)))


async def _reaction(connection: Asking) -> list[Result | None]:
    """Ports that listen and were never used: one asked for on the connection there is, the others on new ones."""

    async def dialled(asked: Asking) -> Result | None:
        with LocalPort.open(families=(asked.local.family,)) as unused:
            unused.listen(asked.local.family)
            return await asked.dial_back(DialBack(port=unused.number, seconds=SECONDS_MAX))

    async def dialled_anew() -> Result | None:
        with contextlib.suppress(*FAILURES, PortUnavailableError):
            async with reflected(connection.server) as (_, another, _):
                return await dialled(another)
        return None

    return await asyncio.gather(dialled(connection), *(dialled_anew() for _ in range(UNUSED_PORTS - 1)))


async def _hairpin(server: Endpoint) -> tuple[YesNo, str]:
    """From one port of ours to the outside endpoint of another, and the other way round: what is turned around is
    filtered as well, and lets in only whom has been sent to."""
    try:
        async with reflected(server) as (one, _, seen_one), reflected(server) as (other, _, seen_other):
            one.listen(server.family)
            other.listen(server.family)
            dials = [_opens(one, seen_other.mapped), _opens(other, seen_one.mapped)]
            return (YesNo.YES if any(await asyncio.gather(*dials)) else YesNo.NO), ""
    except (*FAILURES, PortUnavailableError):
        return (
            YesNo.NOT_MEASURED,
            "whether the address outside is reached from inside was not measured: the server did not answer",
        )


async def _opens(port: LocalPort, remote: Endpoint) -> bool:
    with contextlib.suppress(OSError):
        async with asyncio.timeout(HAIRPIN_SECONDS):
            (await port.connect(remote)).close()
            return True
    return False
