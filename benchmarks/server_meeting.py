"""How long a pairing takes across several nodes over one Redis, while many others wait.

A pairing is all that the two sides of a transfer say at the meeting point: connecting, bind, claim, open, two messages
from each, release and close; fourteen frames of the clients. Some first sides wait from the beginning. Then at each
tick of a timetable one more first side comes, and the second side of one that waits, drawn by chance; each to a node
drawn by chance. What is told of a pairing is the time from the second side's tick until both have the other's message:
a server that falls behind shows it. Half-way one node may be killed (kill -9): its sides come back at another, and
every pair has to meet, and finish, all the same.

Nodes, Redis and the peers share the cores: the CPU of each is told.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from server_crowd import Crowd, Peer
from server_processes import many_descriptors, redis, server, usage_of

__all__ = ["Pairings", "cpu_of", "measure_meeting", "percentiles"]

PATIENCE_SECONDS = 60.0
"""How long pairs may take beyond the timetable before they are counted as lost."""
AT_ONCE = 200
FIRST_NUMBER = 1_000_000
"""Nameplates from there on: nobody else's."""


def measure_meeting(folder: Path, *, nodes: int, pairs: int, rate: float, seed: int, kill: bool) -> dict[str, Any]:
    """``pairs`` met at ``rate`` a second over ``nodes`` processes."""
    many_descriptors()
    with ExitStack() as stack:
        url, redis_pid = stack.enter_context(redis(folder))
        running = dict(stack.enter_context(server(folder, "--store", url)) for _ in range(nodes))
        pairings = Pairings(list(running), random.Random(seed), pairs=pairs, waiting=pairs // 5)
        before = cpu_of({**running, 0: redis_pid, -1: os.getpid()})
        pairings.fill()
        result = pairings.play(rate, kill=running if kill else None)
        after = cpu_of({**{port: running[port] for port in pairings.nodes}, 0: redis_pid, -1: os.getpid()})
        return {"nodes": nodes, "node_killed": kill, **result} | told_cpu(before, after, pairs)


def cpu_of(processes: dict[int, int]) -> dict[int, float]:
    """CPU seconds so far; a process is named by what it is asked with."""
    return {name: usage_of(pid).cpu_seconds for name, pid in processes.items()}


def told_cpu(before: dict[int, float], after: dict[int, float], pairs: int) -> dict[str, Any]:
    """A node that was killed is not in ``after``, and not counted."""
    used = {name: seconds - before[name] for name, seconds in after.items()}
    parts = {"redis": used.pop(0), "peers": used.pop(-1), "nodes": sum(used.values())}
    told = {f"{name}_cpu_ms_per_pairing": round(1000 * seconds / pairs, 3) for name, seconds in parts.items()}
    return told | {"node_cpu_seconds": round(parts["nodes"], 2), "redis_cpu_seconds": round(parts["redis"], 2)}


class Pairings:
    """The pairs of one run, at ``nodes``."""

    def __init__(
        self,
        nodes: list[int],
        chance: random.Random,
        *,
        pairs: int,
        waiting: int,
        number: int = FIRST_NUMBER,
        source: str = "127.0.0.1",
    ) -> None:
        """``waiting`` first sides from the beginning; nameplates from ``number`` on."""
        self.nodes = nodes
        self._number = number
        self._chance = chance
        self._crowd = Crowd(nodes, chance, source=source)
        self._pairs = pairs
        self._waiting: list[int] = []
        self._next = waiting
        self._due: dict[int, float] = {}
        self._met: dict[int, int] = {}
        self._closed = 0
        self._latencies: list[float] = []

    def fill(self) -> None:
        """The first sides that wait from the beginning are there."""
        while len(self._waiting) < self._next:
            come = range(len(self._waiting), min(len(self._waiting) + AT_ONCE, self._next))
            for number in come:
                self._first_comes(number)
            self._crowd.run(lambda: len(self._waiting) == come.stop, seconds=PATIENCE_SECONDS)  # noqa: B023

    def play(self, rate: float, *, kill: dict[int, int] | None = None) -> dict[str, Any]:
        """All pairs. ``kill``: processes by node, of which one is killed half-way. Raises: TimeoutError."""
        begin = time.monotonic() + 0.1
        for tick in range(self._pairs):
            due = begin + tick / rate
            self._crowd.at(due, partial(self._tick, due))
        if kill is not None:
            self._crowd.at(begin + self._pairs / 2 / rate, partial(self._kill, kill))
        self._crowd.run(lambda: self._closed == 2 * self._pairs, seconds=self._pairs / rate + PATIENCE_SECONDS)
        elapsed = time.monotonic() - begin
        return {
            "pairs_met": len(self._latencies),
            "rate_wanted": rate,
            "rate": round(self._pairs / elapsed, 1),
            "latency_ms": percentiles(self._latencies),
        }

    def _tick(self, due: float) -> None:
        if self._next < self._pairs:
            self._first_comes(self._next)
            self._next += 1
        if not self._waiting:
            self._crowd.later(0.01, partial(self._tick, due))  # the server is behind; what it takes counts from `due`
            return
        place = self._chance.randrange(len(self._waiting))
        self._waiting[place], self._waiting[-1] = self._waiting[-1], self._waiting[place]
        number = self._waiting.pop()
        self._due[number] = due
        Peer(
            self._crowd,
            self._number + number,
            f"b{number:x}z",
            on_met=partial(self._has_met, number),
            on_done=self._has_closed,
        )

    def _first_comes(self, number: int) -> None:
        Peer(
            self._crowd,
            self._number + number,
            f"a{number:x}z",
            on_ready=partial(self._waiting.append, number),
            on_met=partial(self._has_met, number),
            on_done=self._has_closed,
        )

    def _has_met(self, number: int) -> None:
        self._met[number] = self._met.get(number, 0) + 1
        if self._met[number] == 2:
            self._latencies.append(time.monotonic() - self._due[number])

    def _has_closed(self) -> None:
        self._closed += 1

    def _kill(self, processes: dict[int, int]) -> None:
        port = self.nodes.pop(0)
        os.kill(processes[port], signal.SIGKILL)


def percentiles(latencies: list[float]) -> dict[str, float]:
    """In milliseconds."""
    ordered = sorted(latencies)
    return {
        name: round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
    }
