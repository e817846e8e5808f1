"""The byte stream: what is written is read, backpressure, both kinds of end, cancellation, silence."""

from __future__ import annotations

import asyncio
import random

import pytest
from connection_peers import Ends, nothing_left_open, pair

from midair import events
from midair.connection import stream
from midair.errors import ConnectionLostError, RemoteProtocolError

PAGE = bytes(range(256)) * 256
"""64 KiB."""


async def read_all(connection: stream.Connection) -> bytes:
    return b"".join([piece async for piece in connection])


async def fill(ends: Ends) -> int:
    """Writes at ``a`` until it has to wait; how much was written."""
    written = 0
    while True:
        try:
            async with asyncio.timeout(0.3):
                await ends.a.write(PAGE)
        except TimeoutError:
            return written + len(PAGE)
        written += len(PAGE)
        assert written < 64 << 20, "nobody reads, and it never had to wait"


@pytest.mark.parametrize("seed", [1, 2])
async def test_what_is_written_is_read_in_order_both_ways_at_once(seed: int) -> None:
    draw = random.Random(seed)
    contents = draw.randbytes(3 << 20), draw.randbytes(2 << 20)

    async def write(connection: stream.Connection, content: bytes) -> None:
        position = 0
        while position < len(content):
            step = draw.choice([1, 100, 70_000, 400_000])
            await connection.write(memoryview(content)[position : position + step])
            position += step
        await connection.write_eof()

    async with pair() as ends:
        received = await asyncio.gather(
            read_all(ends.a), read_all(ends.b), write(ends.a, contents[0]), write(ends.b, contents[1])
        )
        assert received[1] == contents[0]
        assert received[0] == contents[1]


async def test_a_connection_tells_its_path_and_the_story_of_it() -> None:
    async with pair() as ends:
        assert (ends.a.path, ends.a.reason) == ("direct", None)
        assert ends.a.local.port == ends.b.remote.port
        kinds = [type(event) for _, event in ends.a.story]
        assert kinds[0] is events.Reflected
        assert kinds[-1] is events.PathChosen
        assert [at for at, _ in ends.a.story] == sorted(at for at, _ in ends.a.story)


# -- reading --


async def test_a_read_gives_what_is_there_and_no_more_than_was_asked_for() -> None:
    async with pair() as ends:
        await ends.a.write(b"abcdef")
        assert await ends.b.readexactly(1) == b"a"
        assert await ends.b.read(2) == b"bc"
        assert await ends.b.read() == b"def"
        with pytest.raises(ValueError, match="at least one byte"):
            await ends.b.read(0)


async def test_exactly_so_many_bytes_may_be_more_than_what_waits_otherwise() -> None:
    async with pair() as ends:
        size = 4 * stream.RECEIVE_BYTES
        writing = asyncio.ensure_future(ends.a.write(bytes(size)))
        assert await ends.b.readexactly(size) == bytes(size)
        await writing
        await fill(ends)
        assert len(ends.b._incoming) <= stream.RECEIVE_BYTES + stream.RECORD_BYTES, "the room was made for once"


async def test_lines_are_read_one_by_one() -> None:
    async with pair() as ends:
        await ends.a.write(b"one\ntwo\r\nth")
        assert await ends.b.readuntil() == b"one\n"
        assert await ends.b.readuntil(b"\r\n") == b"two\r\n"
        reading = asyncio.ensure_future(ends.b.readuntil())
        await ends.a.write(b"ree\n")
        assert await reading == b"three\n"


async def test_a_line_without_end_is_not_waited_for_for_ever() -> None:
    async with pair() as ends:
        await ends.a.write(b"x" * 101 + b"\n")
        with pytest.raises(asyncio.LimitOverrunError):
            await ends.b.readuntil(most=100)
        assert await ends.b.readuntil(most=102) == b"x" * 101 + b"\n"


async def test_an_end_in_the_middle_is_told_with_what_was_left() -> None:
    async with pair() as ends:
        await ends.a.write(b"hal")
        await ends.a.write_eof()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await ends.b.readuntil()
        assert caught.value.partial == b"hal"
        assert await ends.b.read() == b""
        await ends.b.write(b"fo")
        await ends.b.write_eof()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await ends.a.readexactly(3)
        assert caught.value.partial == b"fo"


# -- backpressure --


async def test_a_writer_waits_for_a_reader_and_goes_on_with_it() -> None:
    async with pair() as ends:
        written = await fill(ends)
        waiting = asyncio.ensure_future(ends.a.write(b"last"))
        assert len(await ends.b.readexactly(written)) == written
        assert await ends.b.read() == b"last"
        await waiting


async def test_a_small_write_returns_at_once() -> None:
    async with pair() as ends:
        async with asyncio.timeout(0.01):
            for _ in range(10):
                await ends.a.write(b"x" * 1000)
        assert len(await ends.b.readexactly(10_000)) == 10_000


# -- cancellation --


async def test_a_read_that_was_cancelled_loses_nothing() -> None:
    content = PAGE * 16
    async with pair() as ends:
        writing = asyncio.ensure_future(ends.a.write(content))
        received = bytearray()
        while len(received) < len(content):
            reading = asyncio.ensure_future(ends.b.read(10_000))
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait({reading})
            if not reading.cancelled():
                received += reading.result()
            received += await ends.b.read(10_000)
        assert received == content
        await writing


async def test_a_write_that_was_cancelled_is_sent_all_the_same() -> None:
    async with pair() as ends:
        written = await fill(ends)  # its last write was cancelled
        ending = asyncio.ensure_future(ends.a.write_eof())
        assert len(await read_all(ends.b)) == written
        await ending


