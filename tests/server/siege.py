"""A server under siege: hostile clients without end, and in between honest ones who want what they always want.

The server is a process of its own, so that what it uses can be read from /proc; the hostile are another, so that their
work keeps no honest client. The server must not log an exception, must hold no more when the siege is over than before
it, and must serve the honest all along.

    python tests/server/siege.py --minutes 10 --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trustme

sys.path.insert(0, str(Path(__file__).parent.parent))

from hostile import Attack, any_attack

from midair.config import ServerURL
from midair.relay import open_leg
from midair.rendezvous import meet_as_receiver, meet_as_sender
from midair.stun.client import request_binding
from support import Command, midair

__all__ = ["Outcome", "besiege"]

LIMITS = """
[limits]
first_bytes_seconds = 1
mailbox_idle_seconds = 1
mailboxes_per_address = 5
messages_per_mailbox = 20
connection_idle_seconds = 3
stun_idle_seconds = 1
relay_wait_seconds = 2
relay_idle_seconds = 2
"""
"""Short, so that what a siege leaves is seen to go."""
BALANCER = "127.9.9.9"
LEFT_SECONDS = 15.0
"""How long the server may take to let go of the last of them."""
PAYLOAD_BYTES = 256 << 10
HONEST_SECONDS = 15.0
"""What one honest round may take at most, before it counts as not served."""
MEDIAN_SECONDS = 2.0
ATTACK_SECONDS = 3.0
GROWTH_KIB = 24 << 10
"""What the server's memory may differ by after a warm-up and at the end; allocators do not give everything back."""


@dataclass(slots=True)
class Outcome:
    """What became of it. ``descriptors`` and ``kib`` are the server's: before, and when all had left."""

    seed: int
    attacks: Counter[str] = field(default_factory=Counter)
    quiet_seconds: list[float] = field(default_factory=list)
    """What honest rounds took before the siege."""
    honest_seconds: list[float] = field(default_factory=list)
    """And during it."""
    descriptors: tuple[int, int] = (0, 0)
    resident_kib: tuple[int, int] = (0, 0)
    open_connections: float = 0
    refusals: dict[str, float] = field(default_factory=dict)
    logged: str = ""
    """What the server said on stderr."""

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.attacks.total()} attacks; {len(self.honest_seconds)} honest rounds, median"
            f" {statistics.median(self.honest_seconds):.3f} s, longest {max(self.honest_seconds):.3f} s"
            f" (quiet: longest {max(self.quiet_seconds):.3f} s);"
            f" descriptors {self.descriptors[0]} then {self.descriptors[1]},"
            f" resident {self.resident_kib[0]} KiB then {self.resident_kib[1]};"
            f" refused {sum(self.refusals.values()):.0f} for {len(self.refusals)} reasons"
        )


async def besiege(seed: int, seconds: float, *, attackers: int = 60) -> Outcome:
    """``attackers`` at once for ``seconds``, after a quarter of that to warm up. Raises: OSError, TimeoutError when an
    honest client is not served.
    """
    outcome = Outcome(seed=seed)
    with _server() as (url, command), _telling(seed):
        pid = command.process.pid
        honest = _Honest(url)
        outcome.quiet_seconds = [await honest.round() for _ in range(3)]
        await _withstand(honest, seed, seconds / 4, attackers)
        before = await honest.left_alone(pid)
        outcome.honest_seconds, outcome.attacks = await _withstand(honest, seed + 1, seconds, attackers)
        after = await honest.left_alone(pid, descriptors=before[0])
        outcome.descriptors, outcome.resident_kib = (before[0], after[0]), (before[1], after[1])
        outcome.open_connections, outcome.refusals = await honest.counts()
        assert command.process.poll() is None, "the server has ended"
        outcome.logged = command.errors
    return outcome


async def _withstand(honest: _Honest, seed: int, seconds: float, attackers: int) -> tuple[list[float], Counter[str]]:
    """What honest rounds took, and what there was of attacks."""
    command = [sys.executable, __file__, "--attack", str(honest.port), "--seed", str(seed)]
    command += ["--minutes", str(seconds / 60), "--attackers", str(attackers)]
    hostile = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    took = []
    try:
        said = asyncio.create_task(hostile.communicate())
        while not said.done():
            took.append(await honest.round())
        assert hostile.returncode == 0
        return took, Counter(json.loads((await said)[0]))
    finally:
        if hostile.returncode is None:
            hostile.kill()
            await hostile.wait()


@contextmanager
def _telling(seed: int) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise


@contextmanager
def _server() -> Iterator[tuple[ServerURL, Command]]:
    with tempfile.TemporaryDirectory(prefix="midair-siege-") as folder:
        settings, certificate = Path(folder, "server.toml"), Path(folder, "certificate.pem")
        certificate.write_bytes(trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.bytes())
        settings.write_text(f'cert = "{certificate}"\nproxied_from = ["{BALANCER}"]\n{LIMITS}')
        with midair("serve", "--listen", "127.0.0.1:0", "--config", settings) as command:
            port = int(command.line().rpartition(":")[2])
            yield ServerURL(secure=False, host="127.0.0.1", port=port), command


