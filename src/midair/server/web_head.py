"""The head of a connection's one request, from its bytes to the answer's: a page, an error, or a WebSocket. Pure.

Nearly every client's head comes whole and asks plainly for the mailbox; that is answered at once. Everything else is
read by ``websockets``, as it comes, so that what cannot become a request is told soon.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from midair.relay.wire import RELAY_PATH
from midair.server.http import MAILBOX_PATH, Pages, authorization_of, path_of, plain, private, unavailable
from midair.server.metrics import Metrics
from midair.server.websocket import read_upgrade

__all__ = ["Answer", "Door", "Head"]

websocket_log = logging.getLogger("websockets.server")

MAX_HEAD_BYTES = 16 * 1024
"""Request line and headers together; more than the 8 KiB most servers take for each line, and far more than is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What all requests to one server are answered from."""

    pages: Pages
    trouble: Callable[[], str | None]
    """Why nobody can meet here now; None when all is well."""
    admits: Callable[[str | None], bool]
    """Whether a request with this Authorization header may use the mailbox."""
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Answer:
    """To be written as it is."""

    data: bytes
    opens: str | None = None
    """The path of the WebSocket that begins behind it; None: the connection ends."""


class Head:
    """Of one connection. With ``refusal``, every request is answered with 503 and this text."""

    __slots__ = ("_bytes", "_door", "_http", "_refusal", "_tail")

    def __init__(self, door: Door, refusal: str | None) -> None:
        self._door = door
        self._refusal = refusal
        self._http: ServerProtocol | None = None
        self._bytes = 0
        self._tail = b""

    def read(self, data: bytes) -> tuple[Answer | None, bytes]:
        """The answer, once the head is there or cannot be one, and what of ``data`` is behind it: that must not be
        understood before the head is answered, however hasty the client."""
        if self._http is None:
            end = data.find(b"\r\n\r\n") + 4
            upgrade = read_upgrade(data[:end]) if end >= 4 else None
            if upgrade is not None and upgrade.path in (MAILBOX_PATH, RELAY_PATH):
                refusal = self._refusal_of(upgrade.path, upgrade.authorization)
                if refusal is None:
                    return Answer(upgrade.response, upgrade.path), data[end:]
                return Answer(refusal.serialize()), data[end:]
            self._http = ServerProtocol(logger=websocket_log)
        length = self._length_in(data)
        self._bytes += length
        return self._parse(self._http, data[:length]), data[length:]

    def _length_in(self, data: bytes) -> int:
        """How many bytes of ``data`` are head."""
        joined = self._tail + data
        end = joined.find(b"\r\n\r\n")
        if end >= 0:
            return end + 4 - len(self._tail)
        self._tail = joined[-3:]
        return len(data)

    def _parse(self, http: ServerProtocol, data: bytes) -> Answer | None:
        http.receive_data(data)
        for event in http.events_received():
            assert isinstance(event, Request)
            return self._respond(http, event)
        if http.eof_sent:  # the parser has given up, with an answer of its own or none
            said = b"".join(http.data_to_send())
            text = "This is no HTTP request that is understood here.\n"
            answer = Answer(said or plain(400, "Bad Request", text).serialize())
        elif self._bytes > MAX_HEAD_BYTES:
            answer = Answer(plain(431, "Request Header Fields Too Large", "The headers are too large.\n").serialize())
        else:
            return None
        self._door.metrics.refused("http")
        return answer

    def _respond(self, http: ServerProtocol, request: Request) -> Answer:
        path = path_of(request)
        if request.method == "GET" and path in (MAILBOX_PATH, RELAY_PATH):
            response = self._refusal_of(path, authorization_of(request)) or http.accept(request)
            return Answer(response.serialize(), path if response.status_code == 101 else None)
        response = self._door.pages.respond(request) if self._refusal is None else unavailable(self._refusal)
        return Answer(response.serialize())

    def _refusal_of(self, path: str, authorization: str | None) -> Response | None:
        """The answer to who asks for a WebSocket and cannot have it."""
        if self._refusal is not None:
            return unavailable(self._refusal)
        if path == RELAY_PATH:  # what is asked for inside may be refused
            return None
        if not self._door.admits(authorization):
            self._door.metrics.refused("secret")
            return private()
        trouble = self._door.trouble()
        return None if trouble is None else unavailable(trouble)
