"""Who has to wait for whom where many pairs are relayed."""

from __future__ import annotations

import asyncio

import pytest

from midair.server.turns import Turns


async def test_turns_come_in_order_and_others_get_in_between() -> None:
    turns = Turns(3)
    story: list[int | str] = []
    for number in range(7):
        turns.ask(lambda number=number: story.append(number))  # type: ignore[misc]
    while len(story) < 9:
        story.append("|")
        await asyncio.sleep(0)
    assert story == ["|", 0, 1, 2, "|", 3, 4, 5, "|", 6]


async def test_who_asks_again_comes_behind_those_who_wait() -> None:
    turns = Turns(2)
    story: list[str] = []

    def again(name: str) -> None:
        story.append(name)
        if len(story) < 10:
            turns.ask(lambda: again(name))

    for name in "abcde":
        turns.ask(lambda name=name: again(name))  # type: ignore[misc]
    async with asyncio.timeout(5):
        while len(story) < 14:  # noqa: ASYNC110 - each round of the loop is one of the turns
            await asyncio.sleep(0)
    assert "".join(story) == "abcdeabcdeabcd"


async def test_a_turn_that_fails_costs_nobody_theirs() -> None:
    loop = asyncio.get_running_loop()
    failures: list[object] = []
    loop.set_exception_handler(lambda loop, context: failures.append(context["exception"]))
    turns = Turns(5)
    done = asyncio.Event()
    turns.ask(lambda: pytest.fail("on purpose"))
    turns.ask(done.set)
    async with asyncio.timeout(5):
        await done.wait()
    assert len(failures) == 1
