"""Opens one leg through the server and waits for the partner's.

There are two forms. The plain one is cheaper for all: the server joins it with splice(2), and nothing wraps what is
ciphertext already. But a firewall may let only TLS or HTTP through, and what stands in front of a server may understand
nothing else. So the server is asked to answer a plain leg at once; when it doesn't, or what answers is no relay, the
leg is opened in a WebSocket (:mod:`midair.relay.websocket_leg`), and the first of both that leads to the server is
used. Through a proxy there is only the WebSocket: proxies often look at what passes, and some count against a person
what they do not know.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

from websockets.exceptions import InvalidStatus, WebSocketException

from midair.config import ServerURL
from midair.errors import ProxyError, QuotaError
from midair.port import connect_tcp
from midair.proxy import open_tunnel
from midair.relay.proof import with_proof
from midair.relay.websocket_leg import LegSocket, open_websocket
from midair.relay.wire import (
    MAX_ANSWER_BYTES,
    OK,
    WAIT,
    Preamble,
    RelayWireError,
    encode_preamble,
    parse_refusal,
)

__all__ = ["RelayError", "open_leg"]

HEDGE_SECONDS = 0.5
"""How long a plain leg may be silent before the other form is tried beside it: two round trips of 250 ms. Trying it for
nothing costs the server one handshake."""


class RelayError(Exception):
    """The relay gave no partner; ``word`` says why: unreachable, proxy, timeout, protocol, or the relay's own word."""

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.word = word


class _CutError(RelayError):
    """The way leads to something, and not to a relay: it may be the form."""


