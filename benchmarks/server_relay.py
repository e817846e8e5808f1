"""The relay beside socat: the same bytes from the same sender to the same receiver, through one or the other.

The sender is sendfile(2) from memory and the receiver lets the kernel drop what comes (MSG_TRUNC), so that what is
measured is mostly the relay. Three processes share the cores. CPU is the relay process's own, user and system together;
in a relay that splices, nearly all of it is the kernel moving packets.
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from server_processes import server, usage_of

__all__ = ["Connected", "carry", "dial", "measure_relay", "through_midair"]

_BLOCK = 64 << 20
Connected = tuple[socket.socket, socket.socket, int | None]
"""The sender's end, the receiver's, and the process in between."""


def measure_relay(folder: Path, *, mib: int, runs: int) -> dict[str, Any]:
    """``runs`` of ``mib`` through each, in turn."""
    with server(folder) as (port, pid):
        ways: dict[str, Callable[[], contextlib.AbstractContextManager[Connected]]] = {
            "direct": _direct,
            "midair": lambda: through_midair(port, pid),
            "socat": lambda: _through_socat(8192),
            "socat -b 262144": lambda: _through_socat(262144),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        cpu: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(runs):
            for name, way in ways.items():
                with way() as (source, target, process):
                    before = usage_of(process).cpu_seconds if process is not None else 0.0
                    seconds[name].append(carry(source, target, mib << 20))
                    cpu[name].append(usage_of(process).cpu_seconds - before if process is not None else 0.0)
    result: dict[str, Any] = {
        name: {
            "mib": mib,
            "mib_per_second": sorted(round(mib / each) for each in seconds[name]),
            "cpu_seconds_per_gib": sorted(round(each * 1024 / mib, 3) for each in cpu[name]),
        }
        for name in ways
    }
    for name in ("socat", "socat -b 262144"):
        result[name]["midair_throughput_ratio"] = round(
            statistics.median(seconds[name]) / statistics.median(seconds["midair"]), 2
        )
        result[name]["midair_cpu_ratio"] = round(statistics.median(cpu["midair"]) / statistics.median(cpu[name]), 2)
    return result


def carry(source: socket.socket, target: socket.socket, count: int) -> float:
    """Seconds until ``count`` bytes have come."""
    with open(os.memfd_create("block"), "wb") as block:
        block.truncate(_BLOCK)
        child = os.fork()
        if child == 0:
            try:
                left = count
                while left > 0:
                    left -= os.sendfile(source.fileno(), block.fileno(), 0, min(left, _BLOCK))
            finally:
                os._exit(0)
        started = time.perf_counter()
        buffer = bytearray(1 << 20)
        got = 0
        while got < count:
            more = target.recv_into(buffer, 0, socket.MSG_TRUNC)
            if not more:
                raise ConnectionError("the relay has ended it")
            got += more
        elapsed = time.perf_counter() - started
        os.waitpid(child, 0)
    return elapsed


@contextlib.contextmanager
def _direct() -> Iterator[Connected]:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as one:
        other, _ = listener.accept()
        with other:
            yield one, other, None


@contextlib.contextmanager
def through_midair(port: int, pid: int) -> Iterator[Connected]:
    """A pair of legs, joined."""
    token = os.urandom(32).hex()
    legs = []
    with contextlib.ExitStack() as stack:
        for side in ("a" * 16, "b" * 16):
            leg = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            leg.sendall(f"MIDAIR-RELAY/1 {token} {side}\n".encode())
            legs.append(leg)
        for leg in legs:
            assert leg.recv(3, socket.MSG_WAITALL) == b"OK\n"
        yield legs[0], legs[1], pid


@contextlib.contextmanager
def _through_socat(block: int) -> Iterator[Connected]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        near = f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr"
        far = f"TCP:127.0.0.1:{listener.getsockname()[1]}"
        with subprocess.Popen(["socat", "-b", str(block), near, far]) as process, contextlib.ExitStack() as stack:
            stack.callback(process.kill)
            one = stack.enter_context(dial(port))
            other = stack.enter_context(listener.accept()[0])
            yield one, other, process.pid


def dial(port: int) -> socket.socket:
    """A connection to who may not listen yet."""
    deadline = time.monotonic() + 5
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
