"""What the server's benchmark runs: `midair serve`, Redis, and what a process has used."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["Usage", "many_descriptors", "redis", "server", "usage_of"]

_TICKS = os.sysconf("SC_CLK_TCK")
_SETTINGS = """listen = ["127.0.0.1:0"]
[limits]
connections = 19000
connections_per_address = 19000
mailboxes = 100000
mailboxes_per_address = 100000
mailboxes_per_address_and_day = 100000000
relay_waiting_per_address = 19000
"""


class Usage:
    """Of a process, so far."""

    def __init__(self, pid: int) -> None:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        self.user_seconds = int(fields[11]) / _TICKS
        self.system_seconds = int(fields[12]) / _TICKS
        status = Path(f"/proc/{pid}/status").read_text()
        self.resident_kib = int(status.split("VmRSS:")[1].split()[0])
        self.descriptors = len(os.listdir(f"/proc/{pid}/fd"))

    @property
    def cpu_seconds(self) -> float:
        """User and system together."""
        return self.user_seconds + self.system_seconds


usage_of = Usage


def many_descriptors() -> None:
    """As many as this process may have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def server(folder: Path, *arguments: str, wrapper: Sequence[str] = ()) -> Iterator[tuple[int, int]]:
    """A `midair serve` with room for 19,000 connections: its port and process id. ``wrapper``: what execs it."""
    settings = folder / "server.toml"
    settings.write_text(_SETTINGS)
    command = [*wrapper, sys.executable, "-m", "midair", "serve", "--config", str(settings), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield int(line.strip().rpartition(":")[2]), process.pid
        finally:
            process.kill()


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[tuple[str, int]]:
    """A Redis that keeps nothing on disk: its address and process id."""
    path = folder / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
    with subprocess.Popen([*command, "--dir", str(folder)], stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 10
            while not path.exists():
                if time.monotonic() > deadline:
                    raise TimeoutError("redis-server does not start")
                time.sleep(0.01)
            yield f"unix://{path}", process.pid
        finally:
            process.kill()
