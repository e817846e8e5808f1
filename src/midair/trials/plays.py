"""What plays the pairs of a population: a pair and a seed in, a verdict out. Functions of a module, because they go to
other processes by name."""

from __future__ import annotations

from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Final

from midair.lab import puncher
from midair.lab.plan import draw
from midair.lab.population import Ending, Verdict
from midair.trials.simulated import play

if TYPE_CHECKING:
    from midair.lab.blueprint import Blueprint
    from midair.lab.description import Topology

__all__ = ["midair_play", "plain_play"]

JITTER: Final = 0.02
"""Seconds, at most, that a mailbox adds to what its links take."""


def midair_play(topology: Topology, seed: int) -> Verdict:
    """Midair's agents, with a relay at hand."""
    result = play(topology, seed)
    if result.direct:
        return Verdict(ending=Ending.DIRECT, seconds=max(result.a.seconds, result.b.seconds))
    if result.connected:
        return Verdict(ending=Ending.RELAYED, reason=result.a.reason)
    return Verdict(ending=Ending.FAILED, reason=result.a.reason or result.b.reason)


def plain_play(topology: Topology, seed: int) -> Verdict:
    """Plain simultaneous open, as of 2005: listen and connect, again 200 ms after each error, no relay.

    One side starts when it tells the other to, so the other starts a one-way delay through the server later. Both have
    each other's private endpoints too (Ford, Srisuresh and Kegel 4.2), which is all it takes on one LAN.
    """
    if topology.shared and not topology.a.boxes and not topology.b.boxes:
        return Verdict(ending=Ending.DIRECT)
    delay = topology.a_link.delay + topology.b_link.delay + 2 * topology.server_link.delay
    skew = delay + Random(seed).uniform(0.0, JITTER)
    for version in (6, 4) if topology.ipv6 else (4,):
        punch = puncher.play(_blueprint(topology), skew=skew, seed=seed, version=version, explain=False)
        if punch.connection is not None:
            a, b = punch.connection
            return Verdict(ending=Ending.DIRECT, seconds=max(punch.a.heard_at(a), punch.b.heard_at(b)))
    return Verdict(ending=Ending.FAILED, reason="no connection by plain simultaneous open")


@lru_cache(maxsize=1024)
def _blueprint(topology: Topology) -> Blueprint:
    return draw([topology])
