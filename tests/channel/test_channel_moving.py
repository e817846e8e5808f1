"""A conversation that moves from one real connection to another."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

import pytest

from channel_pairs import pair
from midair.channel import (
    MAX_PAYLOAD,
    Channel,
    ChannelClosed,
    MovingChannel,
    RecordType,
    moving,
)
from midair.errors import ConnectionLostError, RemoteProtocolError
from support import wait_until

WORD = 16


@dataclass
class World:
    """Two sides that speak over ``old``, and ``new``, to which they can move."""

    old: tuple[Channel, Channel]
    new: tuple[Channel, Channel]
    moved: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.a = MovingChannel(self.old[0], leading=True, on_moved=lambda: self.moved.append("a"))
        self.b = MovingChannel(self.old[1], leading=False, on_moved=lambda: self.moved.append("b"))

    def agree(self) -> None:
        self.b.move_to(self.new[1])
        self.a.move_to(self.new[0])


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[World]:
    made = World(await pair(), await pair())
    try:
        yield made
    finally:
        made.a.abort()
        made.b.abort()
        for channel in (*made.old, *made.new):
            channel.abort()


@contextlib.contextmanager
def running(*works: Callable[[], object]) -> Iterator[list[BaseException]]:
    """Each in a thread of its own, to its end; what they raised."""
    errors: list[BaseException] = []

    def carry_out(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=carry_out, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield errors
    finally:
        for thread in threads:
            thread.join(15)
        assert not any(thread.is_alive() for thread in threads), "somebody still waits"


def hear(channel: MovingChannel, count: int) -> list[bytes]:
    """So many words, or until the other side has closed."""
    heard: list[bytes] = []
    with contextlib.suppress(ChannelClosed):
        while len(heard) < count:
            heard.append(bytes(channel.receive().payload))
    return heard


async def test_bulk_both_ways_moves_in_order_and_the_old_connection_ends_on_both_sides() -> None:
    async with world() as w:
        said = [[os.urandom(size) for size in (7, 200_000, MAX_PAYLOAD)] * 20 for _ in range(2)]
        heard: list[list[bytes]] = [[], []]
        half = threading.Event()
        spoken = threading.Barrier(4)

        def say(channel: MovingChannel, words: list[bytes]) -> None:
            frame = channel.new_frame()
            for position, word in enumerate(words):
                if position == 30:
                    half.set()
                if position % 2:
                    frame.payload[: len(word)] = word
                    channel.send_frame(WORD, frame, len(word))
                else:
                    channel.send(WORD, word)
            wait_until(lambda: len(w.moved) == 2, "both have moved")
            wait_until(lambda: w.old[0].sock.fileno() == w.old[1].sock.fileno() == -1, "the old connection is closed")
            channel.send(WORD, b"the last")
            spoken.wait(15)

        def listen(channel: MovingChannel, number: int) -> None:
            heard[number] = hear(channel, 61)
            spoken.wait(15)
            channel.close(linger=5.0)

        with running(
            lambda: say(w.a, said[0]), lambda: say(w.b, said[1]), lambda: listen(w.a, 0), lambda: listen(w.b, 1)
        ) as errors:
            await asyncio.to_thread(half.wait)
            w.agree()
        assert errors == []
        assert heard == [[*words, b"the last"] for words in said[::-1]]
        assert sorted(w.moved) == ["a", "b"]
        assert w.a.carried == w.b.carried
        assert min(w.a.carried) > 0
        assert sum(w.a.carried) == sum(len(word) for words in heard for word in words)


async def test_where_nobody_speaks_the_conversation_moves_all_the_same() -> None:
    async with world() as w:
        heard: list[list[bytes]] = []
        with running(lambda: heard.append(hear(w.a, 1)), lambda: heard.append(hear(w.b, 1))) as errors:
            w.agree()
            await asyncio.to_thread(wait_until, lambda: len(w.moved) == 2, "both have moved")
            w.a.send(WORD, b"here")
            w.b.send(WORD, b"here")
        assert errors == []
        assert heard == [[b"here"]] * 2
        assert w.a.sock is w.new[0].sock


async def test_a_sender_that_is_stuck_in_the_old_connection_moves_when_that_has_taken_its_record() -> None:
    async with world() as w:
        words = [bytes([number]) * MAX_PAYLOAD for number in range(16)]
        heard: list[bytes] = []

        def say() -> None:
            for word in words:
                w.a.send(WORD, word)

        with running(say) as errors:
            w.agree()  # the other side reads nothing yet
            with running(lambda: heard.extend(bytes(w.b.receive().payload) for _ in words)):
                pass
        assert errors == []
        assert heard == words
        assert w.b.incoming is w.new[1].sock


@pytest.mark.parametrize("ended", ["before", "meanwhile"])
async def test_an_end_in_good_order_stays_one_wherever_the_move_stands(ended: str) -> None:
    """One side says all it has and ends; the other hears all of it, and ends too."""
    for first in ("a", "b") * 5:
        async with world() as w:
            speaker, listener = (w.a, w.b) if first == "a" else (w.b, w.a)
            heard: list[list[bytes]] = []

            def speak(speaker: MovingChannel = speaker) -> None:
                for word in range(50):
                    speaker.send(WORD, bytes([word]))
                speaker.close(linger=5.0)

            def listen(listener: MovingChannel = listener, heard: list[list[bytes]] = heard) -> None:
                heard.append(hear(listener, 100))
                listener.close(linger=5.0)

            works: list[Callable[[], object]] = [speak, listen]
            if ended == "meanwhile":
                works.append(w.agree)
            began = time.monotonic()
            with running(*works) as errors:
                pass
            assert time.monotonic() - began < 4.0, "nobody waits for the other's patience to end"
            if ended == "before":
                w.agree()
                assert all(channel.sock.fileno() == -1 for channel in w.new), "what was not needed is closed"
            assert errors == []
            assert heard == [[bytes([word]) for word in range(50)]]


async def test_giving_up_wakes_who_reads_the_old_connection_or_the_new_one() -> None:
    for move in (False, True):
        async with world() as w:
            with running(w.a.receive, w.b.receive) as errors:
                if move:
                    w.agree()
                    await asyncio.to_thread(wait_until, lambda: len(w.moved) == 2, "both have moved")
                w.a.abort()
            assert [type(error) for error in errors] == [ConnectionLostError] * 2
            w.b.abort()
            if move:
                wait_until(lambda: all(channel.sock.fileno() == -1 for channel in w.old), "the old one is closed, too")


async def test_a_new_connection_that_dies_at_the_move_is_a_broken_connection() -> None:
    async with world() as w:
        w.new[0].abort()
        with running(w.a.receive, w.b.receive) as errors:
            w.agree()
        assert [type(error) for error in errors] == [ConnectionLostError] * 2


async def test_an_old_connection_that_dies_before_move_came_is_a_broken_connection() -> None:
    async with world() as w:
        w.b.move_to(w.new[1])
        w.old[0].abort()
        with running(w.b.receive) as errors:
            pass
        assert [type(error) for error in errors] == [ConnectionLostError]


async def test_a_move_that_was_never_agreed_on_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "AGREEMENT_SECONDS", 0.05)
    async with world() as w:
        w.old[0].send(RecordType.MOVE, b"whatever")
        with pytest.raises(RemoteProtocolError, match="not agreed on"):
            w.b.receive()
        w.b.send(WORD, b"it can still say so")
    async with world() as w:
        w.old[1].send(RecordType.MOVE, w.new[1].connection_id)
        with pytest.raises(RemoteProtocolError, match="without being led"):
            w.a.receive()


async def test_a_move_may_be_ahead_of_the_news_that_it_was_agreed_on() -> None:
    async with world() as w:
        heard: list[bytes] = []
        with running(lambda: heard.append(bytes(w.b.receive().payload))) as errors:
            w.a.move_to(w.new[0])
            w.a.send(WORD, b"over there")
            w.b.move_to(w.new[1])
        assert errors == []
        assert heard == [b"over there"]


async def test_a_connection_that_is_found_after_the_end_is_closed() -> None:
    async with world() as w:
        w.a.abort()
        w.a.move_to(w.new[0])
        assert w.new[0].sock.fileno() == -1


async def test_signs_of_life_are_not_taken_for_words() -> None:
    async with world() as w:
        w.a.send(RecordType.PING, b"")
        w.a.send(WORD, b"a word")
        assert bytes(w.b.receive().payload) == b"a word"


async def test_an_answer_that_comes_before_the_move_is_known_to_be_out_is_no_fault() -> None:
    """On a busy machine the thread that has sent MOVE may run again later than the one that reads the answer."""
    async with world() as w:
        send = w.old[0].send

        def send_slowly(record_type: int, payload: bytes, flags: int = 0) -> None:
            send(record_type, payload, flags)
            if record_type == RecordType.MOVE:
                wait_until(lambda: w.a._move.arrives, "the answer was taken in", 5.0)

        w.old[0].send = send_slowly  # type: ignore[method-assign]
        with running(lambda: hear(w.a, 1), lambda: hear(w.b, 1)) as errors:
            w.agree()
            await asyncio.to_thread(wait_until, lambda: sorted(w.moved) == ["a", "b"], "both have moved")
            w.a.send(WORD, b"to b")
            w.b.send(WORD, b"to a")
        assert errors == []
