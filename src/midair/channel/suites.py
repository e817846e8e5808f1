"""The ciphers a connection can have, and how its two sides agree on one. Pure.

Which is fastest depends on the CPU, and there is no telling from its name. Seen with the same OpenSSL: AES-GCM at
8 GB/s on a core with 512-bit vectors and at 3.5 GB/s on one without, where AES-OCB makes 6, for it needs no multiplying
in a field; and without AES instructions ChaCha20 is several times as fast as either. So each side measures them (see
:mod:`midair.channel.measuring`) and says in its preface what a record costs it. Both take the one that is
cheapest for whom it costs more. All are equally good for us: 256-bit keys, 16-byte tags, nonces that must not repeat.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import IntEnum

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESOCB3, ChaCha20Poly1305

__all__ = ["COSTS_BYTES", "Aead", "Suite", "agree", "encode_costs", "new_aead"]

Aead = AESGCM | AESOCB3 | ChaCha20Poly1305

COSTS_BYTES = 4
"""Room in a preface for the costs of so many suites, one byte each, in the order of their numbers; 0: not had."""
_STEPS = 8
"""Of a cost, for every doubling of the time: what differs by less than 9 % counts as equal."""


class Suite(IntEnum):
    """In the order in which they are preferred when they cost the same."""

    AES_256_GCM = 0
    """NIST SP 800-38D; RFC 5116."""
    AES_256_OCB = 1
    """RFC 7253. Not every OpenSSL has it."""
    CHACHA20_POLY1305 = 2
    """RFC 8439."""


_CLASSES: dict[Suite, type[Aead]] = {
    Suite.AES_256_GCM: AESGCM,
    Suite.AES_256_OCB: AESOCB3,
    Suite.CHACHA20_POLY1305: ChaCha20Poly1305,
}


def new_aead(suite: Suite, key: bytes) -> Aead:
    """Raises: UnsupportedAlgorithm when the OpenSSL here does not have it."""
    return _CLASSES[suite](key)


def encode_costs(nanoseconds: Mapping[Suite, int]) -> bytes:
    """What it costs to seal the same bytes with each suite that can be had; for the preface."""
    costs = bytearray(COSTS_BYTES)
    for suite, spent in nanoseconds.items():
        costs[suite] = min(255, max(1, round(_STEPS * math.log2(max(spent, 1)))))
    return bytes(costs)


def agree(ours: bytes, theirs: bytes) -> Suite | None:
    """The suite for these costs; the same whichever side asks. None when no suite is had by both."""
    common = [suite for suite in Suite if ours[suite] and theirs[suite]]
    if not common:
        return None
    return min(common, key=lambda suite: (max(ours[suite], theirs[suite]), ours[suite] + theirs[suite], suite))
