"""Sealing and opening records in place: an AEAD, counter nonces, the header as additional data.

The nonce of a record is its number on its direction (RFC 5116 3.2, a fixed field of zeros), so a record that is lost,
repeated or moved does not open. :class:`Sealer` and :class:`Opener` are one direction each, for one thread at a time.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag

from midair.channel.suites import Suite, new_aead
from midair.channel.wire import HEADER_BYTES, TAG_BYTES, encode_header

__all__ = ["MAX_RECORDS", "CounterExhaustedError", "ForgedRecordError", "Opener", "Sealer"]

MAX_RECORDS = 1 << 30
"""Records under one key, at most: 2 PiB of 2 MiB records. They are fewer than 2**48 blocks of AES, which is where
RFC 7253 5 has OCB stop; GCM with deterministic nonces could go on."""


class CounterExhaustedError(Exception):
    """This key has sealed or opened all the records it may; another connection has another key."""


class ForgedRecordError(Exception):
    """The tag does not fit: another key, another place in the stream, or changed on the way."""


class _Counter:
    __slots__ = ("_next",)

    def __init__(self, first: int) -> None:
        self._next = first

    def take(self) -> bytes:
        number = self._next
        if number >= MAX_RECORDS:
            raise CounterExhaustedError(f"{MAX_RECORDS} records under one key")
        self._next = number + 1
        return number.to_bytes(12, "big")


class Sealer:
    """The sending direction. ``first`` is the number of the first record."""

    def __init__(self, key: bytes, suite: Suite = Suite.AES_256_GCM, *, first: int = 0) -> None:
        self._aead = new_aead(suite, key)
        self._counter = _Counter(first)

    def seal(self, record_type: int, payload: bytes, flags: int = 0) -> bytes:
        """A whole record. Raises: CounterExhaustedError."""
        header = encode_header(len(payload), record_type, flags)
        return header + self._aead.encrypt(self._counter.take(), payload, header)

    def seal_in_place(self, view: memoryview, length: int, record_type: int, flags: int) -> memoryview:
        """Seal ``length`` bytes that stand in ``view`` after room for the header; the record, ready to be sent.

        At least 16 bytes must follow the payload. Raises: CounterExhaustedError.
        """
        header = view[:HEADER_BYTES] = encode_header(length, record_type, flags)
        end = HEADER_BYTES + length
        self._aead.encrypt_into(
            self._counter.take(), view[HEADER_BYTES:end], header, view[HEADER_BYTES : end + TAG_BYTES]
        )
        return view[: end + TAG_BYTES]


class Opener:
    """The receiving direction. ``first`` is the number of the first record."""

    def __init__(self, key: bytes, suite: Suite = Suite.AES_256_GCM, *, first: int = 0) -> None:
        self._aead = new_aead(suite, key)
        self._counter = _Counter(first)

    def open(self, header: bytes, sealed: bytes) -> bytes:
        """The plaintext of ``sealed`` (ciphertext and tag). Raises: ForgedRecordError, CounterExhaustedError."""
        try:
            return self._aead.decrypt(self._counter.take(), sealed, header)
        except InvalidTag as error:
            raise ForgedRecordError("a record does not open") from error

    def open_in_place(self, header: bytes, sealed: memoryview) -> memoryview:
        """Open ``sealed`` (ciphertext and tag) where it stands; its front part, which now holds the plaintext.

        Raises: ForgedRecordError, and then the buffer has been wiped; CounterExhaustedError.
        """
        plaintext = sealed[: len(sealed) - TAG_BYTES]
        try:
            self._aead.decrypt_into(self._counter.take(), sealed, header, plaintext)
        except InvalidTag as error:
            # decrypt_into has already written what it could not vouch for; nobody may come to read it.
            sealed[:] = bytes(len(sealed))
            raise ForgedRecordError("a record does not open") from error
        return plaintext
