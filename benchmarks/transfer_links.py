"""midair over slow, long and lossy links beside a plain C sender, and beside another TCP flow on one link.

*Links.* Both send the same file in turn over the same link. `flow` is as in transfer.py: from the moment the content is
due to the moment all of it is where it stays; slow start is in it. Rates without delay are kept by Linux' own token
bucket on virtual Ethernet; delay and loss are the lab's wire, with large segments at 1 Gbit/s, and there each direction
waits half the round trip. Then, how long a small message waits that is sent in the middle of bulk data: with what
midair does about it (records as large as go out in some milliseconds, little in the kernel that is not sent), and with
neither.

*Company.* On one link of 100 Mbit/s and 40 ms, whose queue holds what is under way on it, a TCP flow (iperf3) has run
for some seconds when midair joins it. How the link is shared then, as Jain's index (1: equally, 0.5: one has all), and
how long a datagram takes there and back meanwhile. The same with a second iperf3 in midair's place.

    python benchmarks/transfer_links.py --output benchmarks/results/transfer_links.json --page docs/reference/links.md
    python benchmarks/transfer_links.py --only "1 Gbit/s" --runs 1
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab_wire import SERVER, Place, by_wire, plain_veth
from transfer_company import COMPANY, company
from transfer_contenders import CProgram, Midair, flow_of
from transfer_links_page import write_page
from transfer_running import Ended, Process, Run, events, watch

from midair.channel import Channel, Role, SessionKey, authenticate
from midair.lab.behaviour import LinkBehaviour
from midair.port import allow_unsent, tune_for_bulk
from midair.transfer.pace import MAX_DATA_BYTES, FrameSizer, UnsentBytes
from transfer import build, check_same, machine, write_source

__all__: list[str] = []

PORT = 7420
DEFAULT = Path("/proc/sys/net/ipv4/tcp_congestion_control")
"""Of the network that the thread is in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What lies between the two; ``rate`` in bits a second, ``delay`` in seconds one way, ``queue`` in bytes."""

    rate: float
    mib: int
    """Of the file: some seconds' worth."""
    queue: int
    delay: float = 0.0
    loss: float = 0.0
    default: str | None = None
    """The congestion control that programs get there that choose none; None is the system's."""
    offload: bool = False

    @property
    def goodput(self) -> float:
        """Bits of content a second that TCP can have of it: 1448 bytes in a packet of 1500, with timestamps."""
        return self.rate * 1448 / (1500 if self.delay else 1514)  # the token bucket counts Ethernet's header


