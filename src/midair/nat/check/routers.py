"""What the routers of this host offer in each protocol that opens ports, and whether connections then arrive."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from midair.endpoint import Endpoint
from midair.nat.check.asking import FAILURES, reflected
from midair.nat.check.judge import CONNECTED, IMPOSSIBLE
from midair.nat.check.report import YesNo
from midair.nat.check.wire import DialBack
from midair.nat.mapping import Outcome, PortMapper, PortMapping, Protocol, Result
from midair.nat.mapping.outcome import Address
from midair.port import LocalPort, PortUnavailableError

__all__ = ["RouterReport", "ask_routers"]

SECONDS: Final = 3.0
"""For each protocol: what UPnP's search takes at a slow router."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterReport:
    """One protocol at one router."""

    protocol: Protocol
    gateway: Address
    offered: YesNo
    """Whether it speaks the protocol, even if it says no."""
    outcome: Outcome
    text: str = ""
    """Why not, in words."""
    external: Endpoint | None = None
    """Where it opened a port for us."""
    lets_in: YesNo = YesNo.NOT_MEASURED
    """Whether a connection to that port arrived."""
    double_nat: bool | None = None
    """Whether it is behind another NAT, as far as it shows."""


async def ask_routers(servers: Sequence[Endpoint]) -> tuple[RouterReport, ...]:
    """Asks in each protocol for a port of its own, and has the server dial it, at one endpoint a family. What is opened
    is closed again. Takes some seconds. Cancelling closes all.

    Raises: PortUnavailableError.
    """
    answers = await asyncio.gather(*(_ask(protocol, servers) for protocol in Protocol))
    return tuple(report for reports in answers for report in reports)


async def _ask(protocol: Protocol, servers: Sequence[Endpoint]) -> list[RouterReport]:
    async with PortMapper(protocols=[protocol]) as mapper:
        with LocalPort.open() as port:
            for family in port.families:
                port.listen(family)
            await mapper.open_mapping(port.number, budget=SECONDS)
            mappings, report = mapper.mappings, mapper.report
            arrived = await asyncio.gather(*(_arrives(mapping, servers) for mapping in mappings))
    reports = []
    for result in report.results:
        found = [
            (mapping, came)
            for mapping, came in zip(mappings, arrived, strict=True)
            if mapping.gateway == result.gateway
        ]
        mapping, came = found[0] if found else (None, YesNo.NOT_MEASURED)
        reports.append(_report(result, mapping, came, double_nat=report.double_nat))
    return reports


def _report(result: Result, mapping: PortMapping | None, came: YesNo, *, double_nat: bool | None) -> RouterReport:
    not_there = (Outcome.SILENT, Outcome.NOT_SPOKEN)
    return RouterReport(
        protocol=result.protocol,
        gateway=result.gateway,
        offered=YesNo.NO if result.outcome in not_there else YesNo.YES,
        outcome=result.outcome,
        text=result.text,
        external=None if mapping is None else mapping.external,
        lets_in=came,
        double_nat=double_nat if result.gateway.version == 4 else None,
    )


async def _arrives(mapping: PortMapping, servers: Sequence[Endpoint]) -> YesNo:
    """The server dials nobody but the address that asks, so that must be the one the router named."""
    server = next((each for each in servers if each.family == mapping.external.family), None)
    if server is None or mapping.external.port < 1024:
        return YesNo.NOT_MEASURED
    with contextlib.suppress(*FAILURES, PortUnavailableError):
        async with reflected(server) as (_, connection, reflection):
            if reflection.mapped.address != mapping.external.address:
                return YesNo.NOT_MEASURED
            result = await connection.dial_back(DialBack(port=mapping.external.port))
            if result is not None and result.answer != IMPOSSIBLE:
                return YesNo.YES if result.answer == CONNECTED else YesNo.NO
    return YesNo.NOT_MEASURED
