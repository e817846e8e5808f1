"""Listening sockets: an ordinary one at an address, and taking connections from any."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys

from midair.endpoint import Endpoint
from midair.port.failures import PortUnavailableError, errno_name
from midair.port.rules import rules_for
from midair.port.sockets import new_socket

__all__ = ["accept", "listen_tcp", "unavailable"]

_POLL_SECONDS = 0.02
"""How often a listener is asked on a loop that cannot watch a descriptor."""


def listen_tcp(host: str, port: int, *, backlog: int = 2048) -> socket.socket:
    """An ordinary non-blocking listener at one address literal (``0.0.0.0``, ``::``: every address of that family).

    Port 0 lets the system choose. A ``backlog`` of 2048 keeps a burst of some hundred peers from waiting for a SYN
    retransmission.

    Raises: PortUnavailableError.
    """
    try:
        local = Endpoint.of(host, port)
    except ValueError as error:
        raise PortUnavailableError(
            f"cannot listen at {host[:100]!r}, port {port}: {error}",
            hint="Name an address of this machine, such as 0.0.0.0 or ::, and a port up to 65535.",
        ) from error
    try:
        sock = new_socket(local.family, rules_for(sys.platform).alone_options)
        try:
            sock.bind(local.to_sockaddr())
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise unavailable(error, str(local)) from error
    return sock


async def accept(listener: socket.socket, *, pause: bool = True) -> tuple[socket.socket, Endpoint]:
    """The next connection, non-blocking, and where it comes from. One caller a listener at a time.

    Others run first, because a listener that always has somebody must not keep the loop. Without ``pause`` the caller
    has to see to that.

    Cancelling loses no connection: it stays in the backlog. Cancel it before the listener is closed; a closed listener
    wakes nobody.

    Raises: OSError, such as EMFILE.
    """
    while True:
        if pause:
            await asyncio.sleep(0)
        try:
            sock, address = listener.accept()
        except BlockingIOError:
            await _readable(listener)
        except ConnectionAbortedError:  # it went away while it waited
            continue
        else:
            sock.setblocking(False)
            return sock, Endpoint.from_sockaddr(address)


async def _readable(sock: socket.socket) -> None:
    # Not loop.sock_accept(): cancelled in the wrong moment, that drops a connection it has already accepted.
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    descriptor = sock.fileno()
    try:
        loop.add_reader(descriptor, _set, ready)
    except NotImplementedError:  # Windows' default loop; not tried there
        await asyncio.sleep(_POLL_SECONDS)
        return
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


_HINTS = {
    errno.EADDRINUSE: "Another program has this port. Choose another one, or stop that program.",
    errno.EACCES: "Ports below 1024 usually need an administrator. Choose a higher one.",
    errno.EADDRNOTAVAIL: "This machine does not have that address.",
    errno.EAFNOSUPPORT: "This machine does not have that IP version.",
}


def unavailable(error: OSError, what: str) -> PortUnavailableError:
    """The error to show for a port that cannot be bound; ``what`` names it."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    hint = _HINTS.get(error.errno or 0, "")
    return PortUnavailableError(f"cannot use TCP {what}: {reason} ({errno_name(error)})", hint=hint)
