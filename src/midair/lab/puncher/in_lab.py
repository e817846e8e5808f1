"""The plain puncher with all pairs of a lab."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from midair.lab.puncher.real import punch_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midair.lab.lab import Lab
    from midair.lab.puncher.story import EndStory, Punch

__all__ = ["punch_lab"]


def punch_lab(lab: Lab, *, skew: float | Sequence[float] = 0.0, version: int = 4) -> list[Punch]:
    """One try of each pair, all at one instant; see :func:`punch_all`. Where a try has failed, the tables of the lab's
    own NATs are looked at, so that ``reason`` can tell whether a port has changed.

    Raises: OSError when sockets or ports have run out; WireError when the wire has died.
    """
    pairs = [(pair.a, pair.b) for pair in lab.pairs]
    punches = punch_all(pairs, lab.server, skew=skew, version=version)
    return [
        punch
        if punch.through
        else replace(punch, a=_looked_up(lab, punch.a, punch.b), b=_looked_up(lab, punch.b, punch.a))
        for punch in punches
    ]


def _looked_up(lab: Lab, end: EndStory, other: EndStory) -> EndStory:
    boxes = lab.boxes(end.name)
    own = {part.name for part in lab.blueprint.nats}
    if not boxes or boxes[-1] not in own or not other.seen:
        return end
    sources = [
        _text(entry.outside)
        for entry in lab.nat_entries(boxes[-1])
        if entry.protocol == "TCP" and entry.inside is not None and _text(entry.remote) == other.seen
    ]
    # No entry says little: it may have gone with the connection.
    return replace(end, towards_peer=tuple(dict.fromkeys(sources)) or None)


def _text(endpoint: tuple[str, int]) -> str:
    address, port = endpoint
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
