"""What is at which path. Pure: a request in, a response out; the WebSocket at ``/v1`` is the caller's."""

from __future__ import annotations

from collections.abc import Callable

from websockets.datastructures import Headers, MultipleValuesError
from websockets.http11 import Request, Response

from midair.server import page
from midair.server.metrics import CONTENT_TYPE as METRICS_CONTENT_TYPE
from midair.server.metrics import Metrics

__all__ = ["MAILBOX_PATH", "Pages", "authorization_of", "path_of", "plain", "private", "unavailable"]

MAILBOX_PATH = "/v1"


class Pages:
    """Answers everything that is no WebSocket."""

    def __init__(self, *, metrics: Metrics, trouble: Callable[[], str | None], secure: bool, motd: str | None) -> None:
        self._metrics = metrics
        self._trouble = trouble
        self._secure = secure
        self._motd = motd

    def respond(self, request: Request) -> Response:
        """The response to ``request``; the connection is closed after it."""
        if request.method not in ("GET", "HEAD"):
            response = plain(405, "Method Not Allowed", "Only GET and HEAD are understood here.\n")
            response.headers["Allow"] = "GET, HEAD"
            return response
        match path_of(request):
            case "/":
                counts = self._metrics.counts()
                body = page.render(_single(request, "Host"), secure=self._secure, motd=self._motd, counts=counts)
                response = _response(200, "OK", "text/html; charset=utf-8", body)
                response.headers["Content-Security-Policy"] = page.CONTENT_SECURITY_POLICY
                response.headers["Referrer-Policy"] = "no-referrer"
            case "/healthz":
                response = plain(200, "OK", "ok\n")
            case "/readyz":
                trouble = self._trouble()
                response = plain(200, "OK", "ready\n") if trouble is None else unavailable(trouble)
            case "/metrics":
                response = _response(200, "OK", METRICS_CONTENT_TYPE, self._metrics.render())
            case _:
                response = plain(404, "Not Found", "There is nothing here.\n")
        if request.method == "HEAD":
            response.body = b""  # with the Content-Length a GET has: RFC 9110 section 9.3.2
        return response


def path_of(request: Request) -> str:
    """The path without the query; ``/v1/`` is ``/v1``."""
    path = request.path.partition("?")[0]
    return path.rstrip("/") or "/"


def authorization_of(request: Request) -> str | None:
    """The header of that name; None: there is none, or more than one."""
    return _single(request, "Authorization")


def plain(status: int, phrase: str, text: str) -> Response:
    """A response of one line for a person."""
    return _response(status, phrase, "text/plain; charset=utf-8", text.encode())


def unavailable(reason: str) -> Response:
    """For what may be asked again in a moment."""
    response = plain(503, "Service Unavailable", reason + "\n")
    response.headers["Retry-After"] = "1"
    return response


def private() -> Response:
    """For who has not said the secret of a private server."""
    response = plain(401, "Unauthorized", "This server is private.\n")
    response.headers["WWW-Authenticate"] = 'Basic realm="midair"'
    return response


def _response(status: int, phrase: str, content_type: str, body: bytes) -> Response:
    headers = Headers(
        {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Connection": "close",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
    )
    return Response(status, phrase, headers, body)


def _single(request: Request, name: str) -> str | None:
    try:
        return request.headers.get(name)
    except MultipleValuesError:
        return None
