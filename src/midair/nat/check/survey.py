"""The whole check: each IP version the server has, and the routers of this host."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from midair.endpoint import Endpoint
from midair.nat.check.asking import reflected
from midair.nat.check.judge import judge_nats_by_router
from midair.nat.check.measure import WEB_PORTS, measure
from midair.nat.check.report import NatReport, Opening, YesNo
from midair.nat.check.routers import RouterReport, ask_routers
from midair.port import ConnectFailedError, ConnectFailure
from midair.stun import StunError

__all__ = ["Survey", "survey"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was found."""

    networks: tuple[NatReport, ...]
    """Of each IP version that could be measured."""
    routers: tuple[RouterReport, ...] | None
    """Empty when there is none to ask, None when they were not asked."""
    troubles: tuple[str, ...]
    """Why an IP version could not be measured."""

    def opening(self, network: NatReport) -> Opening:
        """What the routers do for this IP version."""
        asked = [each for each in self.routers or () if each.gateway.version == network.family]
        if not asked:
            return Opening.NOT_MEASURED
        opened = [each for each in asked if each.external is not None]
        if any(_is_reached(each, network) for each in opened):
            return Opening.OPENED
        if opened:
            return Opening.IN_VAIN
        return Opening.REFUSED if any(each.offered is YesNo.YES for each in asked) else Opening.NOT_OFFERED


async def survey(servers: Sequence[Endpoint], *, routers: bool = True) -> Survey:
    """Measures through the server's endpoints, one for each IP version. ``routers``: ask them to open a port, too.

    Takes about ten seconds, 40 at most. Cancelling closes everything.

    Raises: PortUnavailableError.
    """
    ways = await asyncio.gather(*(_way_to(server) for server in servers))
    # Nobody else is troubled when there is no server to tell what came of it.
    reached = [way.endpoint for way in ways if isinstance(way, _Way)] if routers else []
    networks, answers = await asyncio.gather(
        asyncio.gather(*(_measured(way) for way in ways if isinstance(way, _Way))), _answers_of_routers(reached)
    )
    return Survey(
        networks=tuple(_with_routers(each, answers or ()) for each in networks if isinstance(each, NatReport)),
        routers=answers,
        troubles=tuple(each for each in (*ways, *networks) if isinstance(each, str)),
    )


@dataclass(frozen=True, slots=True)
class _Way:
    """Where the server can be asked."""

    endpoint: Endpoint
    instead_of: Endpoint | None = None
    silent: bool = False
    """Nothing came back from there: a firewall is in between. A refusal may be the server's own."""


async def _answers_of_routers(servers: Sequence[Endpoint]) -> tuple[RouterReport, ...] | None:
    return await ask_routers(servers) if servers else None


async def _way_to(server: Endpoint) -> _Way | str:
    """Or why there is none. A network whose firewall lets out to the web's ports only may reach the server at one of
    these."""
    try:
        async with reflected(server):
            return _Way(server)
    except (OSError, StunError) as error:
        trouble = f"IPv{server.family}, because {_reason(error, server)}"
        silent = isinstance(error, TimeoutError)
        if isinstance(error, StunError) or server.port in WEB_PORTS:
            return trouble
    for port in WEB_PORTS:
        way = Endpoint(server.address, port)
        with contextlib.suppress(OSError, StunError):
            async with reflected(way):
                return _Way(way, instead_of=server, silent=silent)
    return trouble


async def _measured(way: _Way) -> NatReport | str:
    try:
        report = await measure(way.endpoint)
    except (OSError, StunError) as error:
        return f"IPv{way.endpoint.family}, because {_reason(error, way.endpoint)}"
    if way.instead_of is None:
        return report
    note = f"the server's port {way.instead_of.port} cannot be reached, but its port {way.endpoint.port} can"
    only_web = YesNo.YES if way.silent else report.only_web
    return replace(report, only_web=only_web, notes=(*report.notes, note))


def _reason(error: OSError | StunError, server: Endpoint) -> str:
    if isinstance(error, ConnectFailedError) and error.failure is ConnectFailure.UNREACHABLE and server.family == 6:
        return "this computer does not reach it"
    return str(error) or f"{server} does not answer in time"


def _is_reached(router: RouterReport, network: NatReport) -> bool:
    """As the server found, or else as it seems: a server need not dial back."""
    if router.lets_in is not YesNo.NOT_MEASURED or router.external is None or network.mapped is None:
        return router.lets_in is YesNo.YES
    return router.external.address == network.mapped.address


def _with_routers(report: NatReport, routers: Sequence[RouterReport]) -> NatReport:
    """What a router says of its own outside address tells how many NATs there are."""
    if report.family != 4 or report.mapped is None or report.nats == 0:
        return report
    names = [each.external.address for each in routers if each.gateway.version == 4 and each.external is not None]
    nats = judge_nats_by_router(report.mapped, names, behind_another=any(each.double_nat for each in routers))
    if nats is None:
        return report
    return replace(report, nats=nats, notes=tuple(note for note in report.notes if "how many NATs" not in note))
