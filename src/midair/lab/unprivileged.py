"""The lab without root: in a user namespace, in which one is root and may make network namespaces."""

from __future__ import annotations

import os
import time
from pathlib import Path

from midair.lab.linux import CLONE_NEWNET, CLONE_NEWUSER, unshare
from midair.lab.requirements import available

__all__ = ["available_somehow"]


def available_somehow(*, kernel: bool = False) -> str | None:
    """As ``available``, but when this process may not make a lab it first becomes root of a user namespace of its own,
    with a network of its own in which there is nothing. For programs that do nothing else; it cannot be undone, and
    only a process with a single thread can do it.
    """
    lack = available(kernel=kernel)
    if lack is None:
        return None
    try:
        _become_root()
    except OSError:
        return lack
    return available(kernel=kernel)


def _become_root() -> None:
    deadline = time.monotonic() + 1.0
    while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < deadline:  # noqa: PTH208
        time.sleep(0.001)  # the kernel still counts threads that Python has joined
    user, group = os.geteuid(), os.getegid()
    # A network too: one comes back only to a network namespace that belongs to the user namespace.
    unshare(CLONE_NEWUSER | CLONE_NEWNET)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
