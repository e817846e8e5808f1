"""The process that ends what a lab leaves running when it is killed. Run as a program, not imported for its work.

Each line on its input is an order: ``+ INODE`` and ``- INODE`` name network namespaces of the program that started it.
When the input ends, that program is gone, and every process in one of the namespaces is killed, whatever it has done
to get away from its parent. In an orderly end no namespace is left by then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

__all__ = ["processes_in", "sweep"]

_SECONDS = 5.0


def processes_in(inodes: set[int]) -> list[int]:
    """Every other process that is in one of these network namespaces, as far as we may look."""
    found = []
    own = str(os.getpid())
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib would double the time this takes to start
        if name.isdigit() and name != own:
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}/ns/net").st_ino in inodes:  # noqa: PTH116
                    found.append(int(name))
    return found


def sweep(inodes: set[int], seconds: float = _SECONDS) -> None:
    """Kills every process in these namespaces, and those they start meanwhile; gives up after some seconds."""
    deadline = time.monotonic() + seconds
    while inodes and (found := processes_in(inodes)) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)  # for the kernel to take them out of the namespace


def _main() -> None:
    inodes: set[int] = set()
    for line in sys.stdin:
        order, _, number = line.partition(" ")
        (inodes.add if order == "+" else inodes.discard)(int(number))
    sweep(inodes)


if __name__ == "__main__":
    _main()
