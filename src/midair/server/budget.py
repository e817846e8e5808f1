"""How many bytes may be relayed today: for one address, and in all.

Counting only; the clock is given. A day is one of UTC. Where nodes share what they count, each spends at once what it
relays, and tells the others every few seconds (:meth:`Budget.unshared`, :meth:`Budget.learn`); so all of them together
may go over by what one address can move in those seconds.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from midair.config import ServerLimits

__all__ = ["ALL", "Budget"]

ALL = "all"
"""Under this name everybody's bytes are counted together."""
DAY_SECONDS = 86400
OWNERS_MAX = 100_000
"""Addresses counted apart; those that come later in the day share one account."""
_LATE = "late"


class Budget:
    """Of one day at a time. An owner is what :func:`midair.server.admission.owner_of` gives."""

    def __init__(self, limits: ServerLimits, *, clock: Callable[[], float] = time.time) -> None:
        self._of_one = limits.relay_bytes_per_address_and_day
        self._of_all = limits.relay_bytes_per_day
        self._clock = clock
        self._spent: Counter[str] = Counter()
        self._unshared: Counter[str] = Counter()
        self.day = int(clock() // DAY_SECONDS)

    def left(self, owners: Iterable[str]) -> int:
        """Bytes that a transfer between these may still move today."""
        self._turn_the_page()
        spent = [self._spent[self._account(owner)] for owner in owners]
        return max(0, min(self._of_all - self._spent[ALL], self._of_one - max(spent, default=0)))

    def spend(self, owners: Iterable[str], count: int) -> None:
        """So many bytes were moved between these, who may be one and the same."""
        self._turn_the_page()
        for owner in {ALL, *map(self._account, owners)}:
            self._spent[owner] += count
            self._unshared[owner] += count

    def unshared(self) -> dict[str, int]:
        """What was spent since this was last asked."""
        unshared, self._unshared = dict(self._unshared), Counter()
        return unshared

    def put_back(self, unshared: Mapping[str, int]) -> None:
        """The others could not be told."""
        self._unshared.update(unshared)

    def learn(self, day: int, totals: Mapping[str, int]) -> None:
        """What all nodes together have spent on ``day``, up to what this one has told."""
        self._turn_the_page()
        if day == self.day:
            for owner, total in totals.items():
                self._spent[owner] = total + self._unshared[owner]

    def _account(self, owner: str) -> str:
        return owner if owner in self._spent or len(self._spent) < OWNERS_MAX else _LATE

    def _turn_the_page(self) -> None:
        day = int(self._clock() // DAY_SECONDS)
        if day != self.day:
            self.day = day
            self._spent.clear()
            self._unshared.clear()
