"""``midair check``: what the network between here and the server does to a connection; with ``--sockets``, the
experiment of the 2007 mail, run on this machine."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from midair.cli.ending import fail
from midair.errors import MidairError, ServerUnreachableError, UsageError

if TYPE_CHECKING:
    from midair.config import ServerURL
    from midair.nat.check.report import NatReport
    from midair.nat.mapping import MappingReport

__all__ = ["check_command", "sockets_command"]

_MAPPING_SECONDS = 1.0
"""How long routers are asked for a port."""


def check_command(*, server: str | None, as_json: bool) -> int:
    """Measures each IP version the server has, and says what it means. Exit code 0 when one could be measured."""
    from midair.cli.settings import server_from

    try:
        url = server_from(server)
        if url is None:
            raise UsageError(
                "a NAT can only be checked with the help of a server outside",
                hint="Name one by --server, or see what this machine allows by --sockets.",
            )
        reports, routers, troubles = asyncio.run(_check(url))
        if not reports:
            raise ServerUnreachableError(f"{url}: {'; '.join(troubles)}")
    except MidairError as error:
        return fail(error)
    if as_json:
        click.echo(json.dumps(_as_json(reports, routers)))
    else:
        for report in reports:
            _show(report, routers)
        _show_routers(routers)
    return 0


async def _check(url: ServerURL) -> tuple[list[NatReport], MappingReport, list[str]]:
    from midair.nat.check.measure import measure
    from midair.nat.mapping import PortMapper
    from midair.port import ConnectFailedError, LocalPort, resolve
    from midair.stun import StunError

    try:
        endpoints = await resolve(url.host, url.port)
    except ConnectFailedError as error:
        raise ServerUnreachableError(f"{url} cannot be found: {error}") from error
    first = {endpoint.family: endpoint for endpoint in reversed(endpoints)}

    async def ask_routers() -> MappingReport:
        async with PortMapper() as mapper:
            with LocalPort.open() as port:
                await mapper.open_mapping(port.number, budget=_MAPPING_SECONDS)
            return mapper.report

    asked = [asyncio.create_task(measure(first[family])) for family in sorted(first)]
    routers = await ask_routers()
    results = await asyncio.gather(*asked, return_exceptions=True)
    reports, troubles = [], []
    for family, result in zip(sorted(first), results, strict=True):
        if isinstance(result, (OSError, StunError)):
            troubles.append(f"IPv{family}: {str(result) or 'no answer in time'}")
        elif isinstance(result, BaseException):
            raise result
        else:
            reports.append(result)
    return reports, routers, troubles


def _show(report: NatReport, routers: MappingReport) -> None:
    from midair.nat.check.advice import help_for, meaning_of
    from midair.nat.check.report import Allocation, Mapping

    allocation = report.allocation.value
    if report.allocation is Allocation.SEQUENTIAL:
        allocation += f", {report.step:+d} each time"
    if report.allocation is Allocation.BAND:
        allocation += f", about {report.band[0]} to {report.band[1]}"
    rows = [
        ("from here", str(report.local)),
        ("from outside", str(report.mapped)),
        ("mapping", report.mapping.value),
        *([] if report.mapping is Mapping.NONE else [("ports", allocation), ("hairpin", report.hairpin.value)]),
        ("lets in", report.filtering.value),
        ("unsolicited SYN", report.reaction.value),
        ("crossing SYNs pass", report.simultaneous_open.value),
    ]
    click.echo(f"IPv{report.family}")
    for name, value in rows:
        click.echo(f"  {name:20}{value}")
    for note in report.notes:
        click.echo(f"  ({note})")
    help_text = help_for(report, port_mapping=_offered(routers), double_nat=routers.double_nat)
    click.echo()
    for sentence in (*meaning_of(report), help_text):
        if sentence:
            click.echo(f"  {sentence}")
    click.echo()


def _show_routers(routers: MappingReport) -> None:
    if not routers.results:
        click.echo("No router was found to ask for a port.")
        return
    click.echo("The router, asked for a port:")
    for each in routers.results:
        click.echo(f"  {each.protocol.value:10}{each.outcome.value}{f': {each.text}' if each.text else ''}")
    if routers.double_nat:
        click.echo("  It is behind another NAT.")


def _offered(routers: MappingReport) -> list[str]:
    return sorted(protocol.value for protocol in routers.offered)


def _as_json(reports: list[NatReport], routers: MappingReport) -> dict[str, Any]:
    from midair.nat.check.advice import help_for, meaning_of

    found = []
    for report in reports:
        fields = asdict(report) | {"local": str(report.local), "mapped": str(report.mapped)}
        fields["meaning"] = " ".join(meaning_of(report))
        fields["help"] = help_for(report, port_mapping=_offered(routers), double_nat=routers.double_nat)
        found.append(fields)
    return {
        "networks": found,
        "port_mapping": [
            {"protocol": each.protocol.value, "outcome": each.outcome.value, "text": each.text}
            for each in routers.results
        ],
        "double_nat": routers.double_nat,
    }


def sockets_command(*, as_json: bool) -> int:
    """Prints the table; exit code 0 when one port can listen and dial here, 1 when it cannot."""
    from midair.port import probe_strategy, socket_table

    rows = socket_table()
    strategy = probe_strategy().value
    if as_json:
        click.echo(json.dumps({"rows": [asdict(row) for row in rows], "strategy": strategy}))
        return 0
    click.echo("One TCP port that both listens and dials: what this system allows.\n")
    header = ("SO_REUSEADDR", "SO_REUSEPORT", "order", "bind", "listen", "connect", "2nd connect, same peer")
    lines = [header]
    lines += [
        (_yes(row.reuseaddr), _yes(row.reuseport), row.order, row.bind, row.listen, row.connect, row.second_connect)
        for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    click.echo(f"\nmidair uses here: {strategy}")
    return 0


def _yes(value: bool) -> str:
    return "yes" if value else "no"
