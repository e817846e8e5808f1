"""A byte stream over a chosen connection, for asyncio.

Cancelling a channel's ``receive_async`` or ``send_async`` breaks it in the middle of a record, but programs put
deadlines around every read and write. So two tasks of the connection's own do that work, and are never interrupted: one
takes records in until RECEIVE_BYTES wait to be read, the other sends what was written. Readers and writers wait only
for these.

What begins on the relay moves to a direct connection when there is one, see :mod:`midair.connection.way`.

On the wire: DATA records of up to RECORD_BYTES; CLOSE ends one direction, as anywhere else in the channel, and so is
half a close. But nothing moves after CLOSE, and who has ended its stream may have the longer part before it: so as long
as a direction may still move, END ends its data, and CLOSE follows once it cannot. PING is a sign of life for whoever
waits, and keeps NATs and the relay from forgetting an idle connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, Literal

from midair import events
from midair.channel import ChannelClosed, Record, RecordType
from midair.connection.way import Way
from midair.endpoint import Endpoint
from midair.errors import ConnectionLostError, MidairError, RemoteProtocolError
from midair.traversal import PathResult

__all__ = ["CLOSE_SECONDS", "PING_SECONDS", "SILENCE_SECONDS", "Connection", "Story"]

DATA: Final = 16
"""The first record type that is not the channel's own."""
END: Final = 17
"""No DATA after it, as after CLOSE; without payload."""
RECORD_BYTES: Final = 64 * 1024
RECEIVE_BYTES: Final = 256 * 1024
"""What may wait here to be read; beyond that the other side is slowed down."""
SEND_BYTES: Final = 256 * 1024
"""What may wait here to be sent when ``write`` returns."""
PING_SECONDS = 15.0
"""A side that has sent nothing for so long sends a sign of life. Servers close an idle relayed pair after 120 s."""
SILENCE_SECONDS = 60.0
"""A side from which nothing comes for so long is gone: four signs of life."""
CLOSE_SECONDS = 5.0
"""How long ``close`` waits for the other side."""

Story = tuple[tuple[float, events.Event], ...]
"""What happened on the way to a connection, each with the seconds since it was begun."""


