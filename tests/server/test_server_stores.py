"""The stores, in memory and in a real Redis: numbers, places, limits and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from redis_process import RedisProcess
from server_peers import linked

from midair.config import ServerLimits
from midair.rendezvous.wire import Message
from midair.server import MailboxStore, MemoryStore
from midair.server.shared import RedisStore
from midair.server.store import StoreRefusal

APP = "app"
LIMITS = ServerLimits()


NewStore = Callable[..., Any]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with RedisProcess(tmp_path_factory.mktemp("redis")) as process:
        yield process


@pytest.fixture(params=["memory", "redis"])
async def new_store(request: pytest.FixtureRequest, redis: RedisProcess) -> AsyncIterator[NewStore]:
    """Makes an empty store; called with what both take."""
    async with AsyncExitStack() as stack:

        async def make(limits: ServerLimits = LIMITS, **options: Any) -> MailboxStore:
            if request.param == "memory":
                return MemoryStore(limits, **options)
            redis.say("FLUSHALL")
            return RedisStore(await stack.enter_async_context(linked(redis.url)), limits, **options)

        yield make


def first(count: int) -> int:
    """Chance that always falls on the first."""
    return 0


def message(body: str = "00", phase: str = "pake") -> Message:
    return Message(side="a", phase=phase, body=body, server_rx=1.5, id="1")


async def allocate(store: MailboxStore, side: str = "a", *, now: float = 0, owner: str = "o", app: str = APP) -> str:
    return await store.allocate(app, side, owner=owner, now=now)


async def claim(store: MailboxStore, nameplate: str, side: str, *, now: float = 0, owner: str = "o") -> str:
    return (await store.claim(APP, nameplate, side, owner=owner, now=now)).mailbox


async def finish(store: MailboxStore, nameplate: str, side: str = "a", *, now: float = 0) -> None:
    """What a side does at the end: releases and closes."""
    mailbox = await claim(store, nameplate, side, now=now)
    await store.release(APP, nameplate, side, now=now)
    await store.close(APP, mailbox, side, now=now)


async def test_numbers_are_as_short_as_there_are_free_ones(new_store: NewStore) -> None:
    store = await new_store(replace(LIMITS, mailboxes_per_address=2000), randbelow=lambda count: count - 1)
    numbers = await asyncio.gather(*[allocate(store) for _ in range(1000)])
    assert sorted(map(int, numbers[:9])) == list(range(1, 10))
    assert sorted(map(int, numbers[9:99])) == list(range(10, 100))
    assert sorted(map(int, numbers[99:999])) == list(range(100, 1000))
    assert int(numbers[999]) > 999


async def test_numbers_of_different_applications_do_not_meet(new_store: NewStore) -> None:
    store = await new_store(randbelow=first)
    assert await allocate(store, app="one") == await allocate(store, app="two") == "1"
    assert await store.waiting("one") == ["1"]


async def test_only_numbers_where_one_side_waits_are_listed(new_store: NewStore) -> None:
    store = await new_store()
    for number in ("12", "3"):
        await claim(store, number, "a")
    assert await store.waiting(APP) == ["3", "12"]
    await claim(store, "3", "b")
    assert await store.waiting(APP) == ["12"]


async def test_the_second_side_is_a_meeting_and_the_third_is_crowded(new_store: NewStore) -> None:
    store = await new_store()
    one = await store.claim(APP, "7", "a", owner="o", now=0)
    two = await store.claim(APP, "7", "b", owner="o", now=0)
    assert one.mailbox == two.mailbox
    assert (one.met, two.met) == (False, True)
    with pytest.raises(StoreRefusal, match=r"^crowded$"):
        await claim(store, "7", "c")
    with pytest.raises(StoreRefusal, match=r"^crowded$"):
        await store.open(APP, one.mailbox, "c", owner="o", now=0)


async def test_a_side_that_claims_again_gets_the_same_and_meets_nobody_twice(new_store: NewStore) -> None:
    store = await new_store()
    for side in ("a", "b"):
        await claim(store, "7", side)
    again = await store.claim(APP, "7", "b", owner="o", now=0)
    assert not again.met
    assert again.mailbox == await claim(store, "7", "a")


async def test_a_crowded_claim_leaves_the_pair_alone(new_store: NewStore) -> None:
    store = await new_store()
    mailbox = await claim(store, "7", "a")
    await claim(store, "7", "b")
    with pytest.raises(StoreRefusal):
        await claim(store, "7", "c")
    await store.add(APP, mailbox, message(), now=0)
    assert await store.open(APP, mailbox, "b", owner="o", now=0) == (message(),)


async def test_a_released_place_is_not_taken_again_while_the_other_side_holds_its_own(new_store: NewStore) -> None:
    store = await new_store()
    for side in ("a", "b"):
        await claim(store, "7", side)
    await store.release(APP, "7", "a", now=0)
    with pytest.raises(StoreRefusal, match=r"^reclaimed$"):
        await claim(store, "7", "a")
    with pytest.raises(StoreRefusal, match=r"^crowded$"):
        await claim(store, "7", "c")


async def test_a_pair_that_has_released_meets_again_under_its_number(new_store: NewStore) -> None:
    store = await new_store()
    before = await claim(store, "7", "a")
    await claim(store, "7", "b")
    for side in ("a", "b"):
        await store.release(APP, "7", side, now=0)
    one = await store.claim(APP, "7", "a2", owner="o", now=1)
    two = await store.claim(APP, "7", "b2", owner="o", now=1)
    assert two.met
    assert one.mailbox == two.mailbox != before


async def test_a_used_number_rests_for_ten_minutes(new_store: NewStore) -> None:
    store = await new_store(randbelow=first)
    assert await allocate(store) == "1"
    await finish(store, "1", now=100)
    assert await allocate(store, "x", now=100) == "2"
    assert await allocate(store, "y", now=699) == "3"
    assert await allocate(store, "z", now=700) == "1"


async def test_a_released_number_rests_as_long_as_its_pair_is_connected_by_a_mailbox(new_store: NewStore) -> None:
    store = await new_store(randbelow=first)
    assert await allocate(store) == "1"
    await store.release(APP, "1", "a", now=0)
    assert await allocate(store, "x", now=3000) == "2"


async def test_numbers_do_not_rest_when_all_short_ones_do(new_store: NewStore) -> None:
    store = await new_store(replace(LIMITS, mailboxes_per_address=2000), randbelow=first)
    await asyncio.gather(*[finish(store, str(number)) for number in range(1, 1000)])
    assert await allocate(store) == "1"


async def test_messages_are_played_back_in_order(new_store: NewStore) -> None:
    store = await new_store()
    await store.open(APP, "box", "a", owner="o", now=0)
    messages = tuple(message(phase=str(n)) for n in range(5))
    for each in messages:
        await store.add(APP, "box", each, now=0)
    assert await store.open(APP, "box", "b", owner="o", now=0) == messages


async def test_messages_are_numbered_and_read_from_any_number_on(new_store: NewStore) -> None:
    store = await new_store()
    await store.open(APP, "box", "a", owner="o", now=0)
    messages = tuple(message(phase=str(n)) for n in range(5))
    assert [await store.add(APP, "box", each, now=0) for each in messages] == [0, 1, 2, 3, 4]
    assert await store.read(APP, "box", 3) == messages[3:]
    assert await store.read(APP, "box", 5) == await store.read(APP, "none", 0) == ()


async def test_a_mailbox_is_forgotten_when_both_sides_have_closed_it(new_store: NewStore) -> None:
    store = await new_store()
    mailbox = await claim(store, "7", "a")
    await claim(store, "7", "b")
    await store.add(APP, mailbox, message(), now=0)
    await store.close(APP, mailbox, "a", now=0)
    assert await store.count() == 1
    await store.close(APP, mailbox, "a", now=0)
    await store.close(APP, mailbox, "b", now=0)
    assert await store.count() == 0
    assert await store.waiting(APP) == []
    await store.close(APP, mailbox, "b", now=0)
    with pytest.raises(StoreRefusal, match="closed"):
        await store.add(APP, mailbox, message(), now=0)


async def test_closing_and_releasing_what_is_not_there_does_nothing(new_store: NewStore) -> None:
    store = await new_store()
    await store.close(APP, "box", "a", now=0)
    await store.release(APP, "7", "a", now=0)
    await store.touch([(APP, "box")], now=0)
    assert await store.count() == 0


async def test_one_address_has_only_so_many_mailboxes(new_store: NewStore) -> None:
    store = await new_store(replace(LIMITS, mailboxes_per_address=2))
    await claim(store, "1", "a", owner="x")
    await store.open(APP, "box", "a", owner="x", now=0)
    with pytest.raises(StoreRefusal, match=r"^limit: ") as caught:
        await claim(store, "3", "a", owner="x")
    assert caught.value.reason == "mailboxes-per-address"
    await claim(store, "3", "a", owner="y")
    await claim(store, "3", "b", owner="x")  # another's mailbox counts for the other
    await store.close(APP, "box", "a", now=0)
    await claim(store, "4", "a", owner="x")


async def test_one_address_opens_only_so_many_mailboxes_a_day(new_store: NewStore) -> None:
    store = await new_store(replace(LIMITS, mailboxes_per_address_and_day=3))
    for number in map(str, range(1, 4)):
        await finish(store, number, now=86_000)
    with pytest.raises(StoreRefusal, match=r"^limit: ") as caught:
        await claim(store, "4", "a", now=86_399)
    assert caught.value.reason == "mailboxes-per-day"
    await claim(store, "4", "a", owner="y", now=86_399)
    await claim(store, "5", "a", now=86_400)


async def test_there_are_only_so_many_mailboxes_in_all(new_store: NewStore) -> None:
    store = await new_store(replace(LIMITS, mailboxes=2))
    await claim(store, "1", "a")
    await claim(store, "2", "a", owner="x")
    with pytest.raises(StoreRefusal, match=r"^limit: ") as caught:
        await allocate(store, owner="y")
    assert caught.value.reason == "mailboxes"
    assert await store.waiting(APP) == ["1", "2"]


async def test_one_mailbox_keeps_only_so_many_messages(new_store: NewStore) -> None:
    store = await new_store(replace(LIMITS, messages_per_mailbox=2))
    await store.open(APP, "box", "a", owner="o", now=0)
    for _ in range(2):
        await store.add(APP, "box", message(), now=0)
    with pytest.raises(StoreRefusal, match=r"^limit: ") as caught:
        await store.add(APP, "box", message(), now=0)
    assert caught.value.reason == "mailbox-full"


async def test_all_messages_together_have_only_so_much_room_and_give_it_back(new_store: NewStore) -> None:
    store = await new_store(max_stored_bytes=3000)
    for box in ("one", "two"):
        await store.open(APP, box, "a", owner="o", now=0)
    await store.add(APP, "one", message("0" * 2000), now=0)
    with pytest.raises(StoreRefusal, match=r"^limit: ") as caught:
        await store.add(APP, "two", message("0" * 2000), now=0)
    assert caught.value.reason == "store-full"
    await store.close(APP, "one", "a", now=0)
    await store.add(APP, "two", message("0" * 2000), now=0)


async def test_what_nobody_is_connected_for_is_pruned_after_its_time(new_store: NewStore) -> None:
    store = await new_store(replace(LIMITS, mailbox_idle_seconds=100))
    await claim(store, "1", "a", now=0)
    touched = await claim(store, "2", "a", now=0)
    assert await store.prune(now=100) == 0
    await store.touch([(APP, touched)], now=90)
    assert await store.prune(now=101) == 1
    assert await store.waiting(APP) == ["2"]
    assert await store.prune(now=191) == 1
    assert await store.count() == 0
