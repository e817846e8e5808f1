"""The codec: what it writes, what it reads back, and what it turns away."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midair.endpoint import Endpoint
from midair.stun.wire import (
    ATTRIBUTES_MAX,
    BINDING,
    MAGIC_COOKIE,
    MESSAGE_BYTES_MAX,
    Attribute,
    ErrorCode,
    Fingerprint,
    MappedAddress,
    Message,
    MessageClass,
    MessageIntegrity,
    OtherAddress,
    RawAttribute,
    ResponseOrigin,
    Software,
    StunError,
    UnknownAttributes,
    Username,
    XorMappedAddress,
    decode,
    encode,
    verify_integrity,
)

TRANSACTION_ID = bytes(range(12))
TYPED = {0x0001, 0x0006, 0x0008, 0x0009, 0x000A, 0x0020, 0x8022, 0x8028, 0x802B, 0x802C}

v4 = st.builds(IPv4Address, st.binary(min_size=4, max_size=4))
v6 = st.builds(IPv6Address, st.binary(min_size=16, max_size=16))
endpoints = st.builds(Endpoint, st.one_of(v4, v6), st.integers(0, 65535))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
attributes: st.SearchStrategy[Attribute] = st.one_of(
    st.builds(MappedAddress, endpoints),
    st.builds(XorMappedAddress, endpoints),
    st.builds(Username, texts),
    st.builds(ErrorCode, st.integers(300, 699), texts),
    st.builds(UnknownAttributes, st.lists(st.integers(0, 0xFFFF), max_size=10).map(tuple)),
    st.builds(Software, texts),
    st.builds(OtherAddress, endpoints),
    st.builds(ResponseOrigin, endpoints),
    st.builds(RawAttribute, st.integers(0, 0xFFFF).filter(lambda kind: kind not in TYPED), st.binary(max_size=60)),
)
messages = st.builds(
    Message,
    method=st.integers(0, 0xFFF),
    message_class=st.sampled_from(MessageClass),
    transaction_id=st.binary(min_size=12, max_size=12),
    attributes=st.lists(attributes, max_size=6).map(tuple),
)


def binding(*attributes: Attribute) -> Message:
    return Message(
        method=BINDING, message_class=MessageClass.REQUEST, transaction_id=TRANSACTION_ID, attributes=attributes
    )


def packet(*raw: bytes, kind: int = 1, cookie: int = MAGIC_COOKIE, length: int | None = None) -> bytes:
    """A message written by hand."""
    body = b"".join(raw)
    size = len(body) if length is None else length
    return struct.pack("!HHI", kind, size, cookie) + TRANSACTION_ID + body


def raw(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


@given(messages)
def test_what_is_encoded_is_decoded_the_same(message: Message) -> None:
    assert decode(encode(message)) == message


@given(messages, st.binary(min_size=1, max_size=80))
def test_seals_are_added_and_verified(message: Message, key: bytes) -> None:
    data = encode(message, integrity_key=key, fingerprint=True)
    decoded = decode(data)
    assert decoded.attributes[:-2] == message.attributes
    assert isinstance(decoded.attributes[-2], MessageIntegrity)
    assert isinstance(decoded.attributes[-1], Fingerprint)
    assert verify_integrity(data, key)
    assert not verify_integrity(data, key + b"x")


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda body: packet(body[: len(body) & ~3]))))
def test_random_bytes_raise_nothing_but_a_stun_error(data: bytes) -> None:
    try:
        decode(data)
    except StunError:
        return


@given(messages, st.data())
def test_damaged_messages_raise_nothing_but_a_stun_error(message: Message, data: st.DataObject) -> None:
    damaged = bytearray(encode(message, fingerprint=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(damaged))
        verify_integrity(bytes(damaged), b"key")
    except StunError:
        return


def test_a_binding_request_is_twenty_bytes() -> None:
    assert encode(binding()) == bytes.fromhex("00010000 2112a442") + TRANSACTION_ID


@pytest.mark.parametrize(
    ("kind", "method", "message_class"),
    [
        (0x0001, 0x001, MessageClass.REQUEST),
        (0x0011, 0x001, MessageClass.INDICATION),
        (0x0101, 0x001, MessageClass.SUCCESS),
        (0x0111, 0x001, MessageClass.ERROR),
        (0x3EEF, 0xFFF, MessageClass.REQUEST),
        (0x3FFF, 0xFFF, MessageClass.ERROR),
    ],
)
def test_method_and_class_are_interleaved(kind: int, method: int, message_class: MessageClass) -> None:
    message = decode(packet(kind=kind))
    assert (message.method, message.message_class) == (method, message_class)
    assert encode(message) == packet(kind=kind)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        packet()[:19],
        packet(kind=0x4001),
        packet(kind=0x8001),
        packet(cookie=MAGIC_COOKIE + 1),
        packet(length=4),
        packet(raw(0x8000, b"abcd"), length=4),
        packet(b"\0\0"),
        packet(struct.pack("!HH", 0x8000, 1)),
        packet(struct.pack("!HH", 0x8000, 0xFFFF) + bytes(8)),
        packet(raw(0x0020, b"\0\1\0\0" + bytes(3))),
        packet(raw(0x0020, b"\0\1\0\0" + bytes(16))),
        packet(raw(0x0020, b"\0\2\0\0" + bytes(4))),
        packet(raw(0x0020, b"\0\3\0\0" + bytes(4))),
        packet(raw(0x0020, b"")),
        packet(raw(0x0001, b"\0\1\0")),
        packet(raw(0x0006, b"\xff")),
        packet(raw(0x0006, bytes(509))),
        packet(raw(0x8022, b"\xc3")),
        packet(raw(0x8022, bytes(764))),
        packet(raw(0x0008, bytes(19))),
        packet(raw(0x0009, b"\0\0\4")),
        packet(raw(0x0009, b"\0\0\2\0")),
        packet(raw(0x0009, b"\0\0\7\0")),
        packet(raw(0x0009, b"\0\0\4\x64")),
        packet(raw(0x0009, b"\0\0\4\0\xff")),
        packet(raw(0x000A, b"\0\1\0")),
        packet(raw(0x8028, bytes(4))),
        packet(raw(0x8028, b"")),
    ],
    ids=lambda data: data[:40].hex() or "nothing",
)
def test_what_is_malformed_is_turned_away(data: bytes) -> None:
    with pytest.raises(StunError):
        decode(data)


def test_nothing_may_follow_the_fingerprint() -> None:
    sealed = encode(binding(), fingerprint=True)
    with pytest.raises(StunError, match="after FINGERPRINT"):
        decode(packet(sealed[20:], raw(0x8000, b"")))


def test_what_follows_message_integrity_is_ignored() -> None:
    """RFC 8489 section 14.5; somebody in between could have added it."""
    sealed = encode(binding(Username("a")), integrity_key=b"key")
    forged = packet(sealed[20:], raw(0x0006, b"b"), raw(0x7F00, b""))
    message = decode(forged)
    assert [type(attribute) for attribute in message.attributes] == [Username, MessageIntegrity]
    assert message.unknown_required() == ()
    assert verify_integrity(forged, b"key")


def test_a_message_without_integrity_does_not_verify() -> None:
    assert not verify_integrity(encode(binding()), b"key")


def test_size_and_number_are_bounded_both_ways() -> None:
    most = binding(*[RawAttribute(0x8000, b"")] * ATTRIBUTES_MAX)
    assert len(decode(encode(most)).attributes) == ATTRIBUTES_MAX
    with pytest.raises(StunError, match="more than 64"):
        decode(packet(raw(0x8000, b"") * (ATTRIBUTES_MAX + 1)))
    with pytest.raises(ValueError, match="too large"):
        encode(most, fingerprint=True)

    largest = binding(RawAttribute(0x8000, bytes(MESSAGE_BYTES_MAX - 24)))
    assert decode(encode(largest)) == largest
    with pytest.raises(StunError, match="no STUN message"):
        decode(packet(raw(0x8000, bytes(MESSAGE_BYTES_MAX - 20))))
    with pytest.raises(ValueError, match="too large"):
        encode(binding(RawAttribute(0x8000, bytes(MESSAGE_BYTES_MAX - 20))))


@pytest.mark.parametrize(
    "attribute",
    [
        ErrorCode(299, ""),
        ErrorCode(700, ""),
        Username("x" * 509),
        Software("x" * 510),
        UnknownAttributes((0x10000,)),
        RawAttribute(0x0020, b""),
        RawAttribute(0x10000, b""),
        RawAttribute(0x8000, bytes(70_000)),
        MessageIntegrity(bytes(20)),
        Fingerprint(0),
    ],
)
def test_what_no_receiver_would_take_is_not_encoded(attribute: Attribute) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the texts are for programmers
        encode(binding(attribute))


@pytest.mark.parametrize(("method", "transaction_id"), [(0x1000, TRANSACTION_ID), (-1, TRANSACTION_ID), (1, b"")])
def test_a_message_is_valid_or_does_not_exist(method: int, transaction_id: bytes) -> None:
    with pytest.raises(ValueError, match="12"):
        Message(method=method, message_class=MessageClass.REQUEST, transaction_id=transaction_id)


def test_of_equal_attributes_the_first_one_counts() -> None:
    assert binding(Software("a"), Software("b")).first(Software) == Software("a")
    assert binding().first(Software) is None


def test_unknown_types_are_told_once_and_only_below_0x8000() -> None:
    kinds = [0x7F00, 0x8000, 0x0024, 0x7F00, 0x0014, 0xFFFF]
    assert binding(*(RawAttribute(kind, b"") for kind in kinds)).unknown_required() == (0x7F00, 0x0024)
