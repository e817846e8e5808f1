"""The mailboxes in Redis: a :class:`midair.server.store.MailboxStore` for any number of nodes.

What happens is in ``mailboxes.lua``; this file asks for it and decodes the answers. Time is the wall clock, which nodes
keep close enough for limits of minutes and hours. No key expires by itself, because others count it: the nodes forget
what is idle, as the store in memory does, and the first node that comes back after all were gone does it for them.
"""

from __future__ import annotations

import secrets
import time
from base64 import b32encode
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from midair.config import ServerLimits
from midair.rendezvous.wire import Message
from midair.server.memory import MAX_STORED_BYTES, REST_SECONDS
from midair.server.shared.link import Link, Script
from midair.server.store import MailboxKey, Place, StoreRefusal, size_of

__all__ = ["RedisStore", "decode_posted"]

TOUCHED_AT_ONCE = 500
"""Mailboxes in one run of the script: Redis does nothing else meanwhile."""
PRUNED_AT_ONCE = 500

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Message)


class RedisStore:
    """What this node does with the mailboxes of all."""

    def __init__(
        self,
        link: Link,
        limits: ServerLimits | None = None,
        *,
        max_stored_bytes: int = MAX_STORED_BYTES,
        randbelow: Callable[[int], int] = secrets.randbelow,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``limits.mailboxes``, and ``max_stored_bytes``, are for all nodes together."""
        self._link = link
        self._limits = limits or ServerLimits()
        self._max_stored_bytes = max_stored_bytes
        self._randbelow = randbelow
        self._clock = clock
        self._script = Script("mailboxes.lua")
        self._most = (
            self._limits.mailboxes,
            self._limits.mailboxes_per_address,
            self._limits.mailboxes_per_address_and_day,
        )
        self._mailboxes = 0

    @property
    def mailboxes(self) -> int:
        return self._mailboxes

    def clock(self) -> float:
        return self._clock()

    async def waiting(self, app: str) -> list[str]:
        [numbers] = await self._ask("waiting", 0, app)
        return [number.decode() for number in numbers]

    async def allocate(self, app: str, side: str, *, owner: str, now: float) -> str:
        chance, start, step = self._randbelow(1 << 50), self._randbelow(999_000), 1 + self._randbelow(998_999)
        answer = await self._ask("allocate", now, app, side, *self._new(owner), chance, start, step)
        number: str = answer[0].decode()
        return number

    async def claim(self, app: str, nameplate: str, side: str, *, owner: str, now: float) -> Place:
        mailbox, met = await self._ask("claim", now, app, nameplate, side, *self._new(owner))
        return Place(mailbox=mailbox.decode(), met=bool(met))

    async def release(self, app: str, nameplate: str, side: str, *, now: float) -> None:
        await self._ask("release", now, app, nameplate, side)

    async def open(self, app: str, mailbox: str, side: str, *, owner: str, now: float) -> tuple[Message, ...]:
        [messages] = await self._ask("open", now, app, mailbox, side, owner, self._link.node, *self._most)
        return _decoded(messages)

    async def add(self, app: str, mailbox: str, message: Message, *, now: float) -> int:
        limits = (self._limits.messages_per_mailbox, self._max_stored_bytes)
        data = _encoder.encode(message)
        index: int
        [index] = await self._ask("add", now, app, mailbox, self._link.node, data, size_of(message), *limits)
        return index

    async def read(self, app: str, mailbox: str, start: int) -> tuple[Message, ...]:
        [messages] = await self._ask("read", 0, app, mailbox, start)
        return _decoded(messages)

    async def close(self, app: str, mailbox: str, side: str, *, now: float) -> None:
        await self._ask("close", now, app, mailbox, side, REST_SECONDS)

    async def touch(self, mailboxes: Iterable[MailboxKey], *, now: float) -> None:
        members = [" ".join(key) for key in mailboxes]
        for start in range(0, len(members), TOUCHED_AT_ONCE):
            await self._ask("touch", now, *members[start : start + TOUCHED_AT_ONCE])

    async def prune(self, *, now: float) -> int:
        oldest = now - self._limits.mailbox_idle_seconds
        pruned = 0
        while True:
            count = int((await self._ask("prune", now, oldest, PRUNED_AT_ONCE, REST_SECONDS))[0])
            pruned += count
            if count < PRUNED_AT_ONCE:
                return pruned

    async def count(self) -> int:
        [count] = await self._ask("count", 0)
        self._mailboxes = int(count)
        return self._mailboxes

    def _new(self, owner: str) -> tuple[str | int, ...]:
        """What a mailbox that may have to be made is made with."""
        name = b32encode(self._randbelow(1 << 80).to_bytes(10, "big")).decode().lower()
        return owner, name, *self._most

    async def _ask(self, operation: str, now: float, *arguments: str | bytes | int | float) -> list[Any]:
        """The answer's values. Raises: StoreRefusal, StoreUnavailable."""
        verdict: bytes
        values: list[Any]
        verdict, *values = await self._link.call(self._script, operation, repr(float(now)), *arguments)
        if verdict == b"no":
            raise StoreRefusal.of(values[0].decode())
        return values


def decode_posted(payload: bytes) -> tuple[MailboxKey, int, Message]:
    """What ``add`` publishes to the other nodes. Raises: ValueError."""
    index, app, mailbox, data = payload.split(b" ", 3)
    return (app.decode(), mailbox.decode()), int(index), _decoder.decode(data)


def _decoded(messages: list[bytes]) -> tuple[Message, ...]:
    return tuple(_decoder.decode(message) for message in messages)
