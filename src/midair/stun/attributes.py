"""STUN's attributes as values, and each one's bytes (RFC 8489 section 14).

:mod:`midair.stun.wire` puts them into messages, and is what others import. They are msgspec structs because there are
many: making a dataclass costs a millisecond at every start of the program, a struct thirty microseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import msgspec

from midair.endpoint import Endpoint

__all__ = [
    "FINGERPRINT_TYPE",
    "INTEGRITY_BYTES",
    "INTEGRITY_TYPE",
    "VALUE_BYTES_MAX",
    "Attribute",
    "ErrorCode",
    "Fingerprint",
    "MappedAddress",
    "MessageIntegrity",
    "OtherAddress",
    "RawAttribute",
    "ResponseOrigin",
    "Software",
    "StunError",
    "UnknownAttributes",
    "Username",
    "XorMappedAddress",
    "decode_attribute",
    "encode_attribute",
    "pack_attribute",
]

INTEGRITY_TYPE = 0x0008
FINGERPRINT_TYPE = 0x8028
VALUE_BYTES_MAX = 2048
"""No attribute is longer than a message may be."""
INTEGRITY_BYTES = 20
_TEXT_BYTES_MAX = 509
_TEXT_BYTES_MAX_RECEIVED = 763
"""SOFTWARE and the reason phrase: fewer than 128 characters, which sections 14.8 and 14.14 take for up to 509 bytes
when encoding and 763 when decoding (older encodings of UTF-8 had 6 bytes a character)."""
_USERNAME_BYTES_MAX = 508
"""Section 14.3: "fewer than 509 bytes"."""


class StunError(Exception):
    """What came is not a STUN message, or is one that says no; ``code`` is then its ERROR-CODE."""

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class MappedAddress(msgspec.Struct, frozen=True):
    """MAPPED-ADDRESS, section 14.1: for clients older than RFC 5389."""

    endpoint: Endpoint


class XorMappedAddress(msgspec.Struct, frozen=True):
    """XOR-MAPPED-ADDRESS, section 14.2: where the request came from, hidden from NATs that rewrite addresses."""

    endpoint: Endpoint


class Username(msgspec.Struct, frozen=True):
    """USERNAME, section 14.3."""

    text: str


class MessageIntegrity(msgspec.Struct, frozen=True):
    """MESSAGE-INTEGRITY, section 14.5: HMAC-SHA1 over what stands before it. Not checked yet when decoded."""

    digest: bytes


class Fingerprint(msgspec.Struct, frozen=True):
    """FINGERPRINT, section 14.7: CRC-32 over what stands before it. Found right when decoded."""

    crc: int
    """As transmitted, that is XORed with 0x5354554e."""


class ErrorCode(msgspec.Struct, frozen=True):
    """ERROR-CODE, section 14.8."""

    code: int
    """300 to 699."""
    reason: str


class UnknownAttributes(msgspec.Struct, frozen=True):
    """UNKNOWN-ATTRIBUTES, section 14.13: the types a 420 complains of."""

    types: tuple[int, ...]


class Software(msgspec.Struct, frozen=True):
    """SOFTWARE, section 14.14. It is what the other side says of itself: escape it before showing it."""

    text: str


class OtherAddress(msgspec.Struct, frozen=True):
    """OTHER-ADDRESS, RFC 5780 section 7.4: where else the server can be asked. Ours says it once for each."""

    endpoint: Endpoint


class ResponseOrigin(msgspec.Struct, frozen=True):
    """RESPONSE-ORIGIN, RFC 5780 section 7.3: where the answer was sent from, as the server sees itself."""

    endpoint: Endpoint


class RawAttribute(msgspec.Struct, frozen=True):
    """Any other attribute."""

    type: int
    value: bytes


Attribute = (
    MappedAddress
    | XorMappedAddress
    | Username
    | MessageIntegrity
    | Fingerprint
    | ErrorCode
    | UnknownAttributes
    | Software
    | OtherAddress
    | ResponseOrigin
    | RawAttribute
)


def pack_attribute(kind: int, value: bytes) -> bytes:
    """A value with its header and padding (section 14)."""
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def encode_attribute(attribute: Attribute, mask: bytes) -> bytes:
    """The attribute with its header and padding. ``mask`` is the magic cookie and the transaction id.

    Raises: ValueError.
    """
    match attribute:
        case MappedAddress(endpoint):
            return pack_attribute(0x0001, _pack_endpoint(endpoint, bytes(16)))
        case XorMappedAddress(endpoint):
            return pack_attribute(0x0020, _pack_endpoint(endpoint, mask))
        case Username(text):
            return pack_attribute(0x0006, _pack_text(text, _USERNAME_BYTES_MAX))
        case ErrorCode(code, reason):
            if not 300 <= code <= 699:
                raise ValueError(f"{code} is no STUN error code")
            return pack_attribute(0x0009, bytes((0, 0, code // 100, code % 100)) + _pack_text(reason, _TEXT_BYTES_MAX))
        case UnknownAttributes(types):
            if not all(0 <= kind <= 0xFFFF for kind in types):
                raise ValueError("an attribute type has 16 bits")
            return pack_attribute(0x000A, struct.pack(f"!{len(types)}H", *types))
        case Software(text):
            return pack_attribute(0x8022, _pack_text(text, _TEXT_BYTES_MAX))
        case OtherAddress(endpoint):
            return pack_attribute(0x802C, _pack_endpoint(endpoint, bytes(16)))
        case ResponseOrigin(endpoint):
            return pack_attribute(0x802B, _pack_endpoint(endpoint, bytes(16)))
        case RawAttribute(kind, value):
            if kind in _DECODERS or not 0 <= kind <= 0xFFFF or len(value) > VALUE_BYTES_MAX:
                raise ValueError(f"attribute 0x{kind:04x} cannot be given raw")
            return pack_attribute(kind, value)
        case MessageIntegrity() | Fingerprint():
            raise ValueError("encode() computes MESSAGE-INTEGRITY and FINGERPRINT itself")


def decode_attribute(kind: int, value: bytes, mask: bytes) -> Attribute:
    """The attribute of a type. ``mask`` is the magic cookie and the transaction id.

    Raises: StunError.
    """
    decoder = _DECODERS.get(kind)
    if decoder is None:
        return RawAttribute(kind, value)
    try:
        return decoder(value, mask)
    except (ValueError, struct.error) as error:  # a UnicodeDecodeError is a ValueError
        raise StunError(f"STUN attribute 0x{kind:04x} is malformed") from error


def _pack_endpoint(endpoint: Endpoint, mask: bytes) -> bytes:
    plain = endpoint.address.packed
    port = endpoint.port ^ int.from_bytes(mask[:2], "big")
    family = 1 if endpoint.family == 4 else 2
    return struct.pack("!BBH", 0, family, port) + bytes(a ^ b for a, b in zip(plain, mask, strict=False))


def _unpack_endpoint(value: bytes, mask: bytes) -> Endpoint:
    _, family, port = struct.unpack_from("!BBH", value)
    packed = bytes(a ^ b for a, b in zip(value[4:], mask, strict=False))
    if (family, len(value)) == (1, 8):
        address: IPv4Address | IPv6Address = IPv4Address(packed)
    elif (family, len(value)) == (2, 20):
        address = IPv6Address(packed)
    else:
        raise ValueError("neither an IPv4 nor an IPv6 address")
    return Endpoint(address, port ^ int.from_bytes(mask[:2], "big"))


def _pack_text(text: str, bytes_max: int) -> bytes:
    encoded = text.encode()
    if len(encoded) > bytes_max:
        raise ValueError(f"a text of {len(encoded)} bytes is too long for its attribute")
    return encoded


def _unpack_text(value: bytes, bytes_max: int) -> str:
    if len(value) > bytes_max:
        raise ValueError("text too long")
    return value.decode()


def _unpack_integrity(value: bytes) -> MessageIntegrity:
    if len(value) != INTEGRITY_BYTES:
        raise ValueError("not a SHA-1")
    return MessageIntegrity(value)


def _unpack_error(value: bytes) -> ErrorCode:
    _, hundreds, rest = struct.unpack_from("!HBB", value)
    hundreds &= 0x07  # section 14.8: the bits before are reserved
    if not 3 <= hundreds <= 6 or rest > 99:
        raise ValueError("not an error code")
    return ErrorCode(hundreds * 100 + rest, _unpack_text(value[4:], _TEXT_BYTES_MAX_RECEIVED))


_DECODERS: dict[int, Callable[[bytes, bytes], Attribute]] = {
    0x0001: lambda value, _: MappedAddress(_unpack_endpoint(value, bytes(16))),
    0x0006: lambda value, _: Username(_unpack_text(value, _USERNAME_BYTES_MAX)),
    INTEGRITY_TYPE: lambda value, _: _unpack_integrity(value),
    0x0009: lambda value, _: _unpack_error(value),
    0x000A: lambda value, _: UnknownAttributes(struct.unpack(f"!{len(value) // 2}H", value)),
    0x0020: lambda value, mask: XorMappedAddress(_unpack_endpoint(value, mask)),
    0x8022: lambda value, _: Software(_unpack_text(value, _TEXT_BYTES_MAX_RECEIVED)),
    0x802B: lambda value, _: ResponseOrigin(_unpack_endpoint(value, bytes(16))),
    0x802C: lambda value, _: OtherAddress(_unpack_endpoint(value, bytes(16))),
    FINGERPRINT_TYPE: lambda value, _: Fingerprint(int.from_bytes(value, "big")),
}
