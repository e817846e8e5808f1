"""From the session key to the keys of one connection.

Each connection has keys of its own: HKDF-SHA256 (RFC 5869) over the session key, salted with a fresh random nonce from
each side. So a record of one connection means nothing on another, and counter nonces never repeat under one key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from midair.channel.suites import Suite
from midair.channel.wire import VERSION

__all__ = ["CONNECTION_ID_BYTES", "KEY_BYTES", "NONCE_BYTES", "ConnectionKeys", "Role", "SessionKey", "derive"]

KEY_BYTES = 32
"""Of every suite."""
NONCE_BYTES = 32
"""What each side adds to every connection at random."""
CONNECTION_ID_BYTES = 8


class Role(Enum):
    """Which side of the session this is. Never from who connected: when SYNs cross, nobody did."""

    A = "A"
    """The controlling side: it chooses among connections."""
    B = "B"

    @property
    def other(self) -> Role:
        """The peer's role."""
        return Role.B if self is Role.A else Role.A


@dataclass(frozen=True, slots=True)
class SessionKey:
    """The 32 secret bytes both sides got from SPAKE2. ``repr`` hides them.

    Raises: ValueError when they are not 32.
    """

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"a session key has {KEY_BYTES} bytes, not {len(self.secret)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionKeys:
    """The keys of one connection, one a direction, and a name for it that both sides know."""

    a_to_b: bytes = field(repr=False)
    b_to_a: bytes = field(repr=False)
    connection_id: bytes
    """8 bytes; not secret."""

    def sending(self, role: Role) -> bytes:
        """The key under which ``role`` sends."""
        return self.a_to_b if role is Role.A else self.b_to_a


def derive(session_key: SessionKey, hello_a: bytes, hello_b: bytes, suite: Suite) -> ConnectionKeys:
    """The keys of the connection on which side A showed ``hello_a`` and side B ``hello_b``: a nonce and what follows it
    in a preface. Whoever changes what one of them says on the way gets two sides that do not open each other's records.
    """
    assert len(hello_a) == len(hello_b) >= NONCE_BYTES
    info = b"midair channel %d %s" % (VERSION, suite.name.encode())
    length = 2 * KEY_BYTES + CONNECTION_ID_BYTES
    okm = HKDF(algorithm=SHA256(), length=length, salt=hello_a + hello_b, info=info).derive(session_key.secret)
    return ConnectionKeys(
        a_to_b=okm[:KEY_BYTES], b_to_a=okm[KEY_BYTES : 2 * KEY_BYTES], connection_id=okm[2 * KEY_BYTES :]
    )
