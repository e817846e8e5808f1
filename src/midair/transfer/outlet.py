"""Where bytes leave in order, as fast as whoever takes them: a thread that writes, and a bounded run of bytes before
it.

So a consumer that is slow, or stopped, keeps nobody from hearing what the sender says.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import ClassVar, Protocol

from blake3 import blake3

from midair.errors import MidairError, RemoteProtocolError
from midair.transfer.ring import Ring
from midair.transfer.wire import STREAM_WINDOW

__all__ = ["Outlet", "Sink"]

_CHUNK = 1 << 20
_LOOK_SECONDS = 0.5


class Sink(Protocol):
    """What an outlet writes to, in its own thread."""

    may_wait: ClassVar[bool]
    """Whether ``write`` may wait for ever, for somebody who reads."""

    def write(self, data: memoryview) -> None:
        """All of ``data``; may block. Raises: MidairError."""
        ...

    def look(self) -> None:
        """Nothing is to be written: is it still there? Raises: MidairError."""
        ...


class Outlet:
    """``put`` is for one thread; the rest for any."""

    def __init__(self, sink: Sink, *, window: int = STREAM_WINDOW) -> None:
        self._sink = sink
        self._ring = Ring(window)
        self._changed = threading.Condition()
        self._hasher = blake3()
        self._failure: MidairError | None = None
        self._closed = False
        self._writer: threading.Thread | None = None
        self._notify: Callable[[], None] = lambda: None

    def start(self, notify: Callable[[], None]) -> None:
        """Write what comes; ``notify`` is called, from another thread, when ``handed`` has grown or it has failed."""
        with self._changed:
            self._notify = notify
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="midair-outlet", daemon=True)
                self._writer.start()

    @property
    def taken(self) -> int:
        """Bytes put in so far."""
        with self._changed:
            return self._ring.end

    @property
    def handed(self) -> int:
        """Bytes written so far. Raises: MidairError when it cannot go on."""
        with self._changed:
            if self._failure is not None:
                raise self._failure
            return self._ring.base

    @property
    def blake3(self) -> bytes:
        """Of the bytes put in so far."""
        return self._hasher.digest()

    def put(self, data: memoryview) -> None:
        """Raises: RemoteProtocolError when there is no room: whoever sent it was told how much there is."""
        with self._changed:
            if len(data) > self._ring.size - (self._ring.end - self._ring.base):
                raise RemoteProtocolError("the sender sent more at once than it may")
        # Only this thread adds, so what is free stays free.
        self._hasher.update(data)
        while data:
            with self._changed:
                space = self._ring.space()[: len(data)]
            space[:] = data[: len(space)]
            data = data[len(space) :]
            with self._changed:
                self._ring.added(len(space))
                self._changed.notify_all()

    def close(self) -> None:
        """Write no more. Idempotent.

        When it returns nothing is being written, except where that may wait for ever: such a thread is left to it.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            writer = self._writer
        if writer is not None and not self._sink.may_wait:
            writer.join()

    # -- the writing thread --

    def _write(self) -> None:
        try:
            while (data := self._next()) is not None:
                if data:
                    self._sink.write(data)
                    with self._changed:
                        self._ring.release(self._ring.base + len(data))
                        notify = self._notify
                    notify()
                else:
                    self._sink.look()
        except MidairError as error:
            with self._changed:
                self._failure = error
                notify = self._notify
            notify()

    def _next(self) -> memoryview | None:
        """What is to be written; nothing when there has been nothing for a while; None when it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._ring.end > self._ring.base, timeout=_LOOK_SECONDS)
            return None if self._closed else self._ring.held(self._ring.base, _CHUNK)
