"""Which routers there are on the way to the server: those that tell of a SYN which may go no further."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from midair.endpoint import Endpoint
from midair.nat.address import is_public
from midair.port import Answer, ObservedDial

__all__ = ["routers_towards"]

HOPS_MAX: Final = 6
"""Homes and carriers have their NATs within a few; after them nothing is of interest."""
SECONDS: Final = 1.5
"""For each SYN; its repetition after one second is among them."""
TRIES: Final = 2

_Address = IPv4Address | IPv6Address


async def routers_towards(server: Endpoint, local: Endpoint) -> list[_Address | None]:
    """From the nearest one to the first that has a public address, or to the server; None for one that does not say who
    it is. Each is asked by SYNs to the server. Linux only; elsewhere there are none."""
    if is_public(local.address):
        return []
    answers = await asyncio.gather(*(_router_at(hops, server, local) for hops in range(1, HOPS_MAX + 1)))
    routers: list[_Address | None] = []
    for reached, router in answers:
        if reached:
            break
        routers.append(router)
        if router is not None and is_public(router):
            break
    return routers


async def _router_at(hops: int, server: Endpoint, local: Endpoint) -> tuple[bool, _Address | None]:
    """Whether the SYN came to the server's end, and who says that it did not."""
    for _ in range(TRIES):
        try:
            with ObservedDial(Endpoint(local.address, 0), hops=hops) as dial:
                outcome = await dial.dial(server, seconds=SECONDS)
        except OSError:
            break
        if outcome.answer is Answer.ICMP and outcome.reporter is not None:
            return False, outcome.reporter
        if outcome.answer is not Answer.SILENCE:
            return outcome.answer is not Answer.IMPOSSIBLE, None
    return False, None
