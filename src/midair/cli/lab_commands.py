"""``midair lab``: what it takes from the command line. Like ``main``, this imports no work before a command runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from midair.cli.importing import importing
from midair.cli.options import demo_options

__all__ = ["lab"]


@click.group()
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
    with importing():
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
    with importing():
        from midair.cli.lab import run_command

    sys.exit(run_command(topology, command, **options))


@lab.command("shell")
@click.argument("host", default="a")
@click.option("--topology", metavar="TEXT", help="Of a new lab.  [default: drop x drop]")
@_lab_options
def lab_shell(host: str, **options: Any) -> None:
    """Open a shell in a host: of the lab this shell is in, else of a new one."""
    with importing():
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
    with importing():
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
    with importing():
        from midair.cli.population import population_command

    sys.exit(population_command(mix, pairs=pairs, seed=seed, shares=shares, as_json=as_json))


@lab.command("demo")
@click.option("--nat-a", default="drop", show_default=True, help="The sender's NAT.")
@click.option("--nat-b", default="rst", show_default=True, help="The receiver's NAT.")
@click.option("--same-lan", is_flag=True, help="Both behind the same NAT, on one LAN.")
@demo_options
def lab_demo(nat_a: str, nat_b: str, same_lan: bool, as_json: bool, size: int) -> None:
    """Send a tree from behind one NAT to behind another; `midair lab kinds` lists them."""
    with importing():
        from midair.cli.demo import lab_demo_command

    sys.exit(lab_demo_command(nat_a, nat_b, same_lan=same_lan, as_json=as_json, mebibytes=size))
