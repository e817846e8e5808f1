"""Who may connect: how many in all, how many from one address.

Pure counting. A few above the limit are let in for a moment, only to be told no in the words of their protocol; beyond
those a connection is closed unread.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum, auto
from ipaddress import IPv6Address, ip_network

from midair.config import ServerLimits
from midair.endpoint import Endpoint

__all__ = ["Admission", "Entry", "owner_of"]

SURPLUS = 64
"""Connections above the limit that are told why, in all."""
SURPLUS_PER_ADDRESS = 8
"""The same for one address."""


def owner_of(source: Endpoint) -> str:
    """Whom ``source`` counts for: its address, or its /64 for IPv6, because a /64 is what one customer gets."""
    if isinstance(source.address, IPv6Address):
        return str(ip_network((source.address, 64), strict=False))
    return str(source.address)


class Entry(Enum):
    """The answer to a new connection."""

    ADMITTED = auto()
    TOLD_FULL = auto()
    """The server is full, and says so."""
    TOLD_TOO_MANY = auto()
    """The address has too many, and is told so."""
    DROPPED = auto()
    """Not counted and not told."""


class Admission:
    """Counts connections; every :meth:`enter` that is not DROPPED needs its :meth:`leave`."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._owners: Counter[str] = Counter()
        self._total = 0

    @property
    def total(self) -> int:
        """Connections there are."""
        return self._total

    def enter(self, owner: str, *, fellow: bool = False, counted: bool = False) -> Entry:
        """One more from ``owner``. A ``fellow`` may have any number of them; one that came through it is ``counted``
        in the total already.
        """
        full = self._total - self._limits.connections
        many = -1 if fellow else self._owners[owner] - self._limits.connections_per_address
        if full >= SURPLUS or many >= SURPLUS_PER_ADDRESS:
            self._discard_zero(owner)
            return Entry.DROPPED
        self._total += not counted
        self._owners[owner] += 1
        if many >= 0:
            return Entry.TOLD_TOO_MANY
        return Entry.TOLD_FULL if full >= 0 else Entry.ADMITTED

    def leave(self, owner: str, *, counted: bool = False) -> None:
        """One of them is gone."""
        self._total -= not counted
        self._owners[owner] -= 1
        self._discard_zero(owner)

    def _discard_zero(self, owner: str) -> None:
        if not self._owners[owner]:
            del self._owners[owner]
