"""The way of one round: signs of life before anybody speaks, a move when the search ends, and silence after the end."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from channel_pairs import pair
from midair import events
from midair.channel import Channel, MovingChannel, RecordType
from midair.session import way as module
from midair.session.way import Way
from midair.traversal import PathResult
from support import wait_until


class Found:
    """A search that ends in what a test says, or when it is stopped."""

    def __init__(self) -> None:
        self.ending: asyncio.Future[PathResult] = asyncio.get_running_loop().create_future()
        self.stays: PathResult | None = None

    async def run(self) -> PathResult:
        return await self.ending

    def stop(self) -> None:
        if not self.ending.done():
            assert self.stays is not None
            self.ending.set_result(self.stays)


def result(channel: Channel, path: Any, **changes: Any) -> PathResult:
    settings: dict[str, Any] = {"how": "relay" if path == "relay" else "dial", "reason": None} | changes
    return PathResult(
        channel=channel, path=path, local=channel.local, remote=channel.remote, attempts=1, seconds=0.1, **settings
    )


async def test_before_anybody_speaks_there_are_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIFE_SECONDS", 0.02)
    here, there = await pair()
    way = Way(result(here, "direct"), leading=True, on_event=lambda event: None)
    async with way.kept_alive():
        assert (await asyncio.to_thread(there.receive)).type == RecordType.PING
        assert (await asyncio.to_thread(there.receive)).type == RecordType.PING
    await asyncio.to_thread(way.channel.send, 16, b"word")
    received = await asyncio.to_thread(there.receive)
    while received.type == RecordType.PING:
        received = await asyncio.to_thread(there.receive)
    assert bytes(received.payload) == b"word"
    await way.close(well=True)
    assert way.carried == {"direct": 4}
    there.abort()


async def test_what_the_search_finds_is_moved_to_and_told_once_it_is_in_use() -> None:
    (here, there), (better, better_there) = await pair(), await pair()
    told: list[events.Event] = []
    found = Found()
    way = Way(result(here, "relay", search=cast(Any, found)), leading=True, on_event=told.append)
    peer = MovingChannel(there, leading=False)
    reading = [
        asyncio.create_task(asyncio.to_thread(lambda: [bytes(peer.receive().payload) for _ in range(2)])),
        asyncio.create_task(asyncio.to_thread(lambda: [bytes(way.channel.receive().payload)])),
    ]
    try:
        await asyncio.to_thread(way.channel.send, 16, b"one")
        found.ending.set_result(result(better, "direct", later=True))
        peer.move_to(better_there)
        await asyncio.to_thread(wait_until, lambda: bool(told), "it is told")
        await asyncio.to_thread(way.channel.send, 16, b"three")
        await asyncio.to_thread(peer.send, 16, b"five")
        assert await asyncio.gather(*reading) == [[b"one", b"three"], [b"five"]]
    finally:
        await way.close(well=True)
        peer.abort()
    assert [(each.path, each.later) for each in cast(list[events.PathChosen], told)] == [("direct", True)]
    assert way.carried == {"relay": len(b"one"), "direct": len(b"threefive")}


@pytest.mark.parametrize("well", [True, False])
async def test_why_it_stayed_on_the_relay_is_told_at_the_end_if_that_is_a_good_one(well: bool) -> None:
    here, there = await pair()
    told: list[events.Event] = []
    found = Found()
    found.stays = result(here, "relay", later=True, reason="nothing answers")
    way = Way(result(here, "relay", search=cast(Any, found)), leading=True, on_event=told.append)
    await asyncio.sleep(0)
    await way.close(well=well)
    assert [each.reason for each in cast(list[events.PathChosen], told)] == (["nothing answers"] if well else [])
    assert here.sock.fileno() == -1
    there.abort()
