"""Records sealed and opened in place."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESOCB3, ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from midair.channel.cipher import MAX_RECORDS, CounterExhaustedError, ForgedRecordError, Opener, Sealer
from midair.channel.keys import Role, SessionKey, derive
from midair.channel.measuring import measured_costs
from midair.channel.stream import Frame
from midair.channel.suites import COSTS_BYTES, Aead, Suite, agree, encode_costs
from midair.channel.wire import HEADER_BYTES, MAX_PAYLOAD, TAG_BYTES

KEY = bytes(range(32))


def seal_frame(sealer: Sealer, payload: bytes, *, kind: int = 16, flags: int = 0) -> bytes:
    frame = Frame()
    frame.payload[: len(payload)] = payload
    return bytes(sealer.seal_in_place(frame.view, len(payload), kind, flags))


@pytest.mark.parametrize(
    ("suite", "aead"),
    [
        (Suite.AES_256_GCM, AESGCM(KEY)),
        (Suite.AES_256_OCB, AESOCB3(KEY)),
        (Suite.CHACHA20_POLY1305, ChaCha20Poly1305(KEY)),
    ],
)
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 65537, MAX_PAYLOAD])
def test_sealing_in_place_gives_the_same_bytes_as_sealing_a_copy(size: int, suite: Suite, aead: Aead) -> None:
    payload = bytes(i * 7 & 0xFF for i in range(size))
    record = seal_frame(Sealer(KEY, suite), payload, kind=200, flags=3)
    assert record == Sealer(KEY, suite).seal(200, payload, 3)
    assert record == record[:8] + aead.encrypt(bytes(12), payload, record[:8])
    assert Opener(KEY, suite).open_in_place(record[:8], memoryview(bytearray(record[8:]))) == payload


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_what_was_sealed_opens_in_order(payloads: list[bytes]) -> None:
    sealer, opener, in_place = Sealer(KEY), Opener(KEY), Opener(KEY)
    for payload in payloads:
        record = sealer.seal(16, payload)
        header, sealed = record[:HEADER_BYTES], record[HEADER_BYTES:]
        assert opener.open(header, sealed) == payload
        assert in_place.open_in_place(header, memoryview(bytearray(sealed))) == payload


@pytest.mark.parametrize("suite", Suite)
@pytest.mark.parametrize("place", [4, 5, HEADER_BYTES, HEADER_BYTES + 10, -1], ids=str)
def test_a_record_changed_anywhere_does_not_open_and_the_buffer_is_wiped(place: int, suite: Suite) -> None:
    record = bytearray(Sealer(KEY, suite).seal(16, b"something to hide"))
    record[place] ^= 1
    buffer = bytearray(record[HEADER_BYTES:])
    with pytest.raises(ForgedRecordError):
        Opener(KEY, suite).open_in_place(bytes(record[:HEADER_BYTES]), memoryview(buffer))
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


def test_no_nonce_is_used_twice_even_after_a_billion_records() -> None:
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
    gcm, chacha = Suite.AES_256_GCM, Suite.CHACHA20_POLY1305
    keys = derive(key, one, two, gcm)
    others = derive(key, two, one, gcm), derive(SessionKey(one), one, two, gcm), derive(key, one, two, chacha)
    assert len({keys.a_to_b, keys.b_to_a, *(other.a_to_b for other in others)}) == 5
    assert keys.sending(Role.A) == keys.a_to_b
    assert keys.sending(Role.A.other) == keys.b_to_a
    assert len(keys.connection_id) == 8


def test_keys_do_not_show_in_a_repr() -> None:
    keys = derive(SessionKey(KEY), bytes(32), bytes(32), Suite.AES_256_GCM)
    assert repr(SessionKey(KEY)) == "SessionKey()"
    assert str(keys.a_to_b) not in repr(keys)
    assert "a_to_b" not in repr(keys)


def test_a_session_key_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        SessionKey(b"short")


def test_all_records_of_one_key_are_fewer_than_the_blocks_that_are_safe_under_ocb() -> None:
    blocks = -(-MAX_PAYLOAD // 16) + 2  # with the header's and the nonce's
    assert MAX_RECORDS * blocks < 2**48


@given(st.lists(st.binary(min_size=COSTS_BYTES, max_size=COSTS_BYTES), min_size=2, max_size=2))
def test_both_sides_come_to_the_same_cipher_and_both_have_it(costs: list[bytes]) -> None:
    ours, theirs = costs
    suite = agree(ours, theirs)
    assert agree(theirs, ours) is suite
    assert suite is None or (ours[suite] and theirs[suite])


def test_the_side_for_which_it_is_dearer_decides() -> None:
    strong = encode_costs({Suite.AES_256_GCM: 2_000, Suite.AES_256_OCB: 2_700, Suite.CHACHA20_POLY1305: 6_000})
    weak = encode_costs({Suite.AES_256_GCM: 500_000, Suite.AES_256_OCB: 400_000, Suite.CHACHA20_POLY1305: 60_000})
    assert agree(strong, strong) is Suite.AES_256_GCM
    assert agree(strong, weak) is agree(weak, strong) is Suite.CHACHA20_POLY1305


def test_what_costs_the_same_to_a_few_percent_is_a_matter_of_order() -> None:
    assert agree(*2 * [encode_costs({Suite.AES_256_GCM: 4_030, Suite.AES_256_OCB: 4_000})]) is Suite.AES_256_GCM


def test_this_machine_has_measured_each_cipher_it_has() -> None:
    assert all(measured_costs()[suite] for suite in (Suite.AES_256_GCM, Suite.CHACHA20_POLY1305))
    assert measured_costs() is measured_costs()
