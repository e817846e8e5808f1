"""What compression brings on a line of so many bits a second: the same content with and without it, in turn.

*sources* is the machine's own Python library as a tar, *noise* is random bytes, *half* one MiB of each by turns. `flow`
is as in transfer.py: from the moment the content is due to the moment all of it is durable.

    python benchmarks/compression.py --output benchmarks/results/compression.json
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sysconfig
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from lab_wire import SERVER, Place
from transfer_contenders import Midair, flow_of
from transfer_links import PORT, Link, made, serving
from transfer_running import Process, events, watch

from transfer import check_same, machine

__all__: list[str] = []

LINKS = {"100 Mbit/s": Link(rate=100e6, mib=32, queue=256 << 10), "1 Gbit/s": Link(rate=1e9, mib=128, queue=2 << 20)}
MIB = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    report: dict[str, Any] = {
        "command": f"python benchmarks/compression.py --runs {options.runs}",
        "machine": machine(),
    }
    with tempfile.TemporaryDirectory(prefix="midair-bench-", dir="/dev/shm") as base:
        for name, link in LINKS.items():
            with made(link) as place, serving(place):
                report[name] = {
                    kind: compare(place, Path(base), content, options.runs)
                    for kind, content in contents(link.mib * MIB).items()
                }
            print(name, json.dumps(report[name]), flush=True)
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def contents(size: int) -> dict[str, bytes]:
    noise, sources = os.urandom(size), library(size)
    half = b"".join(
        (sources if number % 2 else noise)[number * MIB : (number + 1) * MIB] for number in range(size // MIB)
    )
    return {"sources": sources, "noise": noise, "half": half}


def library(size: int) -> bytes:
    """Python's own, once or more often: zstd looks back 2 MiB at most here, so a second time is as new."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(
            sysconfig.get_path("stdlib"), "lib", filter=lambda each: None if "site-packages" in each.name else each
        )
    whole = packed.getvalue()
    return (whole * (size // len(whole) + 1))[:size]


def compare(place: Place, base: Path, content: bytes, runs: int) -> dict[str, Any]:
    source = base / "content"
    source.write_bytes(content)
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    saved = 0
    for _ in range(runs):
        for name, option in (("with", "--compress"), ("without", "--no-compress")):
            midair = Midair(base / name, f"ws://{SERVER}:{PORT}", name, "", [], in_place=False)
            midair.prepare(source)
            code = midair.new_code()
            with place.client.entered():
                sender = Process([*midair.send(source, code), option])
            with place.server.entered():
                receiver = Process(midair.receive(code))
            sent, received = watch(sender, receiver)
            check_same(source, midair.arrived(source), name)
            first, durable = flow_of(received)
            seconds[name].append(durable - first)
            done = next(event for _, event in events(sent) if event["event"] == "done")
            saved = max(saved, int(str(done["bytes_saved"])))
            midair.close()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "mib": len(content) // MIB,
        "sent_of_content": round(1 - saved / len(content), 3),
        "seconds": {name: [round(value, 3) for value in values] for name, values in seconds.items()},
        "times_as_fast": round(medians["without"] / medians["with"], 3),
    }


if __name__ == "__main__":
    raise SystemExit(main())
