"""Room for many sockets at once."""

from __future__ import annotations

import contextlib

__all__ = ["make_room_for"]

RESERVE = 256
"""Descriptors for everything else: files of a transfer, the mailbox, standard streams."""


def make_room_for(sockets: int) -> int:
    """Raises this process's soft limit of open descriptors as far as need be and as its hard limit allows.

    Returns how many of the ``sockets`` there is room for. Windows has no such limit.
    """
    try:
        import resource
    except ImportError:  # Windows
        return sockets
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return sockets
    wanted = sockets + RESERVE
    if soft < wanted:
        goal = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS refuses more than kern.maxfilesperproc; not tried
            resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(sockets, max(0, soft - RESERVE))
