"""Everything one node shares with the others: one link, and what goes over it."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from midair.config import ServerLimits
from midair.endpoint import Endpoint
from midair.server.budget import Budget
from midair.server.shared.legs import RedisLegs
from midair.server.shared.link import Link
from midair.server.shared.store import RedisStore, decode_posted
from midair.server.store import Listener

__all__ = ["Shared"]

log = logging.getLogger("midair.server.shared")


class Shared:
    """One node's share, in the Redis or Valkey at ``url``. Raises: UsageError."""

    def __init__(self, url: str, limits: ServerLimits | None = None, *, node: str | None = None) -> None:
        limits = limits or ServerLimits()
        self.link = Link(url, node=node)
        self.store = RedisStore(self.link, limits)
        self.legs = RedisLegs(self.link, wait_seconds=limits.relay_wait_seconds)
        self.first_joined = asyncio.Event()
        self._listener: Listener | None = None

    @property
    def ready(self) -> bool:
        """Whether Redis answers, and this node knows what is there."""
        return self.link.ready

    def is_fellow(self, source: Endpoint) -> bool:
        """Whether another node may connect from there."""
        return any(source.address == fellow.address for fellow in self.legs.fellows.values())

    async def run(self, listener: Listener, address: Endpoint, budget: Budget) -> None:
        """Until cancelled. ``address`` is where the other nodes reach this one, ``budget`` what may be relayed here."""
        self._listener = listener
        self.legs.address = address
        beside = [
            asyncio.create_task(self.legs.announce_forever()),
            asyncio.create_task(self.legs.share_forever(budget)),
        ]
        try:
            await self.link.run(self)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def published(self, payload: bytes) -> None:
        assert self._listener is not None
        try:
            mailbox, index, message = decode_posted(payload)
        except (ValueError, msgspec.DecodeError):
            log.warning("another node said something that is not understood")
            return
        await self._listener.posted(mailbox, index, message)

    async def joined(self, *, forgotten: bool) -> None:
        assert self._listener is not None
        await self.legs.announce()
        self.first_joined.set()
        await (self._listener.forgotten() if forgotten else self._listener.missed())
