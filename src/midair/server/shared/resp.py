"""What is said to a Redis or Valkey, and what it answers: the protocol RESP, version 2. Pure.

An own codec because a node asks some ten things for each pair that meets, most of them alone in their round of the
event loop: the library's general way of asking cost more than all else the node did for a pair (docs/adr/0018).
"""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_REPLY_BYTES", "Argument", "Replies", "Reply", "ReplyError", "RespError", "encode_command"]

Argument = bytes | str | int | float
"""One word of a command."""

MAX_REPLY_BYTES: Final = 64 << 20
"""One reply: all messages of a full mailbox are 13 MiB."""
MAX_DEPTH: Final = 8
"""Of lists in lists; the scripts answer with two."""


class RespError(ValueError):
    """The bytes are no RESP."""


class ReplyError(Exception):
    """Redis' no to one command; the first word says of what kind."""

    @property
    def kind(self) -> str:
        """In capitals: ``NOSCRIPT``, ``OOM``, ``LOADING``."""
        return str(self).partition(" ")[0]


Reply = bytes | int | list["Reply"] | ReplyError | None


class _Incomplete(Exception):
    """Nothing is to be tried before there are so many bytes."""

    def __init__(self, needed: int) -> None:
        self.needed = needed


def encode_command(*words: Argument) -> bytes:
    """One command, as a list of strings."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


class Replies:
    """Feed what comes, get the replies that are whole."""

    def __init__(self) -> None:
        self._data = b""
        self._needed = 0

    def feed(self, data: bytes) -> list[Reply]:
        """Raises: RespError; then nothing more can be understood."""
        data = self._data = self._data + data if self._data else data
        if len(data) < self._needed:
            return []
        replies: list[Reply] = []
        start = 0
        try:
            while start < len(data):
                reply, start = _parse(data, start, 0)
                replies.append(reply)
            self._needed = 0
        except _Incomplete as incomplete:
            if incomplete.needed - start > MAX_REPLY_BYTES:
                raise RespError("a reply is too large") from None
            self._needed = incomplete.needed - start
        except ValueError as error:
            raise RespError("not a reply of Redis") from error
        self._data = data[start:]
        return replies


def _parse(data: bytes, start: int, depth: int) -> tuple[Reply, int]:
    """The reply that begins at ``start``, and where the next does. Raises: _Incomplete, ValueError."""
    end = data.find(b"\r\n", start)
    if end < 0:
        raise _Incomplete(len(data) + 1)
    kind, line, after = data[start : start + 1], data[start + 1 : end], end + 2
    if kind == b"$":
        length = int(line)
        if length < 0:
            return None, after
        if len(data) < after + length + 2:
            raise _Incomplete(after + length + 2)
        return data[after : after + length], after + length + 2
    if kind == b":":
        return int(line), after
    if kind == b"*":
        return _parse_list(data, int(line), after, depth + 1)
    if kind == b"+":
        return line, after
    if kind == b"-":
        return ReplyError(line.decode("utf-8", "replace")), after
    raise RespError(f"a reply begins with {kind!r}")


def _parse_list(data: bytes, count: int, start: int, depth: int) -> tuple[Reply, int]:
    if depth > MAX_DEPTH:
        raise RespError("a reply is nested too deep")
    if count < 0:
        return None, start
    items: list[Reply] = []
    for _ in range(count):
        item, start = _parse(data, start, depth)
        items.append(item)
    return items, start
