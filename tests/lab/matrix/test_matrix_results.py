"""Counting, and what is written of it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from matrix_samples import EVEN, SAMPLES, cell, direct, failed, result

from midair.lab.matrix import Attempt, Outcome, Verdict, read_results, summarise
from midair.lab.matrix.files import write_files
from midair.lab.matrix.layout import Look, lay_out, look_of
from midair.lab.matrix.result import cell_result, result_line, summary_line
from midair.lab.matrix.table import table

SUMMARY = summarise(SAMPLES, seconds=1.26)


def test_a_cell_counts_outcomes_times_and_reasons() -> None:
    times = [0.1, 0.4, 0.2, 0.3]
    counted = result("drop x rst", [*map(direct, times), failed("lockstep"), failed("lockstep"), failed("silence")])
    assert (counted.tries, counted.successes, counted.relayed) == (7, 4, 0)
    assert (counted.p50, counted.p95) == (0.3, 0.4)
    assert counted.how == {"connect/accept": 4}
    assert counted.reasons == {"lockstep": 2, "silence": 1}
    assert counted.syns == round((4 * 2 + 3 * 20) / 7, 1)
    assert counted.verdict == Verdict.BELOW


def test_what_is_relayed_is_not_direct() -> None:
    counted = result("drop x rst", [Attempt(outcome=Outcome.RELAYED, seconds=0.5)])
    assert (counted.successes, counted.relayed, counted.p50) == (0, 1, None)


def test_a_result_tells_what_it_was_of() -> None:
    counted = cell_result(
        cell("drop x rst", 0.1), [direct()], EVEN, contender="me", mode="simulated", seed=3, evidence="there"
    )
    assert counted.name == "drop x rst @ 100 ms"
    values = json.loads(result_line(counted))
    assert values == {"type": "cell", **asdict(counted)}
    assert (values["technique"], values["ceiling"], values["seed"]) == ("port coverage", 0.5, 3)


def test_the_summary_adds_up() -> None:
    assert SUMMARY.cells == len(SAMPLES) == SUMMARY.meets + SUMMARY.below + SUMMARY.above + SUMMARY.unreachable
    assert (SUMMARY.below, SUMMARY.above, SUMMARY.unreachable) == (1, 1, 1)
    assert SUMMARY.tries == sum(each.tries for each in SAMPLES)
    assert not SUMMARY.is_fine
    assert summarise(SAMPLES[:9], seconds=0).is_fine


def test_a_file_of_results_is_read_as_it_was_written() -> None:
    lines = [*map(result_line, SAMPLES), summary_line(SUMMARY)]
    assert read_results(lines) == (SAMPLES, SUMMARY)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "has cells and ends with a summary"),
        (["{}"], "line 1 is not a result"),
        (["[]"], "line 1 is not a result"),
        (["nonsense"], "line 1 is not a result"),
        ([result_line(SAMPLES[0])], "has cells and ends with a summary"),
        ([result_line(SAMPLES[0]), '{"type": "summary"}'], "line 2 is not a result"),
    ],
)
def test_what_is_no_file_of_results_is_refused(lines: list[str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_results(lines)


def test_every_look_is_in_the_samples() -> None:
    assert {look_of(each) for each in SAMPLES} == set(Look)


def test_sides_that_are_all_paired_make_a_square_and_each_result_has_one_place() -> None:
    together, later = lay_out(SAMPLES)
    (block,) = together.blocks
    assert block.sides == ("drop", "icmp", "strict", "restricted")
    assert block.cells["icmp", "drop"] is block.cells["drop", "icmp"] is SAMPLES[1]
    assert [each.topology for each in together.alone] == ["symmetric x symmetric", "drop x rst"]
    assert (later.blocks, len(later.alone)) == ((), 2)
    assert later.title == "The second side starts 100 ms after the first"


def test_the_table_shows_the_square_the_others_what_is_wrong_and_the_sums() -> None:
    lines = table(SAMPLES, SUMMARY).splitlines()
    assert "   1  drop        +  +  +  +" in lines
    assert "   4  restricted  +  +  +  %" in lines
    assert "  . symmetric x symmetric" in lines
    assert "! drop x rst @ 0 ms: 0 of 1, ceiling 100 % by simultaneous open" in lines
    assert "    1 x lockstep" in lines
    assert "    evidence: /tmp/<evidence> & more" in lines
    assert lines[-1] == "11 meet their ceiling, 1 cannot be reached, 1 below, 1 above; 1 s, seed 7"


def test_evidence_is_named_from_the_folder_the_results_are_in_when_it_is_there(tmp_path: Path) -> None:
    here = replace(SAMPLES[0], evidence=str(tmp_path / "evidence" / "drop_x_drop_0ms"))
    write_files(tmp_path, [here, SAMPLES[-1]], summarise([here, SAMPLES[-1]], seconds=1))
    with open(tmp_path / "results.jsonl", encoding="utf-8") as lines:
        results, _ = read_results(lines)
    assert [each.evidence for each in results] == ["evidence/drop_x_drop_0ms", "/tmp/<evidence> & more"]