LINKS = {
    "100 Mbit/s": Link(rate=100e6, mib=48, queue=256 << 10),
    "1 Gbit/s": Link(rate=1e9, mib=512, queue=2 << 20),
    "100 Mbit/s, 40 ms": Link(rate=100e6, delay=0.02, mib=48, queue=1 << 20),
    "1 Gbit/s, 20 ms": Link(rate=1e9, delay=0.01, mib=384, queue=4 << 20, offload=True),
    "100 Mbit/s, 40 ms, 0.1 % lost": Link(rate=100e6, delay=0.02, mib=48, queue=1 << 20, loss=0.001),
    "the same, where the system's default is cubic": Link(
        rate=100e6, delay=0.02, mib=16, queue=1 << 20, loss=0.001, default="cubic"
    ),
}
"""Milliseconds are a round trip; what is lost is lost on the way there and on the way back."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="write the JSON there")
    parser.add_argument("--page", type=Path, help="write the page of the docs there")
    parser.add_argument("--runs", type=int, default=3, help="of each program over each link, after one to warm up")
    names = [*LINKS, *COMPANY]
    parser.add_argument("--only", type=lambda text: text.split(";"), help="some of: " + "; ".join(names))
    options = parser.parse_args()
    chosen = [name for name in names if options.only is None or name in options.only]
    report: dict[str, Any] = {
        "command": " ".join(["python", "benchmarks/transfer_links.py", "--runs", str(options.runs)]),
        "machine": machine(),
        "links": {},
        "company": {},
    }
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="midair-bench-", dir=folder) as base:
        program, certificate = build(Path(base))
        for name in chosen:
            began = time.monotonic()
            if name in LINKS:
                report["links"][name] = measure(LINKS[name], Path(base), program, certificate, options.runs)
            else:
                report["company"][name] = company(name, Path(base))
            found = report["links"].get(name) or report["company"][name]
            print(f"{name} ({time.monotonic() - began:.0f} s) {json.dumps(found)}", flush=True)
            keep(report, options.output, options.page)
    return 0


def keep(report: dict[str, Any], output: Path | None, page: Path | None) -> None:
    """After each part: what takes minutes may be interrupted."""
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(report, indent=1) + "\n")
    if page:
        write_page(report, page)


# -- the link --


@contextlib.contextmanager
def made(link: Link) -> Iterator[Place]:
    with plain_veth() if not link.delay else by_wire(nat=False, offload=link.offload) as place:
        if link.default is not None:
            with place.client.entered():
                DEFAULT.write_text(link.default)
        if place.wire is None:
            limit(place, link)
        else:
            behaviour = LinkBehaviour(rate=link.rate, delay=link.delay, queue=link.queue, loss=link.loss)
            place.wire.set_link(("client", 0), there=behaviour, back=behaviour)
        yield place


def limit(place: Place, link: Link) -> None:
    """By a token bucket, which large segments do not pass as they are."""
    burst = max(16_000, int(link.rate / 8 * 0.0005))
    bucket = f"tc qdisc add dev eth0 root tbf rate {link.rate:.0f}bit burst {burst} limit {link.queue}"
    for namespace in (place.client, place.server):
        for command in (bucket, "ip link set lo up"):  # the receiver speaks to the meeting point beside it
            done = namespace.run(command.split())
            if done.returncode:
                raise SystemExit(f"{command}: {done.stderr}")


# -- one file after another --


def measure(link: Link, base: Path, program: Path, certificate: list[Path], count: int) -> dict[str, Any]:
    source = base / "source.bin"
    write_source(source, link.mib)
    with made(link) as place:
        times, controls = in_turn(place, base, program, certificate, source, count)
        waits = {
            "midair": delays(place, held_back=True),
            "1 MiB records, no limit": delays(place, held_back=False),
        }
    source.unlink()
    bits = link.mib * (8 << 20)
    return {
        "mib": link.mib,
        "goodput_possible_mbit_s": round(link.goodput / 1e6, 2),
        "congestion_control": controls,
        "mbit_s": {name: spread([bits / value / 1e6 for value in values]) for name, values in times.items()},
        "of_possible": {
            name: round(bits / statistics.median(values) / link.goodput, 4) for name, values in times.items()
        },
        "midair_to_raw": {
            "medians": round(statistics.median(times["raw"]) / statistics.median(times["midair"]), 4),
            "best": round(min(times["raw"]) / min(times["midair"]), 4),
        },
        "small_message_ms": waits,
    }


def in_turn(
    place: Place, base: Path, program: Path, certificate: list[Path], source: Path, count: int
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Seconds of each run of each program; and the congestion control each of them ran."""
    raw = CProgram(base / "raw", program, "raw", certificate)
    midair = Midair(base / "midair", f"ws://{SERVER}:{PORT}", "midair", "", [], in_place=False)
    with place.client.entered():
        default = DEFAULT.read_text().strip()
    times: dict[str, list[float]] = {"raw": [], "midair": []}
    controls = {"raw": default}
    try:
        with serving(place):
            for number in range(count + 1):
                for name, contender in (("raw", raw), ("midair", midair)):
                    contender.prepare(source)
                    run = (
                        raw_once(place, raw, source) if name == "raw" else midair_once(place, midair, source, controls)
                    )
                    check_same(source, contender.arrived(source), name)
                    assert run.flow is not None
                    if number > 0:
                        times[name].append(run.flow)
    finally:
        raw.close()
        midair.close()
    return times, controls


@contextlib.contextmanager
def serving(place: Place) -> Iterator[None]:
    with place.server.entered():
        server = Process([*Midair.command, "serve", "--listen", f"{SERVER}:{PORT}"])
    try:
        server.wait_for(lambda line: "ws://" in line)
        yield
    finally:
        server.stop()


def raw_once(place: Place, contender: CProgram, source: Path) -> Run:
    os.environ["TRANSFER_HOST"] = SERVER
    with place.server.entered():
        receiver = contender.receive(source)
    port = receiver.wait_for(str.isdigit)
    with place.client.entered():
        sender = contender.send(source, port)
    sent, received = watch(sender, receiver)
    return Run(0.0, float(received.lines[-1][1]), sent.cpu, received.cpu)


def midair_once(place: Place, contender: Midair, source: Path, controls: dict[str, str]) -> Run:
    code = contender.new_code()
    with place.client.entered():
        sender = Process(contender.send(source, code))
    with place.server.entered():
        receiver = Process(contender.receive(code))
    sent, received = watch(sender, receiver)
    controls["midair"] = tuned(sent)
    first, durable = flow_of(received)
    return Run(0.0, durable - first, sent.cpu, received.cpu)


def tuned(sent: Ended) -> str:
    """The congestion control of the connection that the content went over."""
    return str([event["congestion_control"] for _, event in events(sent) if event["event"] == "tuned"][-1])


def spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 2),
        "min": round(min(values), 2),
        "max": round(max(values), 2),
    }


# -- a small message under bulk --


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
