"""Drives a handshake with a proxy, and says in a person's words what went wrong."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Final

from midair.config import ProxyURL
from midair.errors import ProxyError
from midair.port import ConnectFailedError, connect_tcp
from midair.proxy.handshake import Handshake, Refusal, RefusedError
from midair.proxy.http_connect import HttpConnect
from midair.proxy.socks5 import Socks5

__all__ = ["open_tunnel"]

_READ_BYTES: Final = 4096
_KINDS: Final = {"socks5": "SOCKS5", "http": "HTTP"}


async def open_tunnel(proxy: ProxyURL, host: str, port: int, *, timeout: float) -> socket.socket:
    """A connected non-blocking socket through ``proxy`` to the server's ``host`` and ``port``. The proxy looks ``host``
    up.

    ``timeout`` is seconds for everything together. Nothing of what the server says is read here, and nothing said to
    it; it must not speak first. On errors, and when cancelled, the socket is closed.

    Raises: ProxyError, which never has the password in it.
    """
    trouble = _Trouble(proxy, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    deadline = asyncio.get_running_loop().time() + timeout
    try:
        handshake = _handshake(proxy, host, port)
        sock = await connect_tcp(proxy.host, proxy.port, timeout=timeout)
    except RefusedError as error:
        raise trouble.refused(error) from error
    except TimeoutError as error:
        raise trouble.away(f"no answer within {timeout:g} s") from error
    except ConnectFailedError as error:
        said = (error.strerror or error.errno_name) if error.remote is None else os.strerror(error.errno or 0)
        raise trouble.away(said.lower()) from error
    heard = _Heard()
    try:
        async with asyncio.timeout_at(deadline):
            await _shake_hands(sock, handshake, heard)
    except BaseException as error:
        sock.close()
        match error:
            case RefusedError():
                raise trouble.refused(error) from error
            case TimeoutError():
                raise trouble.silent(timeout, heard) from error
            case OSError() | EOFError():
                raise trouble.broken(heard) from error
            case _:
                raise
    return sock


class _Heard:
    """Whether the proxy has said anything."""

    anything = False


async def _shake_hands(sock: socket.socket, handshake: Handshake, heard: _Heard) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, handshake.hello())
    while not handshake.is_open:
        data = await loop.sock_recv(sock, _READ_BYTES)
        if not data:
            raise EOFError
        heard.anything = True
        if answer := handshake.receive(data):
            await loop.sock_sendall(sock, answer)


def _handshake(proxy: ProxyURL, host: str, port: int) -> Handshake:
    kind = Socks5 if proxy.scheme == "socks5" else HttpConnect
    return kind(host, port, user=proxy.user, password=proxy.password)


class _Trouble:
    """What went wrong, for a person."""

    def __init__(self, proxy: ProxyURL, server: str) -> None:
        self._proxy = proxy
        named = f" (from {proxy.named_by})" if proxy.named_by and not proxy.named_by.startswith("--") else ""
        self._at = f"the proxy at {proxy}{named}"
        self._server = f"the server at {server}"

    def away(self, why: str) -> ProxyError:
        return ProxyError(f"{self._at} cannot be reached: {why}")

    def silent(self, seconds: float, heard: _Heard) -> ProxyError:
        # SOCKS has agreed on a login by then; an HTTP proxy is silent until it knows how the server answers.
        if heard.anything:
            return ProxyError(f"{self._at} has not connected to {self._server} within {seconds:g} s", hint=_SERVER_HINT)
        return ProxyError(f"{self._at} does not answer within {seconds:g} s")

    def broken(self, heard: _Heard) -> ProxyError:
        if heard.anything:
            return ProxyError(f"{self._at} closed the connection before it reached {self._server}")
        return ProxyError(f"{self._at} closed the connection without an answer", hint=_KIND_HINT)

    def refused(self, error: RefusedError) -> ProxyError:
        details = f" ({error.text})" if error.text else ""
        match error.refusal:
            case Refusal.FORBIDDEN:
                text, hint = f"{self._at} does not let us through to {self._server}{details}", _FORBIDDEN_HINT
            case Refusal.LOGIN_WANTED:
                text, hint = f"{self._at} wants a user and password", _LOGIN_HINT
            case Refusal.LOGIN_UNKNOWN:
                text = f"{self._at} wants another login than a user and password{details}"
                hint = "Ask whoever runs it for one that takes these."
            case Refusal.LOGIN_WRONG:
                text, hint = f"{self._at} does not take this user and password", _LOGIN_HINT
            case Refusal.UNREACHABLE:
                text, hint = f"{self._at} cannot reach {self._server}{details}", _SERVER_HINT
            case Refusal.NONSENSE:
                text = f"what answers at {self._proxy} is no {_KINDS[self._proxy.scheme]} proxy{details}"
                hint = _KIND_HINT
        return ProxyError(text, hint=hint)


_SERVER_HINT: Final = "Check the address after --server, and that `midair serve` runs there."
_KIND_HINT: Final = "Check its port, and whether it is http:// or socks5://."
_FORBIDDEN_HINT: Final = "Many proxies only let out to port 443; a midair server can listen there."
_LOGIN_HINT: Final = (
    "Name it as http://USER:PASSWORD@HOST:PORT (or socks5://...) in the environment variable MIDAIR_PROXY, or in the "
    "configuration file."
)
