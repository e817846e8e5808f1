"""The ``midair`` command: what it takes from the command line, and how it ends.

Only click is imported here, so that ``midair --help`` answers at once; each command imports its work when it runs.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import click

from midair.cli.importing import importing
from midair.cli.lab_commands import lab
from midair.cli.options import Rate, Sectioned, check_options, congestion_options, demo_options, transfer_options
from midair.cli.serve_options import serve_options

__all__ = ["main"]

_CODE = re.compile(r"\d+-[\w-]+")
_ALIASES = {"tx": "send", "rx": "receive", "recv": "receive", "recieve": "receive", "get": "receive"}


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


@midair.command(cls=Sectioned)
@click.argument("paths", nargs=-1, type=click.Path(allow_dash=True))
@click.option("--text", metavar="TEXT", help="Send a text, to be shown and not stored; - reads it from stdin.")
@click.option("--name", metavar="NAME", help="What stdin is to be called where it becomes a file.  [default: stdin]")
@click.option("--code", metavar="CODE", envvar="MIDAIR_CODE", help="Use this code instead of a new one.")
@click.option("--limit-rate", type=Rate(), metavar="RATE", help="Bytes a second at most, such as 500K or 2M.")
@congestion_options
@transfer_options
def send(paths: tuple[str, ...], **options: Any) -> None:
    """Send files and folders; or with -, as it comes, what is written to stdin. (alias: tx)

    With no server named, one runs inside this command for as long as it lasts.
    """
    with importing():
        from midair.cli.transfer import send_command

    sys.exit(send_command(paths, **options))


@midair.command(cls=Sectioned)
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
@click.option("--verify", is_flag=True, help="Hash also what is there already, and receive anew what is not right.")
@click.option(
    "--wait",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the sender to appear.",
)
@transfer_options
def receive(code: str | None, **options: Any) -> None:
    """Receive what CODE stands for. (aliases: rx, recv, get)

    Without CODE it is taken from MIDAIR_CODE, or asked for.
    """
    with importing():
        from midair.cli.transfer import receive_command

    sys.exit(receive_command(code, **options))


@midair.command()
@serve_options
def serve(**options: Any) -> None:
    """Run a meeting point: mailbox, reflector and relay on one TCP port."""
    with importing():
        from midair.cli.serve import serve_command

    sys.exit(serve_command(**options))


@midair.command(cls=Sectioned)
@check_options
@click.option("--sockets", is_flag=True, help="Only what listening and dialling on one port this system allows.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def check(sockets: bool, **options: Any) -> None:
    """Find out what the NAT between here and the server does, and what that means."""
    with importing():
        from midair.cli.check import check_command, sockets_command

    sys.exit(sockets_command(as_json=options["as_json"]) if sockets else check_command(**options))


@midair.command()
@demo_options
def demo(as_json: bool, size: int) -> None:
    """Show the main job: through two NATs in the lab where it can run, else over loopback."""
    with importing():
        from midair.cli.demo import demo_command

    sys.exit(demo_command(as_json=as_json, mebibytes=size))


midair.add_command(lab)


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
