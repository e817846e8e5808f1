"""Whose turn it is where many want one at once: in the order in which they ask, a few in each round of the event loop,
so that who has nothing to do with them need not wait until all have had theirs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Turns"]


class Turns:
    """Gives at most so many of them in one round."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._waiting: deque[Callable[[], None]] = deque()
        self._coming = False

    def ask(self, turn: Callable[[], None]) -> None:
        """Calls ``turn`` once, in the next round or a later one."""
        self._waiting.append(turn)
        self._call_soon()

    def _call_soon(self) -> None:
        if self._waiting and not self._coming:
            self._coming = True
            asyncio.get_running_loop().call_soon(self._give)

    def _give(self) -> None:
        self._coming = False
        try:
            for _ in range(min(self._at_once, len(self._waiting))):
                self._waiting.popleft()()
        finally:
            self._call_soon()
