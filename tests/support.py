"""The real command line as a child process, for tests that want to see what a person or a script sees."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

__all__ = ["DEADLINE", "Command", "Spawner", "midair", "serving", "spawn", "tree_digest", "wait_until"]

DEADLINE = 15.0
"""Seconds any single thing may take here; a test has 20."""


class Spawner(Protocol):
    """Starts a process somewhere: here, or in a host of the lab."""

    def __call__(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[str]: ...


def wait_until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
    """Polls ``condition`` until it holds.

    Raises: AssertionError when ``seconds`` are over.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.005)


class Command:
    """A running ``midair`` command; its stdout lines and stderr are collected as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.errors = ""
        self._changed = threading.Condition()
        self._readers = [threading.Thread(target=self._read_out), threading.Thread(target=self._read_err)]
        for reader in self._readers:
            reader.start()

    @property
    def events(self) -> list[dict[str, Any]]:
        """The JSON lines so far."""
        with self._changed:
            return [json.loads(line) for line in self.lines]

    @property
    def done(self) -> dict[str, Any]:
        """The last event, after :meth:`wait`."""
        last = self.events[-1]
        assert last["event"] == "done", self.events
        return last

    def of(self, name: str) -> list[dict[str, Any]]:
        """The events called ``name`` so far."""
        return [event for event in self.events if event["event"] == name]

    def line(self, seconds: float = DEADLINE) -> str:
        """The first line of stdout."""
        self._wait_for(lambda: bool(self.lines), "a line on stdout", seconds)
        return self.lines[0]

    def event(
        self, name: str, matching: Callable[[dict[str, Any]], bool] = lambda event: True, seconds: float = DEADLINE
    ) -> dict[str, Any]:
        """The first event called ``name`` that matches; waits for it."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = [event for event in self.of(name) if matching(event)]
            return bool(found)

        self._wait_for(look, f"event {name}", seconds)
        return found[0]

    def wait(self, seconds: float = DEADLINE) -> int:
        """The exit code; everything it said has been collected then."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s; said {self.lines[-5:]} {self.errors}") from None
        for reader in self._readers:
            reader.join()
        return code

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """``kill -9``; nothing of it is left when this returns."""
        self.process.kill()
        self.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        for stream in (self.process.stdout, self.process.stderr, self.process.stdin):
            if stream is not None:
                stream.close()

    def _wait_for(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._changed:
            while not condition():
                left = deadline - time.monotonic()
                ended = not self._readers[0].is_alive()
                assert left > 0 and not ended, f"no {what}; it said {self.lines} {self.errors}"  # noqa: PT018
                self._changed.wait(min(left, 0.1))

    def _read_out(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()

    def _read_err(self) -> None:
        # In pieces, not lines: a question has no newline at its end.
        assert self.process.stderr is not None
        while piece := os.read(self.process.stderr.fileno(), 65536):
            with self._changed:
                self.errors += piece.decode(errors="replace")
                self._changed.notify_all()


def spawn(argv: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """A process on this machine itself."""
    return subprocess.Popen(argv, **options)


@contextlib.contextmanager
def midair(
    *arguments: str | Path, spawner: Spawner = spawn, stdin: int = subprocess.DEVNULL, **environment: str
) -> Iterator[Command]:
    """Runs ``midair ARGUMENTS``; killed at the end if it still runs."""
    process = spawner(
        [sys.executable, "-m", "midair", *map(str, arguments)],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**_environment(), **environment},
    )
    command = Command(process)
    try:
        yield command
    finally:
        command.close()


@contextlib.contextmanager
def serving(listen: str = "127.0.0.1:0", *arguments: str, spawner: Spawner = spawn) -> Iterator[tuple[str, Command]]:
    """A real ``midair serve``; yields its address and the command."""
    with midair("serve", "--listen", listen, *arguments, spawner=spawner) as command:
        line = command.line()
        prefix = "midair: serving on "
        assert line.startswith(prefix), line
        yield line.removeprefix(prefix), command


def tree_digest(root: Path) -> dict[str, bytes | None]:
    """Every path below ``root`` with its content; None for a folder."""
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes() for path in sorted(root.rglob("*"))
    }


def _environment() -> dict[str, str]:
    """Ours, without what would reach into the tests from outside."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("MIDAIR_") and not key.lower().endswith("_proxy")
    }
    folders = {"XDG_CONFIG_HOME": "/nonexistent", "XDG_CACHE_HOME": "/dev/null"}
    return {**kept, **folders, "PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1"}
