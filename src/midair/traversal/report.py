"""The attempts of a race as events: one for every run of equal results, not one for every retry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from midair import events

__all__ = ["AttemptLog"]

_MAX_REMOTES = 64
"""Remotes followed, at most: strangers can come from any number of ports."""


class AttemptLog:
    """Counts results until they change."""

    def __init__(self) -> None:
        self._runs: dict[tuple[Literal["dial", "accept"], str], tuple[str, int]] = {}

    def note(self, how: Literal["dial", "accept"], remote: str, result: str) -> Iterator[events.Attempted]:
        """One attempt has ended so; what is to be told now: the run of other results before it."""
        key = (how, remote)
        last, count = self._runs.get(key, (result, 0))
        if key not in self._runs and len(self._runs) >= _MAX_REMOTES:
            return
        if last != result:
            yield self._event(key, last, count)
            count = 0
        self._runs[key] = (result, count + 1)

    def flush(self) -> Iterator[events.Attempted]:
        """What has not been told yet, at the end."""
        runs, self._runs = self._runs, {}
        for key, (result, count) in runs.items():
            yield self._event(key, result, count)

    @staticmethod
    def _event(key: tuple[Literal["dial", "accept"], str], result: str, count: int) -> events.Attempted:
        how, remote = key
        return events.Attempted(how=how, remote=remote, result=result, count=count)
