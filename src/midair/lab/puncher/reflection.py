"""How an end of a punch learns under which endpoint it is seen: the server sends it to everybody who connects. Pure.

The answer is the address and the port as bytes, 6 of them or 18.
"""

from __future__ import annotations

from typing import Final

from midair.lab.packet import address_text

__all__ = ["REFLECTOR_PORT", "Endpoint", "endpoint_text", "from_reply", "reply_to"]

REFLECTOR_PORT: Final = 443
"""Of the server: the one that a strict outbound policy lets through."""

Endpoint = tuple[bytes, int]
"""An address, packed, and a port."""


def reply_to(endpoint: Endpoint) -> bytes:
    """What the server says to whom it sees there."""
    address, port = endpoint
    return address + port.to_bytes(2, "big")


def from_reply(data: bytes) -> Endpoint | None:
    """The endpoint; None for anything else."""
    return (data[:-2], int.from_bytes(data[-2:], "big")) if len(data) in (6, 18) else None


def endpoint_text(endpoint: Endpoint) -> str:
    """For people: ``192.0.2.1:443`` or ``[2001:db8::1]:443``."""
    address, port = endpoint
    return f"[{address_text(address)}]:{port}" if len(address) == 16 else f"{address_text(address)}:{port}"
