"""PCP messages (RFC 6887): the MAP request as bytes, and bytes of a response as a value.

Both directions have a 24-byte header, and MAP adds 36 bytes (sections 7.1, 7.2, 11.1)::

    request   version R=0 opcode | reserved (16)          | lifetime (32) | client address (128)
    response  version R=1 opcode | reserved (8) result (8)| lifetime (32) | epoch time (32) | reserved (96)
    MAP       nonce (96) | protocol (8) reserved (24) | internal port (16) external port (16) | external address (128)

IPv4 addresses are written as IPv4-mapped IPv6. Options are not sent, and those of a response, which could only be
answers to some, are passed over.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import msgspec

from midair.endpoint import Endpoint
from midair.nat.mapping.outcome import Address, MalformedError

__all__ = [
    "ADDRESS_MISMATCH",
    "ANNOUNCE",
    "MAP",
    "MESSAGE_BYTES_MAX",
    "SUCCESS",
    "UNSUPP_VERSION",
    "Mapped",
    "Response",
    "decode",
    "encode_map",
    "result_name",
]

VERSION = 2
ANNOUNCE = 0
MAP = 1
TCP = 6
SUCCESS = 0
UNSUPP_VERSION = 1
ADDRESS_MISMATCH = 12
MESSAGE_BYTES_MAX = 1100
"""Section 7."""

_HEADER = struct.Struct("!BBBBII12x")
_REQUEST = struct.Struct("!BBxxI16s")
_MAP = struct.Struct("!12sB3xHH16s")

_RESULT_NAMES = (
    "SUCCESS",
    "UNSUPP_VERSION",
    "NOT_AUTHORIZED",
    "MALFORMED_REQUEST",
    "UNSUPP_OPCODE",
    "UNSUPP_OPTION",
    "MALFORMED_OPTION",
    "NETWORK_FAILURE",
    "NO_RESOURCES",
    "UNSUPP_PROTOCOL",
    "USER_EX_QUOTA",
    "CANNOT_PROVIDE_EXTERNAL",
    "ADDRESS_MISMATCH",
    "EXCESSIVE_REMOTE_PEERS",
)
"""Section 7.4."""


class Mapped(msgspec.Struct, frozen=True, kw_only=True):
    """The MAP part of a response. After an error only what the request said (section 11.1)."""

    nonce: bytes
    protocol: int
    internal_port: int
    external: Endpoint


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says."""

    version: int
    """2, or after ``UNSUPP_VERSION`` the one it speaks; 0 is NAT-PMP."""
    result: int
    opcode: int = 0
    lifetime: int = 0
    """Seconds: of the mapping, or for how long the error is expected to last."""
    epoch: int = 0
    """Seconds since the server lost its mappings last (section 8.5)."""
    mapped: Mapped | None = None


def encode_map(
    *, nonce: bytes, client: Address, internal_port: int, external: Endpoint | None = None, lifetime: int
) -> bytes:
    """A request for a TCP mapping; ``lifetime`` 0 deletes it. ``external`` is the one we would like.

    ``nonce`` is 12 random bytes, the same in all requests for one mapping. No wish is written as the all-zeros address
    of the family that is wanted (section 11.1).
    """
    if len(nonce) != 12:
        raise ValueError("a mapping nonce has 12 bytes")
    if external is None:
        external = Endpoint(IPv4Address(0) if client.version == 4 else IPv6Address(0), 0)
    header = _REQUEST.pack(VERSION, MAP, lifetime, _packed(client))
    return header + _MAP.pack(nonce, TCP, internal_port, external.port, _packed(external.address))


def decode(data: bytes) -> Response:
    """One response.

    A server of another version answers in its own format; only that, and which version it is, is understood then. The
    8 bytes of a NAT-PMP server (RFC 6886 section 3.5, erratum 3618) carry the result in the same place.

    Raises: MalformedError, and nothing else.
    """
    if len(data) >= 8 and data[0] != VERSION:
        if data[2] == 0 and data[3] == UNSUPP_VERSION:
            return Response(version=data[0], result=UNSUPP_VERSION)
        raise MalformedError("not version 2")
    if not _HEADER.size <= len(data) <= MESSAGE_BYTES_MAX or len(data) % 4:
        raise MalformedError(f"{len(data)} bytes are no PCP message")
    version, opcode, _, result, lifetime, epoch = _HEADER.unpack_from(data)
    if not opcode & 0x80:
        raise MalformedError("a request")
    mapped = None
    if opcode & 0x7F == MAP and len(data) >= _HEADER.size + _MAP.size:
        nonce, protocol, internal, external, address = _MAP.unpack_from(data, _HEADER.size)
        endpoint = Endpoint(_unpacked(address), external)
        mapped = Mapped(nonce=nonce, protocol=protocol, internal_port=internal, external=endpoint)
    return Response(version=version, opcode=opcode & 0x7F, result=result, lifetime=lifetime, epoch=epoch, mapped=mapped)


def result_name(result: int) -> str:
    """``NOT_AUTHORIZED`` and the like."""
    return _RESULT_NAMES[result] if result < len(_RESULT_NAMES) else f"result {result}"


def _packed(address: Address) -> bytes:
    return bytes(10) + b"\xff\xff" + address.packed if address.version == 4 else address.packed


def _unpacked(data: bytes) -> Address:
    address = IPv6Address(data)
    return address.ipv4_mapped or address
