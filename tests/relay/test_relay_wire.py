"""The relay's preamble and answers, as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midair.relay.wire import (
    MAX_ANSWER_BYTES,
    OK,
    PREAMBLE_BYTES,
    PREAMBLE_MAGIC,
    Preamble,
    Refusal,
    RelayWireError,
    encode_preamble,
    encode_refusal,
    parse_preamble,
    parse_refusal,
)

TOKEN, SIDE = bytes(range(32)), bytes(range(8))
LINE = encode_preamble(Preamble(token=TOKEN, side=SIDE))


def test_the_preamble_is_what_the_protocol_says() -> None:
    assert LINE == (
        b"MIDAIR-RELAY/1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 0001020304050607\n"
    )
    assert len(LINE) == PREAMBLE_BYTES


def test_who_asks_says_the_same_in_version_2() -> None:
    assert encode_preamble(Preamble(token=TOKEN, side=SIDE, asks=True)) == LINE.replace(b"/1", b"/2")


@given(token=st.binary(min_size=32, max_size=32), side=st.binary(min_size=8, max_size=8), asks=st.booleans())
def test_every_preamble_comes_back(token: bytes, side: bytes, asks: bool) -> None:
    preamble = Preamble(token=token, side=side, asks=asks)
    assert parse_preamble(encode_preamble(preamble)) == preamble


@given(data=st.binary(max_size=2 * PREAMBLE_BYTES))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    for line in (data, PREAMBLE_MAGIC + data):
        with pytest.raises(RelayWireError):
            parse_preamble(line)


@pytest.mark.parametrize(
    "line",
    [
        LINE.upper(),
        LINE.replace(b"/1", b"/3"),
        LINE[:-1],
        LINE + b"\n",
        LINE.replace(b"\n", b"\r"),
        LINE.replace(b"0001", b"+001", 1),
        LINE.replace(b" 0001", b"  001", 1),
    ],
)
def test_almost_a_preamble_is_none(line: bytes) -> None:
    with pytest.raises(RelayWireError):
        parse_preamble(line)


@pytest.mark.parametrize(("token", "side"), [(b"", SIDE), (TOKEN + b"x", SIDE), (TOKEN, b""), (TOKEN, SIDE * 2)])
def test_a_token_and_a_side_of_other_lengths_are_our_own_error(token: bytes, side: bytes) -> None:
    with pytest.raises(RelayWireError):
        encode_preamble(Preamble(token=token, side=side))


def test_the_token_is_not_shown_in_a_log() -> None:
    assert TOKEN.hex() not in repr(Preamble(token=TOKEN, side=SIDE))
    assert repr(TOKEN) not in repr(Preamble(token=TOKEN, side=SIDE))


@given(
    word=st.text("abz", min_size=1, max_size=16).map(lambda word: f"{word}-{word}"[:32]),
    text=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=200),
)
def test_every_refusal_comes_back_and_fits_into_an_answer(word: str, text: str) -> None:
    line = encode_refusal(Refusal(word=word, text=text))
    assert len(line) <= MAX_ANSWER_BYTES
    assert parse_refusal(line) == Refusal(word=word, text=text)


@pytest.mark.parametrize(
    "line", [b"", OK, b"ERR\n", b"ERR quota\n", b"ERR Quota no\n", b"ERR quota \x1b[2J\n", b"ERR a b"]
)
def test_what_is_no_refusal_is_not_taken_for_one(line: bytes) -> None:
    with pytest.raises(RelayWireError):
        parse_refusal(line)


@pytest.mark.parametrize("text", ["two\nlines", "\x1b[2J", "ä", "x" * 201])
def test_a_refusal_that_cannot_be_said_is_our_own_error(text: str) -> None:
    with pytest.raises(RelayWireError):
        encode_refusal(Refusal(word="quota", text=text))
