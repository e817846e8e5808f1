"""Who a connection is from when a load balancer of ours stands before it: the PROXY protocol, versions 1 and 2.

The header comes before everything else, from trusted addresses only, and is taken off the socket to the byte. Defined
in HAProxy's proxy-protocol.txt (2.1: text, 2.2: binary).
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from midair.endpoint import Endpoint
from midair.errors import UsageError

__all__ = ["Network", "ProxyHeaderError", "networks", "parse_header", "read_header"]

Network = IPv4Network | IPv6Network

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V1_BYTES_MAX = 107
"""Section 2.1: "a 108-byte buffer is always enough", with the zero at the end of a C string."""
V2_BYTES_MAX = 1024
"""Addresses and what some add about TLS; more is not from a proxy that is set up as ours."""
_V2_HEAD = struct.Struct(">12sBBH")
_V1 = re.compile(rb"PROXY (TCP4|TCP6) ([0-9a-fA-F.:]{2,45}) [0-9a-fA-F.:]{2,45} ([0-9]{1,5}) [0-9]{1,5}\r\n")


class ProxyHeaderError(ValueError):
    """What a trusted proxy sent first is no header."""


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Addresses and networks in the usual notation. Raises: UsageError."""
    try:
        return tuple(ip_network(text) for text in texts)
    except ValueError as error:
        raise UsageError(f"--proxied-from: {error}", hint="For example 10.0.0.7 or 10.0.0.0/24.") from error


def parse_header(data: bytes) -> tuple[int, Endpoint | None] | None:
    """How long the header is with which ``data`` begins, and whom it names; None when more is needed.

    An endpoint of None: the proxy speaks for itself, such as in a health check. Raises: ProxyHeaderError.
    """
    if data.startswith(SIGNATURE):
        return _parse_v2(data)
    if data.startswith(b"PROXY "):
        return _parse_v1(data)
    if SIGNATURE.startswith(data) or b"PROXY ".startswith(data):
        return None
    raise ProxyHeaderError("no PROXY header")


async def read_header(sock: socket.socket, source: Endpoint) -> Endpoint:
    """Takes the header off ``sock``: whom it is from, ``source`` when the proxy speaks for itself.

    The caller sets the deadline. Raises: ProxyHeaderError; OSError.
    """
    loop = asyncio.get_running_loop()
    data = b""
    while (found := parse_header(data)) is None:
        # Byte for byte up to what is known to be header: what follows belongs to somebody else.
        more = await loop.sock_recv(sock, _certain(data))
        if not more:
            raise ProxyHeaderError("the header is cut off")
        data += more
    length, endpoint = found
    assert length == len(data)
    return source if endpoint is None else endpoint


def _certain(data: bytes) -> int:
    """How many more bytes there are at least; the shortest header is ``PROXY UNKNOWN``, CR and LF."""
    if data.startswith(SIGNATURE):
        if len(data) < _V2_HEAD.size:
            return _V2_HEAD.size - len(data)
        return _V2_HEAD.size + int(_V2_HEAD.unpack_from(data)[3]) - len(data)
    if len(data) < len(SIGNATURE):
        return len(SIGNATURE) - len(data)
    return 1


def _parse_v1(data: bytes) -> tuple[int, Endpoint | None] | None:
    end = data.find(b"\n", 0, V1_BYTES_MAX)
    if end < 0:
        if len(data) >= V1_BYTES_MAX:
            raise ProxyHeaderError("a PROXY line without an end")
        return None
    line = data[: end + 1]
    if line.startswith(b"PROXY UNKNOWN") and line.endswith(b"\r\n"):
        return len(line), None
    match = _V1.fullmatch(line)
    try:
        if match is None:
            raise ValueError("not of the form")
        endpoint = Endpoint.of(match[2].decode(), int(match[3]))
        if endpoint.family != int(match[1][-1:]):
            raise ValueError("two families")
    except ValueError as error:
        raise ProxyHeaderError("a PROXY line that is not understood") from error
    return len(line), endpoint


def _parse_v2(data: bytes) -> tuple[int, Endpoint | None] | None:
    if len(data) < _V2_HEAD.size:
        return None
    _, version, family, length = _V2_HEAD.unpack_from(data)
    if version >> 4 != 2 or length > V2_BYTES_MAX:
        raise ProxyHeaderError("a PROXY header of another version, or too long")
    end = _V2_HEAD.size + length
    if len(data) < end:
        return None
    body = data[_V2_HEAD.size : end]
    match version & 0x0F, family:
        case 0, _:  # LOCAL
            return end, None
        case 1, 0x11 if length >= 12:  # TCP over IPv4
            return end, Endpoint(IPv4Address(body[:4]), int.from_bytes(body[8:10], "big"))
        case 1, 0x21 if length >= 36:  # TCP over IPv6
            address = IPv6Address(body[:16])
            return end, Endpoint(address.ipv4_mapped or address, int.from_bytes(body[32:34], "big"))
        case 1, 0x00:  # UNSPEC: "the receiver must ignore the address"
            return end, None
    raise ProxyHeaderError("a PROXY header that is not for TCP")
