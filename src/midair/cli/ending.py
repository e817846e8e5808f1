"""How a command ends: one clear line, what to do about it, an exit code."""

from __future__ import annotations

import logging
import sys

import click

from midair.errors import MidairError

__all__ = ["configure_logging", "fail", "say_error"]


def say_error(error: MidairError) -> None:
    """One line on stderr, and the hint below it."""
    click.echo(f"midair: {error.message}", err=True)
    if error.hint:
        click.echo(f"  {error.hint}", err=True)


def fail(error: MidairError) -> int:
    """Says the error; returns its exit code."""
    say_error(error)
    return error.exit_code


def configure_logging(*, debug: bool) -> None:
    """Warnings on stderr; with ``debug`` everything, addresses included. Only a program configures logging."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(asctime)s %(name)s %(levelname)s %(message)s" if debug else "midair: %(message)s",
    )
    if debug:
        # The WebSocket library logs frames, and with them what a server has no need to see twice.
        logging.getLogger("websockets").setLevel(logging.INFO)
