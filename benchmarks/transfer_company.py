"""How midair gets on with another TCP flow on one link; see transfer_links.py."""

from __future__ import annotations

import bisect
import contextlib
import json
import socket
import statistics
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab_wire import SERVER, Place, by_wire
from transfer_contenders import Midair
from transfer_running import Process

from midair.lab.behaviour import LinkBehaviour
from transfer import write_source

__all__ = ["COMPANY", "company"]

RATE = 100e6
"""Bits a second."""
DELAY = 0.02
"""Seconds one way."""
QUEUE = int(RATE / 8 * 2 * DELAY)
"""Bytes: as much as is under way, which is what a router's queue is said to need."""
ALONE_SECONDS = 3.0
"""The other flow has it for itself so long."""
SETTLING_SECONDS = 4.0
SHARED_SECONDS = 14.0
"""What counts. BBR looks for the shortest round trip every ten seconds: that is in it."""
MIB = 256
_TICK = struct.Struct("!d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """Who shares the link. None: nobody."""

    other: str | None
    """iperf3's congestion control."""
    midair: tuple[str, ...] | None = None
    """midair's options; None is a second iperf3."""
    second: str = ""


COMPANY = {
    "bbr, joined by midair": Company(other="bbr", midair=()),
    "bbr, joined by a second iperf3 with bbr": Company(other="bbr", second="bbr"),
    "bbr, joined by midair --background": Company(other="bbr", midair=("--background",)),
    "cubic, joined by midair": Company(other="cubic", midair=()),
    "cubic, joined by midair --cc cubic": Company(other="cubic", midair=("--cc", "cubic")),
    "cubic, joined by midair --background": Company(other="cubic", midair=("--background",)),
    "nobody, midair": Company(other=None, midair=()),
    "nobody, midair --background": Company(other=None, midair=("--background",)),
}


def company(name: str, base: Path) -> dict[str, Any]:
    """Mbit/s, Jain's index, and round trips of datagrams in milliseconds."""
    who = COMPANY[name]
    behaviour = LinkBehaviour(rate=RATE, delay=DELAY, queue=QUEUE)
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(by_wire(nat=False))
        assert place.wire is not None
        place.wire.set_link(("client", 0), there=behaviour, back=behaviour)
        probe = stack.enter_context(probing(place))
        other = None
        if who.other is not None:
            other = stack.enter_context(Iperf.running(place, 5201, who.other, ALONE_SECONDS + 60))
            time.sleep(ALONE_SECONDS)
        alone = time.monotonic()
        if who.midair is None:
            joined: Flow = stack.enter_context(Iperf.running(place, 5202, who.second, 60))
        else:
            joined = stack.enter_context(MidairFlow.running(place, base, who.midair))
        joined.wait_until_it_flows()
        since = time.monotonic() + SETTLING_SECONDS
        until = since + SHARED_SECONDS
        time.sleep(until - time.monotonic())
        rates = [flow.rate(since, until) for flow in (joined, other) if flow is not None]
        report: dict[str, Any] = {
            "joined_mbit_s": round(rates[0] * 8 / 1e6, 2),
            "round_trip_ms": probe.during(since, until),
        }
        if other is not None:
            report |= {
                "other_mbit_s": round(rates[1] * 8 / 1e6, 2),
                "share": round(rates[0] / sum(rates), 3),
                "jain": round(sum(rates) ** 2 / (2 * sum(rate**2 for rate in rates)), 3),
                "round_trip_ms_before": probe.during(alone - ALONE_SECONDS / 2, alone),
            }
        return report


class Flow:
    """Bytes that have arrived, over time (monotonic)."""

    def wait_until_it_flows(self) -> None:
        raise NotImplementedError

    def arrived(self) -> list[tuple[float, float]]:
        """Instants, and the bytes until then."""
        raise NotImplementedError

    def rate(self, since: float, until: float) -> float:
        """Bytes a second."""
        samples = self.arrived()
        return (interpolate(samples, until) - interpolate(samples, since)) / (until - since)


def interpolate(samples: list[tuple[float, float]], when: float) -> float:
    place = bisect.bisect(samples, (when, 0.0))
    if place == 0 or place == len(samples):
        return samples[max(0, place - 1)][1]
    (t0, n0), (t1, n1) = samples[place - 1], samples[place]
    return n0 + (n1 - n0) * (when - t0) / (t1 - t0)


class Iperf(Flow):
    """What its receiver says every quarter of a second."""

    def __init__(self, server: Process, client: subprocess.Popen[str]) -> None:
        self._server, self._client = server, client

    @classmethod
    @contextlib.contextmanager
    def running(cls, place: Place, port: int, control: str, seconds: float) -> Iterator[Iperf]:
        with place.server.entered():
            server = Process(
                ["iperf3", "-s", "-1", "-B", SERVER, "-p", str(port), "-i", "0.25", "-f", "k", "--forceflush"]
            )
        server.wait_for(lambda line: "Server listening" in line)
        client = place.client.popen(
            ["iperf3", "-c", SERVER, "-p", str(port), "-C", control, "-t", f"{seconds:.0f}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield cls(server, client)
        finally:
            client.kill()
            client.wait()
            server.stop()

    def wait_until_it_flows(self) -> None:
        self._server.wait_for(lambda line: "bits/sec" in line)

    def arrived(self) -> list[tuple[float, float]]:
        # [  5]   0.00-0.25   sec   2.80 MBytes  93966 Kbits/sec
        total, samples = 0.0, []
        for when, line in self._server.lines:
            words = line.split()
            if "Kbits/sec" in words:
                begin, end = map(float, words[words.index("sec") - 1].split("-"))
                total += float(words[words.index("Kbits/sec") - 1]) * 125 * (end - begin)
                samples.append((when, total))
        return samples


class MidairFlow(Flow):
    """What its receiver has taken and stored, as its progress says."""

    def __init__(self, receiver: Process) -> None:
        self._receiver = receiver

    @classmethod
    @contextlib.contextmanager
    def running(cls, place: Place, base: Path, options: tuple[str, ...]) -> Iterator[MidairFlow]:
        port = 7420
        source = base / "company.bin"
        write_source(source, MIB)
        midair = Midair(base / "company", f"ws://{SERVER}:{port}", "midair", "", [], in_place=False)
        started: list[Process] = []
        try:
            with place.server.entered():
                started.append(Process([*midair.command, "serve", "--listen", f"{SERVER}:{port}"]))
            started[0].wait_for(lambda line: "ws://" in line)
            code = midair.new_code()
            with place.client.entered():
                started.append(Process([*midair.send(source, code), *options]))
            with place.server.entered():
                started.append(Process(midair.receive(code)))
            yield cls(started[-1])
        finally:
            for process in reversed(started):
                process.stop()
            midair.close()
            source.unlink()

    def wait_until_it_flows(self) -> None:
        self._receiver.wait_for(lambda line: '"offer"' in line)

    def arrived(self) -> list[tuple[float, float]]:
        samples = []
        for when, line in self._receiver.lines:
            event = json.loads(line)
            if event["event"] == "progress":
                samples.append((when, float(event["bytes"])))
        return samples


class Probe:
    """Datagrams there and back, ten a second."""

    def __init__(self) -> None:
        self._found: list[tuple[float, float]] = []

    def answered(self, sent: float, now: float) -> None:
        self._found.append((sent, now - sent))

    def during(self, since: float, until: float) -> dict[str, float]:
        """Milliseconds; those that were lost do not count."""
        trips = sorted(trip * 1000 for sent, trip in list(self._found) if since <= sent < until)
        if not trips:
            raise SystemExit("no datagram came back")
        return {"median": round(statistics.median(trips), 1), "p95": round(trips[int(len(trips) * 0.95)], 1)}


@contextlib.contextmanager
def probing(place: Place) -> Iterator[Probe]:
    probe, over = Probe(), threading.Event()
    with place.server.entered():
        far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    far.bind((SERVER, 0))
    with place.client.entered():
        near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    near.connect(far.getsockname())
    for sock in (near, far):
        sock.settimeout(0.2)

    def answer() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                data, sender = far.recvfrom(64)
                far.sendto(data, sender)

    def hear() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                (sent,) = _TICK.unpack(near.recv(64))
                probe.answered(sent, time.monotonic())

    def ask() -> None:
        while not over.wait(0.1):
            near.send(_TICK.pack(time.monotonic()))

    threads = [threading.Thread(target=work) for work in (answer, hear, ask)]
    for thread in threads:
        thread.start()
    try:
        yield probe
    finally:
        over.set()
        for thread in threads:
            thread.join()
        near.close()
        far.close()
