"""Many nodes over one Redis, with as many peers waiting as fit four processes: the same pairings as in
``server_meeting.py``, at ease and while a node is killed, and all who wait are there in the end.

A process may have 20,000 descriptors, and one address 28,000 connections to one port: so the peers that wait are in
processes of their own, each with an address of 127.0.0.0/8.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import time
import urllib.request
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from server_crowd import Crowd
from server_meeting import FIRST_NUMBER, Pairings, cpu_of, told_cpu
from server_processes import many_descriptors, redis, server, usage_of

__all__ = ["measure_many_nodes"]

FILL_SECONDS = 240.0
BACK_SECONDS = (0.5, 10.0)
"""How soon those who only wait come back when their node is gone."""
RETURN_SECONDS = 60.0
"""How long all of them may take."""
LOOK_SECONDS = 0.1


def measure_many_nodes(
    folder: Path, *, nodes: int, peers: int, processes: int, pairs: int, rate: float, seed: int
) -> dict[str, Any]:
    """``peers`` in ``processes`` wait at ``nodes`` while ``pairs`` meet, twice."""
    many_descriptors()
    with ExitStack() as stack:
        url, redis_pid = stack.enter_context(redis(folder))
        running = dict(stack.enter_context(server(folder, "--store", url)) for _ in range(nodes))
        ports = list(running)
        empty = {port: usage_of(pid).resident_kib for port, pid in running.items()}
        crowds = [stack.enter_context(_Waiting(ports, peers // processes, number, seed)) for number in range(processes)]
        started = time.perf_counter()
        for crowd in crowds:
            crowd.wait_filled()
        seconds = time.perf_counter() - started
        resident = sum(usage_of(pid).resident_kib - empty[port] for port, pid in running.items())
        told: dict[str, Any] = {
            "nodes": nodes,
            "peers_waiting": _metric(ports, "midair_waiting"),
            "kib_per_peer": round(resident / peers, 2),
            "redis_mib": round(usage_of(redis_pid).resident_kib / 1024, 1),
            "arrivals_per_second": round(peers / seconds),
        }
        for name, kill in (("at_ease", False), ("node_killed", True)):
            number = FIRST_NUMBER + kill * 1_000_000
            pairings = Pairings(ports, random.Random(seed), pairs=pairs, waiting=pairs // 5, number=number)
            before = cpu_of({**running, 0: redis_pid, -1: os.getpid()})
            pairings.fill()
            played = pairings.play(rate, kill=running if kill else None)
            after = cpu_of({**{port: running[port] for port in ports}, 0: redis_pid, -1: os.getpid()})
            told[name] = played | told_cpu(before, after, pairs)
        started = time.perf_counter()
        while (waiting := sum(crowd.waiting() for crowd in crowds)) < peers:
            if time.perf_counter() > started + RETURN_SECONDS:
                break
            time.sleep(1)
        told["node_killed"] |= {
            "peers_waiting_in_the_end": waiting,
            "as_the_nodes_say": _metric(ports, "midair_waiting"),
        }
        return told


def _metric(ports: list[int], name: str) -> int:
    """Of all nodes together."""
    total = 0.0
    for port in ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            match = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
            assert match is not None
            total += float(match[1])
    return int(total)


class _Waiting:
    """A process with ``peers`` that wait; a context manager that ends it."""

    def __init__(self, ports: list[int], peers: int, number: int, seed: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_wait, args=(list(ports), peers, number, seed, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def wait_filled(self) -> None:
        if not self._pipe.poll(FILL_SECONDS):
            raise TimeoutError(f"the peers do not all come within {FILL_SECONDS:g} s")
        self._pipe.recv()

    def waiting(self) -> int:
        """How many are connected, with their message in the mailbox."""
        self._pipe.send("waiting")
        return int(self._pipe.recv())

    def __enter__(self) -> _Waiting:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.join()


def _wait(ports: list[int], peers: int, number: int, seed: int, pipe: Connection) -> None:
    many_descriptors()
    crowd = Crowd(ports, random.Random(seed + number), source=f"127.0.1.{number + 1}", back_seconds=BACK_SECONDS)
    start = 10_000_000 * (number + 1)
    crowd.fill(range(start, start + peers))
    pipe.send("filled")

    def look() -> None:
        if pipe.poll():
            pipe.recv()
            pipe.send(crowd.waiting)
        crowd.later(LOOK_SECONDS, look)

    look()
    crowd.run(lambda: False, seconds=600)
