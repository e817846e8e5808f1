"""What one node says to another that has the partner of a leg: the relay's preamble, and that it is a node.

    asking:   MIDAIR-NODE/1 <64 hex digits: token> <16 hex digits: side> <64 hex digits: seal> LF
    answer:   as to any leg (midair.relay.wire)

The seal is an HMAC-SHA256 with the key the nodes share, over token, side and the name of the node asked: who lacks the
key cannot pass for a node, which is counted for nobody.
"""

from __future__ import annotations

import hmac
import re
from hashlib import sha256

from midair.relay.wire import SIDE_BYTES, TOKEN_BYTES, Preamble, RelayWireError

__all__ = ["NODE_MAGIC", "NODE_PREAMBLE_BYTES", "encode_node_preamble", "parse_node_preamble"]

NODE_MAGIC = b"MIDAIR-NODE/1 "
NODE_PREAMBLE_BYTES = len(NODE_MAGIC) + 2 * TOKEN_BYTES + 1 + 2 * SIDE_BYTES + 1 + 64 + 1

_PREAMBLE = re.compile(re.escape(NODE_MAGIC) + rb"([0-9a-f]{64}) ([0-9a-f]{16}) ([0-9a-f]{64})\n")


def encode_node_preamble(preamble: Preamble, *, key: bytes, node: str) -> bytes:
    """The line to ``node``, :data:`NODE_PREAMBLE_BYTES` long."""
    token, side = preamble.token.hex().encode(), preamble.side.hex().encode()
    return b"%s%s %s %s\n" % (NODE_MAGIC, token, side, _seal(preamble, key, node))


def parse_node_preamble(line: bytes, *, key: bytes, node: str) -> Preamble:
    """From exactly :data:`NODE_PREAMBLE_BYTES` bytes, said to us, ``node``. Raises: RelayWireError."""
    match = _PREAMBLE.fullmatch(line)
    if match is None:
        raise RelayWireError("not a node's preamble")
    preamble = Preamble(token=bytes.fromhex(match[1].decode()), side=bytes.fromhex(match[2].decode()))
    if not hmac.compare_digest(match[3], _seal(preamble, key, node)):
        raise RelayWireError("not sealed by a node of ours")
    return preamble


def _seal(preamble: Preamble, key: bytes, node: str) -> bytes:
    return hmac.new(key, preamble.token + preamble.side + node.encode(), sha256).hexdigest().encode()
