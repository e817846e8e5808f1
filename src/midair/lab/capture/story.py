"""How connections began, or why not, read from a capture: the SYNs, SYN-ACKs, RSTs and ICMP errors, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midair.lab.capture.pcapng import read_capture
from midair.lab.packet import ACK, RST, SYN, TCP, Packet, address_text

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

__all__ = ["syn_story"]


def syn_story(path: Path | str, *, nodes: Collection[str] | None = None) -> list[str]:
    """One line for each such packet, in order, at the given nodes or at all: milliseconds since the capture's first
    packet, place, direction, and what it was.

        50.1 ms  b:0 received  SYN 198.51.100.2:4000 > 203.0.113.2:4000

    Raises: OSError; ValueError when it is no capture of the lab's.
    """
    lines = []
    start: int | None = None
    with open(path, "rb") as file:
        for record in read_capture(file):
            start = record.time if start is None else start
            if (what := _words(record.packet)) and (nodes is None or record.node in nodes):
                milliseconds = (record.time - start) / 1e6
                lines.append(f"{milliseconds:8.1f} ms  {record.node}:{record.port} {record.direction:8}  {what}")
    return lines


def _words(packet: Packet) -> str:
    """Empty for a packet that is not worth a line."""
    if packet.reason is not None and packet.quoted is not None:
        reason = packet.reason.name.lower().replace("_", " ")
        return f"ICMP {reason} from {address_text(packet.source)} about {_ends(packet.quoted)}"
    if packet.protocol != TCP or not packet.flags & (SYN | RST):
        return ""
    if packet.flags & RST:
        return f"RST {_ends(packet)}"
    return f"{'SYN-ACK' if packet.flags & ACK else 'SYN'} {_ends(packet)}"


def _ends(packet: Packet) -> str:
    source, destination = (
        f"[{text}]" if ":" in text else text for text in map(address_text, (packet.source, packet.destination))
    )
    return f"{source}:{packet.source_port} > {destination}:{packet.destination_port}"
