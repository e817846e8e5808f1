"""Holds a conversation to the pace of a sender that gives way, see :mod:`midair.transfer.yielding`.

A thread of its own looks at the path about once a round trip and tells the kernel how fast it may send; the bytes go
their way as ever. When the conversation moves to another connection, that one begins anew.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from midair.port import pace, read_path
from midair.transfer.yielding import Yielding

if TYPE_CHECKING:
    import socket

    from midair.channel import Conversation

__all__ = ["in_background"]

_log = logging.getLogger("midair.transfer")
_PAUSE = 0.05
"""Seconds until another look, where the system tells nothing."""


@contextlib.contextmanager
def in_background(channel: Conversation) -> Iterator[None]:
    """Meanwhile what is sent over ``channel`` gives way to everything else."""
    over = threading.Event()
    thread = threading.Thread(target=_hold, args=(channel, over), name="midair-background", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        pace(channel.sock, None)  # last words are not bulk


def _hold(channel: Conversation, over: threading.Event) -> None:
    sock: socket.socket | None = None
    yielding: Yielding | None = None
    pause = 0.0
    while not over.wait(pause):
        if channel.sock is not sock:
            sock, yielding = channel.sock, None
        reading = read_path(sock)
        pause = _PAUSE
        if reading is None:
            continue
        if yielding is None:
            yielding = Yielding(reading, time.monotonic())
        else:
            yielding.heard(reading, time.monotonic())
        pace(sock, yielding.rate)
        pause = yielding.pause
    if yielding is not None:
        _log.debug("in the background: %.0f bytes a second at the end", yielding.rate)
