"""The word that one side has left: through a real server, to whoever hears nothing any more."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from channel_pairs import pair
from midair.channel import MovingChannel
from midair.config import ServerURL
from midair.session import leaving as module
from midair.session.leaving import Leaving

KEY = b"k" * 32


@dataclass
class Two:
    """A connection on which nothing is said, its two ends, and what each does about leaving it."""

    ends: tuple[MovingChannel, MovingChannel]
    leaving: tuple[Leaving, Leaving]

    def watching(self, which: int) -> asyncio.Task[None]:
        return asyncio.create_task(self.leaving[which].watch(self.ends[which]))

    def open(self, which: int) -> bool:
        return self.ends[which].sock.fileno() != -1


@contextlib.asynccontextmanager
async def two(server: str, keys: tuple[bytes, bytes] = (KEY, KEY)) -> AsyncIterator[Two]:
    url = ServerURL.parse(server)
    channels = await pair()
    made = Two(
        cast(Any, tuple(MovingChannel(each, leading=number == 0) for number, each in enumerate(channels))),
        cast(Any, tuple(Leaving(url, key, role) for key, role in zip(keys, ("send", "receive"), strict=True))),
    )
    before = asyncio.all_tasks()
    try:
        yield made
    finally:
        for task in asyncio.all_tasks() - before:
            task.cancel()
        for end in made.ends:
            end.abort()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SUSPICION_SECONDS", 0.1)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.8)


@pytest.mark.parametrize("leaves", [0, 1])
@pytest.mark.parametrize("earlier", ["the word", "the question"])
async def test_who_hears_nothing_is_told_that_the_other_side_has_left(server: str, leaves: int, earlier: str) -> None:
    async with two(server) as t:
        stays = 1 - leaves
        if earlier == "the word":
            telling = asyncio.create_task(t.leaving[leaves].tell())
            await asyncio.sleep(0.2)
        async with asyncio.timeout(2):
            watching = t.watching(stays)
            if earlier == "the question":
                await asyncio.sleep(0.3)
                telling = asyncio.create_task(t.leaving[leaves].tell())
            await watching
            await telling
        assert t.leaving[stays].heard
        assert not t.open(stays)
        assert t.open(leaves)


async def test_two_who_both_wait_in_a_silence_do_not_take_each_other_for_gone(server: str) -> None:
    async with two(server) as t:
        watching = {t.watching(0), t.watching(1)}
        done, _ = await asyncio.wait(watching, timeout=1.0)
        assert not done
        assert [each.suspicious for each in t.leaving] == [True, True]
        assert [each.heard for each in t.leaving] == [False, False]
        assert t.open(0)
        assert t.open(1)


async def test_as_long_as_something_comes_nothing_is_asked(server: str) -> None:
    async with two(server) as t:
        watching = t.watching(0)
        for _ in range(15):
            await asyncio.to_thread(t.ends[1].send, 16, b"a sign of life")
            await asyncio.sleep(0.02)
        assert not t.leaving[0].suspicious
        assert not watching.done()


async def test_whoever_runs_the_relay_cannot_say_it(server: str) -> None:
    """It knows the token by then."""
    async with two(server) as t:
        stranger = Leaving(ServerURL.parse(server), KEY, "receive")
        stranger._proof = lambda who: os.urandom(32)  # type: ignore[method-assign]
        watching = t.watching(0)
        await asyncio.sleep(0.2)
        await stranger.tell()
        await asyncio.wait({watching}, timeout=0.2)
        assert not watching.done()
        assert t.open(0)


async def test_a_word_nobody_asks_for_and_a_server_that_is_not_there_cost_nothing(server: str) -> None:
    async with two(server) as t, asyncio.timeout(3):
        await t.leaving[0].tell()
        nowhere = Leaving(ServerURL.parse("ws://127.0.0.1:9"), KEY, "send")
        await nowhere.tell()
        watching = asyncio.create_task(nowhere.watch(t.ends[0]))
        await asyncio.wait({watching}, timeout=0.5)
        assert not watching.done()
        assert t.open(0)
