"""What each step of the data path costs here, for 1 MiB: ciphers, BLAKE3, reading and writing the page cache.

CPU milliseconds, the best of many and the mean. The copies are made to and from memory that begins so many bytes after
the beginning of a page; on some CPUs a few bytes make it four times as slow.

    python benchmarks/transfer_steps.py
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from midair.channel.measuring import measured_costs
from midair.channel.suites import Suite, agree, new_aead

__all__: list[str] = []

MIB = 1 << 20
FILE_MIB = 64


def main() -> int:
    memory = memoryview(mmap.mmap(-1, 2 * MIB))
    memory[:] = os.urandom(len(memory))
    for suite in Suite:
        show(f"seal, {suite.name}", sealing(suite, memory))
    costs = measured_costs()
    chosen = agree(costs, costs)
    print(f"chosen here: {chosen.name if chosen is not None else None}")
    show("BLAKE3", lambda _: blake3(memory[:MIB]).digest())
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        path = Path(folder) / "content"
        path.write_bytes(os.urandom(MIB) * FILE_MIB)
        descriptor = os.open(path, os.O_RDWR)
        for place in (0, 8, 16, 32, 64):
            show(f"read to {place} bytes into a page", reading(descriptor, memory[place : place + MIB]))
        for before in (0, 8, 16, 32):
            start = mmap.PAGESIZE - before
            show(f"write from {before} bytes before a page", writing(descriptor, memory[start : start + MIB]))
        os.close(descriptor)
    return 0


def sealing(suite: Suite, memory: memoryview) -> Callable[[int], object]:
    aead = new_aead(suite, bytes(32))
    return lambda _: aead.encrypt_into(bytes(12), memory[:MIB], b"", memory[: MIB + 16])


def reading(descriptor: int, memory: memoryview) -> Callable[[int], object]:
    return lambda number: os.preadv(descriptor, [memory], number % FILE_MIB * MIB)


def writing(descriptor: int, memory: memoryview) -> Callable[[int], object]:
    return lambda number: os.pwrite(descriptor, memory, number % FILE_MIB * MIB)


def show(name: str, step: Callable[[int], object]) -> None:
    spent = []
    step(0)
    for number in range(256):
        before = time.thread_time()
        step(number)
        spent.append((time.thread_time() - before) * 1000)
    print(f"{name:36} {min(spent):6.3f} best  {sum(spent) / len(spent):6.3f} mean  ms", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
