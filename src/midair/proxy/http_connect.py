"""HTTP's CONNECT, the client's side (RFC 9110 9.3.6), with Basic credentials where there are some (RFC 7617). Pure.

Of the answer only the status counts, and of its headers which logins a proxy offers that wants one. "Any 2xx
(Successful) response indicates that the sender (and all inbound proxies) will switch to tunnel mode immediately after
the response header section": a Content-Length there means nothing.
"""

from __future__ import annotations

import base64
import re

from midair.proxy.handshake import Refusal, RefusedError, host_name

__all__ = ["MAX_HEAD_BYTES", "HttpConnect"]

MAX_HEAD_BYTES = 16 * 1024
"""Status line and headers together; most servers take 8 KiB for each line."""

_START = b"HTTP/1."
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([2-5][0-9][0-9])(?: [^\r\n]*)?\r?\n")
_END = re.compile(rb"\r?\n\r?\n")
_OFFER = re.compile(rb"^(?:proxy|www)-authenticate:[ \t]*([a-z0-9-]{1,20})", re.IGNORECASE | re.MULTILINE)

_LOGIN_STATUSES = {407, 401}
"""401 is for servers (RFC 9110 15.5.2), and some proxies say it when a password is wrong."""
_UNREACHABLE_STATUSES = {404, 408, 410, 500, 502, 503, 504}


class HttpConnect:
    """See :class:`midair.proxy.handshake.Handshake`."""

    def __init__(self, host: str, port: int, *, user: str = "", password: str = "") -> None:
        """``host`` and ``port`` are the server's. Raises: RefusedError for a host that cannot be named."""
        name = host_name(host).decode()
        self._target = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
        self._credentials = f"{user}:{password}" if user else ""
        self._received = b""
        self.is_open = False

    def hello(self) -> bytes:
        lines = [f"CONNECT {self._target} HTTP/1.1", f"Host: {self._target}"]
        if self._credentials:
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(self._credentials.encode()).decode()}")
        return "\r\n".join((*lines, "", "")).encode()

    def receive(self, data: bytes) -> bytes:
        if self.is_open:
            raise RefusedError(Refusal.NONSENSE, "it goes on talking")
        self._received += data
        if self._received[: len(_START)] != _START[: len(self._received)]:
            raise RefusedError(Refusal.NONSENSE)
        end = _END.search(self._received)
        if end is None or end.end() > MAX_HEAD_BYTES:
            if len(self._received) >= MAX_HEAD_BYTES:
                raise RefusedError(Refusal.NONSENSE, "its answer is too long")
            return b""
        self._judge(self._received[: end.end()])
        if end.end() < len(self._received):
            raise RefusedError(Refusal.NONSENSE, "it goes on talking")
        self.is_open = True
        return b""

    def _judge(self, head: bytes) -> None:
        match = _STATUS.match(head)
        if match is None:
            raise RefusedError(Refusal.NONSENSE)
        status = int(match[1])
        if status < 300:
            return
        if status in _LOGIN_STATUSES:
            self._judge_offers({offer.decode().lower() for offer in _OFFER.findall(head)})
        if status in _UNREACHABLE_STATUSES:
            raise RefusedError(Refusal.UNREACHABLE, f"HTTP {status}")
        raise RefusedError(Refusal.FORBIDDEN, f"HTTP {status}")

    def _judge_offers(self, offers: set[str]) -> None:
        if offers and "basic" not in offers:
            raise RefusedError(Refusal.LOGIN_UNKNOWN, f"it has {', '.join(sorted(offers))}")
        raise RefusedError(Refusal.LOGIN_WRONG if self._credentials else Refusal.LOGIN_WANTED)
