"""How fast midair sends one large file, beside others: over loopback, in turn, all in one run.

Every run is a whole copy: `whole` is from starting the first command to the exit of the last (codes, key exchange and
connection among it), `flow` from the moment the content is due to the moment all of it is where it stays (for midair:
durable and in the journal). Absolute speeds belong to the machine and to the minute; the figures to quote are the
ratios within this run, as the ratio of the medians and of the best.

The source is in the page cache. The destination is memory (tmpfs) that was touched just before, for every program that
writes in place; magic-wormhole and tar only write new files, and so does midair in the row that says so. That matters:
where a virtual machine gives freed memory back to its host, touching a new page costs several times the copying.

    python benchmarks/transfer.py --output benchmarks/results/transfer.json --page docs/reference/speed.md
    python benchmarks/transfer.py --only raw,midair --mib 1024 --runs 3
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transfer_contenders import Contender, contenders
from transfer_page import write_page
from transfer_running import Run, serving

__all__: list[str] = []

HERE = Path(__file__).parent
SLOW = {"wormhole", "scp"}
"""Left out for files beyond 1 GiB: half a minute each, and no other figure than for 1 GiB."""


def main() -> int:
    options = arguments()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 16)
    print(f"seed {seed}", flush=True)
    order = random.Random(seed)
    report: dict[str, Any] = {"command": command(options), "seed": seed, "machine": machine(), "sizes": {}}
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(tempfile.TemporaryDirectory(prefix="midair-bench-", dir=options.folder))
        origin = stack.enter_context(tempfile.TemporaryDirectory(prefix="midair-bench-", dir=options.source_folder))
        program, certificate = build(Path(origin))
        server = stack.enter_context(serving())
        made = contenders(Path(target), server, program, certificate)
        chosen = [name for name in made if options.only is None or name in options.only]
        report["start"] = start_up(options.runs * 2)
        if "midair" in chosen:
            report["start"]["one_mib"] = one_mib(made["midair"](), Path(origin), options.runs)
        for mib in options.mib:
            source = Path(origin) / f"source-{mib}.bin"
            write_source(source, mib)
            names = [name for name in chosen if mib <= 1024 or name not in SLOW or options.only]
            running = {name: made[name]() for name in names}
            try:
                runs = compare(running, source, options.runs if mib <= 1024 else options.large_runs, order)
            finally:
                for contender in running.values():
                    contender.close()
                source.unlink()
            report["sizes"][str(mib)] = {name: summarise(running[name], runs[name], runs, mib) for name in names}
            print(json.dumps({name: short(report["sizes"][str(mib)][name]) for name in names}, indent=1), flush=True)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=1) + "\n")
    if options.page:
        write_page(report, options.page)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="write the JSON there")
    parser.add_argument("--page", type=Path, help="write the page of the docs there, and its picture beside it")
    parser.add_argument("--mib", type=numbers, default=[1024, 4096], help="sizes of the file, such as 1024,4096")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each program, after one to warm up")
    parser.add_argument("--large-runs", type=int, default=3, help="the same for files beyond 1 GiB")
    parser.add_argument("--only", type=lambda text: text.split(","), help="of: raw,tls,midair,...")
    parser.add_argument("--seed", type=int, help="of the order in which the programs run")
    shared_memory = Path("/dev/shm")
    folder = shared_memory if os.access(shared_memory, os.W_OK) else Path(tempfile.gettempdir())
    parser.add_argument("--folder", type=Path, default=folder, help="where the destination lies")
    parser.add_argument("--source-folder", type=Path, default=Path(tempfile.gettempdir()), help="where the source lies")
    return parser.parse_args()


def command(options: argparse.Namespace) -> str:
    """What makes the same run, without what belongs to this machine."""
    words = ["python", "benchmarks/transfer.py", "--mib", ",".join(map(str, options.mib)), "--runs", str(options.runs)]
    if options.only:
        words += ["--only", ",".join(options.only)]
    return " ".join(words)


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def compare(running: dict[str, Contender], source: Path, count: int, order: random.Random) -> dict[str, list[Run]]:
    """In rounds, each program once in each, in an order drawn anew; the first round does not count."""
    runs: dict[str, list[Run]] = {name: [] for name in running}
    size = source.stat().st_size
    for number in range(count + 1):
        for name in order.sample(list(running), len(running)):
            contender = running[name]
            contender.prepare(source)
            run = contender.run(source)
            check_same(source, contender.arrived(source), contender.name)
            print(f"round {number}  {contender.name:24} {size / run.whole / 1e6:7.0f} MB/s whole", flush=True)
            if number > 0:
                runs[name].append(run)
    return runs


def check_same(source: Path, arrived: Path, name: str) -> None:
    with source.open("rb") as ours, arrived.open("rb") as theirs:
        while piece := ours.read(4 << 20):
            if theirs.read(4 << 20) != piece:
                raise SystemExit(f"{name}: what arrived differs from what was sent")
        if theirs.read(1):
            raise SystemExit(f"{name}: more arrived than was sent")


def summarise(contender: Contender, mine: list[Run], runs: dict[str, list[Run]], mib: int) -> dict[str, Any]:
    gib = mib / 1024
    report: dict[str, Any] = {
        "name": contender.name,
        "what": contender.what,
        "writes_in_place": contender.writes_in_place,
        "whole_mb_s": speeds([run.whole for run in mine], mib),
        "flow_mb_s": speeds([run.flow for run in mine if run.flow is not None], mib),
        "cpu_s_gib": {
            "send": rounded(statistics.median([run.cpu_send for run in mine if run.cpu_send is not None]) / gib),
            "receive": rounded(
                statistics.median([run.cpu_receive for run in mine if run.cpu_receive is not None]) / gib
            ),
        },
        "private_mib": {
            "send": highest([run.mib_send for run in mine]),
            "receive": highest([run.mib_receive for run in mine]),
        },
        "ratio_whole": {
            name: ratio([r.whole for r in mine], [r.whole for r in others]) for name, others in runs.items()
        },
        "ratio_flow": {
            name: ratio(flows(mine), flows(others)) for name, others in runs.items() if flows(mine) and flows(others)
        },
        "runs": [asdict(run) for run in mine],
    }
    for key in mine[0].extra:
        report[f"{key}_s"] = rounded(statistics.median(run.extra[key] for run in mine))
    return report


def flows(runs: list[Run]) -> list[float]:
    return [run.flow for run in runs if run.flow is not None]


def speeds(seconds: list[float], mib: int) -> dict[str, float] | None:
    if not seconds:
        return None
    megabytes = mib * 1.048576
    return {
        "median": round(megabytes / statistics.median(seconds), 1),
        "min": round(megabytes / max(seconds), 1),
        "max": round(megabytes / min(seconds), 1),
    }


def ratio(mine: list[float], theirs: list[float]) -> dict[str, float]:
    """How many times as fast: of the medians, of the best, and the spread within the rounds."""
    pairs = [their / my for my, their in zip(mine, theirs, strict=True)]
    return {
        "medians": rounded(statistics.median(theirs) / statistics.median(mine)),
        "best": rounded(min(theirs) / min(mine)),
        "min": rounded(min(pairs)),
        "max": rounded(max(pairs)),
    }


def highest(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(max(known), 1) if known else None


def rounded(value: float) -> float:
    return round(value, 3)


def short(summary: dict[str, Any]) -> dict[str, Any]:
    return {
        "whole": summary["whole_mb_s"]["median"],
        "flow": summary["flow_mb_s"] and summary["flow_mb_s"]["median"],
        "cpu": summary["cpu_s_gib"],
        "flow_to_raw": summary["ratio_flow"].get("raw"),
    }


def machine() -> dict[str, Any]:
    from cryptography.hazmat.backends.openssl import backend

    from midair.channel.measuring import measured_costs
    from midair.channel.suites import agree

    costs = measured_costs()
    suite = agree(costs, costs)
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cpu": model[1] if model else platform.machine(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "congestion_control": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "python": platform.python_version(),
        "midairs_openssl": backend.openssl_version_text(),
        "midairs_cipher": None if suite is None else suite.name,
        "load_before": os.getloadavg()[0],
    }


def start_up(count: int) -> dict[str, Any]:
    """Seconds, medians; in turn."""
    commands = {
        "python": [sys.executable, "-c", "pass"],
        "version": [str(Path(sys.executable).parent / "midair"), "--version"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(count + 1):
        for name, command in commands.items():
            start = time.monotonic()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.monotonic() - start)
    medians = {name: rounded(statistics.median(values[1:])) for name, values in seconds.items()}
    best = {name: min(values[1:]) for name, values in seconds.items()}
    return {
        "python_c_pass_s": medians["python"],
        "midair_version_s": medians["version"],
        "ratio": {
            "medians": rounded(medians["version"] / medians["python"]),
            "best": rounded(best["version"] / best["python"]),
        },
    }


def one_mib(midair: Contender, folder: Path, count: int) -> dict[str, float]:
    """Both commands for next to nothing: what a transfer costs before and after its content. Medians."""
    source = folder / "one.bin"
    write_source(source, 1)
    try:
        runs = compare({"midair": midair}, source, count, random.Random(0))["midair"]
    finally:
        midair.close()
        source.unlink()
    return {
        "whole_s": rounded(statistics.median(run.whole for run in runs)),
        "cpu_send_s": rounded(statistics.median(run.cpu_send or 0.0 for run in runs)),
        "cpu_receive_s": rounded(statistics.median(run.cpu_receive or 0.0 for run in runs)),
        **{f"{key}_s": rounded(statistics.median(run.extra[key] for run in runs)) for key in runs[0].extra},
    }


def build(folder: Path) -> tuple[Path, list[Path]]:
    """RAW and TLS, and a certificate for the latter."""
    program = folder / "transfer_copy"
    cc = os.environ.get("CC", "cc")
    subprocess.run([cc, "-O2", "-o", program, HERE / "transfer_copy.c", "-lssl", "-lcrypto"], check=True)
    certificate = [folder / "certificate.pem", folder / "key.pem"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    subprocess.run(
        ["openssl", "req", "-x509", *kind, "-out", certificate[0], "-keyout", certificate[1]],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return program, certificate


def write_source(path: Path, mib: int) -> None:
    """Nothing that could be compressed, and in the page cache from here on."""
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())  # so that nobody measures its writing


if __name__ == "__main__":
    raise SystemExit(main())
