"""``midair check``: what the network between here and the server does to a connection; with ``--sockets``, the
experiment of the 2007 mail, run on this machine."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from midair.cli.ending import fail
from midair.errors import MidairError, ServerUnreachableError, UsageError

if TYPE_CHECKING:
    from midair.config import ProxyURL, ServerURL
    from midair.endpoint import Family
    from midair.nat.check.survey import Survey

__all__ = ["check_command", "sockets_command"]

_PROXY_SECONDS = 10.0
"""How long a proxy may take to reach the server."""


def check_command(*, server: str | None, as_json: bool, **policies: Any) -> int:
    """Measures each IP version the server has, and says what it means. Exit code 0 when one could be measured, or when
    there is a proxy, past which nothing can be, and the server is reached through it."""
    from midair.cli.check_report import survey_as_json, survey_as_text
    from midair.cli.policies import Policies
    from midair.cli.settings import check_path, server_from
    from midair.nat.check.memory import remember

    try:
        chosen = Policies(**policies)
        url = server_from(server)
        if url is None:
            raise UsageError(
                "a NAT can only be checked with the help of a server outside",
                hint="Name one by --server, or see what this machine allows by --sockets.",
            )
        url = chosen.way_to(url)
        if url.proxy is not None:
            return _say_proxied(url, url.proxy, as_json=as_json)
        if not as_json and sys.stderr.isatty():
            click.echo("Measuring; this takes about ten seconds.", err=True)
        found = asyncio.run(_check(url, chosen.families(), ask_routers=chosen.mapping()))
        if not found.networks:
            raise ServerUnreachableError(f"{url}: {'; '.join(found.troubles)}")
    except MidairError as error:
        return fail(error)
    remember(check_path(), [(each, found.opening(each)) for each in found.networks])
    click.echo(json.dumps(survey_as_json(found)) if as_json else survey_as_text(found))
    return 0


def _say_proxied(url: ServerURL, proxy: ProxyURL, *, as_json: bool) -> int:
    """Raises: ProxyError."""
    from midair.proxy import open_tunnel

    asyncio.run(open_tunnel(proxy, url.host, url.port, timeout=_PROXY_SECONDS)).close()
    if as_json:
        click.echo(json.dumps({"networks": [], "port_mapping": None, "troubles": [], "proxy": str(proxy)}))
        return 0
    click.echo(f"The proxy at {proxy} stands between this computer and the internet, and lets through to the server.")
    click.echo("Everybody is connected with through the relay, and nobody directly.")
    return 0


async def _check(url: ServerURL, families: tuple[Family, ...], *, ask_routers: bool) -> Survey:
    """Raises: ServerUnreachableError."""
    from midair.nat.check.survey import survey
    from midair.port import ConnectFailedError, resolve

    try:
        endpoints = await resolve(url.host, url.port)
    except ConnectFailedError as error:
        raise ServerUnreachableError(f"{url} cannot be found: {error}") from error
    first = {endpoint.family: endpoint for endpoint in reversed(endpoints) if endpoint.family in families}
    if not first:
        raise ServerUnreachableError(f"{url} has no address for IPv{families[0]}")
    return await survey([first[family] for family in sorted(first)], routers=ask_routers)


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
