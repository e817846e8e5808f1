"""How long it takes to get through, with real agents and sockets on the lab's wire, 50 ms one way between the peers.

Both sides have met. Each gathers, tells the other its candidates, agrees on a moment, and races. Four times are taken,
of the slower side each: until the connection that was taken in the end was *authenticated*, and until both had *agreed*
on it, which is two one-way delays more; both from the agreed start, and from the moment when the side had both
descriptions, which is one message through the mailbox earlier. A kind of pairs is met when half of them were
authenticated in time from the descriptions on, counting every pair that was not direct as never.

    python benchmarks/reach.py --output benchmarks/results/reach.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from midair.lab import Lab
from midair.port import make_room_for
from midair.trials.real import connect_all, serving
from midair.trials.result import PairResult, SideResult

__all__: list[str] = []

DELAY = 0.05
"""Seconds one way, between the peers and through the mailbox."""
SOCKETS = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Pairs of which one thing is expected."""

    name: str
    pairs: tuple[str, ...]
    p50_at_most: float
    """Seconds."""
    at_once: int
    """Pairs that two cores play without being late."""


KINDS = (
    Kind(
        name="both keep ports and drop",
        pairs=(
            "drop x drop",
            "strict x strict",
            "firewall x drop",
            "drop>carrier x drop",
            "kernel:masquerade-drop x kernel:masquerade-drop",
        ),
        p50_at_most=0.35,
        at_once=4,
    ),
    Kind(
        name="one side answers by RST or ICMP",
        pairs=(
            "drop x rst",
            "rst x rst",
            "icmp x drop",
            "rst x icmp",
            "kernel:masquerade-reject-rst x kernel:masquerade-drop",
            "kernel:masquerade-reject-icmp x kernel:masquerade-rst",
            "kernel:openwrt x drop",
        ),
        p50_at_most=1.5,
        at_once=4,
    ),
    Kind(
        name="one side refuses crossing SYNs",
        pairs=("no-simopen x drop", "no-simopen-rst x drop", "no-simopen-rst x strict"),
        p50_at_most=1.5,
        at_once=4,
    ),
    Kind(
        name="one side counts ports or takes them from a band",
        pairs=("symmetric-sequential x drop", "drop x mobile", "symmetric-blocks x rst"),
        p50_at_most=10.0,
        at_once=2,
    ),
    Kind(
        name="one side takes any port",
        pairs=("drop x symmetric", "kernel:masquerade-fully-random x kernel:masquerade-drop"),
        p50_at_most=10.0,
        at_once=1,
    ),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tries", type=int, default=20, help="of each pair")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="kinds whose names have this in them")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    make_room_for(SOCKETS)
    kinds = [kind for kind in KINDS if arguments.only in kind.name]
    found = [measured(kind, arguments.tries, arguments.seed) for kind in kinds]
    document = {
        "command": f"python {' '.join(sys.argv)}",
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg()[0]},
        "one_way_delay_seconds": DELAY,
        "kinds": found,
    }
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 0 if all(each["met"] for each in found) else 1


def measured(kind: Kind, tries: int, seed: int) -> dict[str, Any]:
    """All of its pairs."""
    by_pair = {pair: played(pair, kind.at_once, tries, seed) for pair in kind.pairs}
    everything = [result for results in by_pair.values() for result in results]
    summary = times(everything)
    found = {
        "kind": kind.name,
        "p50_at_most": kind.p50_at_most,
        "met": summary["authenticated_from_descriptions"]["p50"] is not None
        and summary["authenticated_from_descriptions"]["p50"] <= kind.p50_at_most,
        **summary,
        "pairs": {pair: times(results) for pair, results in by_pair.items()},
    }
    print(f"{kind.name}: {found['direct']} of {found['tries']} direct, {'' if found['met'] else 'NOT '}met", flush=True)
    for name in TIMES:
        print(f"  {name.replace('_', ' ')}: p50 {found[name]['p50']} s, p95 {found[name]['p95']} s", flush=True)
    return found


def played(pair: str, at_once: int, tries: int, seed: int) -> list[PairResult]:
    """A new lab for each round, so that no NAT remembers an earlier try."""
    results: list[PairResult] = []
    while len(results) < tries:
        count = min(at_once, tries - len(results))
        with Lab([pair] * count, seed=seed + len(results)) as lab, serving(lab) as server:
            results += connect_all(lab, server, lab.pairs, mail_delay=DELAY)
    return results


TIMES: dict[str, Callable[[SideResult], float | None]] = {
    "authenticated_from_descriptions": lambda side: side.described_authenticated_seconds,
    "authenticated_from_start": lambda side: side.authenticated_seconds,
    "agreed_from_descriptions": lambda side: side.described_seconds,
    "agreed_from_start": lambda side: side.seconds,
}
"""What is measured, of one side."""


def times(results: Sequence[PairResult]) -> dict[str, Any]:
    direct = [result for result in results if result.direct]
    found: dict[str, Any] = {"tries": len(results), "direct": len(direct)}
    for name, of in TIMES.items():
        slower = [max(of(result.a) or 0.0, of(result.b) or 0.0) for result in direct]
        found[name] = percentiles(slower, len(results))
    reasons = Counter(result.a.reason or result.b.reason for result in results if not result.direct)
    return {**found, "not_direct": dict(reasons)}


def percentiles(seconds: Sequence[float], tries: int) -> dict[str, float | None]:
    """None where too few were direct: who was not is later than all who were."""
    ordered: list[float | None] = [round(each, 3) for each in sorted(seconds)]
    ordered += [None] * (tries - len(ordered))
    return {"p50": ordered[tries // 2], "p95": ordered[min(tries - 1, tries * 95 // 100)], "most": ordered[-1]}


if __name__ == "__main__":
    sys.exit(main())
