"""A stream whose path changes under it: nobody who reads or writes notices, however and whenever it ends."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from connection_peers import nothing_left_open

from channel_pairs import pair
from midair import Connection, events
from midair.channel import Channel, RecordType
from midair.connection import stream, way
from midair.errors import ConnectionLostError, RemoteProtocolError
from midair.traversal import PathResult

SIDES = ["leading", "following"]


class Found:
    """A search that ends when a test says so."""

    def __init__(self) -> None:
        self.ending: asyncio.Future[PathResult] = asyncio.get_running_loop().create_future()

    async def run(self) -> PathResult:
        return await self.ending


def result(channel: Channel, path: Any, **changes: Any) -> PathResult:
    settings: dict[str, Any] = {"how": "relay" if path == "relay" else "dial", "reason": None} | changes
    return PathResult(
        channel=channel, path=path, local=channel.local, remote=channel.remote, attempts=1, seconds=0.1, **settings
    )


@dataclass
class World:
    """Two ends over ``old``, and ``new``, to which they can move."""

    old: tuple[Channel, Channel]
    new: tuple[Channel, Channel]
    told: tuple[list[events.Event], list[events.Event]] = field(default_factory=lambda: ([], []))

    def __post_init__(self) -> None:
        self._found = (Found(), Found())
        self.leading, self.following = (
            Connection(
                result(self.old[number], "relay", search=cast(Any, self._found[number])),
                leading=number == 0,
                on_event=self.told[number].append,
            )
            for number in (0, 1)
        )

    def one(self, which: str) -> tuple[Connection, Connection]:
        """That side, and the other."""
        ends = self.leading, self.following
        return ends if which == "leading" else ends[::-1]

    def agree(self, *sides: int) -> None:
        for side in sides or (1, 0):
            self._found[side].ending.set_result(result(self.new[side], "direct", later=True))

    def stay(self, *sides: int) -> None:
        for side in sides or (0, 1):
            self._found[side].ending.set_result(result(self.old[side], "relay", later=True, reason="nothing answers"))

    async def moved(self) -> None:
        """Both ends have moved, and what they have left is closed."""
        async with asyncio.timeout(5):
            while not (self.leading.path == self.following.path == "direct"):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            while any(channel.sock.fileno() != -1 for channel in self.old):  # noqa: ASYNC110
                await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[World]:
    channels = await pair(), await pair()
    for channel in (*channels[0], *channels[1]):
        channel.sock.setblocking(False)
    made = World(*channels)
    try:
        yield made
    finally:
        await made.leading.abort()
        await made.following.abort()
        for channel in (*made.old, *made.new):
            channel.abort()


async def read_all(connection: Connection) -> bytes:
    return b"".join([piece async for piece in connection])


async def write_all(connection: Connection, content: bytes, step: int = 50_000) -> None:
    for position in range(0, len(content), step):
        await connection.write(content[position : position + step])
    await connection.write_eof()


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_written_while_it_moves_is_read_whole_and_in_order(seed: int) -> None:
    draw = random.Random(seed)
    content = draw.randbytes(6 << 20)

    async def read(connection: Connection, then: int) -> bytes:
        """Agrees for the side ``then`` in the middle."""
        first = await connection.readexactly(draw.randrange(1, len(content)))
        w.agree(then)
        return first + await read_all(connection)

    async with world() as w:
        async with asyncio.timeout(15):
            *_, one, two = await asyncio.gather(
                write_all(w.leading, content, draw.randrange(1000, 300_000)),
                write_all(w.following, content[::-1], draw.randrange(1000, 300_000)),
                read(w.leading, 1),
                read(w.following, 0),
            )
        assert one == content[::-1]
        assert two == content
        await w.moved()


async def test_a_quiet_stream_moves_by_itself_and_tells_of_it_once() -> None:
    async with world() as w:
        assert [(end.path, end.searching) for end in w.one("leading")] == [("relay", True)] * 2
        w.agree()
        await w.moved()
        await asyncio.sleep(0)
        for end, told, channel in zip(w.one("leading"), w.told, w.new, strict=True):
            (event,) = told
            assert isinstance(event, events.PathChosen)
            assert (event.path, event.later, event.remote) == ("direct", True, str(channel.remote))
            assert (end.searching, end.reason) == (False, None)
            assert (end.local, end.remote) == (channel.local, channel.remote)
        await w.leading.write(b"over here")
        assert await w.following.read() == b"over here"


async def test_a_stream_that_stays_on_the_relay_says_why_and_goes_on() -> None:
    async with world() as w:
        await w.leading.write(b"one")
        w.stay()
        assert await w.following.readexactly(3) == b"one"
        await w.following.write(b"two")
        assert await w.leading.readexactly(3) == b"two"
        for end, told in zip(w.one("leading"), w.told, strict=True):
            assert (end.path, end.searching, end.reason) == ("relay", False, "nothing answers")
            assert [(event.path, event.reason) for event in cast(list[events.PathChosen], told)] == [
                ("relay", "nothing answers")
            ]


async def test_a_writer_that_waits_for_a_reader_moves_as_soon_as_that_reads() -> None:
    async with world() as w:
        content = bytes(40 << 20)
        writing = asyncio.ensure_future(write_all(w.leading, content))
        await asyncio.wait({writing}, timeout=0.3)
        assert not writing.done(), "nobody reads, and it never had to wait"
        w.agree()
        await asyncio.wait({writing}, timeout=0.1)
        assert len(w.following._incoming) <= stream.RECEIVE_BYTES + stream.RECORD_BYTES
        assert len(await read_all(w.following)) == len(content)
        await writing
        await w.moved()


async def test_reads_and_writes_that_are_cancelled_meanwhile_lose_nothing() -> None:
    content = random.Random(5).randbytes(3 << 20)
    async with world() as w:
        for position in range(0, len(content), 50_000):
            writing = asyncio.ensure_future(w.leading.write(content[position : position + 50_000]))
            await asyncio.sleep(0)
            writing.cancel()
            if position == 1_000_000:
                w.agree()
            reading = asyncio.ensure_future(w.following.read(1))
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait({reading, writing})
            if not reading.cancelled():
                w.following._incoming[:0] = reading.result()
        ending = asyncio.ensure_future(w.leading.write_eof())
        assert await read_all(w.following) == content
        await ending
        await w.moved()


# -- half an end --


@pytest.mark.parametrize("which", SIDES)
@pytest.mark.parametrize("agreed_first", [True, False])
async def test_who_has_ended_its_stream_still_moves_for_the_sake_of_the_other(which: str, agreed_first: bool) -> None:
    content = random.Random(6).randbytes(2 << 20)
    async with world() as w:
        asks, answers = w.one(which)
        await asks.write(b"question")
        if agreed_first:
            w.agree()
        await asks.write_eof()
        assert await read_all(answers) == b"question"
        writing = asyncio.ensure_future(write_all(answers, content))
        first = await asks.readexactly(1000)
        if not agreed_first:
            w.agree()
        assert first + await read_all(asks) == content
        await writing
        await w.moved()
        async with asyncio.timeout(2):
            await asyncio.gather(asks.close(), answers.close())


@pytest.mark.parametrize("which", SIDES)
async def test_who_has_ended_its_stream_and_cannot_move_any_more_says_so(which: str) -> None:
    """As without a search: the other side's end is the last it takes in."""
    async with world() as w:
        ends, other = w.one(which)
        await ends.write_eof()
        assert await other.read() == b""
        assert not other._receiver.done()
        w.stay()
        async with asyncio.timeout(2):
            await asyncio.wait({other._receiver})
        await other.write(b"still here")
        assert await ends.read() == b"still here"


