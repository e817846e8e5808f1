"""Many relayed pairs at once: whether they share fairly, what they hold, and how the server answers meanwhile.

Every pair's sender always has something to send; some of the readers read slowly, and their pairs are left out of the
index of fairness (Jain's: 1 is equal shares, 1/n is all for one). Senders and readers share the cores with the server.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from server_processes import many_descriptors, server, usage_of
from server_relay import through_midair

__all__ = ["measure_many"]

_PIECE_BYTES = 256 << 10
_SLOW_BYTES = 16 << 10
_SLOW_EVERY = 0.25
_BLOCK = 1 << 20
_UNPRIVILEGED = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
"""As a service runs: what a user may hold in pipes (fs.pipe-user-pages-soft) counts for it."""


def measure_many(folder: Path, *, pairs: int, slow: int, seconds: float) -> dict[str, Any]:
    """``pairs`` for ``seconds``, ``slow`` of them with a reader that takes 64 KiB a second."""
    many_descriptors()
    with (
        server(folder, wrapper=_UNPRIVILEGED if os.geteuid() == 0 else ()) as (port, pid),
        contextlib.ExitStack() as stack,
    ):
        before = usage_of(pid)
        legs = [stack.enter_context(through_midair(port, pid)) for _ in range(pairs)]
        joined = usage_of(pid)
        sender = _start_sending([leg[0] for leg in legs])
        try:
            answers: list[float] = []
            asking = threading.Thread(target=_ask, args=(port, seconds, answers))
            asking.start()
            got = _receive([leg[1] for leg in legs], slow, seconds)
            asking.join()
            after = usage_of(pid)
            kernel_mib = _tcp_mib()
        finally:
            os.kill(sender, 9)
            os.waitpid(sender, 0)
    fast = got[slow:]
    mean = sum(fast) / len(fast)
    return {
        "pairs": pairs,
        "slow_readers": slow,
        "seconds": seconds,
        "mib_per_second": round(sum(got) / seconds / (1 << 20)),
        "jain": round(sum(fast) ** 2 / (len(fast) * sum(each * each for each in fast)), 4),
        "least_and_most_of_mean": [round(min(fast) / mean, 2), round(max(fast) / mean, 2)],
        "slow_kib_per_second": round(sum(got[:slow]) / max(slow, 1) / seconds / 1024),
        "kib_per_idle_pair": round((joined.resident_kib - before.resident_kib) / pairs, 1),
        "resident_mib": [round(each.resident_kib / 1024, 1) for each in (before, joined, after)],
        "descriptors": [each.descriptors for each in (before, joined, after)],
        "tcp_mib_of_all_processes": kernel_mib,
        "cpu_seconds_per_gib": round((after.cpu_seconds - joined.cpu_seconds) * (1 << 30) / sum(got), 2),
        "healthz_ms": {
            "median": round(1000 * statistics.median(answers), 1),
            "max": round(1000 * max(answers), 1),
        },
    }


def _start_sending(socks: Sequence[socket.socket]) -> int:
    """A process that fills every one of them, in turn, for ever; its id."""
    child = os.fork()
    if child:
        return child
    try:
        block = os.memfd_create("block")
        os.ftruncate(block, _BLOCK)
        poll = select.epoll()
        for sock in socks:
            sock.setblocking(False)
            poll.register(sock, select.EPOLLOUT)
        while True:
            for descriptor, _ in poll.poll():
                with contextlib.suppress(BlockingIOError):
                    os.sendfile(descriptor, block, 0, _PIECE_BYTES)
    finally:
        os._exit(0)


def _receive(socks: Sequence[socket.socket], slow: int, seconds: float) -> list[int]:
    """What came of each; the first ``slow`` are read slowly."""
    got = dict.fromkeys((sock.fileno() for sock in socks), 0)
    by_number = {sock.fileno(): sock for sock in socks}
    poll = select.epoll()
    for sock in socks:
        sock.setblocking(False)
    for sock in socks[slow:]:
        poll.register(sock, select.EPOLLIN)
    buffer = bytearray(_PIECE_BYTES)
    end = time.monotonic() + seconds
    slow_at = time.monotonic()
    while (now := time.monotonic()) < end:
        for number, _ in poll.poll(0.05):
            with contextlib.suppress(BlockingIOError):
                got[number] += by_number[number].recv_into(buffer, 0, socket.MSG_TRUNC)
        if now >= slow_at:
            slow_at = now + _SLOW_EVERY
            for sock in socks[:slow]:
                with contextlib.suppress(BlockingIOError):
                    got[sock.fileno()] += sock.recv_into(buffer, _SLOW_BYTES, socket.MSG_TRUNC)
    return list(got.values())


def _ask(port: int, seconds: float, answers: list[float]) -> None:
    """How long /healthz takes, again and again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            while sock.recv(4096):
                pass
        answers.append(time.monotonic() - started)
        time.sleep(0.05)


def _tcp_mib() -> float:
    """What the kernel holds for TCP in this network namespace: both ends of everything here."""
    line = next(line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    return round(int(line.split()[-1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20), 1)
