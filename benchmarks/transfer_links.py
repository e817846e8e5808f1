"""midair beside a plain C sender over slow, long and lossy links, in the lab: how much of the link each of them uses.

Both send the same file in turn over the same link, with the congestion control the system has by default. `flow` is
as in transfer.py: from the moment the content is due to the moment all of it is where it stays; slow start is in it.
Then, how long a small message waits that is sent in the middle of bulk data: with what midair does about it (records
as large as go out in some milliseconds, little in the kernel that is not sent), and with neither.

    python benchmarks/transfer_links.py --output benchmarks/results/transfer_links.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab_wire import SERVER, Place, by_wire
from transfer_contenders import CProgram, Midair, flow_of
from transfer_running import Process, Run, watch

from midair.channel import Channel, Role, SessionKey, authenticate
from midair.lab.behaviour import LinkBehaviour
from midair.port import allow_unsent, tune_for_bulk
from midair.transfer.pace import MAX_DATA_BYTES, FrameSizer, UnsentBytes
from transfer import build, check_same, machine, write_source

__all__: list[str] = []

PORT = 7420
LINKS = {
    "100 Mbit/s": LinkBehaviour(rate=100e6),
    "100 Mbit/s, 40 ms": LinkBehaviour(rate=100e6, delay=0.02, queue=1 << 20),
    "100 Mbit/s, 40 ms, 0.1 % lost": LinkBehaviour(rate=100e6, delay=0.02, queue=1 << 20, loss=0.001),
}
"""What the link does each way; milliseconds are a round trip."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="write the JSON there")
    parser.add_argument("--mib", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", type=lambda text: text.split(";"), help="some of: " + "; ".join(LINKS))
    options = parser.parse_args()
    report: dict[str, Any] = {
        "command": "python benchmarks/transfer_links.py",
        "machine": machine(),
        "mib": options.mib,
    }
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="midair-bench-", dir=folder) as base, by_wire(nat=False) as place:
        program, certificate = build(Path(base))
        source = Path(base) / "source.bin"
        write_source(source, options.mib)
        for name, link in LINKS.items():
            if options.only is None or name in options.only:
                shape(place, link)
                report[name] = measure(place, Path(base), program, certificate, source, options.runs, link)
                print(name, json.dumps(report[name]), flush=True)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def shape(place: Place, link: LinkBehaviour) -> None:
    assert place.wire is not None
    place.wire.set_link(("client", 0), there=link, back=link)


def measure(
    place: Place, base: Path, program: Path, certificate: list[Path], source: Path, count: int, link: LinkBehaviour
) -> dict[str, Any]:
    raw = CProgram(base / "raw", program, "raw", certificate)
    midair = Midair(base / "midair", f"ws://{SERVER}:{PORT}", "midair", "", [], in_place=False)
    times: dict[str, list[float]] = {"raw": [], "midair": []}
    with place.server.entered():
        server = Process([*midair.command, "serve", "--listen", f"{SERVER}:{PORT}"])
    try:
        server.wait_for(lambda line: "ws://" in line)
        for number in range(count + 1):
            for name, run in (("raw", raw_once(place, raw)), ("midair", midair_once(place, midair))):
                contender = raw if name == "raw" else midair
                contender.prepare(source)
                flow = run(source).flow
                check_same(source, contender.arrived(source), name)
                assert flow is not None
                if number > 0:
                    times[name].append(flow)
    finally:
        server.stop()
        raw.close()
        midair.close()
    mbits = source.stat().st_size * 8 / 1e6
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        **{f"{name}_mbit_s": round(mbits / value, 2) for name, value in medians.items()},
        "of_link": round(mbits * 1e6 / link.rate / medians["midair"], 3),
        "to_raw": {
            "medians": round(medians["raw"] / medians["midair"], 3),
            "best": round(min(times["raw"]) / min(times["midair"]), 3),
        },
        "small_message_ms": {
            "midair": delays(place, held_back=True),
            "1 MiB records, no limit": delays(place, held_back=False),
        },
    }


def raw_once(place: Place, contender: CProgram) -> Callable[[Path], Run]:
    def run(source: Path) -> Run:
        os.environ["TRANSFER_HOST"] = SERVER
        with place.server.entered():
            receiver = contender.receive(source)
        port = receiver.wait_for(str.isdigit)
        with place.client.entered():
            sender = contender.send(source, port)
        sent, received = watch(sender, receiver)
        return Run(0.0, float(received.lines[-1][1]), sent.cpu, received.cpu)

    return run


def midair_once(place: Place, contender: Midair) -> Callable[[Path], Run]:
    def run(source: Path) -> Run:
        code = contender.new_code()
        with place.client.entered():
            sender = Process(contender.send(source, code))
        with place.server.entered():
            receiver = Process(contender.receive(code))
        sent, received = watch(sender, receiver)
        first, durable = flow_of(received)
        return Run(0.0, durable - first, sent.cpu, received.cpu)

    return run


def delays(place: Place, *, held_back: bool, count: int = 20) -> dict[str, float]:
    """Milliseconds from handing over a message of a few bytes to its being received, while bulk data fills the link."""
    with place.server.entered(), socket.create_server((SERVER, 0)) as listener:
        address = listener.getsockname()
        with place.client.entered():
            near = socket.create_connection(address)
        far, _ = listener.accept()
    a, b = asyncio.run(both(near, far))
    for channel in (a, b):
        if held_back:
            tune_for_bulk(channel.sock)
        else:
            channel.sock.setblocking(True)
    over = threading.Event()
    bulk = threading.Thread(target=send_bulk, args=(a, over, held_back))
    found: list[float] = []

    def receive() -> None:
        while len(found) < count:
            received = b.receive()
            if received.type == 16:
                found.append((time.monotonic() - struct.unpack("!d", received.payload)[0]) * 1000)

    reader = threading.Thread(target=receive)
    bulk.start()
    reader.start()
    time.sleep(1.0)  # for the window to open
    while len(found) < count and reader.is_alive():
        a.send(16, struct.pack("!d", time.monotonic()))
        time.sleep(0.1)
    reader.join()
    over.set()
    b.abort()
    bulk.join()
    a.abort()
    found.sort()
    return {"median": round(statistics.median(found), 1), "max": round(found[-1], 1)}


async def both(near: socket.socket, far: socket.socket) -> tuple[Channel, Channel]:
    key = SessionKey(os.urandom(32))
    for sock in (near, far):
        sock.setblocking(False)
    return await asyncio.gather(
        authenticate(near, key, Role.A, os.urandom(32)), authenticate(far, key, Role.B, os.urandom(32))
    )


def send_bulk(channel: Channel, over: threading.Event, held_back: bool) -> None:
    frame, sizer, unsent = channel.new_frame(), FrameSizer(), UnsentBytes(time.monotonic())
    try:
        while not over.is_set():
            began = time.monotonic()
            count = sizer.size if held_back else MAX_DATA_BYTES
            channel.send_frame(18, frame, count)
            now = time.monotonic()
            sizer.sent(count, now - began)
            if unsent.sent(count, now) and held_back:
                allow_unsent(channel.sock, unsent.bytes)
    except Exception:
        if not over.is_set():
            raise


if __name__ == "__main__":
    raise SystemExit(main())
