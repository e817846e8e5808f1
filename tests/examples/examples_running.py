"""The examples as a person runs them, here or in a host of the lab."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from support import Command, Spawner, spawn, wait_until

__all__ = ["example", "said", "until_direct"]

_EXAMPLES = Path(__file__).parents[2] / "examples"


@contextlib.contextmanager
def example(name: str, *arguments: str, spawner: Spawner = spawn) -> Iterator[Command]:
    """Runs it; killed at the end if it still runs. It can be typed to."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MIDAIR_")}
    process = spawner(
        [sys.executable, str(_EXAMPLES / name), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**kept, "PYTHONWARNINGS": "error"},
    )
    command = Command(process)
    try:
        yield command
    finally:
        command.close()


def until_direct(command: Command) -> str:
    """Waits until it has told of a direct path; gives that line."""

    def told() -> list[str]:
        return [line for line in command.lines if line.startswith("connected: direct with ")]

    wait_until(lambda: bool(told()) or command.process.poll() is not None, "a direct path")
    assert told(), (command.lines, command.errors)
    return told()[0]


def said(command: Command) -> list[str]:
    """What it printed besides its paths."""
    return [line for line in command.lines if not line.startswith("connected: ")]
