"""Looking at what is to be sent while something else is done: with very many files it takes seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from midair.transfer.source import Source, scan

__all__ = ["Scanning"]


class Scanning:
    """``scan`` in a thread of its own, from now on."""

    def __init__(self, paths: Sequence[Path], *, patience: float = 0.1) -> None:
        """Waits for it for ``patience`` seconds, so that what is wrong with a few files is known at once.

        Raises: UsageError, LocalIOError.
        """
        self._paths = paths
        self._lock = threading.Lock()
        self._source: Source | None = None
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._callbacks: list[Callable[[], None]] = []
        # A daemon: whoever does not want to send any more need not wait for it.
        threading.Thread(target=self._scan, name="midair-scan", daemon=True).start()
        if self._done.wait(patience):
            self.result()

    def _scan(self) -> None:
        try:
            self._source = scan(self._paths)
        except BaseException as error:
            self._error = error
        with self._lock:
            self._done.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def when_done(self, callback: Callable[[], None]) -> None:
        """Called once, in some thread; at once when it is done already."""
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def result(self) -> Source:
        """Waits until it is done. Raises: UsageError (something that cannot be sent), LocalIOError."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        assert self._source is not None
        return self._source
