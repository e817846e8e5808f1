"""A TCP socket of a family, with options by name: what every other file here starts from."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable

from midair.endpoint import Family

__all__ = ["bind_wildcard", "new_socket", "set_options"]

_ADDRESS_FAMILIES: dict[Family, socket.AddressFamily] = {4: socket.AF_INET, 6: socket.AF_INET6}
_WILDCARDS: dict[Family, str] = {4: "0.0.0.0", 6: "::"}


def new_socket(family: Family, options: Iterable[str] = (), *, datagram: bool = False) -> socket.socket:
    """A non-blocking socket with the options on. An IPv6 one never takes IPv4, so that a port means one family.

    A TCP one never waits for an ACK before it sends (Nagle), and what a listener accepts is like the listener. The
    protocol is named because asyncio looks at it before it sees to the same.

    Raises: OSError.
    """
    kind, protocol = (socket.SOCK_DGRAM, socket.IPPROTO_UDP) if datagram else (socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock = socket.socket(_ADDRESS_FAMILIES[family], kind, protocol)
    try:
        sock.setblocking(False)
        if not datagram:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        set_options(sock, options)
    except BaseException:
        sock.close()
        raise
    return sock


def set_options(sock: socket.socket, names: Iterable[str], value: int = 1) -> None:
    """Sets SOL_SOCKET options by name.

    Raises: OSError; ENOPROTOOPT for one this system does not have.
    """
    for name in names:
        number = getattr(socket, name, None)
        if number is None:
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
        sock.setsockopt(socket.SOL_SOCKET, number, value)


def bind_wildcard(family: Family, number: int, options: Iterable[str] = ()) -> socket.socket:
    """A socket bound to the port on every address of the family.

    Raises: OSError.
    """
    sock = new_socket(family, options)
    try:
        sock.bind((_WILDCARDS[family], number))
    except BaseException:
        sock.close()
        raise
    return sock
