"""The bytes of a channel."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midair.channel.wire import (
    HEADER_BYTES,
    MAX_PAYLOAD,
    PREFACE_BYTES,
    VERSION,
    Header,
    HeaderError,
    decode_header,
    decode_preface,
    encode_header,
    encode_preface,
)


def test_a_header_is_these_eight_bytes() -> None:
    assert encode_header(0x012345, 0x10, 0x80) == bytes.fromhex("00012345 10 80 0000")
    assert HEADER_BYTES == 8


def test_a_preface_is_these_44_bytes() -> None:
    assert encode_preface(bytes(range(32)), b"cost") == b"midair\x00\x03" + bytes(range(32)) + b"cost"
    assert PREFACE_BYTES == 44


@given(st.integers(0, MAX_PAYLOAD), st.integers(0, 255), st.integers(0, 255))
def test_a_header_survives_the_round_trip(length: int, kind: int, flags: int) -> None:
    raw = encode_header(length, kind, flags)
    assert decode_header(raw) == Header(length, kind, flags)


@given(st.binary(min_size=8, max_size=8))
def test_any_eight_bytes_are_a_header_that_keeps_its_bounds_or_an_error(raw: bytes) -> None:
    try:
        header = decode_header(raw)
    except HeaderError:
        return
    assert header.length <= MAX_PAYLOAD
    assert encode_header(header.length, header.type, header.flags) == raw


@pytest.mark.parametrize("raw", ["00200001 00 00 0000", "ffffffff 00 00 0000", "00000000 00 00 0001"])
def test_a_record_that_is_too_long_or_sets_reserved_bits_is_refused(raw: str) -> None:
    with pytest.raises(HeaderError):
        decode_header(bytes.fromhex(raw))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=4, max_size=4))
def test_a_preface_survives_the_round_trip(nonce: bytes, costs: bytes) -> None:
    assert decode_preface(encode_preface(nonce, costs)) == (b"midair", VERSION, nonce, costs)
