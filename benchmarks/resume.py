"""Going on with a large file at 95 %: how long until bytes flow again, and what is read, sent and hashed for it.

Both commands are killed (SIGKILL) in mid-transfer, once the receiver has said that so much is durable, and started
again.

    python benchmarks/resume.py --output benchmarks/results/resume.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from transfer_running import serving

__all__: list[str] = []

MIDAIR = [sys.executable, "-m", "midair"]
MIB = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="write the JSON there")
    parser.add_argument("--mib", type=int, default=4096, help="size of the file")
    parser.add_argument("--at", type=float, default=0.95, help="the part that is durable when both are killed")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="midair-bench-", dir=options.folder) as folder, serving() as server:
        source = Path(folder) / "source.bin"
        write_source(source, options.mib)
        runs = []
        for number in range(options.runs):
            runs.append(one_run(server, source, Path(folder) / f"there-{number}", options.at))
            print(json.dumps(runs[-1]), flush=True)
    report = {
        "command": "python benchmarks/resume.py",
        "machine": {"python": platform.python_version(), "cpus": os.cpu_count(), "kernel": platform.release()},
        "mib": options.mib,
        **{key: {"median": statistics.median(run[key] for run in runs)} for key in runs[0]},
        "runs": runs,
    }
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def one_run(server: str, source: Path, destination: Path, at: float) -> dict[str, float]:
    destination.mkdir()
    size = source.stat().st_size
    with both(server, source, destination) as (sender, receiver):
        receiver.wait_for(lambda event: event["event"] == "progress" and event["bytes"] >= at * size)
        receiver.process.kill()
        sender.process.kill()
    began = time.monotonic()
    with both(server, source, destination) as (sender, receiver):
        receiver.wait_for(lambda event: event["event"] == "path")
        connected = time.monotonic()
        part = destination / (source.name + ".part")
        # Bytes flow when the file changes; what it says of itself comes later, when they are durable.
        changed = part.stat().st_mtime_ns
        while part.exists() and part.stat().st_mtime_ns == changed:
            time.sleep(0.001)
        flowing = time.monotonic()
        read = 0
        while sender.process.poll() is None:
            read = max(read, read_bytes(sender.process.pid))
            time.sleep(0.002)
        sent, got = sender.done(), receiver.done()
    (resumed,) = (event["bytes"] for event in receiver.events if event["event"] == "resumed")
    missing = size - resumed
    with source.open("rb") as a, (destination / source.name).open("rb") as b:
        for _ in range(0, size, MIB):
            if a.read(MIB) != b.read(MIB):
                raise SystemExit("what arrived differs from what was sent")
    (destination / source.name).unlink()
    return {
        "seconds_from_the_start": round(flowing - began, 3),
        "seconds_from_the_path": round(flowing - connected, 3),
        "missing_mib": round(missing / MIB, 1),
        "sent_mib": round(sent["bytes_sent"] / MIB, 1),
        "read_by_the_sender_mib": round(read / MIB, 1),
        "hashed_by_the_sender_mib": round(sent["bytes_hashed"] / MIB, 1),
        "hashed_by_the_receiver_mib": round(got["bytes_hashed"] / MIB, 1),
    }


def read_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        match = re.search(r"^rchar: (\d+)$", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
        return int(match.group(1)) if match else 0
    return 0


class Command:
    """A running command that says what it does in JSON."""

    def __init__(self, arguments: list[str]) -> None:
        self.process = subprocess.Popen([*MIDAIR, *arguments], stdout=subprocess.PIPE, text=True)
        self.events: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.events.append(json.loads(line))
                self._changed.notify_all()

    def wait_for(self, matching: Callable[[dict[str, Any]], bool]) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: any(map(matching, self.events)), 120):
                raise SystemExit(f"it did not come: {self.events[-3:]}")

    def done(self) -> dict[str, Any]:
        if self.process.wait(120):
            raise SystemExit(f"it failed: {self.events[-1]}")
        self._reader.join()
        return self.events[-1]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def both(server: str, source: Path, destination: Path) -> Iterator[tuple[Command, Command]]:
    """A sender and a receiver with a new code."""
    with contextlib.ExitStack() as running:
        sender = Command(["send", "--json", "--server", server, str(source)])
        running.callback(sender.close)
        sender.wait_for(lambda event: event["event"] == "code")
        code = sender.events[0]["code"]
        receiver = Command(["receive", "--json", "--server", server, code, "-o", str(destination), "-y"])
        running.callback(receiver.close)
        yield sender, receiver


def write_source(path: Path, mib: int) -> None:
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for number in range(mib):
            file.write(number.to_bytes(8, "big") + block[8:])
        os.fsync(file.fileno())


if __name__ == "__main__":
    raise SystemExit(main())