# -- the end --


async def test_one_side_can_end_its_stream_and_still_read_the_answer() -> None:
    async with pair() as ends:
        await ends.a.write(b"question")
        await ends.a.write_eof()
        assert await read_all(ends.b) == b"question"
        await ends.b.write(b"answer")
        await ends.leave("b")
        assert await read_all(ends.a) == b"answer"


async def test_after_its_end_nothing_can_be_written() -> None:
    async with pair() as ends:
        await ends.a.write_eof()
        await ends.a.write_eof()
        with pytest.raises(RuntimeError, match="has been ended"):
            await ends.a.write(b"more")


async def test_leaving_the_block_delivers_everything_written_before() -> None:
    content = PAGE * 64
    async with pair() as ends:
        writing = asyncio.ensure_future(ends.a.write(content))
        await asyncio.sleep(0)
        leaving = ends.leaving("a")
        assert await read_all(ends.b) == content
        await writing
        await ends.leave("b")
        await leaving


async def test_both_may_leave_at_the_same_moment() -> None:
    async with pair() as ends:
        await ends.a.write(b"x")
        async with asyncio.timeout(3):
            await asyncio.gather(ends.leaving("a"), ends.leaving("b"))


async def test_what_is_not_read_when_leaving_does_not_hold_the_other_side_up() -> None:
    async with pair() as ends:
        await fill(ends)
        async with asyncio.timeout(2):
            await asyncio.gather(ends.leaving("b"), ends.leaving("a"))
        assert len(ends.b._incoming) <= stream.RECEIVE_BYTES + stream.RECORD_BYTES, "it was kept for nobody"


async def test_a_peer_that_takes_nothing_is_told_of_when_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CLOSE_SECONDS", 0.2)
    async with pair() as ends:
        await fill(ends)
        with pytest.raises(ConnectionLostError, match="did not take the last"):
            await ends.leave("a")
        with pytest.raises(ConnectionLostError):
            await read_all(ends.b)


async def test_a_peer_that_does_not_leave_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CLOSE_SECONDS", 0.2)
    async with pair() as ends:
        await ends.a.write(b"last words")
        async with asyncio.timeout(3):
            await ends.leave("a")
        assert await read_all(ends.b) == b"last words"


async def test_an_aborted_connection_is_not_an_end_for_the_peer() -> None:
    async with pair() as ends:
        await ends.a.write(b"half of it")
        assert await ends.b.read() == b"half of it"
        await ends.a.abort()
        with pytest.raises(ConnectionLostError):
            await ends.b.read()
        with pytest.raises(ConnectionLostError):
            await ends.b.write(b"x")
        with pytest.raises(ConnectionLostError, match="is closed"):
            await ends.a.read()


async def test_what_arrived_before_the_connection_broke_is_read_first() -> None:
    async with pair() as ends:
        await ends.a.write(b"still here")
        while not ends.b._incoming:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await ends.a.abort()
        while "read" not in ends.b._lost:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert await ends.b.read() == b"still here"
        with pytest.raises(ConnectionLostError):
            await ends.b.read()


async def test_a_break_nobody_has_noticed_is_told_when_leaving() -> None:
    async with pair() as ends:
        await ends.a.write(b"x")
        await ends.b.abort()
        with pytest.raises(ConnectionLostError):
            await ends.leave("a")


async def test_everything_is_closed_in_the_end_however_it_ends() -> None:
    async with nothing_left_open():
        async with pair():
            pass
        async with pair() as ends:
            await fill(ends)
            await ends.b.abort()
            await ends.b.abort()
            with pytest.raises(ConnectionLostError):
                await ends.leave("a")


@pytest.mark.parametrize("moment", range(1, 5))
async def test_cancelling_the_end_closes_everything_at_once(moment: int) -> None:
    async with nothing_left_open(), pair() as ends:
        await fill(ends)
        closing = asyncio.ensure_future(ends.a.close())
        for _ in range(moment):
            await asyncio.sleep(0)
        closing.cancel()
        async with asyncio.timeout(0.5):
            await asyncio.wait({closing})
        with pytest.raises(ConnectionLostError):
            await read_all(ends.b)


# -- silence, and what no peer sends --


async def test_an_idle_connection_is_kept_by_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PING_SECONDS", 0.05)
    monkeypatch.setattr(stream, "SILENCE_SECONDS", 0.3)
    async with pair() as ends:
        await asyncio.sleep(0.6)
        await ends.a.write(b"still here")
        assert await ends.b.read() == b"still here"


async def test_a_silent_peer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SILENCE_SECONDS", 0.2)
    async with pair() as ends:
        with pytest.raises(ConnectionLostError, match=r"nothing came from the other side for 0\.2 s"):
            await ends.a.read()
        with pytest.raises(ConnectionLostError):
            await ends.b.read()


async def test_a_peer_that_waits_for_its_own_reader_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its signs of life stand behind what it wrote."""
    monkeypatch.setattr(stream, "SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(stream, "PING_SECONDS", 0.05)
    async with pair() as ends:
        written = await fill(ends)
        await asyncio.sleep(0.4)
        assert len(await ends.b.readexactly(written)) == written


async def test_a_record_of_no_known_type_ends_it() -> None:
    async with pair() as ends:
        await ends.a._way.send(99, b"from the future")
        with pytest.raises(RemoteProtocolError, match="type 99"):
            await ends.b.read()
        with pytest.raises(RemoteProtocolError):
            await ends.b.write(b"x")
