"""The ``midair`` command: what it takes from the command line, and how it ends.

Only click is imported here, so that ``midair --help`` answers at once; each command imports its work when it runs.
"""

from __future__ import annotations

import contextlib
import gc
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

__all__ = ["main"]

_CODE = re.compile(r"\d+-[\w-]+")
_ALIASES = {"tx": "send", "rx": "receive", "recv": "receive", "recieve": "receive", "get": "receive"}


class _Rate(click.ParamType[float]):
    """Bytes a second, as curl takes them: 500K, 1.5M, 2G."""

    name = "rate"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)([KMGkmg]?)", str(value))
        rate = float(match[1]) * 1024 ** " KMG".index(match[2].upper() or " ") if match else 0.0
        if rate < 1:
            self.fail(f"{value!r} is not a rate such as 500K or 2M (bytes a second)", param, ctx)
        return rate


class _Commands(click.Group):
    """A group with aliases, in which a code alone means ``receive CODE``."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        first = args[0]
        if first in _ALIASES:
            args = [_ALIASES[first], *args[1:]]
        elif _CODE.fullmatch(first):
            args = ["receive", *args]
        return super().resolve_command(ctx, args)


@contextlib.contextmanager
def _importing() -> Iterator[None]:
    """For a command's imports: what they make lives as long as the program, so nothing is garbage to be looked for."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _transfer_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.option(
            "--server", metavar="URL", envvar="MIDAIR_SERVER", help="The meeting point, as ws://HOST:PORT or wss://..."
        ),
        click.option(
            "--path",
            "policy",
            type=click.Choice(["auto", "direct", "relay"]),
            default="auto",
            show_default=True,
            help="What connections may be used.",
        ),
        click.option(
            "--port", type=click.IntRange(0, 65535), default=0, help="The local TCP port to listen and dial on."
        ),
        click.option("--rejoin", type=click.FloatRange(0), metavar="SECONDS", help="How long to wait for a lost peer."),
        click.option("--json", "as_json", is_flag=True, help="One event a line, as JSON, on stdout."),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing but what was asked for."),
        click.option("--debug", is_flag=True, help="Log everything on stderr. Shows addresses."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`midair CODE` alone receives. Exit codes: 0 means verified and stored; see docs/reference/exit-codes.md.",
)
@click.version_option(package_name="midair", prog_name="midair")
def midair() -> None:
    """Send files straight from one computer to another over TCP, through the NATs in between.

    \b
    midair send FILE...       shows a code
    midair receive CODE       gets what it stands for
    midair serve              runs a meeting point
    """


@midair.command()
@click.argument("paths", nargs=-1, type=click.Path(allow_dash=True))
@click.option("--text", metavar="TEXT", help="Send a text, to be shown and not stored; - reads it from stdin.")
@click.option("--name", metavar="NAME", help="What stdin is to be called where it becomes a file.  [default: stdin]")
@click.option("--code", metavar="CODE", envvar="MIDAIR_CODE", help="Use this code instead of a new one.")
@click.option("--limit-rate", type=_Rate(), metavar="RATE", help="Bytes a second at most, such as 500K or 2M.")
@_transfer_options
def send(paths: tuple[str, ...], **options: Any) -> None:
    """Send files and folders; or with -, as it comes, what is written to stdin. (alias: tx)

    With no server named, one runs inside this command for as long as it lasts.
    """
    with _importing():
        from midair.cli.transfer import send_command

    sys.exit(send_command(paths, **options))


@midair.command()
@click.argument("code", required=False)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    default=".",
    help="The folder to put it in; with -, one file or stream goes to stdout.",
    type=click.Path(allow_dash=True),
)
@click.option("-y", "--yes", is_flag=True, help="Accept without asking.")
@click.option("--overwrite", "existing", flag_value="overwrite", help="Replace what is there and differs.")
@click.option("--rename", "existing", flag_value="rename", help="Keep it, and receive the new one as NAME-1.EXT.")
@click.option("--skip", "--no-clobber", "existing", flag_value="skip", help="Keep it, without receiving the new one.")
@click.option(
    "--wait",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    help="Seconds to wait for the sender to appear.",
)
@_transfer_options
def receive(code: str | None, **options: Any) -> None:
    """Receive what CODE stands for. (aliases: rx, recv, get)

    Without CODE it is taken from MIDAIR_CODE, or asked for.
    """
    with _importing():
        from midair.cli.transfer import receive_command

    sys.exit(receive_command(code, **options))


