"""Which congestion control a connection gets that content is sent over (docs/adr/0017)."""

from __future__ import annotations

import logging

from midair import events
from midair.channel import Channel
from midair.port import (
    congestion_control_of,
    congestion_controls,
    is_own_address,
    read_path,
    use_congestion_control,
)

__all__ = ["choose_congestion_control"]

_log = logging.getLogger("midair.session")
_DEFAULTS = ("cubic", "reno")
"""What kernels come with: nobody has decided for them, and they take every loss for their own doing. Any other one was
chosen by whoever set the system up, and stays."""
_BETTER = "bbr"
"""At one lost packet in a thousand and 40 ms it has 0.93 of a link of 100 Mbit/s, where cubic has 0.19."""
_MISLED = 1.5
"""Times the shortest round trip that the usual one may be, on a path that nothing is under way on yet.

Where SYNs cross, Linux takes the time from its own SYN-ACK to the other's for the first round trip: on the side that
began earlier that is less than half of a real one. BBR keeps only twice as much under way as fits into the shortest,
and believes that one for ten seconds: at a quarter it sends a tenth of what the path can bear. From half of it on it
does no harm."""


def choose_congestion_control(channel: Channel, wanted: str | None, *, background: bool) -> events.Tuned:
    """Sets it, and tells which one runs then, and why. ``wanted`` is what a person has named; what the system then does
    not give is its own affair: it was asked before (``port.check_congestion_control``)."""
    why: events.TunedBecause = "system"
    for name, reason in _choices(channel, wanted, background=background):
        if use_congestion_control(channel.sock, name):
            why = reason
            break
        _log.debug("no %s for this connection", name)
    running = congestion_control_of(channel.sock)
    _log.debug("congestion control to %s: %s (%s)", channel.remote, running, why)
    return events.Tuned(remote=str(channel.remote), congestion_control=running, because=why, background=background)


def _choices(channel: Channel, wanted: str | None, *, background: bool) -> list[tuple[str, events.TunedBecause]]:
    """What to try, the best first."""
    if wanted is not None:
        return [(wanted, "chosen")]
    running, allowed = congestion_control_of(channel.sock), congestion_controls()
    others: list[str] = [name for name in _DEFAULTS if running == _BETTER and name in allowed]
    if background:
        # What holds it back is above; where queues are too short to be felt, it has to take losses for what they are.
        return [(name, "background") for name in others]
    if is_own_address(channel.remote.address):
        return []
    if _is_misled(channel):
        return [(name, "crossing") for name in others]
    if running in _DEFAULTS and _BETTER in allowed:
        return [(_BETTER, "losses")]
    return []


def _is_misled(channel: Channel) -> bool:
    reading = read_path(channel.sock)
    return reading is not None and reading.round_trip > _MISLED * reading.shortest
