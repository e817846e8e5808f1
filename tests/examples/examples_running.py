"""The examples as a person runs them, here or in a host of the lab."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from support import Command, Spawner, spawn

__all__ = ["example"]

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