@midair.command()
@click.option(
    "--listen",
    multiple=True,
    metavar="HOST:PORT",
    help="Where to listen; may be given again.  [default: 0.0.0.0:7420 and [::]:7420]",
)
@click.option("--cert", type=click.Path(exists=True, dir_okay=False), help="TLS certificate chain, PEM.")
@click.option("--key", type=click.Path(exists=True, dir_okay=False), help="Its private key, PEM.")
@click.option("--relay-bytes", type=click.IntRange(0), metavar="N", help="Bytes one relayed transfer may carry.")
@click.option("--debug", is_flag=True, help="Log everything on stderr. Shows addresses.")
def serve(**options: Any) -> None:
    """Run a meeting point: mailbox, reflector and relay on one TCP port."""
    with _importing():
        from midair.cli.serve import serve_command

    sys.exit(serve_command(**options))


@midair.command()
@click.option(
    "--server", metavar="URL", envvar="MIDAIR_SERVER", help="The meeting point, as ws://HOST:PORT or wss://..."
)
@click.option("--sockets", is_flag=True, help="Only what listening and dialling on one port this system allows.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def check(server: str | None, sockets: bool, as_json: bool) -> None:
    """Find out what the NAT between here and the server does, and what that means."""
    with _importing():
        from midair.cli.check import check_command, sockets_command

    sys.exit(sockets_command(as_json=as_json) if sockets else check_command(server=server, as_json=as_json))


_demo_options: list[Callable[..., Any]] = [
    click.option("--json", "as_json", is_flag=True, help="Only the JSON line at the end."),
    click.option("--size", type=click.IntRange(1), default=256, show_default=True, help="MiB of the large file."),
]


@midair.command()
@_demo_options[0]
@_demo_options[1]
def demo(as_json: bool, size: int) -> None:
    """Show the main job: through two NATs in the lab where it can run, else over loopback."""
    with _importing():
        from midair.cli.demo import demo_command

    sys.exit(demo_command(as_json=as_json, mebibytes=size))


@midair.group()
def lab() -> None:
    """A small internet on this machine: hosts, and every NAT, firewall and link there is (Linux).

    A topology is, for example, 'drop x rst', 'drop>carrier x symmetric' or '(none + none) > drop'.
    """


def _lab_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.option(
            "--delay",
            type=click.FloatRange(0),
            metavar="MS",
            help="Milliseconds one way between the two hosts.  [default: 50]",
        ),
        click.option("--vnet", is_flag=True, help="Large segments on the wire: fast, but lost and delayed as a whole."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@lab.command("kinds")
def lab_kinds() -> None:
    """List the NATs, firewalls and Linux routers."""
    with _importing():
        from midair.cli.lab import kinds_command

    sys.exit(kinds_command())


@lab.command("run")
@click.argument("topology")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--at", metavar="HOST", default="a", show_default=True, help="Where: a, b, server or proxy.")
@click.option(
    "--with", "beside", multiple=True, metavar="HOST:COMMAND", help="Run this too, in another host; may be given again."
)
@click.option(
    "--wait",
    type=click.FloatRange(0),
    default=2.0,
    show_default=True,
    help="Seconds to wait at most until one of these listens.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything random in NATs and links.")
@click.option("--capture", metavar="FILE", type=click.Path(), help="Record all packets, for Wireshark and tcpdump.")
@_lab_options
def lab_run(topology: str, command: tuple[str, ...], **options: Any) -> None:
    """Run any program in a host of a new lab, and end with its exit code.

    \b
    midair lab run 'drop x rst' --with 'server:iperf3 -s' -- iperf3 -c server
    """
    with _importing():
        from midair.cli.lab import run_command

    sys.exit(run_command(topology, command, **options))


@lab.command("shell")
@click.argument("host", default="a")
@click.option("--topology", metavar="TEXT", help="Of a new lab.  [default: drop x drop]")
@_lab_options
def lab_shell(host: str, **options: Any) -> None:
    """Open a shell in a host: of the lab this shell is in, else of a new one."""
    with _importing():
        from midair.cli.lab import shell_command

    sys.exit(shell_command(host, **options))


@lab.command("matrix")
@click.option("--quick", "extent", flag_value="quick", default="quick", help="Each box twice at least.  [default]")
@click.option("--full", "extent", flag_value="full", help="All pairs of all boxes.")
@click.option("--cells", metavar="PATTERN", help="Cells of the full matrix that are like it, or one topology.")
@click.option(
    "--contender",
    type=click.Choice(["plain", "midair"]),
    default="plain",
    show_default=True,
    help="Who plays: the plain puncher (listen and connect, again after 200 ms), or midair.",
)
@click.option(
    "--skew",
    "skews",
    type=float,
    multiple=True,
    metavar="MS",
    help="How much later the second side starts; may be given again.  [default: 0 and 100]",
)
@click.option("--simulated", is_flag=True, help="In the simulated net: needs no namespaces, has no Linux routers.")
@click.option("--tries", type=click.IntRange(1), default=1, show_default=True, help="Of each cell.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything random in NATs and links.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each cell, and one for all.")
@click.option("--output", metavar="DIR", type=click.Path(file_okay=False), help="Write results and pictures there.")
@click.option(
    "--from", "from_file", metavar="FILE", type=click.Path(dir_okay=False), help="Show results written before."
)
@click.option("--docs", metavar="FILE", type=click.Path(dir_okay=False), help="Write the page of supported NATs.")
def lab_matrix(extent: str, **options: Any) -> None:
    """Try many pairs of NATs, and compare each with what is possible there.

    Exits with 0 when every cell is within tolerance of its ceiling, else with 1. What came out otherwise than computed
    leaves packets, tables and stories in a folder.
    """
    with _importing():
        from midair.cli.matrix import matrix_command

    sys.exit(matrix_command(full=extent == "full", **options))


@lab.command("population")
@click.argument("mix", required=False, metavar="[MIX]")
@click.option("--pairs", type=click.IntRange(1), default=2000, show_default=True, help="Drawn at random.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draw, and of every pair.")
@click.option("--shares", is_flag=True, help="Only show who there is, and where the shares are from.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each mix.")
def lab_population(mix: str | None, pairs: int, seed: int, shares: bool, as_json: bool) -> None:
    """How many pairs of a whole population get through, in the simulated net.

    MIX is home-2005, ipfs-2025 or mobile; without it, all of them.
    """
    with _importing():
        from midair.cli.population import population_command

    sys.exit(population_command(mix, pairs=pairs, seed=seed, shares=shares, as_json=as_json))


@lab.command("demo")
@click.option("--nat-a", default="drop", show_default=True, help="The sender's NAT.")
@click.option("--nat-b", default="rst", show_default=True, help="The receiver's NAT.")
@click.option("--same-lan", is_flag=True, help="Both behind the same NAT, on one LAN.")
@_demo_options[0]
@_demo_options[1]
def lab_demo(nat_a: str, nat_b: str, same_lan: bool, as_json: bool, size: int) -> None:
    """Send a tree from behind one NAT to behind another; `midair lab kinds` lists them."""
    with _importing():
        from midair.cli.demo import lab_demo_command

    sys.exit(lab_demo_command(nat_a, nat_b, same_lan=same_lan, as_json=as_json, mebibytes=size))


def main() -> None:
    """The entry point. Exits with the codes of ``errors``; never with a traceback for what can be expected."""
    try:
        midair.main(standalone_mode=False)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.exceptions.Abort:
        click.echo("midair: cancelled", err=True)
        sys.exit(130)
    except KeyboardInterrupt:
        click.echo("midair: cancelled", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody left to tell.
        sys.stderr.close()
        sys.exit(1)
