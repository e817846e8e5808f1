"""The keys of a meeting, derived as magic-wormhole does, so that its clients are real peers.

SPAKE2 (symmetric, over Ed25519, in the form older than RFC 9382) turns the code into a session key that nobody who saw
the traffic can test guesses against. Each message has its own key, bound to who sent it and as which phase: a server
that sends a message back to its author, or under another number, produces only a failed authentication.

Random bytes come from the caller, as a function that gives as many as asked for.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from hashlib import sha256
from typing import Annotated, Final

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Meta
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox
from spake2 import SPAKE2_Symmetric

__all__ = ["SEAL_OVERHEAD", "Entropy", "KeyExchange", "KeyExchangeError", "UnsealError", "derive_key", "seal", "unseal"]

Entropy = Callable[[int], bytes]
"""As many random bytes as asked for."""

SEAL_OVERHEAD: Final = 40
"""Bytes a sealed message is longer: 24 of nonce, 16 of tag."""


class KeyExchangeError(ValueError):
    """The other side's SPAKE2 message is malformed, or our own sent back."""


class UnsealError(ValueError):
    """Sealed with another key, or changed."""


class _PakeBody(msgspec.Struct, frozen=True, omit_defaults=True):
    pake_v1: Annotated[str, Meta(pattern=r"\A53[0-9a-fA-F]{64}\Z")]
    """Hex of b"S" (symmetric) and one Ed25519 point."""
    waits: bool = False
    """Whoever says this proves the key only to who has proved it. magic-wormhole does not know it."""


_PAKE_DECODER: Final = msgspec.json.Decoder(_PakeBody)


class KeyExchange:
    """One side of one SPAKE2 run; good for one code and one answer, so one guess."""

    def __init__(self, code: str, app_id: str, entropy: Entropy, *, waits: bool = False) -> None:
        """``waits``: we do not prove the key first."""
        self.peer_waits = False
        """Nor does the other side, as it said in its message."""
        self._spake = SPAKE2_Symmetric(_to_bytes(code), idSymmetric=_to_bytes(app_id), entropy_f=entropy)
        self.message: Final[bytes] = msgspec.json.encode(_PakeBody(self._spake.start().hex(), waits))
        """The body of our ``pake`` message."""

    def finish(self, body: bytes) -> bytes:
        """The session key, 32 bytes, from the body of the other side's ``pake`` message.

        It says nothing about whether the other side has the same code; only the first message that unseals does.

        Raises: KeyExchangeError.
        """
        try:
            theirs = _PAKE_DECODER.decode(body)
            self.peer_waits = theirs.waits
            key = self._spake.finish(bytes.fromhex(theirs.pake_v1))
        except (msgspec.DecodeError, RecursionError) as error:
            raise KeyExchangeError("not a SPAKE2 message") from error
        # The library has no one root for what a bad point raises: ValueError, AssertionError, SPAKEError among them.
        except Exception as error:
            raise KeyExchangeError("not a point of the group, or our own message sent back") from error
        assert isinstance(key, bytes)
        return key


def derive_key(key: bytes, purpose: str | bytes, length: int = 32) -> bytes:
    """``length`` bytes for ``purpose``: HKDF-SHA256 (RFC 5869) of ``key`` without salt, ``purpose`` as info."""
    info = _to_bytes(purpose) if isinstance(purpose, str) else purpose
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(key)


def seal(key: bytes, side: str, phase: str, message: bytes, nonce: bytes) -> bytes:
    """The body of ``side``'s message ``phase``: nonce (24 random bytes) and XSalsa20-Poly1305 ciphertext."""
    return bytes(SecretBox(_phase_key(key, side, phase)).encrypt(message, nonce))


def unseal(key: bytes, side: str, phase: str, body: bytes) -> bytes:
    """The message in such a body.

    Raises: UnsealError.
    """
    try:
        return SecretBox(_phase_key(key, side, phase)).decrypt(body)
    # ValueError: shorter than a nonce.
    except (CryptoError, ValueError):
        raise UnsealError("the message does not unseal") from None


def _phase_key(key: bytes, side: str, phase: str) -> bytes:
    digests = sha256(side.encode("ascii")).digest() + sha256(phase.encode("ascii")).digest()
    return derive_key(key, b"wormhole:phase:" + digests)


def _to_bytes(text: str) -> bytes:
    return unicodedata.normalize("NFC", text).encode()
