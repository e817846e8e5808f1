"""A Redis of the tests' own, on a Unix socket, that keeps nothing on disk unless told to."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["RedisProcess"]


class RedisProcess:
    """A running redis-server; a context manager."""

    def __init__(self, folder: Path, *, persistent: bool = False) -> None:
        self._socket = folder / "redis.sock"
        self.url = f"unix://{self._socket}"
        durability = ("--appendonly", "yes", "--appendfsync", "always") if persistent else ("--appendonly", "no")
        self._argv = ["redis-server", "--port", "0", "--unixsocket", str(self._socket), "--save", "", *durability]
        self._argv += ["--dir", str(folder), "--logfile", str(folder / "redis.log")]
        self.start()

    def start(self) -> None:
        """Again, after :meth:`kill`."""
        self._process = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while b"PONG" not in self.say("PING"):
            assert self._process.poll() is None, "redis-server has ended"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.005)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def say(self, command: str) -> bytes:
        """What it answers first; nothing when nobody is there."""
        with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
            sock.settimeout(5)
            sock.connect(str(self._socket))
            sock.sendall(command.encode() + b"\r\n")
            return sock.recv(1 << 16)
        return b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
