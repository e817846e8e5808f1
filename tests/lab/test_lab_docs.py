"""The examples of docs/how-to/lab.md do what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from midair.lab import parse_topology

pytestmark = pytest.mark.lab

PAGE = Path(__file__).parents[2].joinpath("docs/how-to/lab.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
PROGRAMS = [text for kind, text in BLOCKS if kind == "python"]
TOPOLOGIES = re.findall(r"^\| `([^`]+ [x>] [^`]+)` \|", PAGE, flags=re.MULTILINE)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "CI": "true", "PYTEST_ADDOPTS": ""}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=18)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_work(command: str, tmp_path: Path) -> None:
    done = run(tmp_path, "sh", "-c", f"exec {command}")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    if "--capture" in command:
        assert (tmp_path / "opening.pcapng").stat().st_size > 0
    else:
        assert done.stdout


def test_the_program_works(tmp_path: Path) -> None:
    done = run(tmp_path, sys.executable, "-W", "error", "-c", PROGRAMS[0])
    assert done.returncode == 0, done.stderr
    assert "a is 10.1.0.2 and seen as ('198.51.100." in done.stdout
    assert "behind ('a.1', 'a.2')" in done.stdout
    assert "192.0.2.10" in done.stdout
    assert (tmp_path / "all.pcapng").exists()


def test_the_test_passes(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(PROGRAMS[1])
    done = run(
        tmp_path, sys.executable, "-m", "pytest", "-q", "-p", "midair.lab.pytest_plugin", "-p", "no:cacheprovider"
    )
    assert "1 passed" in done.stdout


def test_the_topologies_can_be_read() -> None:
    assert len(COMMANDS) == 4
    assert len(PROGRAMS) == 2
    assert len(TOPOLOGIES) == 8
    for text in TOPOLOGIES:
        assert str(parse_topology(text)) == text
