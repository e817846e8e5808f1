"""Tells systemd how the service is doing (sd_notify(3)); without effect where nobody asked."""

from __future__ import annotations

import contextlib
import os
import socket

__all__ = ["notify_systemd"]


def notify_systemd(state: str) -> None:
    """``state`` as sd_notify(3) has it, such as READY=1."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address or not hasattr(socket, "AF_UNIX"):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.sendto(state.encode(), address)
