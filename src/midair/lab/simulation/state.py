"""The states of a TCP connection, and what a FIN and close() make of them (RFC 9293 3.3.2 and 3.6). Pure."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = [
    "CLOSED",
    "CLOSE_WAIT",
    "CLOSING",
    "ENDED_BY_RST",
    "ESTABLISHED",
    "FIN_RECEIVED",
    "FIN_SENT",
    "FIN_WAIT_1",
    "FIN_WAIT_2",
    "LAST_ACK",
    "SYN_RECEIVED",
    "SYN_SENT",
    "TIME_WAIT",
    "State",
]


class State(IntEnum):
    """Of a connection. LISTEN is none here: a listener and its half-open connections are objects of their own."""

    CLOSED = 0
    SYN_SENT = 1
    SYN_RECEIVED = 2
    """Here only by a simultaneous open."""
    ESTABLISHED = 3
    FIN_WAIT_1 = 4
    FIN_WAIT_2 = 5
    CLOSE_WAIT = 6
    CLOSING = 7
    LAST_ACK = 8
    TIME_WAIT = 9


# Each look into an enumeration costs more than a name of a module.
CLOSED: Final = State.CLOSED
SYN_SENT: Final = State.SYN_SENT
SYN_RECEIVED: Final = State.SYN_RECEIVED
ESTABLISHED: Final = State.ESTABLISHED
FIN_WAIT_1: Final = State.FIN_WAIT_1
FIN_WAIT_2: Final = State.FIN_WAIT_2
CLOSE_WAIT: Final = State.CLOSE_WAIT
CLOSING: Final = State.CLOSING
LAST_ACK: Final = State.LAST_ACK
TIME_WAIT: Final = State.TIME_WAIT

FIN_SENT: Final = {SYN_RECEIVED: FIN_WAIT_1, ESTABLISHED: FIN_WAIT_1, CLOSE_WAIT: LAST_ACK}
"""What a state becomes when our FIN goes out; the others have sent it, or never will."""
FIN_RECEIVED: Final = {ESTABLISHED: CLOSE_WAIT, FIN_WAIT_1: CLOSING, FIN_WAIT_2: TIME_WAIT}
"""What a state becomes with the other side's FIN. In these states data is received, too."""
ENDED_BY_RST: Final = frozenset({SYN_RECEIVED, ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT})
"""Where an abort tells the other side (``tcp_need_reset``)."""
