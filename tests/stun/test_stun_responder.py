"""The reflector's answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midair.endpoint import Endpoint
from midair.stun import StunError, respond
from midair.stun.wire import (
    BINDING,
    Attribute,
    ErrorCode,
    Fingerprint,
    Message,
    MessageClass,
    OtherAddress,
    RawAttribute,
    ResponseOrigin,
    Software,
    UnknownAttributes,
    XorMappedAddress,
    decode,
    encode,
)

TRANSACTION_ID = bytes(range(12))
SOURCES = [Endpoint.of("192.0.2.1", 40000), Endpoint.of("2001:db8::1", 40000)]


def asked(*attributes: Attribute, message_class: MessageClass = MessageClass.REQUEST, method: int = BINDING) -> Message:
    return Message(method=method, message_class=message_class, transaction_id=TRANSACTION_ID, attributes=attributes)


@pytest.mark.parametrize("source", SOURCES, ids=["ipv4", "ipv6"])
def test_it_answers_with_where_the_request_came_from(source: Endpoint) -> None:
    answer = respond(encode(asked(Software("somebody"))), source)
    assert answer is not None
    assert decode(answer) == asked(XorMappedAddress(source), message_class=MessageClass.SUCCESS)


def test_it_says_where_else_it_can_be_asked_and_where_it_was() -> None:
    others = [Endpoint.of("192.0.2.10", 7421), Endpoint.of("192.0.2.11", 7420)]
    origin = Endpoint.of("192.0.2.10", 7420)
    answer = respond(encode(asked()), SOURCES[0], others, origin)
    assert answer is not None
    assert decode(answer).attributes == (
        XorMappedAddress(SOURCES[0]),
        *(OtherAddress(each) for each in others),
        ResponseOrigin(origin),
    )


def test_what_must_be_understood_and_is_not_is_error_420() -> None:
    answer = respond(encode(asked(RawAttribute(0x0003, bytes(4)), RawAttribute(0x7F00, b""))), SOURCES[0])
    assert answer is not None
    assert decode(answer) == asked(
        ErrorCode(420, "Unknown Attribute"), UnknownAttributes((0x0003, 0x7F00)), message_class=MessageClass.ERROR
    )


def test_even_the_most_unknown_attributes_have_an_answer() -> None:
    request = encode(asked(*(RawAttribute(0x7000 + n, b"") for n in range(64))))
    answer = respond(request, SOURCES[0])
    assert answer is not None
    assert len(answer) <= len(request)


def test_what_may_be_ignored_is() -> None:
    answer = respond(encode(asked(RawAttribute(0x8FFF, b"x"))), SOURCES[0])
    assert answer is not None
    assert decode(answer).message_class is MessageClass.SUCCESS


def test_a_fingerprint_is_answered_with_one() -> None:
    answer = respond(encode(asked(), fingerprint=True), SOURCES[0])
    assert answer is not None
    assert decode(answer).first(Fingerprint) is not None


def test_credentials_are_not_asked_for_and_not_minded() -> None:
    answer = respond(encode(asked(), integrity_key=b"anything"), SOURCES[0])
    assert answer is not None
    assert decode(answer).message_class is MessageClass.SUCCESS


@pytest.mark.parametrize("message_class", [MessageClass.INDICATION, MessageClass.SUCCESS, MessageClass.ERROR])
def test_only_requests_are_answered(message_class: MessageClass) -> None:
    assert respond(encode(asked(message_class=message_class)), SOURCES[0]) is None


def test_other_methods_are_not_answered() -> None:
    assert respond(encode(asked(method=0x003)), SOURCES[0]) is None


@given(st.binary(max_size=100))
def test_garbage_is_a_stun_error(data: bytes) -> None:
    with pytest.raises(StunError):
        respond(b"\x80" + data, SOURCES[0])
