"""The leg through the server: two peers that share a token are spliced together and see one TCP connection."""

from __future__ import annotations

from midair.relay.client import RelayError, open_leg

__all__ = ["RelayError", "open_leg"]
