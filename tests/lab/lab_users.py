"""Commands as an ordinary user, whom root can be, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import midair

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


def python_of_nobody() -> str:
    """A Python of our version that an ordinary user may run: ours may lie in root's home."""
    version = sys.version_info[:2]
    probe = f"import os, sys; sys.exit(sys.version_info[:2] != {version} or not os.access(sys.executable, os.X_OK))"
    for candidate in (sys.executable, f"/usr/bin/python3.{version[1]}", f"/usr/local/bin/python3.{version[1]}"):
        if subprocess.run([*AS_NOBODY, candidate, "-c", probe], capture_output=True, cwd="/").returncode == 0:
            return candidate
    pytest.skip("no Python of our version here that an ordinary user may run")


def run_as_nobody(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python, with midair and what it needs to be imported."""
    packages = (Path(midair.__file__).parents[1], Path(pytest.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": ":".join(map(str, packages)), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [*AS_NOBODY, python_of_nobody(), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", timeout=15)
