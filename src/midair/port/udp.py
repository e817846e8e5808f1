"""Datagrams, for asking a router: to one endpoint and back, to a multicast group, and what a group is told.

A link-local address means something on one interface only, so those are given together.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any

from midair.endpoint import Endpoint
from midair.port.sockets import new_socket, set_options

__all__ = ["hear_group", "open_datagrams", "open_multicast"]

_GROUP_OPTIONS = ("SO_REUSEADDR", "SO_REUSEPORT")
"""What lets several programs hear one group: the first on Linux, the second on macOS and the BSDs."""


async def open_datagrams(
    remote: Endpoint,
    *,
    interface: str = "",
    source: Endpoint | None = None,
    on_datagram: Callable[[bytes], None],
    on_closed: Callable[[], None],
) -> asyncio.DatagramTransport:
    """A socket connected to ``remote``: the kernel lets nobody else's datagrams in.

    ``on_closed`` is called when the remote answers by ICMP that nobody listens. The socket's local endpoint is
    ``get_extra_info("sockname")``. The transport is the caller's to close.

    Raises: OSError.
    """
    sock = new_socket(remote.family, datagram=True)
    try:
        if source is not None:
            sock.bind(source.to_sockaddr())
        sock.connect(_sockaddr(remote, interface))
        return await _transport(sock, lambda data, _: on_datagram(data), on_closed)
    except BaseException:
        sock.close()
        raise


async def open_multicast(
    source: Endpoint, *, on_datagram: Callable[[bytes, Endpoint], None]
) -> asyncio.DatagramTransport:
    """An IPv4 socket at one of our addresses; what it sends to a group leaves through that address's interface.

    ``on_datagram`` gets what anybody sends to it. Raises: OSError.
    """
    sock = new_socket(4, datagram=True)
    try:
        sock.bind(source.to_sockaddr())
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, source.address.packed)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 2)  # UPnP Device Architecture 1.1, section 1.3.2
        return await _transport(sock, on_datagram, None)
    except BaseException:
        sock.close()
        raise


async def hear_group(
    group: Endpoint, *, interface: str = "", at: Endpoint, on_datagram: Callable[[bytes, Endpoint], None]
) -> asyncio.DatagramTransport:
    """A socket that gets what is sent to a multicast group and port on one link: that of our address ``at``, or for
    IPv6 of ``interface``. Others may hear it too.

    It is bound to the group, so that nothing sent to this host alone reaches it; Windows cannot do that (not tried).

    Raises: OSError.
    """
    sock = new_socket(group.family, datagram=True)
    try:
        for name in _GROUP_OPTIONS:
            with contextlib.suppress(OSError):
                set_options(sock, [name])
        sock.bind(_sockaddr(group, interface))
        if group.family == 4:
            membership = group.address.packed + at.address.packed
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        else:
            membership = group.address.packed + struct.pack("@I", _index(interface))
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
        return await _transport(sock, on_datagram, None)
    except BaseException:
        sock.close()
        raise


def _sockaddr(remote: Endpoint, interface: str) -> tuple[str, int] | tuple[str, int, int, int]:
    address = remote.address
    scoped = address.version == 6 and (address.is_link_local or address.is_multicast)
    if not scoped or not interface:
        return remote.to_sockaddr()
    return str(address), remote.port, 0, _index(interface)


def _index(interface: str) -> int:
    """Of an interface by its name, or by its number, which is what Windows has."""
    return int(interface) if interface.isdigit() else socket.if_nametoindex(interface)


async def _transport(
    sock: socket.socket, on_datagram: Callable[[bytes, Endpoint], None], on_closed: Callable[[], None] | None
) -> asyncio.DatagramTransport:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Receiver(on_datagram, on_closed), sock=sock)
    return transport


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, on_datagram: Callable[[bytes, Endpoint], None], on_closed: Callable[[], None] | None) -> None:
        self._on_datagram = on_datagram
        self._on_closed = on_closed

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._on_datagram(data, Endpoint.from_sockaddr(addr))

    def error_received(self, exc: Exception) -> None:
        # Anything else, such as a network that is down for a moment, is as good as a lost datagram.
        closed = isinstance(exc, ConnectionRefusedError | ConnectionResetError)  # the latter on Windows, not tried
        if closed and self._on_closed is not None:
            self._on_closed()
