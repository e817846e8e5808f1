"""Messages out of a TCP stream: where STUN has the stream to itself it needs no other framing (RFC 8489 6.2.2).

The length in each header tells where it ends. Pure: feed it what was read, in whatever pieces.
"""

from __future__ import annotations

from midair.stun.wire import HEADER_BYTES, MAGIC_COOKIE, MESSAGE_BYTES_MAX, StunError

__all__ = ["Deframer"]

_COOKIE_BYTES = MAGIC_COOKIE.to_bytes(4, "big")


class Deframer:
    """Cuts one stream into whole messages. Holds less than ``max_bytes`` between two calls."""

    def __init__(self, max_bytes: int = MESSAGE_BYTES_MAX) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._broken = False

    @property
    def missing(self) -> int:
        """How many bytes to read next, at most, so that nothing after the message under way is read."""
        if len(self._buffer) < HEADER_BYTES:
            return HEADER_BYTES - len(self._buffer)
        return self._size() - len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now, in order, header and all.

        Raises: StunError as soon as the stream cannot be STUN, and at every call after that.
        """
        if self._broken:
            raise StunError("the stream is broken already")
        self._buffer += data
        messages: list[bytes] = []
        while True:
            self._check()
            if len(self._buffer) < HEADER_BYTES or len(self._buffer) < self._size():
                return messages
            size = self._size()
            messages.append(bytes(self._buffer[:size]))
            del self._buffer[:size]

    def _size(self) -> int:
        return HEADER_BYTES + int.from_bytes(self._buffer[2:4], "big")

    def _check(self) -> None:
        """Looks at no byte later than it must: a stranger is turned away by its first one."""
        buffer = self._buffer
        cookie = buffer[4:8]
        if (
            (buffer and buffer[0] & 0xC0)
            or (len(buffer) >= 4 and (self._size() > self._max_bytes or self._size() % 4))
            or not _COOKIE_BYTES.startswith(cookie)
        ):
            self._broken = True
            self._buffer.clear()
            raise StunError("not a STUN stream")
