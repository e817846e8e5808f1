"""Outgoing connections: one dial, and ordinary ones by name."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from itertools import chain, zip_longest

from midair.endpoint import Endpoint
from midair.port.failures import ConnectFailedError, ConnectFailure
from midair.port.sockets import new_socket

__all__ = ["connect_tcp", "dial", "resolve"]

ATTEMPT_DELAY_SECONDS = 0.25
"""How long one address may be silent before the next is tried beside it: RFC 8305 section 8 recommends 250 ms."""
ADDRESSES_MAX = 16
"""Addresses of one name that are tried."""


async def connect_tcp(host: str, port: int, *, timeout: float) -> socket.socket:
    """An ordinary outgoing connection to a name or literal: all its addresses, staggered (RFC 8305), first one wins.

    Gives a non-blocking socket. ``timeout`` is in seconds, for the name lookup and the dials together. Cancelling
    closes every socket; a lookup under way ends in its thread.

    Raises: ConnectFailedError, the first failure, with ``others`` for the rest; TimeoutError.
    """
    async with asyncio.timeout(timeout):
        return await _race(await resolve(host, port))


async def resolve(host: str, port: int) -> list[Endpoint]:
    """The endpoints of a name, IPv6 and IPv4 in turn (RFC 8305 section 4); a literal is itself. Never empty.

    Cancelling leaves the lookup to end in its thread.

    Raises: ConnectFailedError (``errno_name`` is EAI_NONAME and the like).
    """
    try:
        return [Endpoint.of(host, port)]
    except ValueError:
        pass
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is empty or over 63 bytes
        raise ConnectFailedError.of(socket.gaierror(socket.EAI_NONAME, "not a host name")) from error
    except OSError as error:
        raise ConnectFailedError.of(error) from error
    # A link-local address means nothing without its zone, and an Endpoint has none.
    usable = [address for *_, address in found if len(address) == 2 or not address[3]]
    endpoints = list(dict.fromkeys(Endpoint.from_sockaddr(address) for address in usable))
    by_family = [[e for e in endpoints if e.family == family] for family in (6, 4)]
    in_turn = [e for e in chain.from_iterable(zip_longest(*by_family)) if e is not None]
    if not in_turn:
        raise ConnectFailedError.of(socket.gaierror(socket.EAI_NONAME, "no usable address"))
    return in_turn


async def dial(sock: socket.socket, remote: Endpoint) -> None:
    """Connects a non-blocking socket. On any error, and when cancelled, the socket is closed.

    Raises: ConnectFailedError; also when the socket met itself: a SYN to one's own bound port is a simultaneous open
    with oneself (RFC 9293 section 3.5), and succeeds.
    """
    try:
        await asyncio.get_running_loop().sock_connect(sock, remote.to_sockaddr())
        if sock.getsockname() == sock.getpeername():
            raise ConnectFailedError.because(
                ConnectFailure.SELF, errno.EADDRNOTAVAIL, "connected to itself", remote=remote
            )
    except ConnectFailedError:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        raise ConnectFailedError.of(error, remote) from error
    except BaseException:
        sock.close()
        raise


async def _race(endpoints: list[Endpoint]) -> socket.socket:
    waiting = deque(endpoints[:ADDRESSES_MAX])
    running: set[asyncio.Task[socket.socket]] = set()
    failures: list[ConnectFailedError] = []
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(_dial_anew(waiting.popleft())))
            delay = ATTEMPT_DELAY_SECONDS if waiting else None
            ended, _ = await asyncio.wait(running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                running.discard(task)
                try:
                    return task.result()
                except ConnectFailedError as error:
                    failures.append(error)
    finally:
        # Not awaited: somebody who cancels us now would lose the winner's socket. They end in the loop's next round.
        for task in running:
            task.cancel()
            task.add_done_callback(_close_late)
    first, *others = failures
    first.others = tuple(others)
    raise first


async def _dial_anew(remote: Endpoint) -> socket.socket:
    try:
        sock = new_socket(remote.family)
    except OSError as error:
        raise ConnectFailedError.of(error, remote) from error
    await dial(sock, remote)
    return sock


def _close_late(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()
