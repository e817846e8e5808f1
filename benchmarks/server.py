"""What one server holds, carries and answers: memory for each waiting peer, the relay beside socat, pairings a second
over several nodes and one Redis.

Bounded: about two minutes as `make bench-server` runs it. Everything shares this machine's cores; the figures to quote
are memory, and the relay's ratios to socat in the same run.

    python benchmarks/server.py --output benchmarks/results/server.json
    python benchmarks/server.py --only relay --mib 2048 --runs 9
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from server_many_nodes import measure_many_nodes
from server_meeting import measure_meeting
from server_openings import measure_openings
from server_relay import measure_relay
from server_relay_many import measure_many
from server_waiting import measure_waiting

__all__: list[str] = []


def main() -> int:
    options = arguments()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 16)
    print(f"seed {seed}", flush=True)

    def meeting(folder: Path, *, kill: bool) -> dict[str, Any]:
        return measure_meeting(
            folder, nodes=options.nodes, pairs=options.pairs, rate=options.rate, seed=seed, kill=kill
        )

    parts: dict[str, Callable[[Path], dict[str, Any]]] = {
        "waiting": lambda folder: measure_waiting(folder, peers=options.peers),
        "relay": lambda folder: measure_relay(folder, mib=options.mib, runs=options.runs),
        "relay_many": lambda folder: measure_many(
            folder, pairs=options.relay_pairs, slow=options.relay_pairs // 10, seconds=options.relay_seconds
        ),
        "openings": measure_openings,
        "meeting": lambda folder: meeting(folder, kill=False),
        "meeting_node_killed": lambda folder: meeting(folder, kill=True),
        "many_nodes": lambda folder: measure_many_nodes(
            folder,
            nodes=5,
            processes=4,
            peers=options.peers_of_nodes,
            pairs=options.pairs,
            rate=options.rate,
            seed=seed,
        ),
    }
    report: dict[str, Any] = {}
    if options.only and options.output and options.output.exists():
        report = json.loads(options.output.read_text())  # the other parts stay
    report |= {
        "command": "make bench-server",
        "seed": seed,
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
    }
    for name, measure in parts.items():
        if options.only and name not in options.only.split(","):
            continue
        load = os.getloadavg()[0]
        with tempfile.TemporaryDirectory(prefix="midair-bench-") as folder:
            report[name] = {"load_before": round(load, 2), **measure(Path(folder))}
        print(json.dumps({name: report[name]}, indent=1), flush=True)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="write the report there, as JSON")
    parser.add_argument("--only", help="only this part; several with commas")
    parser.add_argument("--peers", type=int, default=15_000, help="that wait at one process; up to 19,000")
    parser.add_argument("--mib", type=int, default=1024, help="through the relay in each run")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--relay-pairs", type=int, default=500, help="at once; a tenth of them with slow readers")
    parser.add_argument("--relay-seconds", type=float, default=8)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=500, help="pairings a second")
    parser.add_argument("--peers-of-nodes", type=int, default=60_000, help="that wait at many nodes; up to 60,000")
    parser.add_argument("--seed", type=int)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
