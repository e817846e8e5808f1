"""How long a pairing takes across several nodes over one Redis, while many others wait.

First sides connect and wait, each at a random node. Then second sides arrive at a fixed rate, each at a random node and
in random order. A pairing lasts from the second side's connecting until both have the other's message; the timetable is
fixed in advance, so a server that falls behind shows it. Half-way one node may be killed (kill -9): its waiting sides
come back at another, and every pair has to meet all the same.

All of it shares the cores with the nodes and with Redis: the figures are a lower bound of what the nodes do.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from server_peers_raw import Peer
from server_processes import many_descriptors, redis, server, usage_of

__all__ = ["measure_meeting"]

_AT_ONCE = 100
_PAKE = "ab" * 90
_PATIENCE_SECONDS = 60.0


def measure_meeting(folder: Path, *, nodes: int, pairs: int, rate: float, seed: int, kill: bool) -> dict[str, Any]:
    """``pairs`` met at ``rate`` a second over ``nodes`` processes."""
    many_descriptors()
    with ExitStack() as stack:
        url, redis_pid = stack.enter_context(redis(folder))
        running = [stack.enter_context(server(folder, "--store", url)) for _ in range(nodes)]
        world = _World(random.Random(seed), dict(running))
        before = [usage_of(pid).cpu_seconds for _, pid in running]
        redis_before = usage_of(redis_pid).cpu_seconds
        result = asyncio.run(world.play(pairs, rate, kill=kill))
        alive = [(pid, cpu) for (port, pid), cpu in zip(running, before, strict=True) if port in world.nodes]
        cpu = sum(usage_of(pid).cpu_seconds - cpu for pid, cpu in alive)
        result |= {
            "nodes": nodes,
            "node_killed": kill,
            "node_cpu_seconds": round(cpu, 2),
            "redis_cpu_seconds": round(usage_of(redis_pid).cpu_seconds - redis_before, 2),
        }
        return result


class _World:
    def __init__(self, chance: random.Random, nodes: dict[int, int]) -> None:
        self._chance = chance
        self.nodes = nodes
        self._latencies: list[float] = []

    async def play(self, pairs: int, rate: float, *, kill: bool) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        firsts: list[asyncio.Task[None]] = []
        for start in range(0, pairs, _AT_ONCE):
            ready = [loop.create_future() for _ in range(start, min(start + _AT_ONCE, pairs))]
            firsts += [asyncio.create_task(self._first(start + n, future)) for n, future in enumerate(ready)]
            await asyncio.gather(*ready)
        order = list(range(pairs))
        self._chance.shuffle(order)
        begin = loop.time()
        seconds = []
        for position, number in enumerate(order):
            due = begin + position / rate
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if kill and position == pairs // 2:
                port = next(iter(self.nodes))
                os.kill(self.nodes.pop(port), signal.SIGKILL)
            seconds.append(asyncio.create_task(self._second(number, due)))
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await asyncio.gather(*seconds, *firsts)
        elapsed = loop.time() - begin
        latencies = sorted(self._latencies)
        return {
            "pairs_met": len(latencies),
            "rate_wanted": rate,
            "rate": round(pairs / elapsed, 1),
            "latency_ms": {
                name: round(1000 * latencies[min(len(latencies) - 1, int(share * len(latencies)))], 1)
                for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
            },
        }

    async def _first(self, number: int, ready: asyncio.Future[None]) -> None:
        side = f"a{number:x}"
        while True:
            try:
                peer = await self._open(number, side)
                if not ready.done():
                    ready.set_result(None)
                await peer.get("message", other_than=side)
            except OSError:
                await asyncio.sleep(0.05 + 0.2 * self._chance.random())
                continue
            peer.close()
            return

    async def _second(self, number: int, due: float) -> None:
        side = f"b{number:x}"
        while True:
            try:
                peer = await self._open(number, side)
                # Its own, come back, shows that the server has it; the other's, that they have met.
                heard: set[str] = set()
                while heard != {side, f"a{number:x}"}:
                    heard.add((await peer.get("message"))["side"])
            except OSError:
                await asyncio.sleep(0.05 + 0.2 * self._chance.random())
                continue
            self._latencies.append(asyncio.get_running_loop().time() - due)
            with suppress(OSError):  # the node may die now: they have met
                peer.say({"type": "release"})
                peer.say({"type": "close"})
                await peer.get("closed")
            peer.close()
            return

    async def _open(self, number: int, side: str) -> Peer:
        peer = await Peer.connect(self._chance.choice(list(self.nodes)), side)
        peer.say({"type": "claim", "nameplate": str(10_000 + number)})
        mailbox = (await peer.get("claimed"))["mailbox"]
        peer.say({"type": "open", "mailbox": mailbox})
        peer.say({"type": "add", "phase": "pake", "body": _PAKE})
        return peer
