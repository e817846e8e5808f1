"""What each step of the data path costs here, for 1 MiB: ciphers, BLAKE3, reading and writing the page cache.

CPU milliseconds, the best of many and the mean. The copies are made to and from memory that begins so many bytes after
the beginning of a page; on some CPUs a copy to a place 1 to 31 bytes further into its page than its source is much
slower. Sealing in pieces, and with half the key, is there to see
whether that would bring anything.

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
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESOCB3

from midair.channel.measuring import measured_costs
from midair.channel.suites import Aead, Suite, agree, new_aead

__all__: list[str] = []

MIB = 1 << 20
FILE_MIB = 64


def main() -> int:
    memory = memoryview(mmap.mmap(-1, 3 * MIB))
    memory[:] = os.urandom(len(memory))
    for suite in Suite:
        show(f"seal, {suite.name}", sealing(new_aead(suite, bytes(32)), memory))
    half: dict[str, Aead] = {"AES_128_GCM": AESGCM(bytes(16)), "AES_128_OCB": AESOCB3(bytes(16))}
    for name, aead in half.items():
        show(f"seal, {name}", sealing(aead, memory))
    costs = measured_costs()
    chosen = agree(costs, costs)
    print(f"chosen here: {chosen.name if chosen is not None else None}")
    show("BLAKE3", lambda _: blake3(memory[:MIB]).digest())
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        path = Path(folder) / "content"
        path.write_bytes(os.urandom(MIB) * FILE_MIB)
        descriptor = os.open(path, os.O_RDWR)
        for place in (0, 8, 16, 32, 64, mmap.PAGESIZE // 2):
            show(f"read to {place} bytes into a page", reading(descriptor, memory[place : place + MIB]))
        for before in (0, 8, 16, 32, mmap.PAGESIZE // 2):
            start = mmap.PAGESIZE - before
            show(f"write from {before} bytes before a page", writing(descriptor, memory[start : start + MIB]))
        for kib in (64, 256, 1024, 2048):
            show(f"read and seal 2 MiB, {kib} KiB at a time", piecewise(descriptor, memory, kib << 10))
        os.close(descriptor)
    return 0


def sealing(aead: Aead, memory: memoryview) -> Callable[[int], object]:
    return lambda _: aead.encrypt_into(bytes(12), memory[:MIB], b"", memory[: MIB + 16])


def reading(descriptor: int, memory: memoryview) -> Callable[[int], object]:
    return lambda number: os.preadv(descriptor, [memory], number % FILE_MIB * MIB)


def writing(descriptor: int, memory: memoryview) -> Callable[[int], object]:
    return lambda number: os.pwrite(descriptor, memory, number % FILE_MIB * MIB)


def piecewise(descriptor: int, memory: memoryview, size: int) -> Callable[[int], object]:
    """As if each piece were a record: it is sealed while it is in the cache."""
    aead = AESOCB3(bytes(32))

    def step(number: int) -> None:
        for at in range(0, 2 * MIB - size + 1, size):
            os.preadv(descriptor, [memory[at : at + size]], number % (FILE_MIB // 2) * 2 * MIB + at)
            aead.encrypt_into(bytes(12), memory[at : at + size], b"", memory[at : at + size + 16])

    return step


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
