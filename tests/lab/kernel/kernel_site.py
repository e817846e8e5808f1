"""A Linux router with two hosts behind it and two on the internet, all on the wire; and what tests do there."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from typing import TYPE_CHECKING

from midair.lab.kernel import SynCounts, read_syn_counts
from midair.lab.lab import Lab
from midair.lab.namespace import Namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from midair.lab.description import KernelKind

__all__ = [
    "Probe",
    "Site",
    "connected",
    "eventually",
    "fates",
    "icmp_types",
    "listening",
    "outcomes",
    "raw_socket",
    "received",
    "site",
    "start_dialling",
    "talk",
    "tcp_socket",
]

QUIET_SECONDS = 0.1
"""How long nothing must happen for "there is no answer"; an answer takes some 10 ms here."""
_PATIENCE_SECONDS = 5.0

Probe = tuple[Namespace, str, int]
"""Who dials which address and port."""


class Site:
    """``a`` and ``b`` are behind the router, ``server``, which has two addresses, and ``proxy`` on the internet."""

    def __init__(self, lab: Lab) -> None:
        self.a, self.b, self.server, self.proxy = lab.a, lab.b, lab.server, lab.proxy
        self.router = lab.router("shared.1")
        (self.part,) = lab.blueprint.kernels

    def counts(self) -> SynCounts:
        """What the router has counted."""
        return read_syn_counts(self.router)


@contextlib.contextmanager
def site(kind: KernelKind) -> Iterator[Site]:
    """With IPv6, and a round trip of 10 ms between inside and outside."""
    options = "ipv6 a.delay=0.001 b.delay=0.001 server.delay=0.004"
    with Lab(f"(none + none) > kernel:{kind} with {options}") as lab:
        yield Site(lab)


def tcp_socket(place: Namespace, port: int = 0, *, address: str = "0.0.0.0") -> socket.socket:
    """A bound socket inside the namespace; its port may be shared."""
    with place.entered():
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((address, port))
    sock.settimeout(_PATIENCE_SECONDS)
    return sock


def listening(place: Namespace, port: int, *, address: str = "0.0.0.0") -> socket.socket:
    """The same, listening."""
    sock = tcp_socket(place, port, address=address)
    sock.listen()
    return sock


def connected(
    dialler: socket.socket, listener: socket.socket, address: str, port: int = 0
) -> tuple[socket.socket, tuple[str, int]]:
    """Dials a listener at an address, and a port where that is not its own; returns the accepted socket and the peer it
    sees."""
    dialler.connect((address, port or listener.getsockname()[1]))
    accepted, peer = listener.accept()
    accepted.settimeout(_PATIENCE_SECONDS)
    return accepted, (peer[0], peer[1])


def start_dialling(sock: socket.socket, address: str, port: int) -> None:
    """Sends the SYN."""
    sock.setblocking(False)
    assert sock.connect_ex((address, port)) == errno.EINPROGRESS


def fates(probes: Sequence[Probe], expected: Sequence[str]) -> list[str]:
    """What becomes of several dials made at once: ``connected``, an errno's name, or ``silence``. Waits long for what
    is expected to be answered, but ``QUIET_SECONDS`` for what is not."""
    with contextlib.ExitStack() as stack:
        sockets = []
        for place, address, port in probes:
            sock = stack.enter_context(tcp_socket(place, address="::" if ":" in address else "0.0.0.0"))
            start_dialling(sock, address, port)
            sockets.append(sock)
        return outcomes(sockets, expected)


def outcomes(sockets: Sequence[socket.socket], expected: Sequence[str]) -> list[str]:
    """The same of dials that have been started; those that are connected block again."""
    found = ["silence"] * len(sockets)
    poll = select.poll()
    numbers = {sock.fileno(): number for number, sock in enumerate(sockets)}
    for sock in sockets:
        poll.register(sock, select.POLLOUT)
    now = time.monotonic()
    quiet, deadline = now + QUIET_SECONDS, now + _PATIENCE_SECONDS
    while numbers:
        awaited = any(expected[number] != "silence" for number in numbers.values())
        seconds = (deadline if awaited else quiet) - time.monotonic()
        if seconds <= 0:
            break
        for descriptor, _ in poll.poll(seconds * 1000):
            poll.unregister(descriptor)
            number = numbers.pop(descriptor)
            error = sockets[number].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            found[number] = errno.errorcode[error] if error else "connected"
            sockets[number].settimeout(_PATIENCE_SECONDS)
    return found


def talk(one: socket.socket, other: socket.socket) -> None:
    """Bytes go both ways, unchanged even if they are addresses."""
    for sender, receiver in ((one, other), (other, one)):
        text = b"from %s" % sender.getsockname()[0].encode()
        sender.sendall(text)
        assert receiver.recv(100) == text


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it becomes true within five seconds."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@contextlib.contextmanager
def raw_socket(place: Namespace, protocol: int, *, version: int = 4) -> Iterator[socket.socket]:
    """Gets a copy of every packet of a protocol that arrives for the host; IPv4 with its header."""
    with place.entered():
        sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_RAW, protocol)
    with sock:
        sock.setblocking(False)
        yield sock


def received(sock: socket.socket) -> list[bytes]:
    """What has arrived at it by now."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(sock.recv(65536))
    return found


def icmp_types(packets: Sequence[bytes]) -> list[tuple[int, int]]:
    """Type and code of each ICMP message over IPv4."""
    return [(packet[header], packet[header + 1]) for packet in packets if (header := (packet[0] & 15) * 4)]
