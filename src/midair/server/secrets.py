"""Who may use a private server: those who know one of its secrets. Pure.

The mailbox asks for it as for a password (HTTP's Basic, RFC 7617, of any user), and so inside TLS where there is any;
a relay leg proves that it knows it (:mod:`midair.relay.proof`). The page, the metrics and the reflector are open: they
tell nothing and carry nothing.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode
from collections.abc import Sequence
from hashlib import sha256

from midair.config import MAX_SECRET_BYTES
from midair.errors import UsageError
from midair.relay.proof import is_proven

__all__ = ["Secrets"]

MIN_SECRET_BYTES = 16
"""Nobody counts wrong ones, so it has to be one that is not found by trying."""


class Secrets:
    """Of one server; none: it is open to everybody. Comparing takes the same time for any guess."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        self._secrets = tuple(secrets)
        self._hashes = [sha256(secret.encode()).digest() for secret in secrets]

    def __repr__(self) -> str:
        return f"<{len(self._secrets)} secrets>"

    @classmethod
    def parse(cls, text: str, *, named_by: str) -> Secrets:
        """One on each line; empty lines, and those that begin with ``#``, are none. Raises: UsageError."""
        lines = [line.strip() for line in text.splitlines()]
        secrets = [line for line in lines if line and not line.startswith("#")]
        if not secrets:
            raise UsageError(f"{named_by} has no secret in it")
        for secret in secrets:
            fits = MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES
            if not (fits and secret.isprintable() and secret.isascii()):
                raise UsageError(
                    f"{named_by}: a secret has {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} characters of ASCII",
                    hint="`openssl rand -hex 16` makes one.",
                )
        return cls(secrets)

    def admits(self, authorization: str | None) -> bool:
        """Whether a request with this header may use the mailbox."""
        if not self._secrets:
            return True
        scheme, _, credentials = (authorization or "").partition(" ")
        try:
            said = b64decode(credentials.strip(), validate=True) if scheme.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            return False
        guess = sha256(said.partition(b":")[2]).digest()
        return sum(hmac.compare_digest(guess, known) for known in self._hashes) > 0

    def admits_leg(self, token: bytes) -> bool:
        """Whether a relay leg with this token may wait here."""
        return not self._secrets or is_proven(token, self._secrets)
