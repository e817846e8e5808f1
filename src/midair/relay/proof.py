"""How a leg shows a private server that it may be here, without saying the secret: legs are in the clear.

The first half of a token tells the pair, as everywhere; the second half can be made only by who knows the secret. Who
listens can repeat a token and take the place of a leg, as with any server, but make no new one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from midair.relay.wire import TOKEN_BYTES

__all__ = ["is_proven", "pair_of", "with_proof"]

HALF_BYTES = TOKEN_BYTES // 2
"""128 bits: nobody finds a pair's half by trying, nor a proof."""


def with_proof(token: bytes, secret: str) -> bytes:
    """``token`` as a server with this secret wants it."""
    half = token[:HALF_BYTES]
    return half + hmac.digest(secret.encode(), b"midair relay leg" + half, hashlib.sha256)[:HALF_BYTES]


def is_proven(token: bytes, secrets: Iterable[str]) -> bool:
    """Whether it was made with one of them. Takes the same time for any token."""
    return sum(hmac.compare_digest(token, with_proof(token, secret)) for secret in secrets) > 0


def pair_of(token: bytes) -> bytes:
    """A token that is the same for both legs of a pair, whatever secret each was told."""
    return token[:HALF_BYTES] + bytes(TOKEN_BYTES - HALF_BYTES)
