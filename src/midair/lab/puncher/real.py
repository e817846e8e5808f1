"""The plain puncher with real sockets in the hosts of a lab: any number of pairs at once, in the calling thread."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import struct
import time
from typing import TYPE_CHECKING, Final

from midair.lab.puncher.loop import Loop
from midair.lab.puncher.machine import (
    PATIENCE,
    Accepted,
    Command,
    Dial,
    Event,
    Failed,
    Listen,
    Opened,
    Puncher,
    Received,
    Send,
    Started,
    Stop,
    Tick,
    WakeAt,
)
from midair.lab.puncher.reflection import REFLECTOR_PORT, endpoint_text, from_reply, reply_to
from midair.lab.puncher.story import EndStory, Punch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midair.lab.puncher.loop import Place
    from midair.lab.puncher.reflection import Endpoint

__all__ = ["punch_all"]

REFLECTION_SECONDS: Final = 5.0
"""How long the server may take to answer all."""
LEAD_SECONDS: Final = 0.05
"""From when all is prepared to the first start."""
MOST_BYTES: Final = 4096
_TOTAL_RETRANS: Final = struct.Struct("=100xI")
"""``tcpi_total_retrans`` in ``struct tcp_info``."""


def punch_all(
    pairs: Sequence[tuple[Place, Place]], server: Place, *, skew: float | Sequence[float] = 0.0, version: int = 4
) -> list[Punch]:
    """One try of each pair, all started at one instant. The second of a pair starts ``skew`` seconds after the first,
    or before if negative; there may be one for each pair. ``version`` is that of IP.

    It takes REFLECTION_SECONDS, PATIENCE and the largest skew at most. Raises: OSError when sockets or ports have run
    out.
    """
    skews = [skew] * len(pairs) if isinstance(skew, (int, float)) else skew
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(Loop())
        reflector = _Reflector(loop, server, version)
        tries = [
            _Try(_End(loop, str(number), a, version), _End(loop, str(number), b, version))
            for number, (a, b) in enumerate(pairs)
        ]
        ends = [end for each in tries for end in each.ends]
        for end in ends:
            end.ask(reflector.address)
        loop.run(time.monotonic() + REFLECTION_SECONDS, lambda: all(end.seen is not None for end in ends))
        punching = [(each, late) for each, late in zip(tries, skews, strict=True) if each.prepare()]
        first = time.monotonic() + LEAD_SECONDS
        for each, late in punching:
            each.start(first, late)
        loop.run(
            first + max(map(abs, skews), default=0.0) + PATIENCE + 1.0,
            lambda: all(each.is_over for each, _ in punching),
        )
        return [each.result() for each in tries]


class _Try:
    """One pair's."""

    def __init__(self, a: _End, b: _End) -> None:
        self.ends = (a, b)
        self._first = 0.0
        self._result: Punch | None = None

    def prepare(self) -> bool:
        """Whether both can be started. What takes time is done now."""
        a, b = self.ends
        if a.seen is None or b.seen is None:
            return False
        a.prepare(b.seen)
        b.prepare(a.seen)
        return True

    def start(self, first: float, skew: float) -> None:
        """``first`` is when the first of the two starts."""
        a, b = self.ends
        self._first = first
        a.start(first + max(0.0, -skew))
        b.start(first + max(0.0, skew))

    @property
    def is_over(self) -> bool:
        """Whether both ends are. Nothing that happens afterwards counts."""
        if self._result is None and all(end.is_over for end in self.ends):
            self._result = self.result()
            for end in self.ends:
                end.close()
        return self._result is not None

    def result(self) -> Punch:
        a, b = self.ends
        return self._result or Punch(a=a.story(self._first), b=b.story(self._first))


class _Reflector:
    """The server: says where it sees who comes. Connections stay open, and keep the NATs' entries alive."""

    def __init__(self, loop: Loop, server: Place, version: int) -> None:
        self._loop = loop
        host = (server.addresses if version == 4 else server.addresses6)[0]
        self.address = (host, REFLECTOR_PORT)
        self._listener = loop.open(server, version)
        self._listener.bind(self.address)
        self._listener.listen(1024)
        loop.watch(self._listener, selectors.EVENT_READ, self._accept)

    def _accept(self, now: float) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            sock, address = self._listener.accept()
            self._loop.adopt(sock)
            sock.send(reply_to(_endpoint(address)))


