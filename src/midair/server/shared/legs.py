"""Where relay legs wait, in Redis: a :class:`midair.server.directory.Directory`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import time
from collections.abc import Callable
from hashlib import sha256

from midair.endpoint import Endpoint
from midair.relay.wire import Preamble
from midair.server.budget import Budget
from midair.server.directory import Elsewhere
from midair.server.shared.link import Link, Script
from midair.server.store import StoreUnavailable

__all__ = ["RedisLegs"]

log = logging.getLogger("midair.server.shared")

ANNOUNCE_SECONDS = 5.0
SHARE_SECONDS = 3.0
"""How often nodes tell each other what they have relayed."""
SHARED_AT_ONCE = 500
GONE_SECONDS = 20.0
"""A node unheard of for so long is no longer one."""


class RedisLegs:
    """This node's part. Knows the other nodes by what they say of themselves every few seconds."""

    def __init__(self, link: Link, *, wait_seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._link = link
        self._wait_seconds = math.ceil(wait_seconds)
        self._clock = clock
        self._script = Script("legs.lua")
        self._fellows: dict[str, Endpoint] = {}
        self.key: bytes | None = None
        self.address: Endpoint | None = None
        """Where the others reach this node; to be set before anything is announced."""

    @property
    def node(self) -> str:
        return self._link.node

    @property
    def fellows(self) -> dict[str, Endpoint]:
        """The nodes there are, this one too: where each is reached by the others."""
        return self._fellows

    async def arrive(self, preamble: Preamble) -> Elsewhere | None:
        # The token itself stays here: who reads Redis must not be able to take legs.
        token = sha256(b"midair leg" + preamble.token).hexdigest()
        found = await self._link.call(self._script, "arrive", token, preamble.side.hex(), self.node, self._wait_seconds)
        if not found:
            return None
        node = found[0].decode()
        if node not in self._fellows:
            await self.announce()  # it may be new
        if node not in self._fellows:
            return await self.arrive(preamble)  # it has gone: this leg is the first
        return Elsewhere(node=node, address=self._fellows[node])

    async def announce_forever(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.announce()
            except StoreUnavailable:
                log.debug("no node can be told of this one")
            await asyncio.sleep(ANNOUNCE_SECONDS)

    async def share_forever(self, budget: Budget) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(SHARE_SECONDS)
            await self.share(budget)

    async def share(self, budget: Budget) -> None:
        """Tells what was spent here, and hears what was spent by the same in all."""
        spent = list(budget.unshared().items())
        for start in range(0, len(spent), SHARED_AT_ONCE):
            part = dict(spent[start : start + SHARED_AT_ONCE])
            day = budget.day
            told = [value for item in part.items() for value in item]
            try:
                totals = await self._link.call(self._script, "spend", day, *told)
            except StoreUnavailable:
                budget.put_back(part)
                continue
            budget.learn(day, dict(zip(part, totals, strict=True)))

    async def announce(self) -> None:
        """Says that this node is there, and hears of the others. Raises: StoreUnavailable."""
        now = self._clock()
        me = f"{self.node} {self.address}"
        answer = await self._link.call(self._script, "announce", now, now - GONE_SECONDS, me, secrets.token_bytes(32))
        self.key, nodes = answer
        self._fellows = {}
        for member in nodes:
            node, _, address = member.decode().partition(" ")
            with contextlib.suppress(ValueError):
                self._fellows[node] = Endpoint.parse(address)
