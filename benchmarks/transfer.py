"""midair beside magic-wormhole: one large file over loopback, the same mailbox server, runs in turn.

Each run is the whole of both commands, from starting the first process to the exit of the last: codes, key exchange,
connection, transfer and check. Both programs connect directly. The figure to quote is the ratio of the medians, with
the spread of the pairwise ratios; absolute speeds belong to the machine.

Memory is each process's private resident memory (RssAnon + RssShmem; file pages are not counted), sampled while it
runs, at its highest.

    python benchmarks/transfer.py --output benchmarks/results/transfer.json
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__: list[str] = []

RUN_SECONDS = 300.0
BIN = Path(sys.executable).parent
CODE = "{number}-bench-mark"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="write the JSON there")
    parser.add_argument("--mib", type=int, default=1024, help="size of the file")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each program, after one warm-up each")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="where source and destination lie")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="midair-bench-", dir=options.folder) as folder, serving() as server:
        base = Path(folder)
        source = base / "source.bin"
        digest = write_source(source, options.mib)
        results: dict[str, list[dict[str, float]]] = {"midair": [], "magic-wormhole": []}
        for run in range(options.runs + 1):
            for name, command in (("midair", midair_commands), ("magic-wormhole", wormhole_commands)):
                destination = base / f"{name}-{run}"
                destination.mkdir()
                sender, receiver = command(server, CODE.format(number=run + 1), source, destination)
                figures = measure(sender, receiver)
                received = destination / source.name
                if file_digest(received) != digest:
                    raise SystemExit(f"{name}: what arrived differs from what was sent")
                received.unlink()
                figures["mb_s"] = options.mib * 1.048576 / figures["seconds"]
                print(f"{name:15} run {run}: {figures['mb_s']:7.1f} MB/s, {figures['seconds']:.2f} s", flush=True)
                if run > 0:
                    results[name].append(figures)

    report = summarise(results, options.mib)
    report["folder"] = str(options.folder)
    print(json.dumps({key: report[key] for key in ("ratio", "midair", "magic-wormhole")}, indent=2))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def default_folder() -> Path:
    """Memory rather than a disk: midair syncs what it receives and magic-wormhole does not, so a disk's speed would be
    measured on one side only."""
    shared_memory = Path("/dev/shm")
    return shared_memory if os.access(shared_memory, os.W_OK) else Path(tempfile.gettempdir())


def summarise(results: dict[str, list[dict[str, float]]], mib: int) -> dict[str, Any]:
    ours, theirs = results["midair"], results["magic-wormhole"]
    ratios = [mine["mb_s"] / other["mb_s"] for mine, other in zip(ours, theirs, strict=True)]
    return {
        "command": "make bench",
        "machine": {"python": platform.python_version(), "cpus": os.cpu_count(), "kernel": platform.release()},
        "mib": mib,
        "ratio": {
            "of_medians": round(median(ours, "mb_s") / median(theirs, "mb_s"), 2),
            "min": round(min(ratios), 2),
            "max": round(max(ratios), 2),
        },
        **{
            name: {
                "mb_s": {
                    "median": round(median(runs, "mb_s"), 1),
                    "min": round(min(run["mb_s"] for run in runs), 1),
                    "max": round(max(run["mb_s"] for run in runs), 1),
                },
                "sender_private_mib_max": round(max(run["sender_mib"] for run in runs), 1),
                "receiver_private_mib_max": round(max(run["receiver_mib"] for run in runs), 1),
                "runs": runs,
            }
            for name, runs in results.items()
        },
    }


def median(runs: list[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def midair_commands(server: str, code: str, source: Path, destination: Path) -> tuple[list[str], list[str]]:
    midair = [sys.executable, "-m", "midair"]
    return (
        [*midair, "send", "--quiet", "--server", server, "--code", code, str(source)],
        [*midair, "receive", "--quiet", "--server", server, code, "-o", str(destination), "-y"],
    )


def wormhole_commands(server: str, code: str, source: Path, destination: Path) -> tuple[list[str], list[str]]:
    # No transit relay: the helper's address leads nowhere, and both sides connect directly.
    wormhole = [str(BIN / "wormhole"), "--relay-url", f"{server}/v1", "--transit-helper", "tcp:127.0.0.1:1"]
    return (
        [*wormhole, "send", "--hide-progress", "--no-qr", "--code", code, str(source)],
        [*wormhole, "receive", "--hide-progress", "--accept-file", "-o", str(destination / source.name), code],
    )


def measure(sender: list[str], receiver: list[str]) -> dict[str, float]:
    """Both commands from the first start to the last exit; the highest private memory of each."""
    start = time.monotonic()
    processes = [
        subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for argv in (sender, receiver)
    ]
    peaks = [0.0, 0.0]
    over = threading.Event()
    sampler = threading.Thread(target=sample, args=(processes, peaks, over))
    sampler.start()
    try:
        errors = [b"", b""]
        drains = [
            threading.Thread(target=lambda n=n, p=p: errors.__setitem__(n, p.stderr.read() if p.stderr else b""))
            for n, p in enumerate(processes)
        ]
        for drain in drains:
            drain.start()
        codes = [process.wait(timeout=RUN_SECONDS) for process in processes]
        seconds = time.monotonic() - start
        for drain in drains:
            drain.join()
    finally:
        over.set()
        sampler.join()
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stderr:
                process.stderr.close()
    if any(codes):
        raise SystemExit(f"a command failed with {codes}:\n{errors[0].decode()}\n{errors[1].decode()}")
    return {"seconds": seconds, "sender_mib": peaks[0], "receiver_mib": peaks[1]}


def sample(processes: list[subprocess.Popen[bytes]], peaks: list[float], over: threading.Event) -> None:
    while not over.wait(0.02):
        for number, process in enumerate(processes):
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{process.pid}/status").read_text()
                kib = sum(int(value) for value in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", status, re.MULTILINE))
                peaks[number] = max(peaks[number], kib / 1024)


def write_source(path: Path, mib: int) -> str:
    block = os.urandom(1 << 20)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(mib):
            piece = number.to_bytes(8, "big") + block[8:]
            file.write(piece)
            digest.update(piece)
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


if __name__ == "__main__":
    raise SystemExit(main())
