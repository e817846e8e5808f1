"""STUN messages (RFC 8489): bytes to values and back.

A message is a 20-byte header and attributes, each padded to four bytes::

    |0 0| type (14 bits) | length (16) | magic cookie (32) | transaction id (96) | type (16) length (16) value … | …

Decoding is strict about structure and keeps what it does not know as :class:`RawAttribute`, so that the caller can
apply the comprehension rules (section 6.3). FINGERPRINT is checked when it is decoded, because that needs no key;
MESSAGE-INTEGRITY by :func:`verify_integrity`, on the bytes. Both are only ever written by :func:`encode`.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import zlib
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from midair.stun.attributes import (
    FINGERPRINT_TYPE,
    INTEGRITY_BYTES,
    INTEGRITY_TYPE,
    Attribute,
    ErrorCode,
    Fingerprint,
    MappedAddress,
    MessageIntegrity,
    OtherAddress,
    RawAttribute,
    ResponseOrigin,
    Software,
    StunError,
    UnknownAttributes,
    Username,
    XorMappedAddress,
    decode_attribute,
    encode_attribute,
    pack_attribute,
)

__all__ = [
    "ATTRIBUTES_MAX",
    "BINDING",
    "HEADER_BYTES",
    "MAGIC_COOKIE",
    "MESSAGE_BYTES_MAX",
    "Attribute",
    "ErrorCode",
    "Fingerprint",
    "MappedAddress",
    "Message",
    "MessageClass",
    "MessageIntegrity",
    "OtherAddress",
    "RawAttribute",
    "ResponseOrigin",
    "Software",
    "StunError",
    "UnknownAttributes",
    "Username",
    "XorMappedAddress",
    "decode",
    "encode",
    "verify_integrity",
]

MAGIC_COOKIE = 0x2112A442
BINDING = 0x001
"""The one method we speak."""
HEADER_BYTES = 20
MESSAGE_BYTES_MAX = 2048
"""Header and all. A binding with credentials takes about 200; over UDP a message could not pass 1500 either."""
ATTRIBUTES_MAX = 64

_COOKIE_BYTES = MAGIC_COOKIE.to_bytes(4, "big")
_FINGERPRINT_XOR = 0x5354554E
_INTEGRITY_SHA256_TYPE = 0x001C

_A = TypeVar("_A", bound=Attribute)


class MessageClass(Enum):
    """The two class bits, section 5."""

    REQUEST = 0b00
    INDICATION = 0b01
    SUCCESS = 0b10
    ERROR = 0b11


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message. Decoded attributes stand in the order they came."""

    method: int
    """12 bits."""
    message_class: MessageClass
    transaction_id: bytes
    """12 bytes."""
    attributes: tuple[Attribute, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.method <= 0xFFF or len(self.transaction_id) != 12:
            raise ValueError("a STUN method has 12 bits, a transaction id 12 bytes")

    def first(self, kind: type[_A]) -> _A | None:
        """The first attribute of a kind: of several, only that one counts (section 14)."""
        return next((a for a in self.attributes if isinstance(a, kind)), None)

    def unknown_required(self) -> tuple[int, ...]:
        """The comprehension-required types (below 0x8000) that RFC 8489 does not define, each once."""
        raw = (a.type for a in self.attributes if isinstance(a, RawAttribute))
        return tuple(dict.fromkeys(t for t in raw if t < 0x8000 and t not in _DEFINED_REQUIRED))


_DEFINED_REQUIRED = frozenset({0x0014, 0x0015, 0x001C, 0x001D, 0x001E})
"""REALM, NONCE, MESSAGE-INTEGRITY-SHA256, PASSWORD-ALGORITHM, USERHASH: credentials, which a binding does without."""


def encode(message: Message, *, integrity_key: bytes | None = None, fingerprint: bool = False) -> bytes:
    """The message as bytes, with MESSAGE-INTEGRITY if a key is given, and FINGERPRINT if wanted.

    Raises: ValueError for a message that no receiver would take.
    """
    body = bytearray()
    for attribute in message.attributes:
        body += encode_attribute(attribute, _COOKIE_BYTES + message.transaction_id)
    data = _header(message, len(body)) + body
    if integrity_key is not None:
        data += pack_attribute(INTEGRITY_TYPE, _integrity(data, integrity_key))
    if fingerprint:
        data += pack_attribute(FINGERPRINT_TYPE, _fingerprint(data).to_bytes(4, "big"))
    extra = (integrity_key is not None) + fingerprint
    if len(data) > MESSAGE_BYTES_MAX or len(message.attributes) + extra > ATTRIBUTES_MAX:
        raise ValueError(f"a STUN message of {len(data)} bytes and {len(message.attributes)} attributes is too large")
    return _with_length(data, len(data) - HEADER_BYTES)


def decode(data: bytes) -> Message:
    """Exactly one message.

    After MESSAGE-INTEGRITY everything but MESSAGE-INTEGRITY-SHA256 and FINGERPRINT is left out (section 14.5).

    Raises: StunError, and nothing else.
    """
    if not HEADER_BYTES <= len(data) <= MESSAGE_BYTES_MAX:
        raise StunError(f"{len(data)} bytes are no STUN message")
    kind, length, cookie = struct.unpack_from("!HHI", data)
    if kind & 0xC000 or cookie != MAGIC_COOKIE or length != len(data) - HEADER_BYTES or length % 4:
        raise StunError("the STUN header is wrong")
    transaction_id = bytes(data[8:HEADER_BYTES])
    attributes: list[Attribute] = []
    position, sealed = HEADER_BYTES, False
    for _ in range(ATTRIBUTES_MAX):
        if position == len(data):
            break
        kind_of, size = struct.unpack_from("!HH", data, position)
        value = bytes(data[position + 4 : position + 4 + size])
        end = position + 4 + size + -size % 4
        if end > len(data):
            raise StunError("a STUN attribute is longer than its message")
        if kind_of == FINGERPRINT_TYPE:
            if end != len(data):
                raise StunError("something stands after FINGERPRINT")  # section 14.7: it is the last attribute
            if value != _fingerprint(data[:position]).to_bytes(4, "big"):
                raise StunError("FINGERPRINT does not match")
        if not sealed or kind_of in (_INTEGRITY_SHA256_TYPE, FINGERPRINT_TYPE):
            attributes.append(decode_attribute(kind_of, value, _COOKIE_BYTES + transaction_id))
        sealed = sealed or kind_of == INTEGRITY_TYPE
        position = end
    if position != len(data):
        raise StunError(f"more than {ATTRIBUTES_MAX} STUN attributes")
    return Message(
        method=(kind & 0x000F) | (kind & 0x00E0) >> 1 | (kind & 0x3E00) >> 2,
        message_class=MessageClass((kind & 0x0010) >> 4 | (kind & 0x0100) >> 7),
        transaction_id=transaction_id,
        attributes=tuple(attributes),
    )


def verify_integrity(data: bytes, key: bytes) -> bool:
    """Whether the message has a MESSAGE-INTEGRITY made with the key. False when it has none.

    The key is the password in UTF-8, for short-term credentials (section 9.1.1).

    Raises: StunError when ``data`` is no message.
    """
    attribute = decode(data).first(MessageIntegrity)
    if attribute is None:
        return False
    position = HEADER_BYTES
    while True:
        kind, size = struct.unpack_from("!HH", data, position)
        if kind == INTEGRITY_TYPE:
            return hmac.compare_digest(attribute.digest, _integrity(data[:position], key))
        position += 4 + size + -size % 4


def _header(message: Message, length: int) -> bytes:
    method, bits = message.method, message.message_class.value
    kind = (method & 0x00F) | (method & 0x070) << 1 | (method & 0xF80) << 2 | (bits & 1) << 4 | (bits & 2) << 7
    return struct.pack("!HHI", kind, min(length, 0xFFFF), MAGIC_COOKIE) + message.transaction_id


def _with_length(data: bytes, length: int) -> bytes:
    return data[:2] + length.to_bytes(2, "big") + data[4:]


def _integrity(before: bytes, key: bytes) -> bytes:
    # Section 14.5: the length counts MESSAGE-INTEGRITY itself, and nothing after it.
    covered = _with_length(before, len(before) - HEADER_BYTES + 4 + INTEGRITY_BYTES)
    return hmac.new(key, covered, hashlib.sha1).digest()


def _fingerprint(before: bytes) -> int:
    # Section 14.7: likewise, the length counts FINGERPRINT.
    return zlib.crc32(_with_length(before, len(before) - HEADER_BYTES + 8)) ^ _FINGERPRINT_XOR
