"""What is imported before a command answers; starting is a large part of what a small transfer takes."""

from __future__ import annotations

import subprocess
import sys

from midair import __version__


def python(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=15
    ).stdout


def test_the_version_is_said_before_anything_is_imported_for_it() -> None:
    said = python(
        "import sys; before = set(sys.modules); sys.argv = ['midair', '--version']\n"
        "from midair.cli.entry import main; main()\n"
        "print(*sorted(set(sys.modules) - before - {'__future__'}))"
    )
    assert said.splitlines() == [f"midair, version {__version__}", "midair midair.cli midair.cli.entry"]


def test_any_other_command_goes_on_to_the_rest() -> None:
    said = python("import sys; sys.argv = ['midair', 'receive', '--help']; from midair.cli.entry import main; main()")
    assert "Receive what CODE stands for" in said


def test_the_code_is_shown_before_what_comes_after_the_meeting_is_imported() -> None:
    said = python("import sys; import midair.cli.transfer, midair.session.send; print(*sys.modules)")
    late = {"midair.traversal", "midair.transfer.sender", "midair.transfer.receiver", "midair.session.receive", "rich"}
    assert late & set(said.split()) == set()
