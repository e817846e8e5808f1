"""Messages out of a stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midair.stun import Deframer, StunError
from midair.stun.wire import Message, MessageClass, RawAttribute, encode


def message(size: int, number: int = 0) -> bytes:
    """A message with that many bytes in its one attribute."""
    return encode(
        Message(
            method=1,
            message_class=MessageClass.REQUEST,
            transaction_id=number.to_bytes(12, "big"),
            attributes=(RawAttribute(0x8000, bytes(size)),),
        )
    )


pipelined = st.lists(st.integers(0, 300), max_size=8).map(
    lambda sizes: [message(size, number) for number, size in enumerate(sizes)]
)


@given(pipelined, st.data())
def test_however_the_stream_is_cut_the_messages_are_the_same(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    deframer = Deframer()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += deframer.feed(stream[start:end])
    assert found == messages


@given(pipelined)
def test_reading_what_is_missing_reads_nothing_past_a_message(messages: list[bytes]) -> None:
    stream = b"".join(messages)
    deframer, position = Deframer(), 0
    for expected in messages:
        found: list[bytes] = []
        while not found:
            step = deframer.missing
            assert step > 0
            found = deframer.feed(stream[position : position + step])
            position += step
        assert found == [expected]
    assert position == len(stream)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_random_bytes_raise_nothing_but_a_stun_error(data: bytes, step: int) -> None:
    deframer = Deframer()
    try:
        for start in range(0, len(data), step):
            deframer.feed(data[start : start + step])
    except StunError:
        return


@pytest.mark.parametrize(
    "first_bytes",
    [
        b"\x40",  # the two zero bits
        b"\x16\x03\x01\x02\x00\x01",  # TLS
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x01\x00\x01",  # not a multiple of four
        b"\x00\x01\xff\xfc",  # longer than we take
        b"\x00\x01\x00\x00\x21\x13",  # the cookie, as soon as it is wrong
    ],
    ids=bytes.hex,
)
def test_a_stranger_is_turned_away_by_the_earliest_byte_that_shows_it(first_bytes: bytes) -> None:
    with pytest.raises(StunError):
        Deframer().feed(first_bytes)


def test_once_broken_it_stays_broken() -> None:
    deframer = Deframer()
    with pytest.raises(StunError):
        deframer.feed(b"\xff")
    with pytest.raises(StunError, match="already"):
        deframer.feed(message(0))


def test_the_size_is_bounded_before_the_message_is_there() -> None:
    assert Deframer(max_bytes=64).feed(message(40)) == [message(40)]
    with pytest.raises(StunError):
        Deframer(max_bytes=64).feed(message(44)[:4])
