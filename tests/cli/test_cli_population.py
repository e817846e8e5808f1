"""``midair lab population``."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from midair.lab.catalogue import parse_topology
from midair.lab.population import MIXES, Mix

pytestmark = pytest.mark.timeout(60)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "midair", "lab", "population", *arguments], capture_output=True, text=True, timeout=50
    )


@pytest.mark.parametrize("mix", MIXES.values(), ids=lambda mix: mix.name)
def test_the_shares_of_a_mix_are_whole_and_each_has_a_source(mix: Mix) -> None:
    assert sum(each.percent for each in mix.classes) == pytest.approx(100)
    for each in mix.classes:
        assert each.source
        assert str(parse_topology(f"{each.side} x none")) == f"{each.side} x none"


def test_a_population_is_played_by_both_techniques_on_the_same_pairs() -> None:
    ended = run("home-2005", "--pairs", "200", "--seed", "7", "--json")
    assert ended.returncode == 0, ended.stderr
    (line,) = ended.stdout.splitlines()
    results = json.loads(line)["results"]
    for technique in ("midair", "plain simultaneous open"):
        assert results[technique]["pairs"] == sum(results[technique]["endings"].values()) == 200
    direct = {name: result["endings"]["direct"] for name, result in results.items()}
    assert direct["midair"] >= 180
    assert direct["midair"] > direct["plain simultaneous open"]
    assert results["midair"]["endings"].get("failed", 0) == 0


def test_the_same_seed_gives_the_same_table() -> None:
    first, second = (run("mobile", "--pairs", "50", "--seed", "3") for _ in range(2))
    assert first.returncode == 0
    assert first.stdout == second.stdout
    assert "plain simultaneous open" in first.stdout


def test_the_shares_are_shown_with_their_sources() -> None:
    ended = run("--shares")
    assert ended.returncode == 0
    for mix in MIXES.values():
        assert mix.title in ended.stdout
    assert "Ford, Srisuresh, Kegel 2005" in ended.stdout


def test_a_mix_that_is_not_there_is_explained() -> None:
    ended = run("home-1995")
    assert ended.returncode == 2
    assert "home-2005" in ended.stderr
