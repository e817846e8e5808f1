"""``midair lab matrix``, as people and scripts meet it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from lab_users import run_as_nobody
from matrix_samples import SAMPLES

from midair.lab.matrix import summarise
from midair.lab.matrix.files import write_files

if TYPE_CHECKING:
    from pathlib import Path


def matrix(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "midair", "lab", "matrix", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_pattern_is_played_in_the_simulated_net_and_shown_as_a_table() -> None:
    done = matrix("--simulated", "--cells", "drop x *rst", "--skew", "0")
    assert (done.returncode, done.stderr) == (0, "midair: 3 cells have Linux routers, which cannot be simulated\n")
    assert "  + drop x rst  150 ms\n" in done.stdout
    assert "  . drop x no-simopen-rst\n" in done.stdout
    assert "0 below, 0 above" in done.stdout.splitlines()[-1]


def test_with_json_there_is_a_line_for_each_cell_and_one_for_all() -> None:
    done = matrix("--simulated", "--cells", "rst x symmetric*", "--tries", "2", "--seed", "5", "--json")
    *cells, summary = map(json.loads, done.stdout.splitlines())
    assert {each["type"] for each in cells} == {"cell"}
    assert {each["skew"] for each in cells} == {0.0, 0.1}
    assert all(each["tries"] == 2 and each["seed"] == 5 for each in cells)
    assert (summary["type"], summary["cells"], summary["tries"]) == ("summary", len(cells), 2 * len(cells))


def test_results_and_pictures_go_to_a_folder_and_can_be_shown_again(tmp_path: Path) -> None:
    done = matrix("--simulated", "--cells", "drop x rst", "--output", tmp_path / "there")
    assert {each.name for each in (tmp_path / "there").iterdir()} == {"results.jsonl", "matrix.svg", "matrix.html"}
    again = matrix("--from", tmp_path / "there" / "results.jsonl")
    assert (again.returncode, again.stdout) == (0, done.stdout)


def test_a_cell_below_its_ceiling_is_shown_with_its_reasons_and_the_exit_code_is_1(tmp_path: Path) -> None:
    write_files(tmp_path, SAMPLES, summarise(SAMPLES, seconds=1))
    done = matrix("--from", tmp_path / "results.jsonl")
    assert done.returncode == 1
    assert "! drop x rst @ 0 ms: 0 of 1, ceiling 100 % by simultaneous open" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("--cells", "nonsense"), 2, "no cell of the full matrix is like 'nonsense'"),
        (("--simulated", "--cells", "kernel:cone x kernel:cone"), 2, "no cell is left"),
        (("--from", "/nonexistent/results.jsonl"), 13, "/nonexistent/results.jsonl: No such file or directory"),
        (("--from", __file__), 2, "line 1 is not a result of the matrix"),
        (("--tries", "0"), 2, "Invalid value for '--tries'"),
    ],
)
def test_what_cannot_be_done_is_said_without_a_traceback(arguments: tuple[str, ...], code: int, complaint: str) -> None:
    done = matrix(*arguments)
    assert done.returncode == code
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.lab
def test_an_ordinary_user_plays_on_the_wire_too() -> None:
    done = run_as_nobody("-m", "midair", "lab", "matrix", "--cells", "drop x drop", "--skew", "0", "--json")
    assert done.returncode == 0, done.stderr
    cell, _ = map(json.loads, done.stdout.splitlines())
    assert (cell["mode"], cell["successes"], cell["how"]) == ("wire", 1, {"connect/connect": 1})
