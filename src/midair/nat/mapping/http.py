"""As much of HTTP/1.1 (RFC 9112) as a home router needs: one request, one response, then the connection is closed.

The other end is not trusted: a response has limits, nothing in it leads anywhere else (no redirects, no cookies, no
compression), and whatever is odd is refused.
"""

from __future__ import annotations

from ipaddress import IPv4Address

import msgspec

from midair.nat.mapping.outcome import MalformedError

__all__ = ["BODY_BYTES_MAX", "HEAD_BYTES_MAX", "HttpResponse", "ResponseReader", "Target", "encode_request"]

HEAD_BYTES_MAX = 8 * 1024
BODY_BYTES_MAX = 64 * 1024
"""A router's description is 4 to 20 KiB."""
_CHUNK_LINE_BYTES_MAX = 64
_LENGTH_DIGITS_MAX = 9


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for, at which port of the router."""

    port: int
    path: str
    """Begins with a slash; printable ASCII only."""


class HttpResponse(msgspec.Struct, frozen=True):
    """The answer: its status and its whole body."""

    status: int
    body: bytes


def encode_request(
    method: str, host: IPv4Address, target: Target, *, headers: dict[str, str] | None = None, body: bytes = b""
) -> bytes:
    """The request as bytes."""
    lines = [f"{method} {target.path} HTTP/1.1", f"Host: {host}:{target.port}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


class ResponseReader:
    """Takes the bytes of a connection in any pieces."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> HttpResponse | None:
        """The response, once it is whole; ``b""`` is the end of the connection.

        Raises: MalformedError, also for one that is too large or was cut off.
        """
        self._data += data
        head, separator, rest = bytes(self._data).partition(b"\r\n\r\n")
        if len(head) > HEAD_BYTES_MAX:
            raise MalformedError("the response's head is too long")
        if len(rest) > 2 * BODY_BYTES_MAX:  # chunks have lines of their own
            raise MalformedError("the response is too long")
        if not separator:
            if not data:
                raise MalformedError("the response was cut off")
            return None
        status, fields = _parse_head(head)
        body = _body(fields, rest, ended=not data)
        if body is None:
            if not data:
                raise MalformedError("the response was cut off")
            return None
        if len(body) > BODY_BYTES_MAX:
            raise MalformedError("the response is too long")
        return HttpResponse(status, body)


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not (words[1].isascii() and words[1].isdigit()):
        raise MalformedError("not an HTTP response")
    if len(words[1]) != 3 or words[1].startswith("1"):
        raise MalformedError("not a final HTTP response")
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise MalformedError("a header line is wrong")
        fields.setdefault(name.lower(), value.strip())
    return int(words[1]), fields


def _body(fields: dict[str, str], rest: bytes, *, ended: bool) -> bytes | None:
    """The body, or None while some of it is missing (RFC 9112 section 6.3)."""
    if "transfer-encoding" in fields:
        if fields["transfer-encoding"].lower() != "chunked":
            raise MalformedError("an unknown transfer encoding")
        return _dechunked(rest)
    length = fields.get("content-length")
    if length is None:
        return rest if ended else None
    if not (length.isascii() and length.isdigit()) or len(length) > _LENGTH_DIGITS_MAX:
        raise MalformedError("a wrong length")
    return rest[: int(length)] if len(rest) >= int(length) else None


def _dechunked(rest: bytes) -> bytes | None:
    body = bytearray()
    position = 0
    while True:
        end = rest.find(b"\r\n", position, position + _CHUNK_LINE_BYTES_MAX)
        if end < 0:
            if len(rest) - position >= _CHUNK_LINE_BYTES_MAX:
                raise MalformedError("a chunk without a size")
            return None
        digits = rest[position:end].partition(b";")[0].strip()
        if not digits or len(digits) > 8 or digits.strip(b"0123456789abcdefABCDEF"):
            raise MalformedError("a chunk without a size")
        size = int(digits, 16)
        if size == 0:
            return bytes(body)  # trailers are of no interest: the connection is closed
        if len(body) + size > BODY_BYTES_MAX:
            raise MalformedError("the response is too long")
        if len(rest) < end + 2 + size + 2:
            return None
        body += rest[end + 2 : end + 2 + size]
        if rest[end + 2 + size : end + 4 + size] != b"\r\n":
            raise MalformedError("a chunk of another size")
        position = end + 4 + size
