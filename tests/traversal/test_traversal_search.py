"""connect_peers where both sides can move: the relay at once, and a search for better that goes on beside it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from test_traversal_runner import (
    QUICK,
    Pair,
    _nothing_is_left_open,  # noqa: F401 - a fixture for these tests, too
    candidates,
    connected,
    dead_end,
    meeting_point,
    pump,
)

from midair import events
from midair.endpoint import Endpoint
from midair.traversal import PathResult
from midair.traversal.search import Search
from midair.traversal.sync import Description

MOVES = (True, True)


@dataclass
class Gate:
    """The only way from one peer to the other: an address at which nobody answers until it is opened."""

    at: Endpoint = field(default_factory=dead_end)
    behind: Endpoint | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def change(self, theirs: Description) -> Description:
        self.behind = next(
            endpoint for each in theirs.candidates if (endpoint := Endpoint.parse(each.endpoint)).family == 4
        )
        return candidates(self.at)(theirs)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        gate = await asyncio.start_server(self._pass, "127.0.0.1", self.at.port)
        try:
            yield
        finally:
            gate.close()
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        assert self.behind is not None
        self.tasks.append(task)
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.behind.port)
        try:
            await asyncio.gather(pump(reader, other_writer), pump(other_reader, writer))
        finally:
            writer.close()
            other_writer.close()


def search_of(result: PathResult) -> Search:
    assert result.search is not None
    return result.search


async def test_it_begins_on_the_relay_and_a_direct_connection_is_agreed_on_as_soon_as_there_is_one() -> None:
    gate = Gate()
    async with meeting_point() as at:
        options = replace(QUICK, head_start=2.0, deadline=10.0)
        pair = Pair(at.server, (options, options), (gate.change, candidates(dead_end())), moves=MOVES)
        async with connected(pair) as (one, two, a, b):
            assert (one.path, two.path, one.later) == ("relay", "relay", False)
            assert one.seconds < 0.3
            assert one.reason is None
            searches = [asyncio.create_task(search_of(result).run()) for result in (one, two)]
            async with gate.opened():
                better = await asyncio.gather(*searches)
                assert [result.path for result in better] == ["direct", "direct"]
                assert all(result.later for result in better)
                assert better[0].channel.connection_id == better[1].channel.connection_id
                assert better[0].channel.connection_id != one.channel.connection_id
                await better[1].channel.send_async(16, b"over here")
                assert (await better[0].channel.receive_async()).payload == b"over here"
                await one.channel.send_async(16, b"and still over there")
                assert (await two.channel.receive_async()).payload == b"and still over there"
                for result in better:
                    result.channel.abort()
            for peer in (a, b):
                (path,) = peer.told(events.PathChosen)
                assert (path.path, path.searching, path.later) == ("relay", True, False)


async def test_a_search_that_finds_nothing_ends_at_the_deadline_with_the_reason() -> None:
    async with meeting_point() as at:
        options = replace(QUICK, deadline=0.7)
        pair = Pair(at.server, (options, options), (candidates(dead_end()), candidates(dead_end())), moves=MOVES)
        async with connected(pair) as (one, two, _, _):
            found = await asyncio.gather(search_of(one).run(), search_of(two).run())
            for result, before in zip(found, (one, two), strict=True):
                assert (result.path, result.later, result.search) == ("relay", True, None)
                assert result.channel is before.channel
                assert "ECONNREFUSED" in (result.reason or "")
                assert result.event().reason == result.reason


async def test_a_search_that_is_not_needed_any_more_ends_at_once() -> None:
    async with meeting_point() as at:
        pair = Pair(at.server, changes=(candidates(dead_end()), candidates(dead_end())), moves=MOVES)
        async with connected(pair) as (one, two, _, _):
            searches = [asyncio.create_task(search_of(result).run()) for result in (one, two)]
            search_of(one).stop()
            search_of(two).stop()
            async with asyncio.timeout(0.5):
                found = await asyncio.gather(*searches)
            assert all((result.reason or "").startswith("it was over before") for result in found)


async def test_a_search_that_is_cancelled_leaves_what_has_begun_alone() -> None:
    async with meeting_point() as at:
        pair = Pair(at.server, changes=(candidates(dead_end()), candidates(dead_end())), moves=MOVES)
        async with connected(pair) as (one, two, _, _):
            searches = [asyncio.create_task(search_of(result).run()) for result in (one, two)]
            await asyncio.sleep(0)
            for search in searches:
                search.cancel()
            await asyncio.wait(searches)
            await one.channel.send_async(16, b"still here")
            assert (await two.channel.receive_async()).payload == b"still here"


async def test_where_one_side_cannot_move_the_first_choice_is_the_last() -> None:
    async with meeting_point() as at:
        changes = (candidates(dead_end()), candidates(dead_end()))
        async with connected(Pair(at.server, changes=changes, moves=(True, False))) as (one, two, _, _):
            assert (one.search, two.search) == (None, None)
            assert one.seconds >= QUICK.head_start
            assert one.reason is not None


async def test_a_direct_connection_that_is_quick_keeps_the_relay_out() -> None:
    options = replace(QUICK, relay_after=2.0)
    async with meeting_point() as at, connected(Pair(at.server, (options, options), moves=MOVES)) as (one, _, _, _):
        assert (one.path, one.search) == ("direct", None)
