"""Records sealed and opened in place."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from midair.channel.cipher import MAX_RECORDS, CounterExhaustedError, ForgedRecordError, Opener, Sealer
from midair.channel.keys import Role, SessionKey, derive
from midair.channel.stream import Frame
from midair.channel.wire import HEADER_BYTES, MAX_PAYLOAD, TAG_BYTES

KEY = bytes(range(32))


def seal_frame(sealer: Sealer, payload: bytes, *, kind: int = 16, flags: int = 0) -> bytes:
    frame = Frame()
    frame.payload[: len(payload)] = payload
    return bytes(sealer.seal_in_place(frame.buffer, frame.view, len(payload), kind, flags))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 65537, MAX_PAYLOAD])
def test_sealing_in_place_gives_the_same_bytes_as_sealing_a_copy(size: int) -> None:
    payload = bytes(i * 7 & 0xFF for i in range(size))
    record = seal_frame(Sealer(KEY), payload, kind=200, flags=3)
    assert record == Sealer(KEY).seal(200, payload, 3)
    assert record == record[:8] + AESGCM(KEY).encrypt(bytes(12), payload, record[:8])


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_what_was_sealed_opens_in_order(payloads: list[bytes]) -> None:
    sealer, opener, in_place = Sealer(KEY), Opener(KEY), Opener(KEY)
    for payload in payloads:
        record = sealer.seal(16, payload)
        header, sealed = record[:HEADER_BYTES], record[HEADER_BYTES:]
        assert opener.open(header, sealed) == payload
        assert in_place.open_in_place(header, memoryview(bytearray(sealed))) == payload


@pytest.mark.parametrize("place", [4, 5, HEADER_BYTES, HEADER_BYTES + 10, -1], ids=str)
def test_a_record_changed_anywhere_does_not_open_and_the_buffer_is_wiped(place: int) -> None:
    record = bytearray(Sealer(KEY).seal(16, b"something to hide"))
    record[place] ^= 1
    buffer = bytearray(record[HEADER_BYTES:])
    with pytest.raises(ForgedRecordError):
        Opener(KEY).open_in_place(bytes(record[:HEADER_BYTES]), memoryview(buffer))
    assert buffer == bytes(len("something to hide") + TAG_BYTES)


def test_a_record_that_is_repeated_or_skipped_does_not_open() -> None:
    sealer = Sealer(KEY)
    first, second = sealer.seal(16, b"1"), sealer.seal(16, b"2")
    opener = Opener(KEY)
    opener.open(first[:8], first[8:])
    with pytest.raises(ForgedRecordError):
        opener.open(first[:8], first[8:])
    with pytest.raises(ForgedRecordError):
        Opener(KEY).open(second[:8], second[8:])


def test_no_nonce_is_used_twice_even_after_four_billion_records() -> None:
    sealer = Sealer(KEY, first=MAX_RECORDS - 1)
    last = sealer.seal(16, b"last")
    for _ in range(2):
        with pytest.raises(CounterExhaustedError):
            sealer.seal(16, b"one too many")
    opener = Opener(KEY, first=MAX_RECORDS - 1)
    assert opener.open(last[:8], last[8:]) == b"last"
    with pytest.raises(CounterExhaustedError):
        opener.open(last[:8], last[8:])


def test_the_keys_of_a_connection_depend_on_everything_that_makes_it() -> None:
    key, one, two = SessionKey(KEY), bytes(32), bytes(31) + b"\1"
    keys = derive(key, one, two)
    assert len({keys.a_to_b, keys.b_to_a, derive(key, two, one).a_to_b, derive(SessionKey(one), one, two).a_to_b}) == 4
    assert keys.sending(Role.A) == keys.a_to_b
    assert keys.sending(Role.A.other) == keys.b_to_a
    assert len(keys.connection_id) == 8


def test_keys_do_not_show_in_a_repr() -> None:
    keys = derive(SessionKey(KEY), bytes(32), bytes(32))
    assert repr(SessionKey(KEY)) == "SessionKey()"
    assert str(keys.a_to_b) not in repr(keys)
    assert "a_to_b" not in repr(keys)


def test_a_session_key_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        SessionKey(b"short")
