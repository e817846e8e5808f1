"""What the lab's tests share: sockets placed in namespaces, and waiting for a condition."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from midair.lab import Namespace

QUIET_SECONDS = 0.3
"""How long nothing must happen for "there is no answer"; an answer takes 120 ms at most here."""


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def tcp_socket(place: Namespace, address: str = "0.0.0.0", port: int = 0) -> socket.socket:
    """A bound socket inside the namespace; its port may be shared."""
    with place.entered():
        sock = socket.socket(family_of(address), socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((address, port))
    sock.settimeout(5)
    return sock


def listening(place: Namespace, address: str, port: int) -> socket.socket:
    sock = tcp_socket(place, address, port)
    sock.listen()
    return sock


def fate_of_a_syn(place: Namespace, address: str, port: int) -> str:
    """What a dialling host gets: ``connected``, an errno name, or ``silence``."""
    with tcp_socket(place, "::" if ":" in address else "0.0.0.0") as sock:
        sock.settimeout(QUIET_SECONDS)
        try:
            sock.connect((address, port))
        except TimeoutError:
            return "silence"
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "connected"


def fates_of_syns(dials: Sequence[tuple[Namespace, str, int]]) -> list[str]:
    """The same for several at once."""
    with contextlib.ExitStack() as stack:
        dialling = []
        for place, address, port in dials:
            sock = stack.enter_context(tcp_socket(place, "::" if ":" in address else "0.0.0.0"))
            start_dialling(sock, address, port)
            dialling.append(sock)
        deadline = time.monotonic() + QUIET_SECONDS
        return [finish_dialling(sock, seconds=max(0.0, deadline - time.monotonic())) for sock in dialling]


def start_dialling(sock: socket.socket, address: str, port: int) -> None:
    sock.setblocking(False)
    assert sock.connect_ex((address, port)) == errno.EINPROGRESS


def finish_dialling(sock: socket.socket, *, seconds: float = 5.0) -> str:
    _, writable, _ = select.select([], [sock], [], seconds)
    sock.settimeout(5)
    if not writable:
        return "silence"
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return errno.errorcode[error] if error else "connected"


def talk(one: socket.socket, other: socket.socket) -> None:
    """Bytes go both ways."""
    for sender, receiver in ((one, other), (other, one)):
        sender.sendall(b"to and fro")
        assert receiver.recv(100) == b"to and fro"


def eventually(condition: Callable[[], bool], *, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
