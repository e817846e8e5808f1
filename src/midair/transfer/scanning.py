"""Looking at what is to be sent while something else is done: with very many files it takes seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from pathlib import Path

from midair.transfer.finding import scan
from midair.transfer.source import Source

__all__ = ["Scanning"]


class Scanning:
    """``scan`` in a thread of its own, from now on."""

    def __init__(self, paths: Sequence[Path], *, patience: float = 0.1) -> None:
        """Waits for it for ``patience`` seconds, so that what is wrong with a few files is known at once.

        Raises: UsageError, LocalIOError.
        """
        self._found: Future[Source] = Future()
        # A daemon: whoever does not want to send any more need not wait for it.
        threading.Thread(target=self._scan, args=(paths,), name="midair-scan", daemon=True).start()
        wait({self._found}, timeout=patience)
        if self._found.done():
            self.result()

    def _scan(self, paths: Sequence[Path]) -> None:
        try:
            source = scan(paths)
        except BaseException as error:
            self._found.set_exception(error)
        else:
            self._found.set_result(source)

    def when_done(self, callback: Callable[[], None]) -> None:
        """Called once, in some thread; at once when it is done already."""
        self._found.add_done_callback(lambda found: callback())

    def result(self) -> Source:
        """Waits until it is done. Raises: UsageError (something that cannot be sent), LocalIOError."""
        return self._found.result()
