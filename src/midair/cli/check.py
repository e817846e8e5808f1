"""``midair check --sockets``: the experiment of the 2007 mail, run on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

__all__ = ["check_command"]


def check_command(*, as_json: bool) -> int:
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
