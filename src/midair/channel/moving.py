"""A conversation over one connection that can go on over another; :mod:`midair.channel.move` has the rules.

It takes the place of a :class:`Channel` in its bulk phase, for threads with blocking sockets. Whoever sends finds the
MOVE that is due before its own record; where nobody sends, a thread of the move's own does. That thread also sees the
old connection off.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from midair.channel.move import Move, MoveError
from midair.channel.stream import Channel, Frame, Received
from midair.channel.wire import RecordType
from midair.errors import ConnectionLostError, MidairError, RemoteProtocolError

if TYPE_CHECKING:
    import socket

    from midair.endpoint import Endpoint

__all__ = ["Conversation", "MovingChannel"]

AGREEMENT_SECONDS = 5.0
"""How long MOVE may be ahead of the agreement: that has gone before it, and its way here is through the event loop."""
RETIRE_SECONDS = 2.0
"""How long the old connection is given to end in good order."""


class Conversation(Protocol):
    """What a transfer needs of a channel."""

    @property
    def sock(self) -> socket.socket:
        """What is being sent goes through it."""

    @property
    def incoming(self) -> socket.socket:
        """What is being received comes through it."""

    @property
    def local(self) -> Endpoint: ...

    def new_frame(self) -> Frame: ...

    def send_frame(self, record_type: int, frame: Frame, length: int, flags: int = 0) -> None: ...

    def send(self, record_type: int, payload: bytes, flags: int = 0) -> None: ...

    def receive(self) -> Received: ...

    def close(self, *, linger: float = 1.0) -> None: ...

    def abort(self) -> None: ...


class MovingChannel:
    """See the module. Methods of :class:`Conversation` are as those of :class:`Channel`."""

    def __init__(self, first: Channel, *, leading: bool, on_moved: Callable[[], None] = lambda: None) -> None:
        """``first`` is in its bulk phase. One side is ``leading``. ``on_moved`` is called once, from another thread,
        when both directions have moved."""
        self._first = first
        self._next: Channel | None = None
        self._out = self._in = first
        self._move = Move(leading=leading)
        self._on_moved = on_moved
        self._sending = threading.Lock()
        """Held while a record goes out: MOVE is the last of ours on the old connection, and CLOSE the last of all."""
        self._changed = threading.Condition()
        self._gone = False
        self._carried = [0, 0]

    def __repr__(self) -> str:
        return f"<MovingChannel {self._first.connection_id.hex()}{'' if self._next is None else ' moving'}>"

    def move_to(self, channel: Channel) -> None:
        """Go on over ``channel``, which both sides have agreed on and is in its bulk phase. At most once.

        From any thread; returns at once. When the conversation is over already, ``channel`` is closed.
        """
        with self._changed:
            usable = not self._gone
            try:
                self._move.agree(channel.connection_id)
            except MoveError:
                usable = False  # whoever reads has met it, or will
            if usable:
                self._next = channel
                self._changed.notify_all()
        if usable:
            threading.Thread(target=self._see_to_it, name="midair-mover", daemon=True).start()
        else:
            channel.abort()

    @property
    def carried(self) -> tuple[int, int]:
        """Bytes of payload, both directions together, over the first connection and over the other."""
        return self._carried[0], self._carried[1]

    @property
    def sock(self) -> socket.socket:
        return self._out.sock

    @property
    def incoming(self) -> socket.socket:
        return self._in.sock

    @property
    def local(self) -> Endpoint:
        """Of the connection that is received on."""
        return self._in.local

    def new_frame(self) -> Frame:
        return self._first.new_frame()

    # -- sending --

    def send_frame(self, record_type: int, frame: Frame, length: int, flags: int = 0) -> None:
        with self._sending:
            self._move_if_due()
            self._out.send_frame(record_type, frame, length, flags)
            self._carried[self._out is self._next] += length

    def send(self, record_type: int, payload: bytes, flags: int = 0) -> None:
        with self._sending:
            self._move_if_due()
            self._out.send(record_type, payload, flags)
            self._carried[self._out is self._next] += len(payload)

    def _move_if_due(self) -> None:
        """Only with ``_sending`` held."""
        with self._changed:
            target = self._next if self._move.due else None
            if target is None:
                return
            self._move.departs()
        self._out.send(RecordType.MOVE, target.connection_id)
        with self._changed:
            self._move.sent()
            self._out = target
            self._changed.notify_all()

    # -- receiving --

    def receive(self) -> Received:
        """As :meth:`Channel.receive`; PING is only a sign of life."""
        while True:
            received = self._in.receive()
            if received.type == RecordType.MOVE:
                self._follow(bytes(received.payload))
            elif received.type != RecordType.PING:
                self._carried[self._in is self._next] += len(received.payload)
                return received

    def _follow(self, name: bytes) -> None:
        with self._changed:
            try:
                self._move.take(name)
            except MoveError as error:
                raise RemoteProtocolError(str(error)) from error
            agreed = self._changed.wait_for(lambda: self._move.arrives or self._gone, AGREEMENT_SECONDS)
            if self._gone:
                raise ConnectionLostError("the connection was given up")
            if not agreed or self._next is None:
                raise RemoteProtocolError("the peer moves to a connection that was not agreed on")
            self._in = self._next
            self._changed.notify_all()

    # -- the thread of a move --

    def _see_to_it(self) -> None:
        try:
            self._wait(lambda: self._move.due or self._move.departed)
            with self._sending:
                self._move_if_due()
            self._wait(lambda: self._move.over)
        except MidairError:
            return  # whoever sends or receives next meets the same, and can say so
        with self._changed:
            if not self._move.over:
                return
        self._on_moved()
        self._first.retire(linger=RETIRE_SECONDS)

    def _wait(self, until: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: until() or self._gone)

    # -- the end --

    def close(self, *, linger: float = 1.0) -> None:
        """As :meth:`Channel.close`; a connection that nothing goes over, or not any more, ends in good order too."""
        deadline = time.monotonic() + linger
        if not self._sending.acquire(timeout=linger):
            self.abort()
            return
        with self._changed:
            self._move.ended()
            out, other = self._out, self._first if self._out is self._next else self._next
        self._sending.release()
        if other is not None:
            other.finish()
        out.close(linger=linger)
        if other is not None:
            other.retire(linger=max(0.0, deadline - time.monotonic()))
        self.abort()

    def abort(self) -> None:
        with self._changed:
            self._gone = True
            following = self._next
            self._changed.notify_all()
        self._first.abort()
        if following is not None:
            following.abort()