class _End:
    """One end: a host, a puncher and its sockets."""

    def __init__(self, loop: Loop, pair: str, place: Place, version: int) -> None:
        self.seen: Endpoint | None = None
        self._loop = loop
        self._place = place
        self._version = version
        self._puncher = Puncher(pair, place.name)
        self._reflection = loop.open(place, version)
        self._listener: socket.socket | None = None
        self._spare: socket.socket | None = None
        """Bound before the start, so that all dial at one instant."""
        self._sockets: dict[str, socket.socket] = {}
        self._dialling: set[str] = set()
        self._local: tuple[str, int] = ("", 0)
        self._peer: Endpoint | None = None
        self._started_at = 0.0
        self._wake_at = 0.0
        self._accepted = 0
        self._syns = 0

    @property
    def is_over(self) -> bool:
        return self._puncher.over

    def ask(self, reflector: tuple[str, int]) -> None:
        """Asks the server where it sees us, and takes a port by that. The connection stays open: it keeps the NAT's
        entry alive."""
        if self._reflection.connect_ex(reflector) == errno.EINPROGRESS:
            self._local = self._reflection.getsockname()[:2]
            self._loop.watch(self._reflection, selectors.EVENT_READ, self._answered)
        else:
            self._loop.close(self._reflection)

    def prepare(self, peer: Endpoint) -> None:
        self._peer = peer
        self._listener = self._bound()
        self._spare = self._bound()

    def start(self, at: float) -> None:
        self._started_at = at
        self._loop.at(at, lambda now: self._tell(Started(), now))

    def close(self) -> None:
        """Closes its sockets, but for the one to the server."""
        self._count_repetitions()
        for sock in (self._listener, *self._sockets.values()):
            if sock is not None:
                self._loop.close(sock)
        self._sockets.clear()

    def story(self, started: float) -> EndStory:
        self._count_repetitions()
        return EndStory(
            name=self._puncher.name,
            started=max(0.0, self._started_at - started),
            local=endpoint_text(_endpoint(self._local)) if self._local[1] else "",
            seen=endpoint_text(self.seen) if self.seen is not None else "",
            syns=self._syns,
            notes=tuple(self._puncher.notes),
            heard=tuple(self._puncher.heard.items()),
        )

    def _count_repetitions(self) -> None:
        """Of dials that are still out."""
        self._syns += sum(_repetitions(self._sockets[key]) for key in self._dialling)
        self._dialling.clear()

    def _answered(self, now: float) -> None:
        try:
            data = self._reflection.recv(MOST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if self.seen is None:
            self.seen = from_reply(data)
        if not data:
            self._loop.close(self._reflection)

    def _bound(self) -> socket.socket:
        sock = self._loop.open(self._place, self._version)
        sock.bind(self._local)
        return sock

    def _tell(self, event: Event, now: float) -> None:
        for command in self._puncher.handle(event, now):
            self._carry_out(command, now)

    def _carry_out(self, command: Command, now: float) -> None:
        match command:
            case Dial(id=key):
                self._dial(key, now)
            case Send(id=key, data=data):
                with contextlib.suppress(OSError):  # it will be read from, too
                    self._sockets[key].send(data)
            case WakeAt(at=at):
                self._wake_at = at
                self._loop.at(at, lambda now: self._wake(at, now))
            case Listen():
                assert self._listener is not None
                self._listener.listen(16)
                self._loop.watch(self._listener, selectors.EVENT_READ, self._accept)
            case Stop():
                self.close()

    def _wake(self, at: float, now: float) -> None:
        if at == self._wake_at:
            self._tell(Tick(), now)

    def _dial(self, key: str, now: float) -> None:
        assert self._peer is not None
        sock, self._spare = self._spare or self._bound(), None
        address, port = self._peer
        family = socket.AF_INET if self._version == 4 else socket.AF_INET6
        number = sock.connect_ex((socket.inet_ntop(family, address), port))
        if number not in (0, errno.EINPROGRESS):
            self._loop.close(sock)
            self._tell(Failed(key, errno.errorcode[number]), now)
            return
        self._syns += 1
        self._sockets[key] = sock
        self._dialling.add(key)
        self._loop.watch(sock, selectors.EVENT_WRITE, lambda now: self._dialled(key, now))

    def _dialled(self, key: str, now: float) -> None:
        sock = self._sockets[key]
        self._dialling.discard(key)
        self._syns += _repetitions(sock)
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._loop.close(self._sockets.pop(key))
            self._tell(Failed(key, errno.errorcode[number]), now)
            return
        self._loop.watch(sock, selectors.EVENT_READ, lambda now: self._read(key, now))
        self._tell(Opened(key), now)

    def _accept(self, now: float) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self._loop.adopt(sock)
        self._accepted += 1
        key = f"accept-{self._accepted}"
        self._sockets[key] = sock
        self._loop.watch(sock, selectors.EVENT_READ, lambda now: self._read(key, now))
        self._tell(Accepted(key), now)

    def _read(self, key: str, now: float) -> None:
        try:
            data = self._sockets[key].recv(MOST_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(key, errno.errorcode[error.errno or 0], now)
            return
        if data:
            self._tell(Received(key, data), now)
        else:
            self._lost(key, "closed", now)

    def _lost(self, key: str, error: str, now: float) -> None:
        self._loop.close(self._sockets.pop(key))
        self._tell(Failed(key, error), now)


def _endpoint(address: tuple[str, int]) -> Endpoint:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    return socket.inet_pton(family, address[0]), address[1]


def _repetitions(sock: socket.socket) -> int:
    """How often the kernel has repeated the SYN, when that is all there was."""
    return int(_TOTAL_RETRANS.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TOTAL_RETRANS.size))[0])
