"""What each cipher costs on this machine: measured once, in about a millisecond, when it is first asked for."""

from __future__ import annotations

import functools
import time

from cryptography.exceptions import UnsupportedAlgorithm

from midair.channel.suites import Aead, Suite, encode_costs, new_aead

__all__ = ["measured_costs"]

_PIECE_BYTES = 16 << 10
"""Enough that the call itself does not count: 3 to 8 microseconds with AES instructions, 0.5 ms without."""
_ROUNDS = 5
_BUDGET_NS = 300_000
"""For one cipher; a slow one is not measured again and again."""


@functools.cache
def measured_costs() -> bytes:
    """For a preface. Blocks for about a millisecond, once."""
    spent: dict[Suite, int] = {}
    for suite in Suite:
        try:
            spent[suite] = _fastest(new_aead(suite, bytes(32)))
        except UnsupportedAlgorithm:
            continue
    return encode_costs(spent)


def _fastest(aead: Aead) -> int:
    """The best of a few: whatever else the machine does only adds to it."""
    buffer = memoryview(bytearray(_PIECE_BYTES + 16))
    aead.encrypt_into(bytes(12), buffer[:_PIECE_BYTES], b"", buffer)  # the first one sets things up
    fastest = total = 0
    for number in range(1, _ROUNDS + 1):
        before = time.perf_counter_ns()
        aead.encrypt_into(number.to_bytes(12, "big"), buffer[:_PIECE_BYTES], b"", buffer)
        spent = max(1, time.perf_counter_ns() - before)
        total += spent
        fastest = min(fastest or spent, spent)
        if total > _BUDGET_NS:
            break
    return fastest
