"""What is sent in order as it comes: read once, and held until the receiver has handed it on.

So a connection may break, and the next one goes on with what is held. A receiver that was started anew needs the
beginning, and that is gone once more than a window has passed.
"""

from __future__ import annotations

import os
import secrets
import select
import threading
from collections.abc import Callable
from typing import Literal

from blake3 import blake3

from midair.errors import MidairError, UsageError
from midair.transfer.failures import from_os
from midair.transfer.names import UnacceptableName, check
from midair.transfer.ring import Ring
from midair.transfer.wire import MAX_TEXT_BYTES, STREAM_WINDOW

__all__ = ["Stream"]

_CHUNK = 1 << 20


class Stream:
    """For all connections of one session, one after the other."""

    def __init__(
        self,
        descriptor: int | None,
        name: str,
        *,
        kind: Literal["stream", "text"] = "stream",
        content: bytes = b"",
        window: int = STREAM_WINDOW,
    ) -> None:
        """``content`` and then what can be read from ``descriptor``, which stays the caller's.

        Raises: UsageError for a name that no receiver would take.
        """
        try:
            if len(check(name)) != 1:
                raise UnacceptableName("it names a folder, too")
        except UnacceptableName as error:
            raise UsageError(f"this name cannot be sent: {error}") from error
        self.id = secrets.token_bytes(16)
        self.name = name
        self.kind = kind
        self.size = None if descriptor is not None else len(content)
        """None as long as nobody knows."""
        self._descriptor = descriptor
        self._lock = threading.Condition()
        self._ring = Ring(max(window, len(content)))
        self._ring.put(memoryview(content))
        self._hasher = blake3(content)
        self._over = descriptor is None
        self._closed = False
        self._error: MidairError | None = None
        self._reader: threading.Thread | None = None
        self._notify: Callable[[], None] = lambda: None

    @classmethod
    def of_text(cls, text: str) -> Stream:
        """To be shown, not stored. Raises: UsageError when it is too long."""
        try:
            content = text.encode()
        except UnicodeEncodeError as error:
            raise UsageError("the text is not valid Unicode") from error
        if len(content) > MAX_TEXT_BYTES:
            raise UsageError(
                f"a text may have {MAX_TEXT_BYTES} bytes at most", hint="Send it as a file, or from stdin with -."
            )
        return cls(None, "text", kind="text", content=content)

    def start(self, notify: Callable[[], None]) -> None:
        """Read on; ``notify`` is called, from another thread, when there is more to know than before."""
        with self._lock:
            self._notify = notify
            if self._reader is None and self._descriptor is not None:
                self._reader = threading.Thread(target=self._read, name="midair-stream-reader", daemon=True)
                self._reader.start()

    @property
    def held(self) -> tuple[int, int]:
        """From where to where it can be sent."""
        with self._lock:
            return self._ring.base, self._ring.end

    @property
    def over(self) -> bool:
        """Whether nothing more will come. Raises: LocalIOError when it cannot be read to its end."""
        with self._lock:
            if self._error is not None:
                raise self._error
            return self._over

    @property
    def blake3(self) -> bytes:
        """Of all of it, once it is over."""
        return self._hasher.digest()

    @property
    def bytes_hashed(self) -> int:
        with self._lock:
            return self._ring.end

    def copy_into(self, buffer: memoryview, position: int) -> int:
        """What is held from ``position`` on, as much as fits and lies in one piece; how many bytes."""
        with self._lock:
            view = self._ring.held(position, len(buffer))
        # Only what is released can be written over, and that is up to the caller.
        buffer[: len(view)] = view
        return len(view)

    def release(self, position: int) -> None:
        """Everything before ``position`` has been handed on."""
        with self._lock:
            self._ring.release(position)
            self._lock.notify_all()

    def close(self) -> None:
        """Read no more. A thread that is waiting for input is left to it. Idempotent."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    # -- the reading thread --

    def _read(self) -> None:
        assert self._descriptor is not None
        try:
            while (space := self._wait_for_space()) is not None:
                count = _read_into(self._descriptor, space[:_CHUNK])
                self._hasher.update(space[:count])
                with self._lock:
                    self._ring.added(count)
                    self._over = not count
                    self.size = self._ring.end if self._over else None
                    notify = self._notify
                notify()
                if not count:
                    return
        except OSError as error:
            with self._lock:
                self._error = from_os(error, self.name)
                notify = self._notify
            notify()

    def _wait_for_space(self) -> memoryview | None:
        with self._lock:
            self._lock.wait_for(lambda: self._closed or self._ring.space())
            return None if self._closed else self._ring.space()


def _read_into(descriptor: int, space: memoryview) -> int:
    """Raises: OSError."""
    while True:
        try:
            return os.readv(descriptor, [space])
        except BlockingIOError:  # somebody else has made it non-blocking, as a terminal is shared
            select.select([descriptor], [], [])
