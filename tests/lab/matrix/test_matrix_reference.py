"""The page of supported NATs in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest
from matrix_samples import SAMPLES

from midair.lab import DESCRIPTIONS
from midair.lab.matrix import read_results, summarise
from midair.lab.matrix.reference import _names, reference_page

ROOT = Path(__file__).parents[3]


@pytest.mark.timeout(60)
def test_the_committed_page_is_what_the_command_makes_of_the_committed_results() -> None:
    with open(ROOT / "benchmarks/results/lab-matrix.jsonl", encoding="utf-8") as lines:
        results, summary = read_results(lines)
    made = reference_page(results, summary)
    assert (ROOT / "docs/reference/supported-nats.md").read_text("utf-8") == made
    for name, description in DESCRIPTIONS.items():
        assert f"| `{name}` | {description} |" in made


@pytest.mark.parametrize(
    ("topology", "names"),
    [
        ("none x drop", {"none", "drop"}),
        ("(drop,opening=7.0 & none) x kernel:cone>carrier", {"drop", "none", "kernel:cone", "carrier"}),
        ("(drop + rst) > firewall>carrier with ipv6 a.delay=0.1", {"drop", "rst", "firewall", "carrier"}),
    ],
)
def test_a_box_is_found_in_every_cell_it_is_in_whatever_its_knobs(topology: str, names: set[str]) -> None:
    assert _names(topology) == names


@pytest.mark.timeout(60)
def test_the_page_says_when_not_all_is_as_computed() -> None:
    page = reference_page(SAMPLES, summarise(SAMPLES, seconds=1))
    assert "1 cells are below their ceiling, 1 above." in page
    row = next(line for line in page.splitlines() if line.startswith("| `restricted` |"))
    assert row.endswith("| 7 of 8 |")
