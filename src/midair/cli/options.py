"""Options that several commands share. Only click is imported here."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import click

__all__ = ["Rate", "Sectioned", "check_options", "congestion_options", "demo_options", "transfer_options"]


class Rate(click.ParamType[float]):
    """Bytes a second, as curl takes them: 500K, 1.5M, 2G."""

    name = "rate"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)([KMGkmg]?)", str(value))
        rate = float(match[1]) * 1024 ** " KMG".index(match[2].upper() or " ") if match else 0.0
        if rate < 1:
            self.fail(f"{value!r} is not a rate such as 500K or 2M (bytes a second)", param, ctx)
        return rate


class Sectioned(click.Command):
    """A command whose help lists the options about the connection under a heading of their own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], _CONNECTION: []}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)) is not None:
                sections[_CONNECTION if isinstance(parameter, _OfConnection) else "Options"].append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


_CONNECTION = "Connection"


class _OfConnection(click.Option):
    """One of these."""


def transfer_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Of ``send`` and ``receive``."""
    own = [
        click.option(
            "--hash/--no-hash",
            "hashed",
            default=True,
            help="Whether files are hashed as they cross (BLAKE3), if the other side wants it too. Without, what "
            "arrives is as safe on its way, but has no hash to be compared.  [default: they are]",
        ),
        click.option(
            "--rejoin",
            type=click.FloatRange(0),
            metavar="SECONDS",
            help="How long to wait for the other side, if lost.",
        ),
        click.option("--json", "as_json", is_flag=True, help="One event a line, as JSON, on stdout."),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing but what was asked for."),
        click.option("--debug", is_flag=True, help="Log everything on stderr. Shows addresses."),
    ]
    return _all_of([*own, _server, *_paths, *_families, _port, _portmap, _proxy], command)


def congestion_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Of ``send``: what counts for whoever sends the content."""
    own: list[_Option] = [
        click.option(
            "--compress/--no-compress",
            default=None,
            help="Whether content may be compressed on its way (zstd), where the path is slow enough and the content "
            "gets smaller.  [default: it may]",
        ),
        click.option(
            "--background/--no-background",
            default=None,
            help="Give way to all other traffic: fast where the line is free, next to nothing where it is not.",
        ),
        click.option(
            "--cc",
            metavar="NAME",
            help="The congestion control (TCP_CONGESTION), of those the system has.  [default: the system's; bbr in "
            "the place of cubic or reno where it allows that]",
        ),
    ]
    return _all_of(own, command)


def check_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Of ``check``, beside its own."""
    return _all_of([_server, *_families, _portmap, _proxy], command)


def demo_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Of the two demonstrations."""
    own = [
        click.option("--json", "as_json", is_flag=True, help="Only the JSON line at the end."),
        click.option("--size", type=click.IntRange(1), default=256, show_default=True, help="MiB of the large file."),
    ]
    return _all_of(own, command)


_Option = Callable[[Callable[..., Any]], Callable[..., Any]]

_server: _Option = click.option(
    "--server",
    metavar="URL",
    envvar="MIDAIR_SERVER",
    cls=_OfConnection,
    help="The meeting point, as ws://HOST:PORT or wss://...",
)

# What follows is text or None here: the environment and the configuration file may say it instead, and
# ``midair.cli.policies`` reads all three in the same way.
_paths: list[_Option] = [
    click.option(
        "--direct-only",
        "--no-relay",
        "direct_only",
        is_flag=True,
        cls=_OfConnection,
        help="Never the server's relay: without a direct connection, fail and say why.",
    ),
    click.option(
        "--relay-only",
        is_flag=True,
        cls=_OfConnection,
        help="Only the server's relay: the other side is not dialled, and not told this computer's addresses.",
    ),
    click.option(
        "--path",
        type=click.Choice(["auto", "direct", "relay"]),
        cls=_OfConnection,
        help="The same in a word; auto is both, direct where that can be had.  [default: auto]",
    ),
]
_families: list[_Option] = [
    click.option("-4", "--ipv4", "ipv4", is_flag=True, cls=_OfConnection, help="IPv4 only, for what is direct."),
    click.option("-6", "--ipv6", "ipv6", is_flag=True, cls=_OfConnection, help="IPv6 only, for what is direct."),
]
_port: _Option = click.option(
    "--port",
    metavar="N[-M]",
    cls=_OfConnection,
    help="The local TCP port to listen and dial on; of a range, the first that is free.  [default: any]",
)
_portmap: _Option = click.option(
    "--portmap/--no-portmap",
    default=None,
    cls=_OfConnection,
    help="Ask the home router for a port, by PCP, NAT-PMP or UPnP.  [default: ask]",
)
_proxy: _Option = click.option(
    "--proxy",
    metavar="URL",
    cls=_OfConnection,
    help="Go out through http://HOST:PORT or socks5://HOST:PORT, which excludes direct connections; 'none' for no "
    "proxy.  [default: the environment's MIDAIR_PROXY, else https_proxy, HTTPS_PROXY, all_proxy or ALL_PROXY, unless "
    "no_proxy or NO_PROXY names the server]",
)


def _all_of(options: Sequence[_Option], command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(options):
        command = option(command)
    return command
