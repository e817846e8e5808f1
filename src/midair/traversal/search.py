"""The search for a direct connection that goes on while a conversation runs over the relay."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from midair.traversal.leg import Winner
from midair.traversal.race import Race

if TYPE_CHECKING:
    from midair.traversal.result import PathResult

__all__ = ["Search"]


class Search:
    """``run`` once, whatever happens; it ends by itself at the deadline."""

    def __init__(self, race: Race, result_of: Callable[[Winner], PathResult]) -> None:
        self._race = race
        self._result_of = result_of

    async def run(self) -> PathResult:
        """The direct connection both have agreed on, whose channel is the caller's; or the relay again, with the reason
        why it stays that. Cancelling closes what has been opened for it.

        Emits Attempted. It needs no messages to the peer, nor the server.
        """
        try:
            return self._result_of(await self._race.go_on())
        except BaseException:
            await self._race.abandon()
            raise

    def stop(self) -> None:
        """It is not needed any more: ``run`` ends at once, with what was known."""
        self._race.stop()
