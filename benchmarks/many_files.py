"""Many small files: midair beside ``tar | tar`` over a plain socket and an rsync daemon, in turn, over loopback.

Each run is the whole of the commands, from starting the first process to the exit of the last, into an empty folder.
The figures to quote are ratios within this run; CPU seconds are those of all processes, by the kernel's account.
midair also sends a single file each time: what that takes is the start, the meeting and the connection, which tar has
none of. Without it is what the files themselves take.
Python finds its modules compiled, as where midair is installed, whatever the environment says about writing them.
Memory is private resident memory (RssAnon), sampled while it runs, at its highest; for midair of each side.

    python benchmarks/many_files.py --output benchmarks/results/many_files.json
    python benchmarks/many_files.py --files 100000 --runs 1 --only midair
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from transfer_running import serving

__all__: list[str] = []

RUN_SECONDS = 300.0
ALONG = {"start": "midair"}
"""What is run along with another."""
FILES_IN_A_FOLDER = 100


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="write the JSON there")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=4096, help="size of each")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each, after one warm-up each")
    parser.add_argument("--only", choices=("midair", "tar", "rsync"))
    parser.add_argument("--folder", type=Path, default=default_folder(), help="where source and destination lie")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="midair-bench-", dir=options.folder) as folder:
        base = Path(folder)
        many, single = base / "tree", base / "single/tree"
        write_source(many, options.files, options.bytes)
        write_source(single, 1, options.bytes)
        ways: dict[str, tuple[Callable[[Path, Path], dict[str, float]], Path]] = {
            "midair": (by_midair, many),
            "start": (by_midair, single),
            "tar": (by_tar, many),
            "rsync": (by_rsync, many),
        }
        use_compiled_modules(base / "compiled")
        names = [name for name in ways if not options.only or {name, ALONG.get(name)} & {options.only}]
        results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        warm_up = 1 if options.runs > 1 else 0
        if "midair" in names:
            (base / "first").mkdir()
            by_midair(single, base / "first")
        for run in range(options.runs + warm_up):
            for name in names:
                destination = base / "there"
                destination.mkdir()
                way, tree = ways[name]
                figures = way(tree, destination)
                check(tree, destination / "tree")
                shutil.rmtree(destination)
                print(f"{name:7} run {run}: {json.dumps(figures)}", flush=True)
                if run >= warm_up:
                    results[name].append(figures)
    report = summarise(results, options.files, options.bytes)
    print(json.dumps({key: value for key, value in report.items() if key != "runs"}, indent=2))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def use_compiled_modules(folder: Path) -> None:
    """From here on, in the processes that are started; the first of them compiles them."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder)


def default_folder() -> Path:
    """Memory rather than a disk, which neither tar nor rsync waits for."""
    shared_memory = Path("/dev/shm")
    return shared_memory if os.access(shared_memory, os.W_OK) else Path(tempfile.gettempdir())


def summarise(results: dict[str, list[dict[str, float]]], files: int, size: int) -> dict[str, Any]:
    report: dict[str, Any] = {
        "command": "python benchmarks/many_files.py",
        "machine": {"python": platform.python_version(), "cpus": os.cpu_count(), "kernel": platform.release()},
        "files": files,
        "bytes": size,
    }
    for name, runs in results.items():
        report[name] = {
            key: {"median": statistics.median(run[key] for run in runs), "best": min(run[key] for run in runs)}
            for key in runs[0]
        }
        for key in ("median", "best"):
            report[name]["cpu_us_a_file_" + key] = round(report[name]["cpu_seconds"][key] * 1e6 / files, 1)
    if "midair" in results:
        beyond = {
            key: {
                kind: round(report["midair"][key][kind] - report["start"][key][kind], 3) for kind in ("median", "best")
            }
            for key in ("seconds", "cpu_seconds")
        }
        beyond["cpu_us_a_file"] = {
            kind: round(beyond["cpu_seconds"][kind] * 1e6 / files, 1) for kind in ("median", "best")
        }
        report["midair_without_the_start"] = beyond
        for other in ("tar", "rsync"):
            if other in results:
                taken = report[other]["seconds"]
                report[f"speed_to_{other}"] = {
                    kind: round(taken[kind] / report["midair"]["seconds"][kind], 2) for kind in ("median", "best")
                }
                report[f"speed_to_{other}_without_the_start"] = {
                    kind: round(taken[kind] / max(beyond["seconds"][kind], 0.001), 2) for kind in ("median", "best")
                }
    report["runs"] = results
    return report


