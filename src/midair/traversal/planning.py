"""From what both sides have told each other to what one agent is to try. Pure."""

from __future__ import annotations

from collections.abc import Collection

from midair.config import TraversalOptions
from midair.endpoint import Endpoint
from midair.errors import IncompatibleError, NoPathError
from midair.nat.forecast import Draw, Forecast, covered_ports, size_coverage
from midair.traversal.agent import LateDial, Plan
from midair.traversal.candidates import Candidate, CandidateType
from midair.traversal.explanation import nat_note
from midair.traversal.sync import Description, candidates_of

__all__ = ["make_plan"]

COVERAGE_AFTER = 0.75
"""Seconds from the start until ports are covered: where neither NAT changes ports, the peers are connected by then."""
COVER_GAP = 0.002
FAN_GAP = 0.004
DIAGONAL_GAP = 0.020
"""Seconds between two SYNs of a coverage, which is 500 a second at most; where both NATs count, in step."""
DIAGONALS = 8
COVERED_TWICE_MAX = 256
"""Where both sides change ports at random there is hardly hope; so much is tried, in case only one does."""
SETTLING = 1.5
"""Seconds from the last SYN of a coverage until the relay is taken: the kernel repeats a SYN after one second."""


def make_plan(
    ours: Description,
    theirs: Description,
    own: Collection[Endpoint],
    options: TraversalOptions,
    *,
    loopback: bool,
    random: Draw,
) -> Plan:
    """What both sides allow. ``own`` are our endpoints, which are never dialled; ``loopback``: the peer may be on this
    machine; ``random`` draws the ports to cover.

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
    candidates = [each for each in candidates_of(theirs, loopback=loopback) if each.endpoint not in own]
    late = _coverage(ours.forecast, theirs.forecast, candidates, len(own), random) if direct else ()
    return Plan(
        controlling=ours.controlling,
        remotes=tuple(candidate.endpoint for candidate in candidates) if direct else (),
        late=late,
        direct=direct,
        relay=relay,
        head_start=max([options.head_start, *(dial.after + SETTLING for dial in late)]),
        deadline=options.deadline,
        why_not=why_not,
        notes=tuple(
            nat_note(whose, expected)
            for whose, expected in (("our", ours.forecast), ("the other side's", theirs.forecast))
            if direct and expected is not None
        ),
    )


def _coverage(
    ours: Forecast | None, theirs: Forecast | None, candidates: list[Candidate], own: int, random: Draw
) -> tuple[LateDial, ...]:
    """What is dialled besides the candidates where a NAT changes ports. ``own``: how many candidates we have.

    Both sides come to matching halves: who changes ports dials the peer's outside from a fan of ports, and the peer
    opens its NAT for the ports that are to be expected.
    """
    outside = next(
        (
            each.endpoint
            for each in candidates
            if each.type is CandidateType.SERVER_REFLEXIVE and each.endpoint.family == 4
        ),
        None,
    )
    if outside is None or (ours is None and theirs is None):
        return ()
    if ours is not None and theirs is not None and ours.step and theirs.step:
        # Both count: the n-th dial of each side goes to the port that the other's n-th dial comes from. The dials of
        # the candidates have counted already.
        first = theirs.low if theirs.step > 0 else theirs.high
        ports = [first + (own + number) * theirs.step for number in range(DIAGONALS)]
        return tuple(
            LateDial(Endpoint(outside.address, port), number + 1, COVERAGE_AFTER + number * DIAGONAL_GAP)
            for number, port in enumerate(ports)
            if 0 < port < 65536
        )
    late: list[LateDial] = []
    if theirs is not None:
        ports = covered_ports(theirs, random)
        if ours is not None:
            ports = ports[:COVERED_TWICE_MAX]
        late += [
            LateDial(Endpoint(outside.address, port), 0, COVERAGE_AFTER + number * COVER_GAP)
            for number, port in enumerate(ports)
            if port != outside.port
        ]
    if ours is not None:
        fan = size_coverage(ours).fan
        late += [LateDial(outside, number + 1, COVERAGE_AFTER + number * FAN_GAP) for number in range(fan)]
    return tuple(late)
