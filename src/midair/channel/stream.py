"""A channel: records over one authenticated TCP connection.

It is used in two phases. While paths are raced the socket is non-blocking and a few small records go with
``send_async`` and ``receive_async``. Then the caller makes the socket blocking (``port.tune_for_bulk``) and threads
take over: any number that send, one that receives. A frame lies in one buffer (header, payload, tag), is sealed where
it lies and goes out with one ``sendall``; a received record is opened where it landed. The expensive calls (the
cipher, send, recv) release the GIL.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import mmap
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from midair.channel.cipher import CounterExhaustedError, ForgedRecordError
from midair.channel.failures import ChannelClosed
from midair.channel.wire import (
    HEADER_BYTES,
    MAX_PAYLOAD,
    TAG_BYTES,
    Header,
    HeaderError,
    RecordType,
    decode_header,
)
from midair.errors import ConnectionLostError, MidairError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from midair.channel.handshake import Established
    from midair.endpoint import Endpoint

__all__ = ["CONTENT_AT", "MAX_SMALL_PAYLOAD", "Channel", "Frame", "Received", "Record"]

_Direction = Literal["send", "receive"]

MAX_SMALL_PAYLOAD = 64 * 1024
"""Bytes ``receive_async`` takes in one record; there is no bulk in that phase."""
CONTENT_AT = 8
"""This byte of a payload, sent or received, lies in the middle of a page; bulk data has eight bytes of its own in
front. What it is copied from or to, files and the kernel's own buffers, begins where pages begin, or a little later.

On some CPUs (measured on a Zen 3) a copy to a place that lies 1 to 31 bytes further into its page than the source does
into its own is up to twenty times as slow as any other."""


@dataclass(frozen=True, slots=True)
class Record:
    """A small record, with a payload of its own."""

    type: int
    flags: int
    payload: bytes


class Received(NamedTuple):
    """A record in the channel's receive buffer: ``payload`` is good until the next ``receive``."""

    type: int
    flags: int
    payload: memoryview


class Frame:
    """A buffer for one record to send. After it was sent ``payload`` holds ciphertext; fill it anew for the next."""

    __slots__ = ("payload", "view")

    def __init__(self) -> None:
        self.view = _memory(before=HEADER_BYTES + CONTENT_AT, size=HEADER_BYTES + MAX_PAYLOAD + TAG_BYTES)
        self.payload = self.view[HEADER_BYTES : HEADER_BYTES + MAX_PAYLOAD]
        """MAX_PAYLOAD writable bytes."""


def _memory(*, before: int, size: int) -> memoryview:
    """``size`` bytes, of which ``before`` stand before the middle of a page."""
    start = mmap.PAGESIZE // 2 - before
    return memoryview(mmap.mmap(-1, start + size))[start:]