async def open_leg(
    server: ServerURL,
    token: bytes,
    side: bytes,
    *,
    timeout: float,
    ssl_context: ssl.SSLContext | None = None,
    on_cut: Callable[[], None] = lambda: None,
) -> socket.socket:
    """A connected non-blocking socket on which the partner with the same 32-byte ``token`` speaks.

    ``side`` is 8 bytes, different from the partner's; a second leg of the same side replaces the first while it waits.
    ``timeout`` is seconds for everything together, the wait for the partner included. ``ssl_context`` takes the place
    of the system's own, for wss. ``on_cut`` is called when the plain form leads nowhere and the other one does: then
    nothing else that is in the clear gets to this port of the server either. Not one byte of the partner's is read
    here. The socket may be one that a task of this loop works for, and has to be closed before the loop ends.

    Raises: QuotaError when the server's limits are reached, RelayError for everything else that goes wrong. Then, and
    when cancelled, the socket is closed.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    token = with_proof(token, server.secret) if server.secret else token
    preamble = Preamble(token=token, side=side)
    way = _Way(server, deadline, preamble, ssl_context)
    try:
        async with asyncio.timeout_at(deadline):
            sock, joined = await (_first_to_answer(way) if server.proxy is None else way.websocket())
    except TimeoutError as error:
        raise RelayError("timeout", f"the relay at {server} does not answer") from error
    try:
        async with asyncio.timeout_at(deadline):
            if isinstance(sock, LegSocket):
                # Not before it is chosen: it would take the place of the plain leg.
                on_cut()
                sock.send(encode_preamble(preamble))  # into an empty buffer: it neither blocks nor comes short
            if not joined and await _answer(sock) != OK:
                raise RelayError("protocol", "the relay said twice that there is no partner yet")
    except TimeoutError as error:
        sock.close()
        raise RelayError("timeout", f"the other side did not come to the relay within {timeout:g} s") from error
    except OSError as error:
        sock.close()
        raise RelayError("unreachable", f"the connection to the relay at {server} broke") from error
    except BaseException:
        sock.close()
        raise
    return sock


class _Way:
    """The two forms of one leg. Each gives a socket, and whether OK has been said there; each closes it on errors and
    when cancelled. Raises: RelayError, QuotaError."""

    def __init__(
        self, server: ServerURL, deadline: float, preamble: Preamble, ssl_context: ssl.SSLContext | None
    ) -> None:
        self._server = server
        self._deadline = deadline
        self._preamble = preamble
        self._ssl_context = ssl_context

    async def plain(self) -> tuple[socket.socket, bool]:
        """A leg the server has answered."""
        sock = await self._connected()
        preamble = Preamble(token=self._preamble.token, side=self._preamble.side, asks=True)
        try:
            await asyncio.get_running_loop().sock_sendall(sock, encode_preamble(preamble))
            return sock, await _answer(sock) == OK
        except OSError as error:
            sock.close()
            raise _CutError("unreachable", f"the connection to the relay at {self._server} broke") from error
        except BaseException:
            sock.close()
            raise

    async def websocket(self) -> tuple[socket.socket, bool]:
        """A leg in a WebSocket the server has opened; nothing has been said there."""
        connected = await self._connected()
        try:
            sock = await open_websocket(self._server, connected, self._ssl_context)
        except InvalidStatus as error:
            status = error.response.status_code
            if status == 429:
                raise QuotaError(f"the server at {self._server} has had too many connections from here") from error
            raise RelayError("protocol", f"the server at {self._server} answers HTTP {status} for a relay") from error
        except (OSError, EOFError, WebSocketException) as error:
            raise RelayError(
                "unreachable", f"the relay at {self._server} opens no WebSocket: {_in_words(error)}"
            ) from error
        return sock, False

    async def _connected(self) -> socket.socket:
        server = self._server
        left = max(0.0, self._deadline - asyncio.get_running_loop().time())
        try:
            if server.proxy is None:
                return await connect_tcp(server.host, server.port, timeout=left)
            return await open_tunnel(server.proxy, server.host, server.port, timeout=left)
        except ProxyError as error:
            raise RelayError("proxy", error.message) from error
        except TimeoutError as error:
            raise RelayError("timeout", f"the relay at {server} does not answer") from error
        except OSError as error:
            raise RelayError("unreachable", f"the relay at {server} cannot be reached") from error


async def _first_to_answer(way: _Way) -> tuple[socket.socket, bool]:
    plain = asyncio.create_task(way.plain())
    running = {plain}
    try:
        await asyncio.wait(running, timeout=HEDGE_SECONDS)
        if plain.done() and not isinstance(plain.exception(), _CutError):
            running.discard(plain)
            return plain.result()
        websocket = asyncio.create_task(way.websocket())
        running.add(websocket)
        while True:
            await asyncio.wait({task for task in running if not task.done()}, return_when=asyncio.FIRST_COMPLETED)
            for task in (plain, websocket):  # in this order when both have come
                if task.done() and task.exception() is None:
                    running.discard(task)
                    return task.result()
            if plain.done() and not isinstance(plain.exception(), _CutError):
                return plain.result()
            if plain.done() and websocket.done():
                raise _of_both(plain.exception(), websocket.exception())
    finally:
        # Not awaited: somebody who cancels us now would lose the winner's socket.
        for task in running:
            task.cancel()
            task.add_done_callback(_close_late)


def _of_both(plain: BaseException | None, websocket: BaseException | None) -> BaseException:
    if isinstance(plain, RelayError) and isinstance(websocket, RelayError):
        return RelayError(plain.word, f"{plain}; in a WebSocket: {websocket}")
    assert websocket is not None
    return websocket


def _close_late(task: asyncio.Task[tuple[socket.socket, bool]]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result()[0].close()


def _in_words(error: Exception) -> str:
    """Without what the other end has said: it goes to a person's screen."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({error.verify_message})"
        case OSError() if error.strerror:
            return error.strerror
        case _:
            return type(error).__name__


async def _answer(sock: socket.socket) -> bytes:
    """OK or WAIT. Raises: _CutError, RelayError, QuotaError; OSError."""
    loop = asyncio.get_running_loop()
    answer = b""
    while not answer.endswith(b"\n"):
        room = _room(answer)
        if room <= 0:
            raise _CutError("protocol", "the relay answered with something too long")
        data = await loop.sock_recv(sock, room)
        if not data:
            raise _CutError("protocol", "the relay closed the connection without an answer")
        answer += data
    if answer in (OK, WAIT):
        return answer
    try:
        refusal = parse_refusal(answer)
    except RelayWireError as error:
        raise _CutError("protocol", "what answered is not a midair relay") from error
    if refusal.word == "quota":
        raise QuotaError(f"the relay refused: {refusal.text}")
    raise RelayError(refusal.word, f"the relay refused: {refusal.text}")


def _room(answer: bytes) -> int:
    # What follows OK is the partner's, so no more is asked for than a line is long until it is clear which it is.
    for line in (OK, WAIT):
        if line.startswith(answer):
            return len(line) - len(answer)
    return MAX_ANSWER_BYTES - len(answer)
