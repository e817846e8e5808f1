"""What only the store in memory has to do: bound what it remembers of numbers."""

from __future__ import annotations

from midair.config import ServerLimits
from midair.server import MemoryStore


async def test_the_list_of_resting_numbers_is_bounded() -> None:
    store = MemoryStore(ServerLimits(mailboxes=5), randbelow=lambda count: 0)
    for number in map(str, range(1, 8)):
        mailbox = (await store.claim("app", number, "a", owner="o", now=0)).mailbox
        await store.release("app", number, "a", now=0)
        await store.close("app", mailbox, "a", now=0)
    assert [await store.allocate("app", str(n), owner="o", now=0) for n in range(3)] == ["1", "2", "8"]
