"""One pair of midair's agents in the simulated net: gather, describe, agree on a moment, race.

The agents, their candidates, what they tell each other and the timing are midair's own; sockets, clock, mailbox and
relay are simulated. What :mod:`midair.traversal.runner` does with asyncio, this does with events.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from random import Random
from typing import TYPE_CHECKING, Final

from midair.config import TraversalOptions
from midair.lab.plan import SERVER, draw
from midair.lab.simulation import Simulation
from midair.trials.reflection import listen_as_reflector
from midair.trials.result import PairResult, SideResult
from midair.trials.side import SimulatedSide

if TYPE_CHECKING:
    from midair.lab.blueprint import Blueprint
    from midair.lab.description import Topology

__all__ = ["play"]

SERVER_PORT: Final = 443
"""What the strictest firewalls let out."""
_SECONDS: Final = 60.0
"""Everything a pair does is over by then."""


def play(topology: Topology, seed: int, options: TraversalOptions | None = None) -> PairResult:
    """Lets ``a``, which controls, and ``b`` connect. The same seed gives the same story.

    Raises: ValueError for a topology with a Linux router, which cannot be simulated.
    """
    random = Random(seed)
    simulation = Simulation(_blueprint(topology), random.getrandbits(32))
    server = simulation.host(SERVER)
    listen_as_reflector(server, SERVER_PORT)
    reflectors = [(address, SERVER_PORT) for version in (4, 6) for address in server.addresses(version)[:1]]
    session = random.getrandbits(63)
    delay = topology.a_link.delay + topology.b_link.delay + 2 * topology.server_link.delay
    sides = [
        SimulatedSide(
            simulation,
            name,
            controlling=name == "a",
            session=session,
            reflectors=reflectors,
            mail_delay=delay,
            options=options or TraversalOptions(),
            networks=_networks(topology, name),
            random=random,
        )
        for name in ("a", "b")
    ]
    a, b = sides
    a.peer, b.peer = b, a
    for side in sides:
        side.begin(0.0)
    while not (a.ended and b.ended) and simulation.now < _SECONDS:
        simulation.run(simulation.now + 1.0)
    return PairResult(a=_result(a), b=_result(b))


def _result(side: SimulatedSide) -> SideResult:
    return SideResult(
        path="none" if not side.how else "relay" if side.how == "relay" else "direct",
        how=side.how,
        seconds=side.ended_at - side.started_at,
        ready_seconds=side.ended_at,
        authenticated_seconds=None if side.authenticated_at is None else side.authenticated_at - side.started_at,
        dials=side.dials,
        reason=side.reason,
    )


@lru_cache(maxsize=2048)
def _networks(topology: Topology, host: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Those a host's interfaces are in."""
    return tuple(
        ip_network(address, strict=False)
        for part in _blueprint(topology).hosts
        if part.name == host
        for interface in part.interfaces
        for address in interface.addresses
    )


@lru_cache(maxsize=1024)
def _blueprint(topology: Topology) -> Blueprint:
    return draw([topology])
