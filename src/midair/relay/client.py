"""Opens one leg through the server and waits for the partner's."""

from __future__ import annotations

import asyncio
import socket

from midair.config import ServerURL
from midair.errors import ProxyError, QuotaError
from midair.port import connect_tcp
from midair.proxy import open_tunnel
from midair.relay.wire import (
    MAX_ANSWER_BYTES,
    OK,
    Preamble,
    RelayWireError,
    encode_preamble,
    parse_refusal,
)

__all__ = ["RelayError", "open_leg"]


class RelayError(Exception):
    """The relay gave no partner; ``word`` says why: unreachable, proxy, timeout, protocol, or the relay's own word."""

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.word = word


async def open_leg(server: ServerURL, token: bytes, side: bytes, *, timeout: float) -> socket.socket:
    """A connected non-blocking socket on which the partner with the same 32-byte ``token`` speaks.

    ``side`` is 8 bytes, different from the partner's; a second leg of the same side replaces the first while it waits.
    The relay is spoken in the clear even where the server has a certificate: what passes is ciphertext already.
    ``timeout`` is seconds for everything together, the wait for the partner included. Not one byte of the partner's is
    read here.

    Raises: QuotaError when the server's limits are reached, RelayError for everything else that goes wrong. Then, and
    when cancelled, the socket is closed.
    """
    preamble = encode_preamble(Preamble(token=token, side=side))
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    try:
        if server.proxy is None:
            sock = await connect_tcp(server.host, server.port, timeout=timeout)
        else:
            sock = await open_tunnel(server.proxy, server.host, server.port, timeout=timeout)
    except ProxyError as error:
        raise RelayError("proxy", error.message) from error
    except TimeoutError as error:
        raise RelayError("timeout", f"the relay at {server} does not answer") from error
    except OSError as error:
        raise RelayError("unreachable", f"the relay at {server} cannot be reached") from error
    try:
        async with asyncio.timeout_at(deadline):
            await loop.sock_sendall(sock, preamble)
            await _wait_for_partner(sock)
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


async def _wait_for_partner(sock: socket.socket) -> None:
    # What follows OK is the partner's, so no more is asked for than an OK is long until it is clear that it is none.
    loop = asyncio.get_running_loop()
    answer = b""
    while not answer.endswith(b"\n"):
        room = (len(OK) if OK.startswith(answer) else MAX_ANSWER_BYTES) - len(answer)
        if room <= 0:
            raise RelayError("protocol", "the relay answered with something too long")
        data = await loop.sock_recv(sock, room)
        if not data:
            raise RelayError("protocol", "the relay closed the connection without an answer")
        answer += data
    if answer == OK:
        return
    try:
        refusal = parse_refusal(answer)
    except RelayWireError as error:
        raise RelayError("protocol", "what answered is not a midair relay") from error
    if refusal.word == "quota":
        raise QuotaError(f"the relay refused: {refusal.text}")
    raise RelayError(refusal.word, f"the relay refused: {refusal.text}")