async def test_who_has_ended_its_stream_goes_on_giving_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PING_SECONDS", 0.05)
    monkeypatch.setattr(stream, "SILENCE_SECONDS", 0.3)
    async with world() as w:
        await w.leading.write_eof()
        assert await w.following.read() == b""
        await asyncio.sleep(0.6)
        await w.following.write(b"still here")
        assert await w.leading.read() == b"still here"


# -- the end of it all --


@pytest.mark.parametrize("which", SIDES)
@pytest.mark.parametrize("moment", [0, 1, 2, 3, 5, 8])
async def test_leaving_at_any_moment_of_a_move_delivers_everything_written_before(which: str, moment: int) -> None:
    content = random.Random(moment).randbytes(1 << 20)
    async with world() as w:
        leaves, stays = w.one(which)
        writing = asyncio.ensure_future(leaves.write(content))
        first = await stays.readexactly(1000)
        w.agree()
        for _ in range(moment):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            # All of it is handed over by now; leaving ends the wait for room.
            leaving = asyncio.ensure_future(leaves.close())
            assert first + await read_all(stays) == content
            await stays.close()
            await leaving
            await writing


@pytest.mark.parametrize("which", SIDES)
@pytest.mark.parametrize("agreed", [(), (0,), (1,), (1, 0)])
@pytest.mark.parametrize("moment", [0, 2, 3, 5])
async def test_aborting_at_any_moment_of_a_move_is_no_end_for_the_peer(
    which: str, agreed: tuple[int, ...], moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(way, "AGREEMENT_SECONDS", 0.05)
    async with nothing_left_open(), world() as w:
        aborts, other = w.one(which)
        await aborts.write(b"half of it")
        assert await other.read() == b"half of it"
        if agreed:
            w.agree(*agreed)
        for _ in range(moment):
            await asyncio.sleep(0)
        await aborts.abort()
        # RemoteProtocolError where what both were to agree on went down as well.
        with pytest.raises((ConnectionLostError, RemoteProtocolError)):
            await other.read()


async def test_both_may_leave_while_nothing_is_decided_yet() -> None:
    async with nothing_left_open(), world() as w:
        await w.leading.write(b"x")
        async with asyncio.timeout(1):
            await asyncio.gather(w.leading.close(), w.following.close())


async def test_a_writer_that_waits_when_its_connection_is_aborted_is_told_although_the_peer_had_ended() -> None:
    async with world() as w:
        w.stay()
        await w.following.write_eof()
        assert await w.leading.read() == b""
        writing = asyncio.ensure_future(w.leading.write(bytes(40 << 20)))
        await asyncio.wait({writing}, timeout=0.1)
        await w.leading.abort()
        async with asyncio.timeout(1):
            with pytest.raises(ConnectionLostError):
                await writing


# -- what goes wrong --


async def test_a_new_connection_that_only_one_side_took_costs_nothing() -> None:
    """It died under the answer to the nomination."""
    async with world() as w:
        w.agree(1)
        w.stay(0)
        w.new[0].abort()
        await w.following.write(b"one")
        await w.following.write_eof()
        assert await read_all(w.leading) == b"one"
        await w.leading.write(b"two")
        leaving = asyncio.ensure_future(w.leading.close())
        assert await read_all(w.following) == b"two"
        async with asyncio.timeout(1):
            await asyncio.gather(leaving, w.following.close())


async def test_a_new_connection_that_dies_once_it_is_used_is_a_connection_that_was_lost() -> None:
    async with world() as w:
        w.agree()
        await w.moved()
        w.new[0].sock.shutdown(socket.SHUT_RDWR)
        for end in w.one("leading"):
            with pytest.raises(ConnectionLostError):
                await end.read()


async def test_a_move_to_what_nobody_agreed_on_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(way, "AGREEMENT_SECONDS", 0.05)
    async with world() as w:
        await w.old[0].send_async(RecordType.MOVE, b"nonesuch")
        with pytest.raises(RemoteProtocolError, match="not agreed on"):
            await w.following.read()


async def test_a_move_that_is_ahead_of_the_agreement_waits_for_it() -> None:
    async with world() as w:
        w.agree(0)
        await w.leading.write(b"over there")
        reading = asyncio.ensure_future(w.following.read())
        await asyncio.wait({reading}, timeout=0.05)
        assert not reading.done()
        w.agree(1)
        assert await reading == b"over there"
        await w.moved()
        assert [len(told) for told in w.told] == [1, 1], "however their tasks take turns"


async def test_data_after_its_end_is_refused() -> None:
    async with world() as w:
        await w.old[0].send_async(stream.END, b"")
        await w.old[0].send_async(stream.DATA, b"one thing more")
        assert await w.following.read() == b""
        await asyncio.wait({w.following._receiver})
        with pytest.raises(RemoteProtocolError):
            await w.following.write(b"x")


async def test_a_listener_that_raises_does_not_end_the_stream() -> None:
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: raised.append(context["exception"]))
    async with world() as w:

        def fail(event: events.Event) -> None:
            raise LookupError("a mistake of the program's own")

        w.leading._way._on_event = fail
        w.agree()
        await w.moved()
        await w.following.write(b"still here")
        assert await w.leading.read() == b"still here"
    assert [type(error) for error in raised] == [LookupError]
