"""How many punches a second the simulated net plays: the plain puncher, two hosts, their NATs, 50 ms between them.

One play is everything from the two hosts' question to the server until both have heard each other, with NATs, links and
hosts made anew for it. Figures are of one process each, all cores busy at once, as CPU time and as plays a second.

    python benchmarks/lab_simulation.py --plays 2000
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor

from midair.lab.catalogue import parse_topology
from midair.lab.plan import draw
from midair.lab.puncher import play

__all__: list[str] = []

BY_CONNECTION = "filtering=connection-dependent"
CELLS = (
    ("drop x drop", 0.0),
    ("drop x drop", 0.1),
    ("symmetric x full-cone", 0.0),
    ("symmetric x drop", 0.0),
    (f"rst,{BY_CONNECTION} x rst,{BY_CONNECTION}", 0.1),
)
"""Topologies and skews; the last two fail, after 3.5 simulated seconds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plays", type=int, default=1000, help="of each topology and process")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    report = []
    with ProcessPoolExecutor(options.processes) as pool:
        for topology, skew in CELLS:
            began = time.perf_counter()
            jobs = [pool.submit(measure, topology, skew, options.plays, seed) for seed in range(options.processes)]
            microseconds, through = zip(*(job.result() for job in jobs), strict=True)
            seconds = time.perf_counter() - began
            report.append(
                {
                    "topology": topology,
                    "skew": skew,
                    "through": sum(through) / (options.plays * options.processes),
                    "cpu_microseconds": round(sum(microseconds) / len(microseconds)),
                    "plays_a_second": round(options.plays * options.processes / seconds),
                }
            )
    machine = {"processes": options.processes, "python": platform.python_version(), "load": os.getloadavg()[0]}
    print(json.dumps({"machine": machine, "cells": report}, indent=2))


def measure(topology: str, skew: float, plays: int, seed: int) -> tuple[float, int]:
    """CPU time of one play, and how many got through."""
    blueprint = draw([parse_topology(topology)])
    began = time.process_time()
    through = sum(
        play(blueprint, skew=skew, seed=seed * plays + number, explain=False).through for number in range(plays)
    )
    return (time.process_time() - began) / plays * 1e6, through


if __name__ == "__main__":
    main()
