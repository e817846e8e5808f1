"""Small things the tests of port/ share."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from midair.endpoint import Endpoint
from midair.port import listen_tcp

__all__ = ["listening", "local", "unused_number"]


@contextlib.contextmanager
def listening(host: str = "127.0.0.1", port: int = 0) -> Iterator[tuple[socket.socket, Endpoint]]:
    """A listener on loopback and where it is."""
    with listen_tcp(host, port) as listener:
        yield listener, local(listener)


def local(sock: socket.socket) -> Endpoint:
    return Endpoint.from_sockaddr(sock.getsockname())


def unused_number() -> int:
    """A port the kernel has just given back."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        number: int = sock.getsockname()[1]
    return number
