"""A port of ours at the home router, asked for while candidates are gathered and held until nobody needs it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection

from midair.endpoint import Family
from midair.nat.mapping import PortMapper, PortMapping
from midair.nat.mapping.gateway import default_gateways

__all__ = ["BUDGET_SECONDS", "MappedPort"]

_log = logging.getLogger("midair.traversal")

BUDGET_SECONDS = 0.25
"""For the router's answer, where nothing else is waited for. Tailscale gives all its mapping probes as much."""


class MappedPort:
    """Begins to ask when it is made, in a task of its own; ``close`` gives back what was got."""

    def __init__(self, number: int, families: Collection[Family]) -> None:
        """``number`` is our port, and ``families`` where it listens."""
        self._number = number
        self._families = families
        self._mapper: PortMapper | None = None
        self._answered = asyncio.Event()
        self._deadline = asyncio.get_running_loop().time() + BUDGET_SECONDS
        self._task = asyncio.create_task(self._hold(), name="midair-mapped-port")

    @property
    def mappings(self) -> list[PortMapping]:
        """What the router has given so far that can be reached from outside.

        A private external address is left out: behind it is another NAT, and nobody outside can dial it.
        """
        mappings = () if self._mapper is None else self._mapper.mappings
        return [each for each in mappings if each.public and each.external.family in self._families]

    async def answered(self) -> None:
        """Waits until the router has given a port or refused, BUDGET_SECONDS after the start at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._deadline):
                await self._answered.wait()

    async def close(self) -> None:
        """Gives the port back, within a second; idempotent. Cancelling leaves it to run out."""
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            raise error  # a mistake of ours: what routers and the system do is taken care of

    async def _hold(self) -> None:
        try:
            async with asyncio.timeout(BUDGET_SECONDS):
                gateways = [each for each in await default_gateways() if each.address.version in self._families]
            async with PortMapper(gateways=gateways) as self._mapper:
                await self._mapper.open_mapping(self._number, budget=BUDGET_SECONDS)
                self._answered.set()
                await asyncio.Event().wait()
        except OSError as error:  # TimeoutError is one
            _log.debug("the home router was not asked: %r", error)
        finally:
            self._answered.set()
