"""How long a lab takes to come up and to go, for one pair and for many.

    python benchmarks/lab_setup.py [--pairs 1 100] [--topology "drop x rst"] [--rounds 5] [--output FILE]

The first round is not counted. Seconds are wall clock, medians; on the last line everything as JSON. Between two rounds
is a pause, in which the kernel takes apart the namespaces of the one before.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

from midair.lab import Lab, available, parse_topology

__all__: list[str] = []

_PAUSE_SECONDS = 0.04
"""For each pair."""


def measure(topology: str, pairs: int) -> dict[str, float]:
    """Seconds for each step of one lab."""
    topologies = [parse_topology(topology)] * pairs
    start = time.perf_counter()
    lab = Lab(topologies)
    drawn = time.perf_counter()
    with lab:
        up = time.perf_counter()
    return {"draw": drawn - start, "up": up - drawn, "down": time.perf_counter() - up}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--topology", default="drop x rst")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if lack := available(kernel="kernel:" in options.topology):
        sys.exit(lack)
    results = []
    for pairs in options.pairs:
        rounds = []
        for _ in range(options.rounds + 1):
            rounds.append(measure(options.topology, pairs))
            time.sleep(0.5 + _PAUSE_SECONDS * pairs)
        del rounds[0]
        medians = {step: round(statistics.median(one[step] for one in rounds), 4) for step in rounds[0]}
        slowest = round(max(one["draw"] + one["up"] for one in rounds), 4)
        results.append({"pairs": pairs, **medians, "slowest_draw_and_up": slowest})
        print(
            f"{pairs:4} pairs of {options.topology}: drawn in {medians['draw']:.3f} s, up in {medians['up']:.3f} s,"
            f" down in {medians['down']:.3f} s; the slowest was up after {slowest:.3f} s"
        )
    report = {
        "topology": options.topology,
        "rounds": options.rounds,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "results": results,
    }
    print(json.dumps(report))
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