class Connection:
    """One connection to the peer; :func:`midair.host`, :func:`midair.connect` and :func:`midair.punch` make it.

    Reading and writing raise ConnectionLostError when the connection breaks or ends without the peer's having ended it,
    and RemoteProtocolError when what comes is not what a peer sends. What had arrived by then is read before that.
    Reads and writes may be cancelled, and go on later. They know nothing of a path that changes meanwhile.
    """

    def __init__(
        self,
        result: PathResult,
        *,
        leading: bool,
        story: Callable[[], Story] = lambda: (),
        on_event: events.Listener = lambda event: None,
    ) -> None:
        """Takes over ``result`` with all that belongs to it; needs a running loop. One side is ``leading``.
        ``on_event`` is told what happens from now on, and ``story`` has it, too."""
        self._changed = asyncio.Event()
        """Something of what follows is different from before."""
        self._way = Way(result, leading=leading, on_event=on_event, changed=self._changed)
        self._story = story
        self._incoming = bytearray()
        self._room = RECEIVE_BYTES
        self._ended_by_peer = False
        self._outgoing: deque[memoryview] = deque()
        self._unsent = 0
        self._ending = False
        self._ended = False
        self._closing = False
        self._lost: dict[Literal["read", "write"], MidairError] = {}
        self._told = False
        """Whether who uses it knows that it was lost."""
        self._receiver = asyncio.create_task(self._receive(), name="midair-receiver")
        self._sender = asyncio.create_task(self._send(), name="midair-sender")

    @property
    def path(self) -> Literal["direct", "relay"]:
        """What the stream goes by, in both directions."""
        return self._way.chosen.path

    @property
    def searching(self) -> bool:
        """Whether it goes by the relay as long as a direct path is looked for."""
        return self._way.searching

    @property
    def reason(self) -> str | None:
        """When relayed for good: why not direct, for a person."""
        return self._way.chosen.reason

    @property
    def local(self) -> Endpoint:
        """Our end of ``path``."""
        return self._way.chosen.local

    @property
    def remote(self) -> Endpoint:
        """The peer, or the relay."""
        return self._way.chosen.remote

    @property
    def story(self) -> Story:
        """What has happened so far."""
        return self._story()

    def __repr__(self) -> str:
        return f"<Connection {self.path} {self.local} to {self.remote}>"

    # -- reading --

    async def read(self, most: int = RECORD_BYTES) -> bytes:
        """What has come, at least one byte and at most so many; ``b""`` when the peer has ended its stream."""
        if most < 1:
            raise ValueError("read() gives at least one byte")
        await self._until_readable(lambda: bool(self._incoming))
        return self._take(most)

    async def readexactly(self, count: int) -> bytes:
        """Exactly so many bytes; room is made for them.

        Raises: asyncio.IncompleteReadError when the peer ends its stream before; it has what was left.
        """
        self._make_room(count)
        await self._until_readable(lambda: len(self._incoming) >= count)
        if len(self._incoming) < count:
            raise asyncio.IncompleteReadError(self._take(count), count)
        return self._take(count)

    async def readuntil(self, separator: bytes = b"\n", *, most: int = RECORD_BYTES) -> bytes:
        """Up to and with the next ``separator``, at most so many bytes in all.

        Raises: asyncio.IncompleteReadError when the peer ends its stream before; it has what was left.
            asyncio.LimitOverrunError when there is no separator in time; nothing is taken then.
        """
        self._make_room(most)

        def end() -> int:
            return self._incoming.find(separator, 0, most) + len(separator)

        missing = len(separator) - 1
        await self._until_readable(lambda: end() > missing or len(self._incoming) >= most)
        if end() > missing:
            return self._take(end())
        if len(self._incoming) >= most:
            raise asyncio.LimitOverrunError(f"no separator in {most} bytes", most)
        raise asyncio.IncompleteReadError(self._take(most), None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """What comes, in pieces, until the peer ends its stream."""
        while piece := await self.read():
            yield piece

    # -- writing --

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends all of it. Returns when so much has left that SEND_BYTES at most wait here.

        Cancelling ends the waiting; ``data`` is sent all the same. Raises: RuntimeError after ``write_eof``.
        """
        if self._ending:
            raise RuntimeError("this side of the connection has been ended")
        self._raise_if_lost("write")
        copy = memoryview(bytes(data))
        if copy:
            self._outgoing.append(copy)
            self._unsent += len(copy)
            self._changed.set()
        await self._until(lambda: self._unsent <= SEND_BYTES or "write" in self._lost)
        self._raise_if_lost("write")

    async def write_eof(self) -> None:
        """Ends our stream: the peer reads to its end, and may go on writing. Returns when all has left. Idempotent.

        Cancelling ends the waiting only.
        """
        self._ending = True
        self._changed.set()
        await self._until(lambda: self._ended or "write" in self._lost)
        if not self._ended:
            self._raise_if_lost("write")

    # -- the end --

    async def close(self) -> None:
        """Ends our stream, waits until the peer has ended its own, and drops what still comes; then closes everything.

        It takes CLOSE_SECONDS at most, a little more where a router has to take a port back. Idempotent. Cancelling
        closes at once. What the peer does with what it got is not known here: let it say so where that matters.

        Raises: ConnectionLostError when not all that was written has left, or the connection broke meanwhile; unless
            that has been raised before.
        """
        if self._closing:
            await self.abort()
            return
        self._closing = self._ending = True
        self._changed.set()
        try:
            await asyncio.wait({self._sender, self._receiver}, timeout=CLOSE_SECONDS)
        finally:
            lost, unsent = self._lost.get("write") or self._lost.get("read"), self._unsent
            await self.abort()
        if self._told or (self._ended_by_peer and not unsent):
            return
        if lost is not None:
            raise lost
        if unsent:
            raise ConnectionLostError(f"the other side did not take the last {unsent} bytes in {CLOSE_SECONDS:g} s")

    async def abort(self) -> None:
        """Closes everything at once; the peer reads that the connection was lost. Idempotent, and never raises.

        Takes no time but for a router that has to take a port back: a second at most. Cancelling leaves it that.
        """
        self._closing = self._ending = True
        for task in (self._receiver, self._sender):
            task.cancel()
        try:
            await asyncio.wait({self._receiver, self._sender})
        finally:
            self._lose("read", ConnectionLostError("this connection is closed"))
            await self._way.close()

    # -- waiting --

    async def _until_readable(self, ready: Callable[[], bool]) -> None:
        """Until it is, or no more will come. Raises: what has broken the connection, if it is not."""
        await self._until(lambda: ready() or self._ended_by_peer or "read" in self._lost)
        if not ready() and not self._ended_by_peer:
            self._raise_if_lost("read")

    async def _until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self._changed.clear()
            await self._changed.wait()

    def _raise_if_lost(self, direction: Literal["read", "write"]) -> None:
        if (error := self._lost.get(direction)) is not None:
            self._told = True
            raise error

    def _lose(self, direction: Literal["read", "write"], error: MidairError) -> None:
        """What cannot be read from is of no use to write to; but last words may come where nothing can be sent."""
        self._lost.setdefault(direction, error)
        if direction == "read":
            self._lost.setdefault("write", error)
        self._changed.set()

    def _take(self, most: int) -> bytes:
        piece = bytes(self._incoming[:most])
        del self._incoming[:most]
        self._room = RECEIVE_BYTES
        self._changed.set()
        return piece

    def _make_room(self, count: int) -> None:
        self._room = max(RECEIVE_BYTES, count)
        self._changed.set()

    # -- the two tasks --

    async def _receive(self) -> None:
        try:
            while True:
                await self._until(lambda: self._closing or len(self._incoming) < self._room)
                async with asyncio.timeout(SILENCE_SECONDS):
                    record = await self._way.receive()
                self._take_in(record)
        except ChannelClosed:
            self._ended_by_peer = True
            self._changed.set()
        except TimeoutError:
            self._lose("read", ConnectionLostError(f"nothing came from the other side for {SILENCE_SECONDS:g} s"))
        except (ConnectionLostError, RemoteProtocolError) as error:
            self._lose("read", error)

    def _take_in(self, record: Record) -> None:
        if record.type == DATA and not self._ended_by_peer:
            if not self._closing:
                self._incoming += record.payload
        elif record.type == END:
            self._ended_by_peer = True
        elif record.type != RecordType.PING:
            raise RemoteProtocolError(f"the other side sent a record of type {record.type}")
        self._changed.set()

    async def _send(self) -> None:
        try:
            while True:
                try:
                    async with asyncio.timeout(PING_SECONDS):
                        await self._until(self._has_something_to_send)
                except TimeoutError:
                    await self._way.send(RecordType.PING, b"")
                    continue
                if self._outgoing:
                    await self._send_one()
                elif self._way.due:
                    await self._way.depart()
                elif self._closing or self._way.settled:
                    break
                else:
                    await self._way.send(END, b"")
                    self._say_ended()
            await self._way.send(RecordType.CLOSE, b"")
            self._say_ended()
        except ConnectionLostError as error:
            self._lose("write", error)

    def _has_something_to_send(self) -> bool:
        if self._outgoing or self._way.due:
            return True
        return self._ending and (not self._ended or self._closing or self._way.settled)

    def _say_ended(self) -> None:
        self._ended = True
        self._changed.set()

    async def _send_one(self) -> None:
        """One record; small writes that wait share one."""
        parts: list[memoryview] = []
        left = RECORD_BYTES
        while self._outgoing and left:
            first = self._outgoing.popleft()
            if len(first) > left:
                self._outgoing.appendleft(first[left:])
                first = first[:left]
            parts.append(first)
            left -= len(first)
        await self._way.send(DATA, b"".join(parts))
        self._unsent -= RECORD_BYTES - left
        self._changed.set()