class Channel:
    """See the module. Made by :func:`midair.channel.authenticate`.

    Sending and receiving raise ConnectionLostError when the connection breaks, is aborted, or ends without CLOSE (it
    was cut off); receiving raises ChannelClosed when the peer has closed it in good order, and RemoteProtocolError
    when what came cannot be a record. A direction that has failed stays failed, the other one is not touched: when the
    peer has gone, its last words may still be there to be received. Then ``abort``, or ``close``, ends it.
    """

    def __init__(self, sock: socket.socket, established: Established, *, local: Endpoint, remote: Endpoint) -> None:
        self.sock = sock
        self.connection_id = established.connection_id
        """8 bytes, the same on both sides; not secret."""
        self.local = local
        self.remote = remote
        self._sealer = established.sealer
        self._opener = established.opener
        self._sending = threading.Lock()
        """Held from taking a number to the last byte sent: records must leave in the order of their numbers."""
        self._sending_async = asyncio.Lock()
        self._header = memoryview(bytearray(HEADER_BYTES))
        self._body = memoryview(b"")
        self._outward, self._inward = _Inside(self, "send"), _Inside(self, "receive")
        self._mutex = threading.Lock()
        self._threads_inside = 0
        self._aborted: str | None = None
        self._broken: dict[_Direction, str] = {}
        self._closed_by_peer = False

    @property
    def incoming(self) -> socket.socket:
        """What is received comes through it; the same as ``sock``."""
        return self.sock

    def __repr__(self) -> str:
        return f"<Channel {self.connection_id.hex()}>"

    # -- before the bulk phase: non-blocking socket, event loop --

    async def send_async(self, record_type: int, payload: bytes) -> None:
        """Send one record. Cancelling it in the middle breaks the channel."""
        async with self._sending_async:
            with self._breaking("send"):
                record = self._sealer.seal(record_type, payload)
                await asyncio.get_running_loop().sock_sendall(self.sock, record)

    async def receive_async(self) -> Record:
        """The next record, at most 64 KiB; not a byte more is read. Cancelling it breaks the channel."""
        self._refuse_after_close()
        with self._breaking("receive"):
            raw = await self._read_async(HEADER_BYTES)
            header = decode_header(raw)
            if header.length > MAX_SMALL_PAYLOAD:
                raise HeaderError(f"a record of {header.length} bytes before the transfer")
            payload = self._opener.open(raw, await self._read_async(header.length + TAG_BYTES))
        self._judge_close(header)
        return Record(header.type, header.flags, payload)

    async def _read_async(self, count: int) -> bytes:
        loop = asyncio.get_running_loop()
        received = bytearray()
        while len(received) < count:
            piece = await loop.sock_recv(self.sock, count - len(received))
            if not piece:
                raise ConnectionLostError("the connection was cut off")
            received += piece
        return bytes(received)

    # -- the bulk phase: blocking socket, threads --

    def new_frame(self) -> Frame:
        """A buffer to fill and to hand to ``send_frame``, as often as wanted."""
        return Frame()

    def send_frame(self, record_type: int, frame: Frame, length: int, flags: int = 0) -> None:
        """Seal the first ``length`` bytes of ``frame.payload`` in place and send them. From any thread."""
        with self._sending, self._outward:
            self.sock.sendall(self._sealer.seal_in_place(frame.view, length, record_type, flags))

    def send(self, record_type: int, payload: bytes, flags: int = 0) -> None:
        """Send one record of at most MAX_PAYLOAD bytes. From any thread."""
        with self._sending, self._outward:
            self.sock.sendall(self._sealer.seal(record_type, payload, flags))

    def receive(self) -> Received:
        """The next record; waits as long as it takes. One thread only; ``abort`` wakes it."""
        self._refuse_after_close()
        with self._inward:
            self._read_into(self._header)
            header = decode_header(self._header)
            if not self._body:
                self._body = _memory(before=CONTENT_AT, size=MAX_PAYLOAD + TAG_BYTES)
            sealed = self._body[: header.length + TAG_BYTES]
            self._read_into(sealed)
            payload = self._opener.open_in_place(bytes(self._header), sealed)
        self._judge_close(header)
        return Received(header.type, header.flags, payload)

    def _read_into(self, view: memoryview) -> None:
        # MSG_WAITALL: one system call and one wake-up a record; it may still return early, after a signal.
        missing = len(view)
        while (count := self.sock.recv_into(view, missing, socket.MSG_WAITALL)) < missing:
            if not count:
                raise ConnectionLostError("the connection was cut off")
            view, missing = view[count:], missing - count

    # -- the end --

    def close(self, *, linger: float = 1.0) -> None:
        """End it in good order: CLOSE, FIN, and up to ``linger`` seconds for the peer to do the same.

        Waiting matters: closing over unread bytes sends a RST, and that can overtake what the peer has not read yet.
        Blocking, for the thread that received last; idempotent; never raises.
        """
        deadline = time.monotonic() + linger
        if not self._sending.acquire(timeout=linger):
            self.abort()
            return
        try:
            with contextlib.suppress(ConnectionLostError, RemoteProtocolError), self._outward:
                self.sock.settimeout(max(linger, 0.001))
                self.sock.sendall(self._sealer.seal(RecordType.CLOSE, b""))
                self.sock.shutdown(socket.SHUT_WR)
                scratch = bytearray(64 * 1024)
                while (left := deadline - time.monotonic()) > 0:
                    self.sock.settimeout(left)
                    if not self.sock.recv_into(scratch):
                        break
        finally:
            self._sending.release()
            self.abort()

    def finish(self) -> None:
        """No more of ours, and not CLOSE either: the conversation has gone on elsewhere. Idempotent; never raises."""
        with contextlib.suppress(ConnectionLostError), self._outward:
            self.sock.shutdown(socket.SHUT_WR)

    def retire(self, *, linger: float) -> None:
        """As ``close``, for a channel that nothing more is said over: without CLOSE."""
        deadline = time.monotonic() + linger
        self.finish()
        with contextlib.suppress(ConnectionLostError), self._inward:
            scratch = bytearray(64 * 1024)
            while (left := deadline - time.monotonic()) > 0:
                self.sock.settimeout(left)
                if not self.sock.recv_into(scratch):
                    break
        self.abort()

    def abort(self) -> None:
        """End it now; blocked threads wake with ConnectionLostError. From any thread; idempotent; never raises."""
        with self._mutex:
            self._aborted = "the connection was given up"
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
            self._close_when_empty()

    def _close_when_empty(self) -> None:
        # The descriptor may be given to another file the moment it is closed, and a thread on its way into recv()
        # would then read from that. So the last thread out closes it.
        if self._aborted is not None and not self._threads_inside:
            self.sock.close()

    @contextlib.contextmanager
    def _breaking(self, direction: _Direction) -> Iterator[None]:
        """Whatever goes wrong in here leaves the stream in the middle of a record: no more of that direction."""
        if (why := self._aborted or self._broken.get(direction)) is not None:
            raise ConnectionLostError(why)
        try:
            yield
        except BaseException as error:
            raised = self._break(direction, error)
            if raised is error:
                raise
            raise raised from error

    def _break(self, direction: _Direction, error: BaseException) -> BaseException:
        """No more of that direction; what to raise for it."""
        kind, why = _telling(error)
        why = self._broken.setdefault(direction, self._aborted or why)
        return error if kind is None else kind(why)

    def _refuse_after_close(self) -> None:
        if self._closed_by_peer:
            raise ChannelClosed("the peer has closed the channel")

    def _judge_close(self, header: Header) -> None:
        if header.type == RecordType.CLOSE:
            self._closed_by_peer = True
            raise ChannelClosed("the peer has closed the channel")