def write_source(root: Path, files: int, size: int) -> None:
    block = os.urandom(size + files)
    for number in range(files):
        folder = root / f"{number // FILES_IN_A_FOLDER:04}"
        if number % FILES_IN_A_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"{number:06}.txt").write_bytes(block[number : number + size])


def check(source: Path, received: Path) -> None:
    """Names and sizes of all, content of some."""
    found = {str(path.relative_to(received)): path.stat().st_size for path in received.rglob("*") if path.is_file()}
    wanted = {str(path.relative_to(source)): path.stat().st_size for path in source.rglob("*") if path.is_file()}
    if found != wanted:
        raise SystemExit("what arrived differs from what was sent")
    for name in sorted(wanted)[:: max(1, len(wanted) // 200)]:
        if (received / name).read_bytes() != (source / name).read_bytes():
            raise SystemExit(f"{name} differs from what was sent")


def by_midair(source: Path, destination: Path) -> dict[str, float]:
    midair = [sys.executable, "-m", "midair"]
    with serving() as server:
        code_seconds = seconds_to_the_code([*midair, "send", "--json", "--server", server, str(source)])
        began = time.monotonic()
        code = "17-bench-mark"
        processes = [
            subprocess.Popen(command, stdout=subprocess.DEVNULL)
            for command in (
                [*midair, "send", "--quiet", "--server", server, "--code", code, str(source)],
                [*midair, "receive", "--quiet", "--server", server, code, "-o", str(destination), "-y"],
            )
        ]
        with sampled(processes) as peaks:
            cpu = [cpu_of(process) for process in processes]
        seconds = time.monotonic() - began
    return {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(sum(cpu), 3),
        "sender_cpu_seconds": round(cpu[0], 3),
        "receiver_cpu_seconds": round(cpu[1], 3),
        "sender_mib": round(peaks[0], 1),
        "receiver_mib": round(peaks[1], 1),
        "code_seconds": round(code_seconds, 3),
    }


def seconds_to_the_code(command: list[str]) -> float:
    """From the start of a sender until it shows its code; then it is stopped."""
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as sender:
        assert sender.stdout is not None
        event: dict[str, Any] = json.loads(sender.stdout.readline())
        seconds = time.monotonic() - began
        sender.kill()
    if event["event"] != "code":
        raise SystemExit(f"no code: {event}")
    return seconds


def by_tar(source: Path, destination: Path) -> dict[str, float]:
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        processes = [
            subprocess.Popen(["tar", "c", "-C", str(source.parent), source.name], stdout=near.fileno()),
            subprocess.Popen(["tar", "x", "-C", str(destination)], stdin=far.fileno()),
        ]
    cpu = sum(map(cpu_of, processes))
    return {"seconds": round(time.monotonic() - began, 3), "cpu_seconds": round(cpu, 3)}


def by_rsync(source: Path, destination: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        settings = Path(folder) / "rsyncd.conf"
        settings.write_text(f"use chroot = no\n[source]\npath = {source.parent}\nuid = {os.getuid()}\n")
        daemon = subprocess.Popen(
            ["rsync", "--daemon", "--no-detach", f"--config={settings}", f"--port={port}", "--address=127.0.0.1"]
        )
        try:
            wait_for_port(port)
            began = time.monotonic()
            client = subprocess.Popen(
                ["rsync", "-a", "-W", f"rsync://127.0.0.1:{port}/source/{source.name}", str(destination)]
            )
            cpu = cpu_of(client)
            seconds = time.monotonic() - began
        finally:
            daemon.terminate()
            cpu_daemon = cpu_of(daemon, good=None)
    return {"seconds": round(seconds, 3), "cpu_seconds": round(cpu + cpu_daemon, 3)}


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def cpu_of(process: subprocess.Popen[Any], *, good: int | None = 0) -> float:
    """Waits for its end; user and system seconds of it and of the children it waited for."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if good is not None and process.returncode != good:
        raise SystemExit(f"{process.args!r} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


@contextlib.contextmanager
def sampled(processes: Sequence[subprocess.Popen[Any]]) -> Iterator[list[float]]:
    """The highest private memory of each, in MiB, while the block runs."""
    peaks = [0.0] * len(processes)
    over = threading.Event()

    def sample() -> None:
        while not over.wait(0.02):
            for number, process in enumerate(processes):
                with contextlib.suppress(OSError):
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    match = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
                    peaks[number] = max(peaks[number], int(match.group(1)) / 1024 if match else 0.0)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peaks
    finally:
        over.set()
        sampler.join()


if __name__ == "__main__":
    raise SystemExit(main())
