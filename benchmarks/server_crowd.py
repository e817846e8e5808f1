"""Mailbox peers by the thousand in one thread, that cost a fraction of what the server does: sockets, epoll, and frames
that are compared as bytes and never parsed.

A peer does what a side of a transfer does at the meeting point: it binds, claims, opens, says its `pake`; when it hears
the other's it releases the number and says its `version`; when it has heard both of these it closes. When its
connection is lost it comes back, to any node, and says again what it has said, as midair's own client does.
"""

from __future__ import annotations

import gc
import heapq
import itertools
import random
import select
import socket
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Crowd", "Peer"]

_HANDSHAKE = (
    b"GET /v1 HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_PAKE = "ab" * 90
"""A SPAKE2 message as JSON in hex is about so long."""
_VERSION = "cd" * 120


def _text(json: str) -> bytes:
    """One frame, with a mask of zeros (RFC 6455 section 5.3): the server has the same work with it as with any."""
    data = json.encode()
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return b"\x81" + length + b"\0\0\0\0" + data


_SAY_PAKE = _text(f'{{"type":"add","phase":"pake","body":"{_PAKE}"}}')
_SAY_VERSION = _text(f'{{"type":"add","phase":"version","body":"{_VERSION}"}}')
_RELEASE = _text('{"type":"release"}')
_CLOSE = _text('{"type":"close","mood":"happy"}')


class Peer:
    """One side. ``on_ready``: its message is in the mailbox; ``on_met``: it has the other's; ``on_done``: it closed."""

    __slots__ = (
        "_bind",
        "_claim",
        "_data",
        "_heard_pake",
        "_mailbox",
        "_mine",
        "_open",
        "_said_close",
        "_versions",
        "crowd",
        "on_done",
        "on_met",
        "on_ready",
        "sock",
        "waits",
    )

    def __init__(
        self,
        crowd: Crowd,
        number: int,
        side: str,
        *,
        on_ready: Callable[[], None] | None = None,
        on_met: Callable[[], None] | None = None,
        on_done: Callable[[], None] | None = None,
    ) -> None:
        self.crowd = crowd
        self.on_ready, self.on_met, self.on_done = on_ready, on_met, on_done
        self._bind = _text(f'{{"type":"bind","appid":"bench","side":"{side}"}}')
        self._claim = _text(f'{{"type":"claim","nameplate":"{number}"}}')
        self._mine = f'"side":"{side}"'.encode()
        self._mailbox: bytes = b""
        self._heard_pake = self._said_close = False
        self._versions: set[bool] = set()
        self.waits = False
        self.come()

    def come(self) -> None:
        """To one of the nodes."""
        self._data, self._open = b"", False
        self.sock: socket.socket | None = self.crowd.connect(self)

    def leave(self) -> None:
        """Without a word."""
        if self.sock is not None:
            self.crowd.disconnect(self.sock)
            self.crowd.waiting -= self.waits
            self.sock, self.waits = None, False

    def connected(self) -> None:
        self._send(_HANDSHAKE)

    def readable(self) -> None:
        assert self.sock is not None
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.lost()
            return
        self._data += data
        if not self._open and not self._begin():
            return
        while (frame := self._next_frame()) is not None:
            self._handle(*frame)

    def lost(self) -> None:
        self.leave()
        if self._said_close:
            self._done()
        else:
            self.crowd.later(self.crowd.chance.uniform(*self.crowd.back_seconds), self.come)

    def _begin(self) -> bool:
        head, end, rest = self._data.partition(b"\r\n\r\n")
        if not end:
            return False
        if b" 101 " not in head[:16]:
            self.lost()
            return False
        self._open, self._data = True, rest
        if self._heard_pake:  # it has released the number
            self._send(self._bind + self._open_frame() + _SAY_PAKE + _SAY_VERSION)
        else:
            self._send(self._bind + self._claim)
        return True

    def _open_frame(self) -> bytes:
        return _text(f'{{"type":"open","mailbox":"{self._mailbox.decode()}"}}')

    def _handle(self, opcode: int, payload: bytes) -> None:
        if opcode == 9:
            self._send(bytes([0x8A, 0x80 | len(payload)]) + b"\0\0\0\0" + payload)
        elif opcode == 8:
            self.lost()
        elif payload.startswith(b'{"type":"message"'):
            self._hear(payload)
        elif payload.startswith(b'{"type":"claimed"'):
            self._mailbox = payload.partition(b'"mailbox":"')[2].partition(b'"')[0]
            self._send(self._open_frame() + _SAY_PAKE)
        elif payload.startswith(b'{"type":"closed"'):
            self.leave()
            self._done()
        elif payload.startswith(b'{"type":"error"'):
            raise RuntimeError(payload.decode())

    def _hear(self, payload: bytes) -> None:
        if self._mine in payload:
            self.crowd.waiting += not self.waits
            self.waits = True
            if self.on_ready is not None:
                self.on_ready()
                self.on_ready = None
            if b'"phase":"version"' in payload:
                self._hear_version(theirs=False)
        elif b'"phase":"pake"' in payload:
            if not self._heard_pake:
                self._heard_pake = True
                self._send(_RELEASE + _SAY_VERSION)
                if self.on_met is not None:
                    self.on_met()
        else:
            self._hear_version(theirs=True)

    def _hear_version(self, *, theirs: bool) -> None:
        """With both in the mailbox, its own come back, it may go: before, the server may not have kept it."""
        self._versions.add(theirs)
        if len(self._versions) == 2 and not self._said_close:
            self._said_close = True
            self._send(_CLOSE)

    def _done(self) -> None:
        if self.on_done is not None:
            self.on_done()
            self.on_done = None

    def _send(self, data: bytes) -> None:
        # Never more than a kilobyte on its way: it always fits.
        if self.sock is not None:
            try:
                self.sock.send(data)
            except OSError:
                self.lost()

    def _next_frame(self) -> tuple[int, bytes] | None:
        data = self._data
        if len(data) < 2 or self.sock is None:
            return None
        length, start = data[1], 2
        if length == 126:
            length, start = int.from_bytes(data[2:4], "big"), 4
        end = start + length
        if len(data) < end:
            return None
        self._data = data[end:]
        return data[0] & 0x0F, data[start:end]


class Crowd:
    """The peers of one process, and its only loop. ``nodes`` are ports of 127.0.0.1; who is killed is taken out of it.

    ``source``: where they come from; one address can have 28,000 connections to one port.
    """

    def __init__(
        self,
        nodes: list[int],
        chance: random.Random,
        *,
        source: str = "127.0.0.1",
        back_seconds: tuple[float, float] = (0.05, 0.25),
    ) -> None:
        """``back_seconds``: how soon a peer that has lost its connection comes back."""
        gc.disable()  # there is no garbage that it would find, and many peers to look at
        self.nodes = nodes
        self.chance = chance
        self.back_seconds = back_seconds
        self.waiting = 0
        """Peers whose message is in its mailbox, and who are connected."""
        self._source = source
        self._poll = select.epoll()
        self._peers: dict[int, Peer] = {}
        self._fresh: set[int] = set()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order: Final = itertools.count()

    def fill(self, numbers: range, *, at_once: int = 200, seconds: float = 60.0) -> list[Peer]:
        """Peers that wait, each alone under its number. Raises: TimeoutError."""
        peers: list[Peer] = []
        before = self.waiting
        while len(peers) < len(numbers):
            peers.extend(Peer(self, n, f"a{n:x}z") for n in numbers[len(peers) : len(peers) + at_once])
            self.run(lambda: self.waiting - before >= len(peers), seconds=seconds)
        return peers

    def connect(self, peer: Peer) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._source != "127.0.0.1":
            sock.setsockopt(socket.SOL_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: the port is chosen with the destination
            sock.bind((self._source, 0))
        sock.connect_ex(("127.0.0.1", self.chance.choice(self.nodes)))
        number = sock.fileno()
        self._peers[number] = peer
        self._fresh.add(number)
        self._poll.register(number, select.EPOLLOUT)
        return sock

    def disconnect(self, sock: socket.socket) -> None:
        number = sock.fileno()
        del self._peers[number]
        self._fresh.discard(number)
        self._poll.unregister(number)
        sock.close()

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        self.at(time.monotonic() + seconds, call)

    def at(self, moment: float, call: Callable[[], None]) -> None:
        """On time.monotonic's clock."""
        heapq.heappush(self._timers, (moment, next(self._order), call))

    def run(self, until: Callable[[], bool], *, seconds: float) -> None:
        """Raises: TimeoutError."""
        deadline = time.monotonic() + seconds
        while not until():
            now = time.monotonic()
            if now > deadline:
                raise TimeoutError(f"not done within {seconds:g} s")
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()
            next_at = self._timers[0][0] if self._timers else deadline
            for number, events in self._poll.poll(max(0.0, min(next_at, deadline) - time.monotonic()), 512):
                self._step(number, events)

    def _step(self, number: int, events: int) -> None:
        peer = self._peers.get(number)
        if peer is None:
            return
        if number not in self._fresh:
            peer.readable()
        elif events & (select.EPOLLERR | select.EPOLLHUP):
            peer.lost()
        else:
            self._fresh.discard(number)
            self._poll.modify(number, select.EPOLLIN)
            peer.connected()
