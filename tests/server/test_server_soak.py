"""The short forms of `make soak-server` and of the benchmark of many relayed pairs, and what is made of the results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(command: str) -> str:
    """What one of the benchmarks says; fails with what it, and the servers it starts, said on stderr."""
    argv = [sys.executable, *command.split()]
    done = subprocess.run(argv, cwd=BENCHMARKS, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.timeout(120)
def test_no_pair_is_stuck_and_nothing_leaks_while_nodes_are_killed_and_redis_comes_back_empty() -> None:
    said = run("server_soak.py --kills 4 --redis-every 4 --kill-every 0.7 --settled-seconds 1.5 --rate 20")
    tally = json.loads(said.splitlines()[-1])
    assert tally["pairs"] > 25, said
    assert tally["relayed"] > 2, said
    assert (tally["node_kills"], tally["redis_kills"]) == (3, 1), said


@pytest.mark.timeout(120)
def test_relayed_pairs_share_fairly_and_slow_readers_slow_nobody_else() -> None:
    said = run("server.py --only relay_many --relay-pairs 80 --relay-seconds 2")
    found = json.loads(said.partition("\n")[2])["relay_many"]
    assert found["jain"] > 0.9, found
    assert found["least_and_most_of_mean"][0] > 0.4, found
    assert 20 < found["slow_kib_per_second"] < 100, found
    before, _, after = found["resident_mib"]
    assert after - before < 20, found


def test_the_plan_for_the_internet_is_worked_out_from_the_results() -> None:
    said = run("scale.py --mean-mib 10")
    assert "| transfers a day | 10,000 | 1,000,000 | 100,000,000 |" in said
    assert "| the core of one Redis |" in said
    assert "| `mean_mib` | 10 |" in said
