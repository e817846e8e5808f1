"""NAT-PMP messages (RFC 6886): two requests as bytes, and bytes of a response as a value.

Two questions make a mapping: which address the router has outside, and a port there (sections 3.2 and 3.3)::

    request   version=0 op=0
              version=0 op=2 | reserved (16) | internal port (16) external port (16) | lifetime (32)
    response  version=0 op+128 | result (16) | epoch (32) | address (32)
              version=0 op+128 | result (16) | epoch (32) | internal port (16) external port (16) | lifetime (32)
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import msgspec

from midair.nat.mapping.outcome import MalformedError

__all__ = [
    "UNSUPPORTED_VERSION",
    "AddressAnswer",
    "Answer",
    "ErrorAnswer",
    "MapAnswer",
    "decode",
    "encode_address_request",
    "encode_map_request",
    "result_name",
]

UNSUPPORTED_VERSION = 1
_ADDRESS, _MAP_TCP = 0, 2
_RESPONSE = 128

_HEAD = struct.Struct("!BBHI")
_MAPPED = struct.Struct("!HHI")
_RESULT_NAMES = (
    "success",
    "unsupported version",
    "not authorized",
    "network failure",
    "out of resources",
    "bad opcode",
)
"""Section 3.5."""


class AddressAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The router's outside address; also sent to everybody when it changes or the router starts (section 3.2.1)."""

    epoch: int
    """Seconds since the router lost its mappings last (section 3.6)."""
    address: IPv4Address


class MapAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A TCP mapping; ``lifetime`` 0 says that it is deleted."""

    epoch: int
    internal_port: int
    external_port: int
    lifetime: int


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal of either question. A server of another version is understood only that far."""

    version: int
    result: int
    internal_port: int | None
    """None where the answer does not repeat which mapping was asked for."""


Answer = AddressAnswer | MapAnswer | ErrorAnswer


def encode_address_request() -> bytes:
    """Asks for the outside address."""
    return bytes((0, _ADDRESS))


def encode_map_request(*, internal_port: int, external_port: int = 0, lifetime: int) -> bytes:
    """Asks for a TCP mapping, if possible at ``external_port``; ``lifetime`` 0 deletes it."""
    return struct.pack("!BBxxHHI", 0, _MAP_TCP, internal_port, external_port, lifetime)


def decode(data: bytes) -> Answer:
    """One response.

    Raises: MalformedError, and nothing else.
    """
    if len(data) < _HEAD.size or len(data) > 1100:
        raise MalformedError(f"{len(data)} bytes are no NAT-PMP response")
    version, opcode, result, epoch = _HEAD.unpack_from(data)
    if version != 0:
        if result == UNSUPPORTED_VERSION and opcode & _RESPONSE:
            return ErrorAnswer(version=version, result=result, internal_port=None)
        raise MalformedError("not version 0")
    if opcode not in (_RESPONSE | _ADDRESS, _RESPONSE | _MAP_TCP):
        raise MalformedError("not an answer to us")
    if result:
        repeats = opcode == _RESPONSE | _MAP_TCP and len(data) >= _HEAD.size + _MAPPED.size
        internal = _MAPPED.unpack_from(data, _HEAD.size)[0] if repeats else None
        return ErrorAnswer(version=version, result=result, internal_port=internal)
    if opcode == _RESPONSE | _ADDRESS:
        if len(data) < _HEAD.size + 4:
            raise MalformedError("no address")
        return AddressAnswer(epoch=epoch, address=IPv4Address(data[_HEAD.size : _HEAD.size + 4]))
    if len(data) < _HEAD.size + _MAPPED.size:
        raise MalformedError("no mapping")
    internal, external, lifetime = _MAPPED.unpack_from(data, _HEAD.size)
    return MapAnswer(epoch=epoch, internal_port=internal, external_port=external, lifetime=lifetime)


def result_name(result: int) -> str:
    """``not authorized`` and the like."""
    return _RESULT_NAMES[result] if result < len(_RESULT_NAMES) else f"result {result}"