class _Inside:
    """A thread is inside one direction, with a blocking socket. It does what :meth:`Channel._breaking` does.

    Not a generator, of which it would take two: what Python does between two pieces of content finds little of what it
    needs in the CPU's caches, and counts.
    """

    __slots__ = ("_channel", "_direction")

    def __init__(self, channel: Channel, direction: _Direction) -> None:
        self._channel = channel
        self._direction = direction

    def __enter__(self) -> None:
        channel = self._channel
        with channel._mutex:
            why = channel._aborted or channel._broken.get(self._direction)
            if why is not None:
                raise ConnectionLostError(why)
            channel._threads_inside += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        channel = self._channel
        raised = None if error is None else channel._break(self._direction, error)
        with channel._mutex:
            channel._threads_inside -= 1
            if channel._aborted is not None:
                channel._close_when_empty()
        if raised is not None and raised is not error:
            raise raised from error


def _telling(error: BaseException) -> tuple[type[MidairError] | None, str]:
    """What is raised for what went wrong on a connection, and its words; None when that is what went wrong itself."""
    match error:
        case HeaderError() | ForgedRecordError():
            return RemoteProtocolError, f"the peer sent what cannot be a record: {error}"
        case CounterExhaustedError():
            return ConnectionLostError, "the connection has carried all it may; a new one is needed"
        case OSError():
            name = errno.errorcode.get(error.errno or 0, type(error).__name__)
            return ConnectionLostError, f"the connection broke ({name})"
        case _:
            return None, str(error) or "the connection was given up"
