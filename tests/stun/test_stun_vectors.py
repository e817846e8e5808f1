"""The test vectors of RFC 5769, as the RFC has them (its padding is not zero, on purpose)."""

from __future__ import annotations

import hashlib

import pytest

from midair.endpoint import Endpoint
from midair.stun.wire import (
    BINDING,
    Fingerprint,
    MessageClass,
    MessageIntegrity,
    RawAttribute,
    Software,
    StunError,
    Username,
    XorMappedAddress,
    decode,
    verify_integrity,
)

PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
TRANSACTION_ID = bytes.fromhex("b7e7a701bc34d686fa87dfae")

# Section 2.1
REQUEST = bytes.fromhex(
    "00010058 2112a442 b7e7a701 bc34d686 fa87dfae"
    "80220010 5354554e 20746573 7420636c 69656e74"  # SOFTWARE
    "00240004 6e0001ff"  # PRIORITY
    "80290008 932ff9b1 51263b36"  # ICE-CONTROLLED
    "00060009 6576746a 3a683676 59202020"  # USERNAME
    "00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2"  # MESSAGE-INTEGRITY
    "80280004 e57a3bcf"  # FINGERPRINT
)
# Section 2.2
IPV4_RESPONSE = bytes.fromhex(
    "0101003c 2112a442 b7e7a701 bc34d686 fa87dfae"
    "8022000b 74657374 20766563 746f7220"
    "00200008 0001a147 e112a643"
    "00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7"
    "80280004 c07d4c96"
)
# Section 2.3
IPV6_RESPONSE = bytes.fromhex(
    "01010048 2112a442 b7e7a701 bc34d686 fa87dfae"
    "8022000b 74657374 20766563 746f7220"
    "00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9"
    "00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41"
    "80280004 c8fb0b4c"
)
# Section 2.4
LONG_TERM_REQUEST = bytes.fromhex(
    "00010060 2112a442 78ad3433 c6ad72c0 29da412e"
    "00060012 e3839ee3 8388e383 aae38383 e382afe3 82b90000"
    "0015001c 662f2f34 39396b39 35346436 4f4c3334 6f4c3946 53547679 36347341"
    "0014000b 6578616d 706c652e 6f726700"
    "00080014 f6702465 6dd64a3e 02b8e071 2e85c9a2 8ca89666"
)


def test_the_sample_request() -> None:
    message = decode(REQUEST)
    assert (message.method, message.message_class) == (BINDING, MessageClass.REQUEST)
    assert message.transaction_id == TRANSACTION_ID
    assert message.attributes == (
        Software("STUN test client"),
        RawAttribute(0x0024, bytes.fromhex("6e0001ff")),
        RawAttribute(0x8029, bytes.fromhex("932ff9b151263b36")),
        Username("evtj:h6vY"),
        MessageIntegrity(bytes.fromhex("9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2")),
        Fingerprint(0xE57A3BCF),
    )
    assert verify_integrity(REQUEST, PASSWORD)


@pytest.mark.parametrize(
    ("response", "endpoint"),
    [
        (IPV4_RESPONSE, Endpoint.of("192.0.2.1", 32853)),
        (IPV6_RESPONSE, Endpoint.of("2001:db8:1234:5678:11:2233:4455:6677", 32853)),
    ],
    ids=["ipv4", "ipv6"],
)
def test_the_sample_responses(response: bytes, endpoint: Endpoint) -> None:
    message = decode(response)
    assert (message.method, message.message_class) == (BINDING, MessageClass.SUCCESS)
    assert message.transaction_id == TRANSACTION_ID
    assert message.attributes[:2] == (Software("test vector"), XorMappedAddress(endpoint))
    assert isinstance(message.attributes[-1], Fingerprint)
    assert verify_integrity(response, PASSWORD)


def test_the_sample_request_with_long_term_authentication() -> None:
    """Its password has a soft hyphen and a feminine ordinal before SASLprep; this is what is left after."""
    key = hashlib.md5("マトリックス:example.org:TheMatrIX".encode(), usedforsecurity=False).digest()
    message = decode(LONG_TERM_REQUEST)
    assert message.first(Username) == Username("マトリックス")
    assert RawAttribute(0x0015, b"f//499k954d6OL34oL9FSTvy64sA") in message.attributes
    assert RawAttribute(0x0014, b"example.org") in message.attributes
    assert message.unknown_required() == ()
    assert verify_integrity(LONG_TERM_REQUEST, key)


@pytest.mark.parametrize("vector", [REQUEST, IPV4_RESPONSE, IPV6_RESPONSE, LONG_TERM_REQUEST], ids=bytes.hex)
def test_another_password_does_not_verify(vector: bytes) -> None:
    assert not verify_integrity(vector, PASSWORD + b"!")


@pytest.mark.parametrize("vector", [REQUEST, IPV4_RESPONSE, IPV6_RESPONSE], ids=bytes.hex)
def test_no_byte_under_the_fingerprint_can_change_unnoticed(vector: bytes) -> None:
    for position in range(len(vector)):
        changed = vector[:position] + bytes([vector[position] ^ 0x01]) + vector[position + 1 :]
        if position - len(vector) in (-8, -7):  # its own type: then it is no FINGERPRINT any more
            assert decode(changed).first(Fingerprint) is None
        else:
            with pytest.raises(StunError):
                decode(changed)