class _Honest:
    def __init__(self, url: ServerURL) -> None:
        self._url = url
        self.port = url.port

    async def round(self) -> float:
        """Two meet, relay some bytes both ways, and one asks for its endpoint; how long it took."""
        started = time.monotonic()
        async with asyncio.timeout(HONEST_SECONDS):
            codes: asyncio.Queue[str] = asyncio.Queue()
            sending = asyncio.create_task(meet_as_sender(self._url, app_versions={}, on_code=codes.put_nowait))
            meetings = await asyncio.gather(
                sending, meet_as_receiver(self._url, await codes.get(), app_versions={}, wait=HONEST_SECONDS)
            )
            assert meetings[0].key == meetings[1].key
            await asyncio.gather(*[meeting.close() for meeting in meetings])
            await self._relay()
            async with _connected("127.0.0.1", self.port) as sock:
                await request_binding(sock, os.urandom(12))
        return time.monotonic() - started

    async def _relay(self) -> None:
        loop = asyncio.get_running_loop()
        token = os.urandom(32)
        one, other = await asyncio.gather(
            *[open_leg(self._url, token, side * 8, timeout=HONEST_SECONDS) for side in (b"a", b"b")]
        )
        with one, other:
            payload = os.urandom(PAYLOAD_BYTES)
            for source, target in ((one, other), (other, one)):
                sending = asyncio.create_task(loop.sock_sendall(source, payload))
                received = b""
                while len(received) < PAYLOAD_BYTES and (more := await loop.sock_recv(target, 1 << 18)):
                    received += more
                await sending
                assert received == payload

    async def left_alone(self, pid: int, *, descriptors: int = 0) -> tuple[int, int]:
        """Descriptors and resident KiB of the server when it holds nobody but who asks it, and no more ``descriptors``
        than so many, or after a while.
        """
        deadline = time.monotonic() + LEFT_SECONDS
        while (await self.counts())[0] > 0 or _usage(pid)[0] > descriptors > 0:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.1)
        return _usage(pid)

    async def counts(self) -> tuple[float, dict[str, float]]:
        """Mailboxes, and open connections beside the one that asks; and the refusals by reason."""
        async with _connected("127.0.0.1", self.port) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            text = (await _read_to_the_end(sock)).decode()
        assert " 200 OK" in text, text[:200]
        held = re.findall(r"^midair_(?:open_connections\{.*\}|mailboxes|waiting) (\S+)$", text, re.MULTILINE)
        refusals = re.findall(r'^midair_refusals_total\{reason="(.*)"\} (\S+)$', text, re.MULTILINE)
        return sum(map(float, held)) - 1, {reason: float(count) for reason, count in refusals}


class _Hostile:
    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._chance = random.Random(seed)
        self.attacks: Counter[str] = Counter()

    async def run(self, seconds: float, attackers: int) -> None:
        end = time.monotonic() + seconds
        await asyncio.gather(*[self._attack_until(end) for _ in range(attackers)])

    async def _attack_until(self, end: float) -> None:
        while time.monotonic() < end:
            name, attack = any_attack(self._chance)
            self.attacks[name] += 1
            # From anywhere, and many from one place, which is over its share now and then.
            place = self._chance.choice((66, 66, self._chance.randrange(1, 255)))
            with suppress(OSError):  # TimeoutError is one
                async with _connected(BALANCER if attack.proxied else f"127.1.0.{place}", self._port) as sock:
                    await self._play(sock, attack)

    async def _play(self, sock: socket.socket, attack: Attack) -> None:
        loop = asyncio.get_running_loop()
        reading = asyncio.create_task(_read_to_the_end(sock)) if attack.reads else None
        try:
            async with asyncio.timeout(ATTACK_SECONDS):
                for step in attack.steps:
                    if isinstance(step, bytes):
                        await loop.sock_sendall(sock, step)
                    else:
                        await asyncio.sleep(step)
                if attack.resets:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                elif reading is not None:
                    sock.shutdown(socket.SHUT_WR)
                    await asyncio.wait([reading], timeout=0.5)
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)


@asynccontextmanager
async def _connected(source: str, port: int) -> AsyncIterator[socket.socket]:
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.bind((source, 0))
        async with asyncio.timeout(HONEST_SECONDS):
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        yield sock


async def _read_to_the_end(sock: socket.socket) -> bytes:
    """The last mebibyte of what comes."""
    data = b""
    with suppress(OSError):
        while more := await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
            data = (data + more)[-(1 << 20) :]
    return data


def _usage(pid: int) -> tuple[int, int]:
    """Descriptors and resident KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return len(os.listdir(f"/proc/{pid}/fd")), int(status.split("VmRSS:")[1].split()[0])


def check(outcome: Outcome) -> None:
    """Raises: AssertionError."""
    assert outcome.logged == "", (outcome.logged[-3000:], outcome.seed)
    assert outcome.open_connections == 0, outcome
    assert outcome.descriptors[1] <= outcome.descriptors[0], outcome
    grown = outcome.resident_kib[1] - outcome.resident_kib[0]
    assert grown < GROWTH_KIB, f"memory has grown by {grown} KiB; {outcome}"
    assert statistics.median(outcome.honest_seconds) < MEDIAN_SECONDS, outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--attackers", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 16))
    parser.add_argument("--attack", type=int, metavar="PORT", help="only that, as JSON")
    options = parser.parse_args()
    seconds = 60 * options.minutes
    if options.attack:
        hostile = _Hostile(options.attack, options.seed)
        asyncio.run(hostile.run(seconds, options.attackers))
        sys.stdout.write(json.dumps(hostile.attacks))
        return 0
    outcome = asyncio.run(besiege(options.seed, seconds, attackers=options.attackers))
    sys.stdout.write(f"{outcome}\n")
    check(outcome)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
