"""A relay that was ready and breaks before anything was said there: how long a direct connection is waited for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from test_traversal_agent import ONE, Dialogue
from test_traversal_runner import QUICK, Pair, candidates, dead_end, meeting_point
from test_traversal_search import Gate

from midair.traversal.race import Race
from midair.traversal.steps import (
    Choose,
    ConnectionDied,
    Fail,
    Nominate,
    Nominated,
    NominationAcked,
    RelayFailed,
    RelayReady,
    Started,
    Tick,
    Use,
)


def broken(at: float, **changes: Any) -> Dialogue:
    d = Dialogue(ONE, **({"moving": True, "head_start": 0.1, "without_relay": 1.0} | changes))
    d.at(0.0, Started())
    d.at(0.0, RelayReady("relay"))
    assert d.at(at, ConnectionDied("relay")) == []
    return d


@pytest.mark.parametrize("controlling", [True, False])
def test_who_can_meet_again_waits_no_longer_than_most_direct_connections_take(controlling: bool) -> None:
    d = broken(0.05, controlling=controlling)
    while d.due() < 1.05:
        assert d.at(d.due(), Tick()) == []
    assert d.due() == pytest.approx(1.05)
    (fail, *_) = d.at(d.due(), Tick())
    assert isinstance(fail, Fail)
    assert fail.broken
    assert not d.is_waiting()


def test_a_direct_connection_that_is_there_by_then_is_taken() -> None:
    d = broken(0.05)
    assert d.ready(0.3, "dial-1") == [Nominate("dial-1")]
    assert d.at(0.4, NominationAcked("dial-1")) == [Choose("dial-1", None)]


def test_an_answer_that_is_awaited_then_is_waited_for() -> None:
    d = broken(0.05)
    assert d.ready(1.0, "dial-1") == [Nominate("dial-1")]
    assert d.at(1.1, Tick()) == []
    assert d.at(1.2, NominationAcked("dial-1")) == [Choose("dial-1", None)]


def test_who_cannot_meet_again_waits_until_the_deadline() -> None:
    d = broken(0.05, without_relay=float("inf"))
    while d.due() < 20.0:
        assert d.at(d.due(), Tick()) == []
    (fail, *_) = d.at(d.due(), Tick())
    assert isinstance(fail, Fail)
    assert not fail.broken


def test_a_direct_connection_that_follows_a_relay_which_is_gone_is_not_waited_for() -> None:
    """The other side has begun there; what it said is lost."""
    d = broken(0.05, controlling=False)
    assert d.ready(0.3, "dial-1") == []
    assert d.at(0.4, Nominated("dial-1", True)) == []
    while not (commands := d.at(d.due(), Tick())):
        assert d.due() < 5.0
    assert isinstance(commands[0], Fail)


def test_a_relay_that_breaks_once_it_is_used_is_not_the_searchs_concern() -> None:
    d = Dialogue(ONE, moving=True, head_start=0.1, without_relay=1.0)
    d.at(0.0, Started())
    d.at(0.0, RelayReady("relay"))
    assert d.at(0.1, Tick()) == [Use("relay")]
    d.at(0.2, ConnectionDied("relay"))
    assert d.ready(7.0, "dial-1") == [Nominate("dial-1", True)]


def test_a_relay_that_is_known_to_be_broken_as_soon_as_it_is_known_is_never_used() -> None:
    d = Dialogue(ONE, moving=True, head_start=0.1, without_relay=1.0)
    d.at(0.0, Started())
    assert d.at(0.5, RelayFailed("it broke", broke=True)) == []
    while not (commands := d.at(d.due(), Tick())):
        assert d.due() <= 1.5
    assert isinstance(commands[0], Fail)
    assert commands[0].broken


async def test_where_nobody_can_meet_again_the_search_goes_on_without_the_relay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also at the controlling side, which reads nothing there before it begins."""
    races: list[Race] = []
    open_relay = Race.open_relay

    def open_a_relay(race: Race, *arguments: Any, **options: Any) -> None:
        races.append(race)
        open_relay(race, *arguments, **options)

    monkeypatch.setattr(Race, "open_relay", open_a_relay)
    gate = Gate()
    async with meeting_point() as at, asyncio.timeout(10):
        options = replace(QUICK, relay_after=0.8, deadline=8.0)
        pair = Pair(at.server, (options, options), (gate.change, candidates(dead_end())), moves=(True, True))
        peers = pair.start()
        while not (len(races) == 2 and all("relay" in r._legs and r._legs["relay"].channel for r in races)):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await at.helper.stop()
        while any("relay" in race._legs for race in races):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        async with gate.opened():
            found = await asyncio.gather(*(peer.task for peer in peers))
            assert [(result.path, result.search) for result in found] == [("direct", None)] * 2
            await found[0].channel.send_async(16, b"over here")
            assert (await found[1].channel.receive_async()).payload == b"over here"
            for result in found:
                result.channel.abort()
                await result.close_leftovers()
