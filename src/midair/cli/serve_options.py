"""The options of ``midair serve``. Each can also stand in the environment, and in the configuration file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

__all__ = ["serve_options"]


def serve_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them; all default to None, so that what was not given can be told from what was."""
    options: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
        _option(
            "--config",
            metavar="FILE",
            type=click.Path(exists=True, dir_okay=False),
            help="Settings in TOML; see docs/how-to/server.md. The command line wins, then the environment.",
        ),
        _option(
            "--listen",
            multiple=True,
            metavar="HOST:PORT",
            help="Where to listen; may be given again.  [default: 0.0.0.0:7420 and [::]:7420]",
        ),
        _option(
            "--cert", type=click.Path(), metavar="FILE", help="TLS certificate chain, PEM; read again when changed."
        ),
        _option("--key", type=click.Path(), metavar="FILE", help="Its private key, PEM."),
        _option(
            "--store",
            metavar="URL",
            help="Share everything with other servers, in the Redis or Valkey at redis://HOST:PORT/0.",
        ),
        _option(
            "--node-address",
            metavar="HOST:PORT",
            help="Where the other servers reach this one.  [default: the address towards the store]",
        ),
        _option(
            "--proxied-from",
            multiple=True,
            metavar="NETWORK",
            help="Load balancers, whose connections begin with a PROXY header; may be given again.",
        ),
        _option(
            "--secret-file",
            type=click.Path(),
            metavar="FILE",
            help="For a private server: secrets, one a line, of which everybody has to know one. MIDAIR_SERVE_SECRET "
            "in the environment is one, too.",
        ),
        _option("--relay-bytes", type=click.IntRange(0), metavar="N", help="Bytes one relayed transfer may carry."),
        _option(
            "--drain-seconds", type=click.FloatRange(0), metavar="S", help="How long SIGTERM waits for relayed pairs."
        ),
        _option("--motd", metavar="TEXT", help="Shown to everybody who meets here."),
        _option("--log", type=click.Choice(["text", "json"]), help="How to log on stderr.  [default: text]"),
        click.option("--debug", is_flag=True, help="Log everything on stderr. Shows addresses."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _option(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(name, envvar="MIDAIR_SERVE_" + name.removeprefix("--").replace("-", "_").upper(), **attributes)
