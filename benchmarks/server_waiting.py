"""Memory for each peer that waits: connected, with a nameplate and an open mailbox with one message in it.

Resident memory of the server's process; the kernel's own for a socket (about 4.5 KiB) is beside it and not counted.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from server_crowd import Crowd
from server_processes import many_descriptors, server, usage_of

__all__ = ["measure_waiting"]

IDLE_SECONDS = 10.0


def measure_waiting(folder: Path, *, peers: int) -> dict[str, Any]:
    """``peers`` at one process that keeps its mailboxes in memory."""
    many_descriptors()
    with server(folder) as (port, pid):
        crowd = Crowd([port], random.Random(0))
        # Some first, so that what is made once is not counted.
        first = crowd.fill(range(10_000, 10_100))
        before = usage_of(pid)
        started = time.perf_counter()
        connected = crowd.fill(range(20_000, 20_000 + peers))
        seconds = time.perf_counter() - started
        after = usage_of(pid)
        idle_until = time.monotonic() + IDLE_SECONDS
        crowd.at(idle_until, lambda: None)
        crowd.run(lambda: time.monotonic() >= idle_until, seconds=2 * IDLE_SECONDS)
        idle = usage_of(pid)
        assert crowd.waiting == len(first) + len(connected)
    return {
        "peers": len(connected),
        "kib_per_peer": round((after.resident_kib - before.resident_kib) / len(connected), 2),
        "resident_mib": round(after.resident_kib / 1024, 1),
        "descriptors": after.descriptors,
        "arrivals_per_second": round(len(connected) / seconds),
        "cpu_ms_per_arrival": round(1000 * (after.cpu_seconds - before.cpu_seconds) / len(connected), 3),
        "idle_cpu_share": round((idle.cpu_seconds - after.cpu_seconds) / IDLE_SECONDS, 4),
    }
