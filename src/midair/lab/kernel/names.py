"""What the rules of a Linux router call the things that are used from outside of them. Pure."""

from __future__ import annotations

from typing import Final

__all__ = [
    "COUNTER_INCOMING",
    "COUNTER_OUTGOING",
    "COUNTER_REFUSED",
    "MAPPED_DESTINATION",
    "MAPPED_FORWARD",
    "MAPPED_SOURCE",
    "TABLE",
]

TABLE: Final = "midair_lab"

COUNTER_OUTGOING: Final = "syn_outgoing"
COUNTER_INCOMING: Final = "syn_incoming"
COUNTER_REFUSED: Final = "syn_refused"

MAPPED_FORWARD: Final = "mapped_forward"
"""This and the next two are chains, empty at first and reached before all others, for what a port mapping daemon lets
in and translates."""
MAPPED_DESTINATION: Final = "mapped_destination"
MAPPED_SOURCE: Final = "mapped_source"
