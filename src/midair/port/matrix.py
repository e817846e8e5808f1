"""The experiment of the mail this project answers: can one port listen and dial, and in which order?

For every combination of SO_REUSEADDR and SO_REUSEPORT, and for both orders, two sockets take one port of 127.0.0.1;
one listens, the other connects to a helper. Then a third tries to bind and to connect to the same helper: that would be
a second connection with the same 4-tuple. What Linux answers stands in the tests; what this machine answers is printed
by ``midair check --sockets``. It also is the probe: :mod:`midair.port.probe` asks one row of it per strategy.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from midair.port.failures import errno_name
from midair.port.sockets import new_socket

__all__ = ["Order", "SocketRow", "socket_row", "socket_table"]

Order = Literal["listen-then-bind", "bind-then-listen"]

_LOOPBACK = "127.0.0.1"
_STEP_SECONDS = 2.0
"""Loopback answers in microseconds; this is only there so that a broken one cannot hang us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketRow:
    """What happened for one combination and order.

    Each outcome is ``ok`` or an errno's name; a step that was not reached has that of the one that failed.
    """

    reuseaddr: bool
    reuseport: bool
    order: Order
    bind: str
    """Binding the second socket to the first one's port."""
    listen: str
    """Listening on the first."""
    connect: str
    """Connecting the second to somebody, while the first listens."""
    second_connect: str
    """Connecting a third one, bound after all that, to the same peer. EADDRNOTAVAIL is right: the 4-tuple is taken."""


def socket_table() -> list[SocketRow]:
    """The whole experiment, eight rows. Blocks for some milliseconds; touches 127.0.0.1 only."""
    return [
        socket_row(reuseaddr=reuseaddr, reuseport=reuseport, order=order)
        for reuseaddr, reuseport in ((False, False), (True, False), (False, True), (True, True))
        for order in ("listen-then-bind", "bind-then-listen")
    ]


def socket_row(*, reuseaddr: bool, reuseport: bool, order: Order) -> SocketRow:
    """One row of it. Never raises: an option the system lacks shows as ENOPROTOOPT."""
    options = [name for name, on in (("SO_REUSEADDR", reuseaddr), ("SO_REUSEPORT", reuseport)) if on]
    outcomes: dict[str, str] = {}

    def attempt(step: str, *actions: Callable[[], object]) -> None:
        """Does ``actions``, unless a step before has failed: then nothing after it can be tried."""
        failed = next((outcome for outcome in outcomes.values() if outcome != "ok"), None)
        try:
            for action in actions if failed is None else ():
                action()
        except OSError as error:
            failed = errno_name(error)
        outcomes[step] = failed or "ok"

    with ExitStack() as stack:
        sockets: list[socket.socket] = []

        def prepare() -> None:
            sockets.extend(stack.enter_context(_blocking(names)) for names in ([], *[options] * 3))
            sockets[0].bind((_LOOPBACK, 0))
            sockets[0].listen(2)
            sockets[1].bind((_LOOPBACK, 0))

        def listen() -> None:
            sockets[1].listen(1)

        def bind() -> None:
            sockets[2].bind(sockets[1].getsockname())

        if order == "listen-then-bind":
            attempt("listen", prepare, listen)
            attempt("bind", bind)
        else:
            attempt("bind", prepare, bind)
            attempt("listen", listen)
        attempt("connect", lambda: sockets[2].connect(sockets[0].getsockname()))
        attempt(
            "second_connect",
            lambda: sockets[3].bind(sockets[1].getsockname()),
            lambda: sockets[3].connect(sockets[0].getsockname()),
        )
    return SocketRow(reuseaddr=reuseaddr, reuseport=reuseport, order=order, **outcomes)


def _blocking(options: list[str]) -> socket.socket:
    sock = new_socket(4, options)
    sock.settimeout(_STEP_SECONDS)
    return sock
