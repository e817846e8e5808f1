"""Drives the handshake over a connected socket, in bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from typing import TYPE_CHECKING

from midair.channel.failures import AuthenticationError
from midair.channel.handshake import Handshake
from midair.channel.measuring import measured_costs
from midair.channel.stream import Channel
from midair.endpoint import Endpoint

if TYPE_CHECKING:
    import socket

    from midair.channel.keys import Role, SessionKey

__all__ = ["authenticate"]


async def authenticate(
    sock: socket.socket, key: SessionKey, role: Role, nonce: bytes, *, timeout: float = 5.0
) -> Channel:
    """Prove the session key to the other end of ``sock`` and have it prove the same; the channel over ``sock``.

    ``sock`` is connected and non-blocking; ``nonce`` is 32 fresh random bytes; ``timeout`` is seconds for all of it.
    At most 68 bytes are read. Whatever goes wrong, cancellation included, the socket is closed.

    Raises: AuthenticationError.
    """
    loop = asyncio.get_running_loop()
    handshake = Handshake(key, role, nonce, measured_costs())
    done = False
    try:
        async with asyncio.timeout(timeout):
            local, remote = Endpoint.from_sockaddr(sock.getsockname()), Endpoint.from_sockaddr(sock.getpeername())
            await loop.sock_sendall(sock, handshake.preface)
            while handshake.wanted:
                answer = handshake.feed(await loop.sock_recv(sock, handshake.wanted))
                if answer:
                    await loop.sock_sendall(sock, answer)
        done = True
        return Channel(sock, handshake.established, local=local, remote=remote)
    except TimeoutError as error:
        raise AuthenticationError(f"the other end did not answer within {timeout:g} s", suspicion="timeout") from error
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "an error")
        raise AuthenticationError(f"the connection broke: {name}", suspicion="broken") from error
    finally:
        if not done:
            _close_quietly(sock)


def _close_quietly(sock: socket.socket) -> None:
    """Close with a FIN where that is possible: bytes left unread would make it a RST, and a NAT that sees one may
    forget the mapping which another connection of the same port still needs."""
    with contextlib.suppress(OSError):
        for _ in range(16):
            if not sock.recv(4096):
                break
    sock.close()
