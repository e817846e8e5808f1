"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

def test_makes_labs(lab):
    one = lab("drop x rst", delay=0)
    other = lab(["none x none"] * 2)
    assert one.a.run(["getent", "hosts", "b"]).stdout.split()[0] == one.b.outside
    assert len(other.pairs) == 2

@pytest.mark.lab
def test_marked():
    pass

def test_needs_no_lab():
    pass
"""

FORBID = """
import midair.lab.pytest_plugin
midair.lab.pytest_plugin.available = lambda kernel=False: "there is no lab here"
"""


def run_pytest(folder: Path, *options: str, ci: str = "") -> str:
    """The last line of what it says, and its lines about what was skipped or failed."""
    (folder / "test_theirs.py").write_text(TESTS)
    environment = {**os.environ, "CI": ci, "PYTEST_ADDOPTS": "", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-ra", "--strict-markers", "-p", "midair.lab.pytest_plugin"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", *options, str(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=15,
    )
    return done.stdout


@pytest.mark.lab
def test_the_fixture_makes_labs(tmp_path: Path) -> None:
    assert "3 passed" in run_pytest(tmp_path)


def test_without_a_lab_its_tests_are_skipped_and_say_why(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(FORBID)
    said = run_pytest(tmp_path)
    assert "1 passed, 2 skipped" in said
    assert "there is no lab here" in said


@pytest.mark.parametrize(("option", "ci"), [((), "true"), (("--lab-required",), "")])
def test_where_the_lab_is_required_they_fail_instead(tmp_path: Path, option: tuple[str, ...], ci: str) -> None:
    (tmp_path / "conftest.py").write_text(FORBID)
    said = run_pytest(tmp_path, *option, ci=ci)
    assert "1 failed, 1 passed, 1 error" in said
    assert "there is no lab here" in said
