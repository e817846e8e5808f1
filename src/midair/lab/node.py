"""What the lab's network is made of: nodes that take packets and give packets. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midair.lab.packet import Packet

__all__ = ["INSIDE_PORT", "NEVER", "OUTSIDE_PORT", "Emission", "Node"]

Emission = tuple[int, "Packet"]
"""A packet, and the port of the node by which it leaves."""

OUTSIDE_PORT = 0
"""The port of a NAT towards the internet."""
INSIDE_PORT = 1
"""The first port of a NAT towards its hosts."""
NEVER = float("inf")


class Node(Protocol):
    """A router, a NAT or a simulated host. It has numbered ports, each joined to one port of another node by a link."""

    @property
    def wake_at(self) -> float:
        """When ``tick`` is due, in seconds on the clock of ``now``; NEVER if nothing is pending."""

    def receive(self, packet: Packet, port: int, now: float) -> Sequence[Emission]:
        """A packet arrives by a port. The packet is the node's: it may be changed and sent on."""

    def tick(self, now: float) -> Sequence[Emission]:
        """The time has come that ``wake_at`` named."""
