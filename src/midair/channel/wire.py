"""The bytes of a channel: the preface each side sends at once, then records.

    preface   "midair" | version, 16 bits | nonce, 32 bytes | costs of the ciphers, 4 bytes    44 bytes
    record    plaintext length, 32 bits | type | flags | zero, 16 bits | ciphertext | tag      8 + length + 16 bytes

All numbers are big-endian. The header of a record goes in the clear and is authenticated with it (the AAD of
RFC 5116). The AEAD's 96-bit nonce is the record's number on its direction; it is never sent. What the costs are for is
in :mod:`midair.channel.suites`.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

__all__ = [
    "HEADER_BYTES",
    "MAGIC",
    "MAX_PAYLOAD",
    "PREFACE_BYTES",
    "TAG_BYTES",
    "VERSION",
    "Header",
    "HeaderError",
    "RecordType",
    "decode_header",
    "decode_preface",
    "encode_header",
    "encode_preface",
]

VERSION = 3
"""Version 2 had records of up to 1 MiB. Goes into the preface and into the derivation of the keys."""
MAGIC = b"midair"
PREFACE_BYTES = 44
HEADER_BYTES = 8
TAG_BYTES = 16
MAX_PAYLOAD = 2 << 20
"""Plaintext bytes in one record, at most: 64 KiB records reach half the speed of 1 MiB ones, and on 2 MiB ones Python
spends two thirds of the time that it spends on 1 MiB ones."""

_PREFACE = struct.Struct("!6sH32s4s")
_HEADER = struct.Struct("!IBBH")


class RecordType(IntEnum):
    """Types 0 to 15 belong to the channel and to traversal; 16 to 255 to what is carried."""

    CLOSE = 0
    """The clean end: nothing comes after it."""
    CONFIRM = 1
    """Proves the session key; the first record on each direction, without payload."""
    NOMINATE = 2
    """The controlling side takes this connection; the other answers with the same type."""
    PING = 3
    MOVE = 4
    """The last of this direction here; it goes on over the connection whose id this has for a payload."""


class HeaderError(ValueError):
    """Eight bytes that cannot be the header of a record."""


class Header(NamedTuple):
    """What a record says of itself."""

    length: int
    """Bytes of plaintext, 0 to MAX_PAYLOAD; ciphertext and tag are 16 more."""
    type: int
    flags: int


def encode_preface(nonce: bytes, costs: bytes, *, version: int = VERSION) -> bytes:
    """The first 44 bytes on a connection; ``nonce`` has 32, ``costs`` 4."""
    assert len(nonce) == 32
    assert len(costs) == 4
    return _PREFACE.pack(MAGIC, version, nonce, costs)


def decode_preface(data: bytes) -> tuple[bytes, int, bytes, bytes]:
    """``(magic, version, nonce, costs)`` of 44 bytes, unjudged."""
    magic, version, nonce, costs = _PREFACE.unpack(data)
    return magic, version, nonce, costs


def encode_header(length: int, record_type: int, flags: int = 0) -> bytes:
    """Eight bytes."""
    assert 0 <= length <= MAX_PAYLOAD
    return _HEADER.pack(length, record_type, flags, 0)


def decode_header(data: bytes | bytearray | memoryview) -> Header:
    """Raises: HeaderError when the length is beyond MAX_PAYLOAD or the reserved bits are set."""
    length, record_type, flags, reserved = _HEADER.unpack(data)
    if reserved:
        raise HeaderError("reserved bits are set in a record's header")
    if length > MAX_PAYLOAD:
        raise HeaderError(f"a record of {length} bytes is beyond {MAX_PAYLOAD}")
    return Header(length, record_type, flags)
