"""Nodes under load for as long as one likes, while nodes are killed and Redis comes back empty: no pair is stuck, and
neither memory nor descriptors grow.

Pairs come at a steady rate, each side to a random node, and say everything again after a lost connection, as midair's
own clients do. Some of them relay a mebibyte too. Every few seconds a random node is killed (kill -9) and another
started; now and then Redis is. At the end, when everybody has left, the nodes that have lived long enough must hold no
more than before.

    python benchmarks/server_soak.py --minutes 30
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from server_peers_raw import Peer
from server_processes import Usage, many_descriptors, redis, server, usage_of

__all__: list[str] = []

STUCK_SECONDS = 60.0
"""A pair that has not met so long after both sides have come is stuck; losing a node costs one second or two."""
GROWTH_KIB = 8 * 1024
"""What a node's memory may differ by after a minute and at the end; allocators do not give everything back."""
RELAYED_BYTES = 1 << 20


class Soak:
    """One run."""

    def __init__(self, folder: Path, stack: ExitStack, options: argparse.Namespace) -> None:
        self._folder = folder
        self._stack = stack
        self._options = options
        self._chance = random.Random(options.seed)
        self._redis_url, self._redis_pid = stack.enter_context(redis(folder))
        self.nodes: dict[int, int] = {}
        self._baselines: dict[int, Usage] = {}
        self._born: dict[int, float] = {}
        self._tally = {"pairs": 0, "relayed": 0, "node_kills": 0, "redis_kills": 0, "reconnections": 0}
        for _ in range(options.nodes):
            self._start_node()

    async def run(self) -> dict[str, int]:
        """Raises: AssertionError."""
        end = time.monotonic() + 60 * self._options.minutes
        pairs: set[asyncio.Task[None]] = set()
        disturbing = asyncio.create_task(self._disturb())
        number = 0
        while time.monotonic() < end and not disturbing.done():
            pairs.add(asyncio.create_task(self._pair(number)))
            number += 1
            for task in [task for task in pairs if task.done()]:
                pairs.discard(task)
                task.result()
            await asyncio.sleep(1 / self._options.rate)
            self._remember_baselines()
        disturbing.cancel()
        with suppress(asyncio.CancelledError):
            await disturbing
        await asyncio.gather(*pairs)
        await asyncio.sleep(3)
        self._check_growth()
        return self._tally

    def _start_node(self) -> None:
        port, pid = self._stack.enter_context(server(self._folder, "--store", self._redis_url))
        self.nodes[port] = pid
        self._born[pid] = time.monotonic()

    async def _disturb(self) -> None:
        for turn in range(1, self._options.kills + 1):
            await asyncio.sleep(self._options.kill_every)
            if turn % self._options.redis_every == 0:
                os.kill(self._redis_pid, signal.SIGKILL)
                (self._folder / "redis.sock").unlink(missing_ok=True)
                _, self._redis_pid = self._stack.enter_context(redis(self._folder))
                self._tally["redis_kills"] += 1
                continue
            # The first stays, so that something lives long enough to grow.
            port = self._chance.choice(list(self.nodes)[1:])
            os.kill(self.nodes.pop(port), signal.SIGKILL)
            self._tally["node_kills"] += 1
            await asyncio.to_thread(self._start_node)

    async def _pair(self, number: int) -> None:
        met = {"a": asyncio.Event(), "b": asyncio.Event()}
        async with asyncio.timeout(STUCK_SECONDS):
            await asyncio.gather(self._side(number, "a", "b", met), self._side(number, "b", "a", met))
        self._tally["pairs"] += 1
        if number % 10 == 0:
            async with asyncio.timeout(STUCK_SECONDS):
                await self._relay()

    async def _side(self, number: int, me: str, other: str, met: dict[str, asyncio.Event]) -> None:
        await asyncio.sleep(2 * self._chance.random())
        side, partner = f"{me}{number:x}", f"{other}{number:x}"
        while True:
            try:
                peer = await Peer.connect(self._chance.choice(list(self.nodes)), side)
                try:
                    await self._meet(peer, number, {side, partner})
                    met[me].set()
                    # Who leaves could not say it again, should it be lost before the other has heard it.
                    leaving = asyncio.create_task(met[other].wait())
                    lost = asyncio.create_task(peer.wait_lost())
                    await asyncio.wait({leaving, lost}, return_when=asyncio.FIRST_COMPLETED)
                    lost.cancel()
                    leaving.cancel()
                    if met[other].is_set():
                        with suppress(OSError):
                            peer.say({"type": "release"})
                            peer.say({"type": "close"})
                            await peer.get("closed")
                        return
                finally:
                    peer.close()
            except OSError:
                pass
            self._tally["reconnections"] += 1
            await asyncio.sleep(0.1 + 0.5 * self._chance.random())

    async def _meet(self, peer: Peer, number: int, both: set[str]) -> None:
        peer.say({"type": "claim", "nameplate": str(10_000 + number)})
        mailbox = (await peer.get("claimed"))["mailbox"]
        peer.say({"type": "open", "mailbox": mailbox})
        peer.say({"type": "add", "phase": "pake", "body": "ab" * 90})
        heard: set[str] = set()
        while heard != both:
            heard.add((await peer.get("message"))["side"])

    async def _relay(self) -> None:
        """One mebibyte from a leg at one node to a leg at another; again from the start when it breaks."""
        while True:
            token = self._chance.randbytes(32).hex()
            try:
                await asyncio.gather(self._leg(token, "a" * 16, send=True), self._leg(token, "b" * 16, send=False))
            except (OSError, EOFError):
                await asyncio.sleep(0.2)
                continue
            self._tally["relayed"] += 1
            return

    async def _leg(self, token: str, side: str, *, send: bool) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._chance.choice(list(self.nodes)))
        try:
            async with asyncio.timeout(10):
                writer.write(f"MIDAIR-RELAY/1 {token} {side}\n".encode())
                if await reader.readexactly(3) != b"OK\n":
                    raise ConnectionError("refused")
                if send:
                    writer.write(bytes(RELAYED_BYTES))
                    await writer.drain()
                    await reader.readexactly(1)
                else:
                    await reader.readexactly(RELAYED_BYTES)
                    writer.write(b"!")
                    await writer.drain()
        finally:
            writer.close()

    def _remember_baselines(self) -> None:
        for pid in self.nodes.values():
            if pid not in self._baselines and time.monotonic() - self._born[pid] > self._options.settled_seconds:
                self._baselines[pid] = usage_of(pid)

    def _check_growth(self) -> None:
        checked = 0
        for pid in self.nodes.values():
            if (before := self._baselines.get(pid)) is None:
                continue
            after = usage_of(pid)
            grown = after.resident_kib - before.resident_kib
            print(f"node {pid}: {before.resident_kib} KiB, then {after.resident_kib}; {after.descriptors} descriptors")
            assert grown < GROWTH_KIB, f"memory has grown by {grown} KiB"
            # Listener, loop, Redis, standard streams; no connection and no pipe.
            assert after.descriptors < 25, f"{after.descriptors} descriptors are open though nobody is connected"
            checked += 1
        assert checked, "no node has lived long enough"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rate", type=float, default=30, help="pairs a second")
    parser.add_argument("--kill-every", type=float, default=8, help="seconds")
    parser.add_argument("--redis-every", type=int, default=5, help="so often it is Redis that is killed, not a node")
    parser.add_argument("--kills", type=int, default=1_000_000, help="in all, and then it ends")
    parser.add_argument("--settled-seconds", type=float, default=60, help="after which a node's memory is remembered")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 16))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    many_descriptors()
    with tempfile.TemporaryDirectory(prefix="midair-soak-") as folder, ExitStack() as stack:
        print(json.dumps(asyncio.run(Soak(Path(folder), stack, options).run())))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
