"""Sockets in hosts and timers, in one thread: what the real puncher is driven by."""

from __future__ import annotations

import heapq
import selectors
import socket
import time
from itertools import count
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

__all__ = ["Loop", "Place"]


class Place(Protocol):
    """A host of the lab, as far as it is needed here."""

    @property
    def name(self) -> str: ...

    @property
    def addresses(self) -> tuple[str, ...]: ...

    @property
    def addresses6(self) -> tuple[str, ...]: ...

    def entered(self) -> AbstractContextManager[object]: ...


class Loop:
    """Sockets and timers. Closes all sockets in the end."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callable[[float], object]]] = []
        self._numbers = count()
        self._sockets: set[socket.socket] = set()

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._selector.close()
        for sock in self._sockets:
            sock.close()

    def open(self, place: Place, version: int) -> socket.socket:
        """A socket in a host, which will share its port."""
        with place.entered():
            sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
        self.adopt(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return sock

    def adopt(self, sock: socket.socket) -> None:
        """Sees to it that it is closed."""
        self._sockets.add(sock)
        sock.setblocking(False)

    def watch(self, sock: socket.socket, event: int, call: Callable[[float], object]) -> None:
        """Has ``call`` called when a socket is ready, instead of what was said before."""
        if sock in self._selector.get_map():
            self._selector.modify(sock, event, call)
        else:
            self._selector.register(sock, event, call)

    def close(self, sock: socket.socket) -> None:
        """Idempotent."""
        if sock in self._sockets:
            self._sockets.discard(sock)
            if sock in self._selector.get_map():
                self._selector.unregister(sock)
            sock.close()

    def at(self, due: float, call: Callable[[float], object]) -> None:
        """Has ``call`` called then."""
        heapq.heappush(self._timers, (due, next(self._numbers), call))

    def run(self, until: float, done: Callable[[], bool]) -> None:
        """Lets things happen until then, or until ``done``."""
        while not done():
            now = time.monotonic()
            if now >= until:
                return
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2](time.monotonic())
            due = min(until, self._timers[0][0]) if self._timers else until
            for key, _ in self._selector.select(max(0.0, due - time.monotonic())):
                if key.fileobj in self._sockets:  # not closed by what another one's event has caused
                    key.data(time.monotonic())
