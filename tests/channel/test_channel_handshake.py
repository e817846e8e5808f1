"""The handshake as a dialogue of two machines, and with strangers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midair.channel.failures import AuthenticationError
from midair.channel.handshake import CONFIRM_BYTES, Handshake, State
from midair.channel.keys import Role, SessionKey
from midair.channel.suites import Suite, encode_costs
from midair.channel.wire import PREFACE_BYTES, encode_preface

KEY = SessionKey(bytes(range(32)))
NONCE_A, NONCE_B = b"a" * 32, b"b" * 32
ALIKE = encode_costs(dict.fromkeys(Suite, 4000))


def pair(
    *, key_b: SessionKey = KEY, role_b: Role = Role.B, costs_a: bytes = ALIKE, costs_b: bytes = ALIKE
) -> tuple[Handshake, Handshake]:
    return Handshake(KEY, Role.A, NONCE_A, costs_a), Handshake(key_b, role_b, NONCE_B, costs_b)


def test_two_that_hold_the_key_finish_in_one_round_trip_with_matching_ciphers() -> None:
    a, b = pair()
    assert a.wanted == PREFACE_BYTES
    confirm_a, confirm_b = a.feed(b.preface), b.feed(a.preface)
    assert a.wanted == CONFIRM_BYTES
    assert a.feed(confirm_b) == b.feed(confirm_a) == b""
    assert a.state is b.state is State.DONE
    assert a.wanted == b.wanted == 0
    assert a.established.connection_id == b.established.connection_id
    record = a.established.sealer.seal(16, b"hello")
    assert b.established.opener.open(record[:8], record[8:]) == b"hello"
    record = b.established.sealer.seal(16, b"hello back")
    assert a.established.opener.open(record[:8], record[8:]) == b"hello back"


@given(st.data())
def test_it_does_not_matter_how_the_bytes_are_cut(data: st.DataObject) -> None:
    a, b = pair()
    stream = b.preface + b.feed(a.preface)
    while a.wanted:
        piece, stream = (lambda n: (stream[:n], stream[n:]))(data.draw(st.integers(1, a.wanted)))
        a.feed(piece)
    assert a.state is State.DONE


def refused(handshake: Handshake, *pieces: bytes) -> str:
    for piece in pieces[:-1]:
        handshake.feed(piece)
    with pytest.raises(AuthenticationError) as caught:
        handshake.feed(pieces[-1])
    assert handshake.state is State.FAILED
    assert handshake.wanted == 0
    return caught.value.suspicion


def test_another_key_is_found_out() -> None:
    a, b = pair(key_b=SessionKey(bytes(32)))
    confirm_a, confirm_b = a.feed(b.preface), b.feed(a.preface)
    assert refused(a, confirm_b) == "key"
    assert refused(b, confirm_a) == "key"


def test_two_that_took_the_same_role_do_not_come_together() -> None:
    a, b = pair(role_b=Role.A)
    confirm_a, confirm_b = a.feed(b.preface), b.feed(a.preface)
    assert refused(a, confirm_b) == "key"
    assert refused(b, confirm_a) == "key"


def test_a_mirror_is_found_out() -> None:
    a, _ = pair()
    assert refused(a, a.preface) == "reflection"


def test_a_mirror_that_only_makes_up_a_nonce_is_found_out() -> None:
    a, _ = pair()
    confirm = a.feed(encode_preface(b"m" * 32, ALIKE))
    assert refused(a, confirm) == "key"


@pytest.mark.parametrize("first", [b"H", b"HTTP/1.1 400 Bad Request", b"\x00" * 40, b"midaiR", b"SSH-2.0-x"], ids=repr)
def test_a_stranger_is_told_by_its_first_bytes(first: bytes) -> None:
    a, _ = pair()
    assert refused(a, first[: a.wanted]) == "stranger"


def test_another_version_is_named() -> None:
    a, _ = pair()
    with pytest.raises(AuthenticationError, match="speaks version 1 of the channel, we speak 3") as caught:
        a.feed(encode_preface(NONCE_B, ALIKE, version=1)[:8])
    assert caught.value.suspicion == "version"


@pytest.mark.parametrize("seen", [0, 7, 44, 54])
def test_an_end_of_stream_in_the_middle_is_a_failure(seen: int) -> None:
    a, b = pair()
    stream = b.preface + b.feed(a.preface)
    pieces = [piece for piece in (stream[: min(seen, 44)], stream[44:seen]) if piece]
    assert refused(a, *pieces, b"") == "closed"


def test_a_confirm_of_another_connection_does_not_open() -> None:
    a, b = pair()
    old = b.feed(a.preface)
    again = Handshake(KEY, Role.A, b"c" * 32, ALIKE)
    assert refused(again, b.preface, old) == "key"


@given(st.binary(min_size=1, max_size=64))
def test_no_bytes_of_a_stranger_make_it_anything_but_waiting_or_failed(noise: bytes) -> None:
    a, _ = pair()
    try:
        while noise and a.wanted:
            piece, noise = noise[: a.wanted], noise[a.wanted :]
            a.feed(piece)
    except AuthenticationError:
        pass
    assert a.state is not State.DONE


@pytest.mark.parametrize("cheapest", Suite)
def test_records_are_sealed_with_the_cipher_both_agreed_on(cheapest: Suite) -> None:
    costs = encode_costs({**dict.fromkeys(Suite, 9000), cheapest: 3000})
    a, b = pair(costs_a=costs, costs_b=costs)
    confirm_a, confirm_b = a.feed(b.preface), b.feed(a.preface)
    a.feed(confirm_b)
    b.feed(confirm_a)
    assert a.established.suite is b.established.suite is cheapest
    record = a.established.sealer.seal(16, b"hello")
    assert b.established.opener.open(record[:8], record[8:]) == b"hello"


def test_whoever_changes_the_costs_on_the_way_keeps_the_two_apart() -> None:
    slow = encode_costs({Suite.AES_256_GCM: 9000, Suite.AES_256_OCB: 3000})
    a, b = pair(costs_a=slow, costs_b=slow)
    pretended = encode_preface(NONCE_B, encode_costs({Suite.AES_256_GCM: 9001, Suite.AES_256_OCB: 9000}))
    a.feed(pretended)
    assert refused(a, b.feed(a.preface)) == "key"


def test_costs_that_lead_to_the_same_cipher_are_not_to_be_changed_either() -> None:
    a, b = pair()
    a.feed(encode_preface(NONCE_B, encode_costs(dict.fromkeys(Suite, 8000))))
    assert refused(a, b.feed(a.preface)) == "key"


def test_without_a_cipher_in_common_there_is_no_connection() -> None:
    a, b = pair(costs_a=encode_costs({Suite.AES_256_GCM: 9}), costs_b=encode_costs({Suite.CHACHA20_POLY1305: 9}))
    assert refused(a, b.preface) == "version"
