"""Everybody who stands between two hosts, so many tries each, beside what is possible there: in the simulated net, and
on the wire with real agents, sockets and Linux routers.

By default the quick matrix' pairs without Linux routers are simulated, and on the wire go all of its pairs with Linux
routers and each box of the lab's own beside ``drop``; that takes about a quarter of an hour on two cores at rest.
``--wire all`` takes an hour and a half, ``--full`` with it some hours.

A cell is below its ceiling when so few of its tries were direct that chance explains it less than once in a hundred.
``short`` lists every cell that is more than two points below in plain counting, and how often chance does that.

    python benchmarks/matrix.py --output benchmarks/results/matrix.json
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from midair.lab.catalogue import BOXES
from midair.lab.matrix import Cell, CellResult, Verdict, cells_like, full_cells, play_matrix, quick_cells, summarise
from midair.lab.matrix.verdict import TOLERANCE
from midair.trials.contender import MidairContender

__all__: list[str] = []

SKEWS = (0.0,)
"""Midair's two sides agree on a moment, so a cell's skew makes no difference."""
LEFT_OUT = ("reasoning", "contender", "mode", "with_luck", "seed", "evidence", "skew")
PROGRESS_SECONDS = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--full", action="store_true", help="all pairs of all boxes, not the quick matrix")
    parser.add_argument("--wire", choices=("some", "all", "none"), default="some", help="what is played on the wire")
    parser.add_argument("--no-simulation", action="store_true")
    parser.add_argument("--cells", action="append", default=[], help="only pairs like this; can be said again")
    parser.add_argument("--evidence", type=Path, help="a folder for what is kept of surprising tries")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    cells = full_cells(SKEWS) if arguments.full else quick_cells(SKEWS)
    if arguments.cells:
        cells = tuple(cell for pattern in arguments.cells for cell in cells_like(pattern, SKEWS))
    runs = []
    if not arguments.no_simulation:
        runs.append(run([cell for cell in cells if not cell.is_kernel], arguments, simulated=True))
    if arguments.wire != "none":
        runs.append(
            run(cells if arguments.wire == "all" or arguments.cells else on_the_wire(cells), arguments, simulated=False)
        )
    document = {
        "command": f"python {' '.join(sys.argv)}",
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "load": round(os.getloadavg()[0], 1)},
        "runs": runs,
    }
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
    for each in runs:
        show(each)
    return 0 if all(each["summary"]["below"] == each["summary"]["above"] == 0 for each in runs) else 1


def on_the_wire(cells: Sequence[Cell]) -> list[Cell]:
    """All with Linux routers, and each of the lab's own boxes once."""
    own = [cell for name in BOXES for cell in cells_like(f"{name} x drop", SKEWS)]
    return list(dict.fromkeys([*(cell for cell in cells if cell.is_kernel), *own]))


def run(cells: Sequence[Cell], arguments: argparse.Namespace, *, simulated: bool) -> dict[str, Any]:
    began = time.monotonic()
    results = list(
        told(
            play_matrix(
                cells,
                MidairContender(),
                tries=arguments.tries,
                seed=arguments.seed,
                simulated=simulated,
                evidence=None if arguments.evidence is None else lambda: arguments.evidence,
            ),
            len(cells),
        )
    )
    return {
        "summary": asdict(summarise(results, seconds=time.monotonic() - began)),
        "short": [short for result in results if (short := shortfall(result))],
        "without_a_reason": [result.topology for result in results if unexplained(result)],
        "cells": [
            {name: value for name, value in asdict(result).items() if name not in LEFT_OUT} for result in results
        ],
    }


def told(results: Iterator[CellResult], count: int) -> Iterator[CellResult]:
    """Says on stderr how far it is."""
    due = time.monotonic() + PROGRESS_SECONDS
    for number, result in enumerate(results, start=1):
        yield result
        if time.monotonic() >= due or number == count:
            due = time.monotonic() + PROGRESS_SECONDS
            print(f"{number} of {count} cells", file=sys.stderr)


def shortfall(result: CellResult) -> dict[str, Any] | None:
    """More than two points below the ceiling."""
    if result.successes >= (result.ceiling - TOLERANCE) * result.tries:
        return None
    chance = math.fsum(
        math.comb(result.tries, each) * result.ceiling**each * (1 - result.ceiling) ** (result.tries - each)
        for each in range(result.successes + 1)
    )
    return {
        "topology": result.topology,
        "direct": f"{result.successes} of {result.tries}",
        "ceiling": result.ceiling,
        "by_chance": round(chance, 4),
        "reasons": result.reasons,
    }


def unexplained(result: CellResult) -> bool:
    """A failure has no reason."""
    return sum(result.reasons.values()) < result.tries - result.successes


def show(run: dict[str, Any]) -> None:
    summary = run["summary"]
    print(
        f"{summary['mode']}: {summary['cells']} cells, {summary['tries']} tries, {summary['successes']} direct, "
        f"{summary['relayed']} relayed; {summary['meets']} cells meet their ceiling, {summary['unreachable']} cannot "
        f"be reached, {summary['below']} below, {summary['above']} above; {summary['seconds']:.0f} s"
    )
    for each in run["cells"]:
        if not Verdict(each["verdict"]).is_fine:
            print(f"  {each['verdict']}: {each['topology']}: {each['successes']} of {each['tries']}", each["reasons"])
    for each in run["short"]:
        print(f"  short: {each['topology']}: {each['direct']}, ceiling {each['ceiling']}, chance {each['by_chance']}")
    for each in run["without_a_reason"]:
        print(f"  a failure without a reason: {each}")


if __name__ == "__main__":
    sys.exit(main())
