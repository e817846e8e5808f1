"""Memory for each peer that waits: connected, with a nameplate and an open mailbox with one message in it.

Resident memory of the server's process; the kernel's own for a socket (about 4.5 KiB) is beside it and not counted.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from server_peers_raw import Peer
from server_processes import many_descriptors, server, usage_of

__all__ = ["measure_waiting"]

_AT_ONCE = 100
_PAKE = "ab" * 90
"""A SPAKE2 message as JSON in hex is about so long."""


def measure_waiting(folder: Path, *, peers: int) -> dict[str, Any]:
    """``peers`` at one process that keeps its mailboxes in memory."""
    many_descriptors()
    with server(folder) as (port, pid):
        return asyncio.run(_fill(port, pid, peers))


async def _fill(port: int, pid: int, peers: int) -> dict[str, Any]:
    # One pass first, so that what is made once is not counted.
    await _come(port, range(_AT_ONCE))
    before = usage_of(pid)
    started = time.perf_counter()
    connected = []
    for start in range(_AT_ONCE, peers + _AT_ONCE, _AT_ONCE):
        connected += await _come(port, range(start, start + _AT_ONCE))
    seconds = time.perf_counter() - started
    after = usage_of(pid)
    await asyncio.sleep(10)
    idle = usage_of(pid)
    result = {
        "peers": len(connected),
        "kib_per_peer": round((after.resident_kib - before.resident_kib) / len(connected), 2),
        "resident_mib": round(after.resident_kib / 1024, 1),
        "descriptors": after.descriptors,
        "arrivals_per_second": round(len(connected) / seconds),
        "cpu_ms_per_arrival": round(1000 * (after.cpu_seconds - before.cpu_seconds) / len(connected), 3),
        "idle_cpu_share": round((idle.cpu_seconds - after.cpu_seconds) / 10, 4),
    }
    for peer in connected:
        peer.close()
    return result


async def _come(port: int, numbers: range) -> list[Peer]:
    return list(await asyncio.gather(*[_wait(port, number) for number in numbers]))


async def _wait(port: int, number: int) -> Peer:
    peer = await Peer.connect(port, f"{number:x}")
    peer.say({"type": "claim", "nameplate": str(number)})
    mailbox = (await peer.get("claimed"))["mailbox"]
    peer.say({"type": "open", "mailbox": mailbox})
    peer.say({"type": "add", "phase": "pake", "body": _PAKE})
    await peer.get("message")
    return peer
