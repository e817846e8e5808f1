"""Whether ``midair check`` is right: every NAT kind of the lab, Linux' routers, chains, links with delay and loss, IPv6
and servers with less to measure with; all fields, several tries each with other seeds. Needs root on Linux, and nft.

    python benchmarks/check.py --output benchmarks/results/check.json

The truth is what can be found out at all (``midair.trials.nat_truth``): where that is "not measured", anything else is
wrong. In the table stands how many of the tries were right in each field, and below it what was found instead.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from midair.trials.nat_checking import Finding, check_cases
from midair.trials.nat_truth import Case, Served, all_cases, truth_of

__all__: list[str] = []

FIELDS: Final = {
    "mapping": "mapping",
    "allocation": "ports",
    "step": "step",
    "pooling": "pool",
    "filtering": "lets in",
    "reaction": "unsol.",
    "simultaneous_open": "crosses",
    "hairpin": "hairpin",
    "nats": "NATs",
    "only_web": "web",
}
Key = tuple[Case, str]


def main() -> int:
    """Exit code 1 when anything was wrong."""
    arguments = _arguments()
    cases = [case for case in all_cases() if not arguments.only or any(word in str(case) for word in arguments.only)]
    batches = list(_batches(cases, arguments.networks))
    began = time.monotonic()
    right: Counter[Key] = Counter()
    tried: Counter[Case] = Counter()
    instead: dict[Key, Counter[str]] = defaultdict(Counter)
    with ProcessPoolExecutor(arguments.labs, mp_context=get_context("spawn")) as pool:
        running = [
            (batch, pool.submit(check_cases, batch, seed=arguments.seed + number))
            for number in range(arguments.tries)
            for batch in batches
        ]
        for done, (_, future) in enumerate(running, start=1):
            for finding in future.result():
                _count(finding, right, tried, instead)
            print(f"\r{done} of {len(running)} labs", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    _print_table(cases, right, tried, instead)
    everything = sum(len(_truth(case)) * tried[case] for case in cases)
    print(f"\n{sum(right.values())} of {everything} right, in {time.monotonic() - began:.0f} s")
    if arguments.output:
        arguments.output.write_text(_as_text(_results(cases, right, tried, instead, arguments)))
    return 0 if sum(right.values()) == everything else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tries", type=int, default=10, help="of each network (10)")
    parser.add_argument("--seed", type=int, default=1, help="of the first try; the next ones count up (1)")
    parser.add_argument("--labs", type=int, default=2, help="labs at once (2)")
    parser.add_argument("--networks", type=int, default=12, help="networks in a lab (12)")
    parser.add_argument("--output", type=Path, help="where to write the results, as JSON")
    parser.add_argument("only", nargs="*", help="only networks with one of these words in their names")
    return parser.parse_args()


def _batches(cases: Sequence[Case], size: int) -> Iterator[list[Case]]:
    """Cases that can share a lab, which has one server."""
    for served in Served:
        same = iter([case for case in cases if case.served is served])
        while batch := list(islice(same, size)):
            yield batch


def _truth(case: Case) -> dict[str, Any]:
    truth = truth_of(case)
    return {"reached": False} if truth is None else truth


def _count(finding: Finding, right: Counter[Key], tried: Counter[Case], instead: dict[Key, Counter[str]]) -> None:
    case = finding.case
    tried[case] += 1
    for name in _truth(case):
        if name not in finding.wrong and "reached" not in finding.wrong:
            right[case, name] += 1
    for name, (_, found) in finding.wrong.items():
        instead[case, name][str(found)] += 1


def _print_table(
    cases: Sequence[Case], right: Counter[Key], tried: Counter[Case], instead: dict[Key, Counter[str]]
) -> None:
    width = max(len(str(case)) for case in cases) + 2
    print(" " * width + " ".join(f"{title:>8}" for title in FIELDS.values()))
    for case in cases:
        truth = _truth(case)
        if "reached" in truth:
            print(f"{case!s:{width}}{right[case, 'reached']:>6}/{tried[case]}, cannot reach the server")
            continue
        cells = [f"{right[case, name]}/{tried[case]}" if name in truth else "" for name in FIELDS]
        print(f"{case!s:{width}}" + " ".join(f"{cell:>8}" for cell in cells))
    for (case, name), found in instead.items():
        others = ", ".join(f"{value} ({times})" for value, times in found.most_common())
        print(f"wrong: {case}: {name}: {others}, instead of {_truth(case).get(name)}")


def _results(
    cases: Sequence[Case],
    right: Counter[Key],
    tried: Counter[Case],
    instead: dict[Key, Counter[str]],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    return {
        "command": "python benchmarks/check.py",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "seed": arguments.seed,
        "networks": [
            {
                "network": str(case),
                "topology": case.topology,
                "server": case.served.name.lower(),
                "family": case.family,
                "tries": tried[case],
                "fields": {
                    name: {
                        "truth": truth,
                        "right": right[case, name],
                        **({"instead": dict(instead[case, name])} if instead[case, name] else {}),
                    }
                    for name, truth in _truth(case).items()
                },
            }
            for case in cases
        ],
    }


def _as_text(results: dict[str, Any]) -> str:
    """A network a line."""
    head = json.dumps({name: value for name, value in results.items() if name != "networks"})
    networks = ",\n".join(json.dumps(each) for each in results["networks"])
    return f'{head[:-1]}, "networks": [\n{networks}\n]}}\n'


if __name__ == "__main__":
    sys.exit(main())
