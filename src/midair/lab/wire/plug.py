"""The wire's end of a network interface: a descriptor, and what stands before each IP packet there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["FAR_HARDWARE", "HARDWARE", "Framing", "Plug"]

HARDWARE: Final = bytes.fromhex("020000000001")
"""The Ethernet address of every interface of a host or a router."""
FAR_HARDWARE: Final = bytes.fromhex("020000000002")
"""That of their other ends, so that the network stack there has no interest in what comes."""


class Framing(StrEnum):
    """What stands before a packet."""

    NONE = "none"
    OFFLOAD = "offload"
    """A ``struct virtio_net_hdr`` (VIRTIO 1.2, 5.1.6), as of hardware that cuts large segments and sums them."""
    ETHERNET = "ethernet"
    """An Ethernet header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plug:
    """An interface, for the wire."""

    descriptor: int
    framing: Framing
