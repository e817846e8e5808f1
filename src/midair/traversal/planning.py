"""From what both sides have told each other to what one agent is to try. Pure."""

from __future__ import annotations

from collections.abc import Collection

from midair.config import TraversalOptions
from midair.endpoint import Endpoint
from midair.errors import IncompatibleError, NoPathError
from midair.traversal.agent import Plan
from midair.traversal.sync import Description, candidates_of

__all__ = ["make_plan"]


def make_plan(
    ours: Description, theirs: Description, own: Collection[Endpoint], options: TraversalOptions, *, loopback: bool
) -> Plan:
    """What both sides allow. ``own`` are our endpoints, which are never dialled; ``loopback``: the peer may be on this
    machine.

    Raises: IncompatibleError when both took one role; NoPathError when nothing is allowed by both.
    """
    if theirs.controlling == ours.controlling:
        raise IncompatibleError("both sides took the same role")
    direct, relay = ours.direct and theirs.direct, ours.relay and theirs.relay
    if not direct and not relay:
        raise NoPathError(
            "no connection is allowed: one side wants only direct ones, the other only the relay",
            hint="Use the same path policy on both sides.",
        )
    why_not = ""
    if not direct:
        why_not = "only the relay was allowed" + ("" if not ours.direct else " by the other side")
    if not relay:
        why_not = "it was not allowed" + ("" if not ours.relay else " by the other side")
    remotes = [candidate.endpoint for candidate in candidates_of(theirs, loopback=loopback)]
    return Plan(
        controlling=ours.controlling,
        remotes=tuple(remote for remote in remotes if remote not in own) if direct else (),
        direct=direct,
        relay=relay,
        head_start=options.head_start,
        deadline=options.deadline,
        why_not=why_not,
    )
