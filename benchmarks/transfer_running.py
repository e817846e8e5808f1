"""Runs a sender and a receiver, and takes note of what they cost: time, CPU, private memory."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Ended", "Process", "Run", "cpu_of_children", "serving", "watch"]

RUN_SECONDS = 600.0
_SAMPLE_SECONDS = 0.02


@dataclass
class Run:
    """One transfer by one program. Times are seconds."""

    whole: float
    """From the start of the first command to the exit of the last."""
    flow: float | None
    """From the first byte of content being due to the last one being where it stays; None where it cannot be seen."""
    cpu_send: float | None
    cpu_receive: float | None
    mib_send: float | None = None
    """Private resident memory at its highest, in MiB: RssAnon and RssShmem, not the pages of files."""
    mib_receive: float | None = None
    extra: dict[str, float] = field(default_factory=dict)


@dataclass
class Ended:
    cpu: float
    mib: float
    lines: list[tuple[float, str]]
    """What it said on stdout, and when (monotonic)."""


class Process:
    """One command; its stdout is read line by line."""

    def __init__(self, argv: Sequence[str | Path], *, stdin: int | None = None, stdout: int | None = None) -> None:
        self.started = time.monotonic()
        self._popen = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.PIPE,
        )
        self._argv = argv
        self._lines: list[tuple[float, str]] = []
        self._said = threading.Condition()
        self._errors = b""
        self._readers = [threading.Thread(target=self._read_errors, daemon=True)]
        if self._popen.stdout is not None:
            self._readers.append(threading.Thread(target=self._read_lines, daemon=True))
        for reader in self._readers:
            reader.start()
        self.peak_mib = 0.0

    def _read_errors(self) -> None:
        assert self._popen.stderr is not None
        self._errors = self._popen.stderr.read()

    def _read_lines(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            with self._said:
                self._lines.append((time.monotonic(), line.decode(errors="replace").rstrip()))
                self._said.notify_all()

    @property
    def lines(self) -> list[tuple[float, str]]:
        """What it has said on stdout so far, and when (monotonic)."""
        with self._said:
            return list(self._lines)

    def wait_for(self, matching: Callable[[str], bool]) -> str:
        """The first line of its stdout that matches."""

        def found() -> str | None:
            return next((line for _, line in self._lines if matching(line)), None)

        with self._said:
            self._said.wait_for(lambda: found() is not None, 30.0)
            line = found()
        if line is None:
            raise SystemExit(f"{self._argv[0]} did not say what it should: {self._lines} {self._errors.decode()}")
        return line

    def sample(self) -> None:
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{self._popen.pid}/status").read_text()
            found = re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", status, re.MULTILINE)
            self.peak_mib = max(self.peak_mib, sum(map(int, found)) / 1024)

    def end(self) -> Ended:
        """Wait for it. Raises: SystemExit when it failed."""
        _, status, usage = os.wait4(self._popen.pid, 0)
        self._popen.returncode = os.waitstatus_to_exitcode(status)
        for reader in self._readers:
            reader.join()
        for stream in (self._popen.stdout, self._popen.stderr):
            if stream is not None:
                stream.close()
        if self._popen.returncode:
            said = "\n".join(line for _, line in self._lines[-3:])
            raise SystemExit(f"{self._argv[0]} ended with {self._popen.returncode}:\n{self._errors.decode()}\n{said}")
        return Ended(usage.ru_utime + usage.ru_stime, self.peak_mib, self._lines)

    def stop(self) -> None:
        """For what would go on for ever."""
        self.kill()
        self._popen.wait()
        for reader in self._readers:
            reader.join()
        for stream in (self._popen.stdout, self._popen.stderr):
            if stream is not None:
                stream.close()

    def kill(self) -> None:
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._popen.kill()


def watch(*processes: Process) -> list[Ended]:
    """Wait for all of them, their memory being sampled meanwhile."""
    over = threading.Event()

    def sample() -> None:
        while not over.wait(_SAMPLE_SECONDS):
            for process in processes:
                process.sample()

    def too_long() -> None:
        if not over.wait(RUN_SECONDS):
            for process in processes:
                process.kill()

    threads = [threading.Thread(target=sample), threading.Thread(target=too_long, daemon=True)]
    for thread in threads:
        thread.start()
    try:
        return [process.end() for process in processes]
    finally:
        over.set()
        threads[0].join()
        for process in processes:
            process.kill()


def cpu_of_children(pid: int) -> float:
    """Seconds used by the children that ``pid`` has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def events(ended: Ended) -> list[tuple[float, dict[str, object]]]:
    """What a midair command said with --json, and when it came."""
    return [(when, json.loads(line)) for when, line in ended.lines]


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """A server on a loopback port; yields its ws:// address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "midair", "serve", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        match = re.search(r"ws://\S+", line)
        if match is None:
            raise SystemExit(f"the server did not start: {line!r}")
        yield match.group()
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stdout.close()
