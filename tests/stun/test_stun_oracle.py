"""Our codec against aioice's: each reads what the other writes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

from aioice import stun as aioice
from hypothesis import given
from hypothesis import strategies as st

from midair.endpoint import Endpoint
from midair.stun.wire import (
    Attribute,
    ErrorCode,
    Fingerprint,
    MappedAddress,
    Message,
    MessageClass,
    MessageIntegrity,
    RawAttribute,
    Software,
    Username,
    XorMappedAddress,
    decode,
    encode,
    verify_integrity,
)

CLASSES = {
    MessageClass.REQUEST: aioice.Class.REQUEST,
    MessageClass.INDICATION: aioice.Class.INDICATION,
    MessageClass.SUCCESS: aioice.Class.RESPONSE,
    MessageClass.ERROR: aioice.Class.ERROR,
}
TEXT_BYTES_MAX = 500

v4 = st.builds(IPv4Address, st.binary(min_size=4, max_size=4))
v6 = st.builds(IPv6Address, st.binary(min_size=16, max_size=16))
endpoints = st.builds(Endpoint, st.one_of(v4, v6), st.integers(0, 65535))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=TEXT_BYTES_MAX // 4)

# aioice keeps one attribute of a name, and knows these of ours.
chosen = st.fixed_dictionaries(
    {},
    optional={
        "MAPPED-ADDRESS": st.builds(MappedAddress, endpoints),
        "XOR-MAPPED-ADDRESS": st.builds(XorMappedAddress, endpoints),
        "USERNAME": st.builds(Username, texts),
        "ERROR-CODE": st.builds(ErrorCode, st.integers(300, 699), texts),
        "SOFTWARE": st.builds(Software, texts),
        "PRIORITY": st.integers(0, 2**32 - 1).map(lambda n: RawAttribute(0x0024, n.to_bytes(4, "big"))),
        "NONCE": st.binary(max_size=100).map(lambda value: RawAttribute(0x0015, value)),
    },
)


def as_aioice(attribute: Attribute) -> Any:
    match attribute:
        case MappedAddress(endpoint) | XorMappedAddress(endpoint):
            return endpoint.to_sockaddr()
        case Username(text) | Software(text):
            return text
        case ErrorCode(code, reason):
            return (code, reason)
        case RawAttribute(0x0024, value):
            return int.from_bytes(value, "big")
        case RawAttribute(_, value):
            return value
        case _:
            raise AssertionError(attribute)


@given(
    st.sampled_from(MessageClass),
    st.sampled_from(aioice.Method),
    st.binary(min_size=12, max_size=12),
    chosen,
    st.binary(min_size=1, max_size=80),
)
def test_each_reads_what_the_other_writes(
    message_class: MessageClass,
    method: Any,
    transaction_id: bytes,
    attributes: dict[str, Attribute],
    key: bytes,
) -> None:
    ours = Message(
        method=int(method),
        message_class=message_class,
        transaction_id=transaction_id,
        attributes=tuple(attributes.values()),
    )
    theirs = aioice.Message(
        method,
        CLASSES[message_class],
        transaction_id,
        {name: as_aioice(attribute) for name, attribute in attributes.items()},
    )
    assert encode(ours) == bytes(theirs)

    parsed = aioice.parse_message(encode(ours, integrity_key=key, fingerprint=True))
    assert parsed.check_message_integrity(key)
    assert parsed.message_method == method
    assert parsed.message_class == CLASSES[message_class]
    assert parsed.transaction_id == transaction_id
    seals = ("MESSAGE-INTEGRITY", "FINGERPRINT")
    assert {name: v for name, v in parsed.attributes.items() if name not in seals} == theirs.attributes

    theirs.add_message_integrity(key)
    assert encode(ours, integrity_key=key, fingerprint=True) == bytes(theirs)
    assert verify_integrity(bytes(theirs), key)
    decoded = decode(bytes(theirs))
    assert decoded.attributes[:-2] == ours.attributes
    assert [type(attribute) for attribute in decoded.attributes[-2:]] == [MessageIntegrity, Fingerprint]
