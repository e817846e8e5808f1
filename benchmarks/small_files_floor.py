"""The least a Python program can do about many small files, and each promise of midair's added to it one by one.

Two processes over a loopback socket: one looks, opens, reads and sends, the other makes, writes and closes. There is no
cipher, no list beforehand, no journal and no question; so it is what the rest can be compared with. CPU microseconds a
file, of both processes, best of some runs.

    python benchmarks/small_files_floor.py
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import socket
import struct
import tempfile
import time
from pathlib import Path

from blake3 import blake3
from many_files import default_folder, write_source

__all__: list[str] = []

FRAME = 1 << 20
HEADER = struct.Struct("!HIq")
PROMISES = ("bare", "times", "unchanged", "notes", "hashes", "durable")
"""Each with all before it: the bytes and names alone; times of modification; whether a file is still what it was when
it was found; where it is from, in an extended attribute; BLAKE3 on both sides; one sync of the file system and a
rename."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=4096, help="size of each")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=default_folder())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="midair-bench-", dir=options.folder) as folder:
        base = Path(folder)
        write_source(base / "tree", options.files, options.bytes)
        for count, promise in enumerate(PROMISES, 1):
            runs = [once(base, set(PROMISES[:count])) for _ in range(options.runs)]
            sending, receiving, seconds = (min(run[place] for run in runs) / options.files * 1e6 for place in range(3))
            print(
                f"{promise:10} sender {sending:5.1f}, receiver {receiving:5.1f}, "
                f"both {sending + receiving:5.1f} us of CPU a file; {seconds:5.1f} us of time",
                flush=True,
            )
    return 0


def once(base: Path, promises: set[str]) -> tuple[float, float, float]:
    """CPU seconds of the sender and of the receiver, and seconds."""
    there = base / "there"
    there.mkdir()
    near, far = loopback()
    began = time.monotonic()
    children = []
    for work, ours, theirs in ((send, near, far), (receive, far, near)):
        child = os.fork()
        if not child:
            theirs.close()
            work(base / "tree", there, ours, promises)
            os._exit(0)
        children.append(child)
    near.close()
    far.close()
    cpu = []
    for child in children:
        _, status, usage = os.wait4(child, 0)
        if status:
            raise SystemExit("a side failed")
        cpu.append(usage.ru_utime + usage.ru_stime)
    seconds = time.monotonic() - began
    shutil.rmtree(there)
    return cpu[0], cpu[1], seconds


def loopback() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        return near, listener.accept()[0]


def send(tree: Path, there: Path, sock: socket.socket, promises: set[str]) -> None:
    frame = memoryview(bytearray(FRAME))
    used = 0
    for folder in sorted(os.scandir(tree), key=lambda entry: entry.name):
        inside = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY)
        for entry in sorted(os.scandir(folder.path), key=lambda entry: entry.name):
            found = entry.stat(follow_symlinks=False)
            name = f"{folder.name}/{entry.name}".encode()
            if used + HEADER.size + len(name) + 32 + found.st_size > FRAME:
                sock.sendall(frame[:used])
                used = 0
            HEADER.pack_into(frame, used, len(name), found.st_size, found.st_mtime_ns)
            used += HEADER.size
            frame[used : used + len(name)] = name
            used += len(name)
            content = frame[used : used + found.st_size]
            descriptor = os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=inside)
            os.preadv(descriptor, [content], 0)
            if "unchanged" in promises:
                after = os.fstat(descriptor)
                if (after.st_mtime_ns, after.st_size, after.st_ino) != (
                    found.st_mtime_ns,
                    found.st_size,
                    found.st_ino,
                ):
                    raise SystemExit("changed")
            os.close(descriptor)
            used += found.st_size
            if "hashes" in promises:
                frame[used : used + 32] = blake3(content).digest()
                used += 32
        os.close(inside)
    sock.sendall(frame[:used])
    sock.shutdown(socket.SHUT_WR)


def receive(tree: Path, there: Path, sock: socket.socket, promises: set[str]) -> None:
    buffer = memoryview(bytearray(2 * FRAME))
    held = 0
    part = there / "tree.part"
    part.mkdir()
    top = os.open(part, os.O_RDONLY | os.O_DIRECTORY)
    folder, inside = b"", -1
    while count := sock.recv_into(buffer[held:]):
        held += count
        at = 0
        while held - at >= HEADER.size:
            length, size, mtime_ns = HEADER.unpack_from(buffer, at)
            start = at + HEADER.size + length
            end = start + size
            after = end + (32 if "hashes" in promises else 0)
            if held < after:
                break
            parent, _, name = bytes(buffer[at + HEADER.size : start]).partition(b"/")
            if parent != folder:
                if inside >= 0:
                    os.close(inside)
                os.mkdir(parent, 0o755, dir_fd=top)
                inside = os.open(parent, os.O_RDONLY | os.O_DIRECTORY, dir_fd=top)
                folder = parent
            content = buffer[start:end]
            if "hashes" in promises and blake3(content).digest() != buffer[end:after]:
                raise SystemExit("damaged")
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=inside)
            os.pwrite(descriptor, content, 0)
            if "notes" in promises:
                os.setxattr(descriptor, "user.midair.source", b"0123456789abcdef")
            if "times" in promises:
                os.utime(descriptor, ns=(mtime_ns, mtime_ns))
            os.close(descriptor)
            at = after
        buffer[: held - at] = bytes(buffer[at:held])
        held -= at
    if "durable" in promises:
        ctypes.CDLL(None).syncfs(top)
        part.rename(there / "tree")


if __name__ == "__main__":
    raise SystemExit(main())
