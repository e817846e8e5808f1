"""The server's end of a WebSocket (RFC 6455): the handshake as nearly all clients say it, then frames. Pure.

It has no extensions, so no compression, which costs 40 KiB for each connection; and it does less for each frame than a
library that serves both ends and all wishes (docs/adr/0018). What is odd about a handshake is left to that library,
which also has the words for what is wrong with it.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha1
from typing import Final

from websockets.frames import CloseCode

try:
    from websockets.speedups import apply_mask
except ImportError:  # a system for which the library is not compiled
    from websockets.utils import apply_mask

__all__ = ["Message", "Upgrade", "WebSocket", "read_upgrade"]

_CONT, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_FIN, _MASKED, _RESERVED = 0x80, 0x80, 0x70
_MAX_CONTROL_BYTES = 125

_REQUEST = re.compile(
    rb"GET (/[!-~]{0,1000}) HTTP/1\.1\r\n((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}:[\t -~]{0,4000}\r\n){1,64})\r\n"
)
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n"
)


Message = tuple[bool, bytes]
"""Whether it is text, and what it says. That text is UTF-8 is left to who reads it."""


class Upgrade:
    """A request for a WebSocket with nothing odd about it."""

    __slots__ = ("authorization", "path", "response")

    def __init__(self, path: str, response: bytes, authorization: str | None) -> None:
        self.path: Final = path
        """Without the query."""
        self.response: Final = response
        """What accepts it."""
        self.authorization: Final = authorization
        """The header of that name; None: it is not there."""


def read_upgrade(head: bytes) -> Upgrade | None:
    """From the whole head of a request; None when it is something else, or odd in any way (section 4.2.1)."""
    match = _REQUEST.fullmatch(head)
    if match is None:
        return None
    headers: dict[bytes, bytes] = {}
    lines = match[2].split(b"\r\n")
    lines.pop()  # what follows the last line's end
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip(b" \t")
    key = headers.get(b"sec-websocket-key", b"")
    if (
        len(headers) < len(lines)  # a header twice
        or headers.get(b"upgrade", b"").lower() != b"websocket"
        or headers.get(b"sec-websocket-version") != b"13"
        or not any(each.strip() == b"upgrade" for each in headers.get(b"connection", b"").lower().split(b","))
        or b"content-length" in headers
        or b"transfer-encoding" in headers
        or _KEY.fullmatch(key) is None
    ):
        return None
    accepted = b64encode(sha1(key + _GUID, usedforsecurity=False).digest())
    authorization = headers.get(b"authorization")
    path = match[1].partition(b"?")[0].decode()
    return Upgrade(path, _ACCEPTED % accepted, None if authorization is None else authorization.decode())


class WebSocket:
    """One of them, open from the start. What is to be written collects in :attr:`outgoing`, for the driver to take."""

    __slots__ = ("_closing", "_data", "_max_message_bytes", "_partial", "_text", "ended", "outgoing")

    def __init__(self, *, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._data = b""
        self._partial: bytearray | None = None
        self._text = False
        self._closing = False
        self.ended = False
        """Nothing follows what is in ``outgoing``: the server is the one to close first (section 7.1.1)."""
        self.outgoing: list[bytes] = []

    @property
    def is_open(self) -> bool:
        """Neither side has begun to close it."""
        return not self._closing

    def receive(self, data: bytes) -> list[Message]:
        """The messages that are whole now."""
        messages: list[Message] = []
        data = self._data + data if self._data else data
        start = 0
        while (frame := self._next_frame(data, start)) is not None:
            first, payload, start = frame
            self._handle(first, payload, messages)
        self._data = b"" if self.ended else data[start:]
        return messages

    def send_text(self, text: bytes) -> None:
        """Without effect when the end has begun."""
        if not self._closing:
            self.outgoing.append(_frame(_TEXT, text))

    def send_binary(self, data: bytes) -> None:
        """Without effect when the end has begun."""
        if not self._closing:
            self.outgoing.append(_frame(_BINARY, data))

    def send_ping(self) -> None:
        """Without effect when the end has begun."""
        if not self._closing:
            self.outgoing.append(_frame(_PING, b""))

    def close(self, code: int) -> None:
        """Begins to close; the client's answer ends it. Idempotent."""
        if not self._closing:
            self._closing = True
            self.outgoing.append(_frame(_CLOSE, code.to_bytes(2, "big")))

    def fail(self, code: int) -> None:
        """Closes without waiting for an answer (section 7.1.7)."""
        self.close(code)
        self.ended = True

    def _next_frame(self, data: bytes, start: int) -> tuple[int, bytes, int] | None:
        """The first byte of a frame, its payload, and where the next begins; None until there is more, or it is over.

        What the head says is checked before the rest is waited for.
        """
        have = len(data) - start
        if have < 2 or self.ended:
            return None
        first, length = data[start], data[start + 1]
        if not length & _MASKED or first & _RESERVED or first & 0x0F not in _OPCODES:
            self.fail(CloseCode.PROTOCOL_ERROR)
            return None
        length &= 0x7F
        head = 2
        if first & _CLOSE:  # a control frame
            if length > _MAX_CONTROL_BYTES or not first & _FIN:
                self.fail(CloseCode.PROTOCOL_ERROR)
                return None
        elif length >= 126:
            head = 4 if length == 126 else 10
            if have < head:
                return None
            length = int.from_bytes(data[start + 2 : start + head], "big")
        if length + len(self._partial or b"") > self._max_message_bytes and not first & _CLOSE:
            self.fail(CloseCode.MESSAGE_TOO_BIG)
            return None
        payload = start + head + 4
        end = payload + length
        if len(data) < end:
            return None
        return first, apply_mask(data[payload:end], data[payload - 4 : payload]), end

    def _handle(self, first: int, payload: bytes, messages: list[Message]) -> None:
        opcode = first & 0x0F
        if opcode == _CLOSE:
            self._on_close(payload)
        elif self._closing or opcode == _PONG:
            pass  # what still comes after our close is of no use
        elif opcode == _PING:
            self.outgoing.append(_frame(_PONG, payload))
        elif (opcode == _CONT) is (self._partial is None):  # a beginning in the middle, or a middle without one
            self.fail(CloseCode.PROTOCOL_ERROR)
        elif first & _FIN and self._partial is None:
            messages.append((opcode == _TEXT, payload))
        else:
            if self._partial is None:
                self._partial, self._text = bytearray(), opcode == _TEXT
            self._partial += payload
            if first & _FIN:
                messages.append((self._text, bytes(self._partial)))
                self._partial = None

    def _on_close(self, payload: bytes) -> None:
        code = int.from_bytes(payload[:2], "big")
        try:
            payload[2:].decode()
        except UnicodeDecodeError:
            self.fail(CloseCode.INVALID_DATA)
            return
        if len(payload) == 1 or (payload and not _is_close_code(code)):
            self.fail(CloseCode.PROTOCOL_ERROR)
            return
        if not self._closing:
            self._closing = True
            self.outgoing.append(_frame(_CLOSE, payload[:2]))
        self.ended = True


_OPCODES = frozenset({_CONT, _TEXT, _BINARY, _CLOSE, _PING, _PONG})


def _is_close_code(code: int) -> bool:
    # Section 7.4: 1004 to 1006 and 1015 are never sent, and up to 3000 only what is registered.
    return (1000 <= code <= 1014 and not 1004 <= code <= 1006) or 3000 <= code <= 4999


def _frame(opcode: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        return bytes((_FIN | opcode, length)) + payload
    if length < 1 << 16:
        return bytes((_FIN | opcode, 126)) + length.to_bytes(2, "big") + payload
    return bytes((_FIN | opcode, 127)) + length.to_bytes(8, "big") + payload
