"""SPAKE2 and the phase keys, beside magic-wormhole's own functions."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from midair.rendezvous.keys import KeyExchange, KeyExchangeError, UnsealError, derive_key, seal, unseal

KEY = bytes(range(32))

ORACLE = """
import json, sys
from spake2 import SPAKE2_Symmetric
from wormhole._key import decrypt_data, derive_key, derive_phase_key, encrypt_data
from wormhole.util import bytes_to_dict, dict_to_bytes, to_bytes

asked = json.loads(sys.stdin.read())
key = bytes.fromhex(asked["key"])
spake = SPAKE2_Symmetric(to_bytes(asked["code"]), idSymmetric=to_bytes(asked["app_id"]))
pake = dict_to_bytes({"pake_v1": spake.start().hex()})
print(json.dumps({
    "purpose": derive_key(key, to_bytes("midair/é"), 20).hex(),
    "unsealed": decrypt_data(derive_phase_key(key, "5ide", "version"), bytes.fromhex(asked["sealed"])).hex(),
    "sealed": encrypt_data(derive_phase_key(key, "other", "3"), b"theirs").hex(),
    "pake": pake.hex(),
    "session": spake.finish(bytes.fromhex(bytes_to_dict(bytes.fromhex(asked["pake"]))["pake_v1"])).hex(),
}))
"""


def test_every_derivation_agrees_with_magic_wormhole() -> None:
    # Typed on a machine that writes ö as o and two dots.
    exchange = KeyExchange("7-gro\u0308ße-volcano", "midair/test", os.urandom)
    asked = {
        "key": KEY.hex(),
        "code": "7-größe-volcano",
        "app_id": "midair/test",
        "sealed": seal(KEY, "5ide", "version", b"ours", os.urandom(24)).hex(),
        "pake": exchange.message.hex(),
    }
    # Its imports warn of deprecated things, which would be errors here.
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ORACLE],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=15,
        check=True,
    )
    answer = json.loads(ran.stdout)
    assert answer["purpose"] == derive_key(KEY, "midair/e\u0301", 20).hex()
    assert bytes.fromhex(answer["unsealed"]) == b"ours"
    assert unseal(KEY, "other", "3", bytes.fromhex(answer["sealed"])) == b"theirs"
    assert answer["session"] == exchange.finish(bytes.fromhex(answer["pake"])).hex()


def test_the_same_code_gives_the_same_key_and_another_code_another() -> None:
    def keys_of(one_code: str, other_code: str) -> tuple[bytes, bytes]:
        one, other = (KeyExchange(code, "app", os.urandom) for code in (one_code, other_code))
        return one.finish(other.message), other.finish(one.message)

    first, second = keys_of("7-acorn-volcano", "7-acorn-volcano")
    assert first == second
    assert len(first) == 32
    first, second = keys_of("7-acorn-volcano", "7-acorn-tornado")
    assert first != second


def test_our_own_key_exchange_sent_back_is_refused() -> None:
    exchange = KeyExchange("7-acorn-volcano", "app", os.urandom)
    with pytest.raises(KeyExchangeError):
        exchange.finish(exchange.message)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[1]",
        b'{"pake_v1":""}',
        b'{"pake_v1":"53"}',
        b'{"pake_v1":"41' + b"00" * 32 + b'"}',
        b'{"pake_v1":"53' + b"00" * 32 + b'"}',
        b'{"pake_v1":"53' + b"ff" * 32 + b'"}',
        b'{"pake_v1":"5301' + b"00" * 31 + b'"}',
        b'{"pake_v1":"53' + b"00" * 33 + b'"}',
        b'{"x":' + b"[" * 40_000 + b"]" * 40_000 + b"}",
    ],
)
def test_a_malformed_or_weak_key_exchange_is_refused(body: bytes) -> None:
    with pytest.raises(KeyExchangeError):
        KeyExchange("7-acorn-volcano", "app", os.urandom).finish(body)


def test_a_sealed_message_opens_only_as_what_it_is() -> None:
    body = seal(KEY, "side", "0", b"hello", bytes(24))
    assert unseal(KEY, "side", "0", body) == b"hello"
    changed = bytes([*body[:-1], body[-1] ^ 1])
    for key, side, phase, text in [
        (bytes(32), "side", "0", body),
        (KEY, "other", "0", body),
        (KEY, "side", "1", body),
        (KEY, "side", "0", changed),
        (KEY, "side", "0", body[:30]),
        (KEY, "side", "0", b""),
    ]:
        with pytest.raises(UnsealError):
            unseal(key, side, phase, text)
