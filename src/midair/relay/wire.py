"""What a relay leg says before it is a byte pipe: one line from the client, one line back.

    client:  MIDAIR-RELAY/1 <64 hex digits: token> <16 hex digits: side> LF
    server:  WAIT LF                   only to MIDAIR-RELAY/2: the partner is not there yet, and one of these will come:
             OK LF                     the partner is there; every byte from now on is the partner's
             ERR <word> <text> LF      no; the server closes

Both peers know the token, nobody else does; the side tells a peer that dials again from its partner. The client sends
nothing after the preamble until OK. The preamble has one length only, so the server never reads into what follows.
Version 2 is for a client that has another way to the server, and wants to know soon whether this one leads there.

That other way is a WebSocket (RFC 6455) at :data:`RELAY_PATH`, in TLS where the server has a certificate. All of the
above is said in it as in a connection of its own, in binary messages of any division up to :data:`MESSAGE_BYTES`. A
WebSocket ends as a whole, and a TCP connection in each direction by itself; so an empty message is the end of its
direction.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = [
    "ASKING_MAGIC",
    "END",
    "MAX_ANSWER_BYTES",
    "MESSAGE_BYTES",
    "OK",
    "PREAMBLE_BYTES",
    "PREAMBLE_MAGIC",
    "RELAY_PATH",
    "SIDE_BYTES",
    "TOKEN_BYTES",
    "WAIT",
    "Preamble",
    "Refusal",
    "RelayWireError",
    "encode_preamble",
    "encode_refusal",
    "parse_preamble",
    "parse_refusal",
]

PREAMBLE_MAGIC = b"MIDAIR-RELAY/1 "
"""No HTTP method begins with these bytes, no STUN message and no TLS record: they tell the server what this is."""
ASKING_MAGIC = b"MIDAIR-RELAY/2 "
"""The same, and as long, for a client that wants to be told when it has to wait."""
TOKEN_BYTES = 32
SIDE_BYTES = 8
PREAMBLE_BYTES = len(PREAMBLE_MAGIC) + 2 * TOKEN_BYTES + 1 + 2 * SIDE_BYTES + 1
"""The whole preamble, its line feed included."""
OK = b"OK\n"
WAIT = b"WAIT\n"
MAX_ANSWER_BYTES = 256
"""A refusal is at most this long, its line feed included."""

RELAY_PATH = "/relay"
"""Where the server takes legs in WebSockets."""
MESSAGE_BYTES = 64 * 1024
"""One WebSocket message, at most. It is passed on when it is whole: at 1 Mbit/s that takes half a second."""
END = b""
"""The message that ends its direction."""

_PREAMBLE = re.compile(rb"MIDAIR-RELAY/([12]) ([0-9a-f]{%d}) ([0-9a-f]{%d})\n" % (2 * TOKEN_BYTES, 2 * SIDE_BYTES))
_REFUSAL = re.compile(rb"ERR ([a-z][a-z-]{0,31}) ([ -~]{0,200})\n")


class RelayWireError(ValueError):
    """The bytes are not what this protocol says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preamble:
    """What a leg says of itself."""

    token: bytes
    """32 bytes both peers have derived from their session key."""
    side: bytes
    """8 bytes, different for the two peers."""
    asks: bool = False
    """Whether WAIT is wanted."""

    def __repr__(self) -> str:
        return "Preamble(...)"  # who has the token can take the leg


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The server's no."""

    word: str
    """For programs; ``quota`` is the one that has a meaning of its own here."""
    text: str
    """For a person: printable ASCII."""


def encode_preamble(preamble: Preamble) -> bytes:
    """The line a leg begins with, :data:`PREAMBLE_BYTES` long. Raises: RelayWireError on lengths that are not right."""
    if len(preamble.token) != TOKEN_BYTES or len(preamble.side) != SIDE_BYTES:
        raise RelayWireError(f"a token has {TOKEN_BYTES} bytes and a side {SIDE_BYTES}")
    magic = ASKING_MAGIC if preamble.asks else PREAMBLE_MAGIC
    return b"%s%s %s\n" % (magic, preamble.token.hex().encode(), preamble.side.hex().encode())


def parse_preamble(line: bytes) -> Preamble:
    """From exactly :data:`PREAMBLE_BYTES` bytes. Raises: RelayWireError."""
    match = _PREAMBLE.fullmatch(line)
    if match is None:
        raise RelayWireError("not a relay preamble")
    token, side = bytes.fromhex(match[2].decode()), bytes.fromhex(match[3].decode())
    return Preamble(token=token, side=side, asks=match[1] == b"2")


def encode_refusal(refusal: Refusal) -> bytes:
    """The line the server ends with. Raises: RelayWireError when word or text cannot be said."""
    line = f"ERR {refusal.word} {refusal.text}\n".encode()
    parse_refusal(line)
    return line


def parse_refusal(line: bytes) -> Refusal:
    """From one whole line. Raises: RelayWireError."""
    match = _REFUSAL.fullmatch(line)
    if match is None:
        raise RelayWireError("not an answer of a relay")
    return Refusal(word=match[1].decode(), text=match[2].decode())
