"""From what both sides have told each other to what one agent is to try. Pure."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Network

from midair.config import TraversalOptions
from midair.endpoint import Endpoint
from midair.errors import IncompatibleError, NoPathError
from midair.nat.address import is_public
from midair.nat.forecast import Draw, Forecast, covered_ports, size_coverage
from midair.traversal.agent import LateDial, Plan
from midair.traversal.candidates import Candidate, CandidateType
from midair.traversal.explanation import nat_note
from midair.traversal.sync import Description, candidates_of

__all__ = ["Network", "make_plan"]

Network = IPv4Network | IPv6Network

COVERAGE_AFTER = 0.75
"""Seconds from the start until ports are covered: where neither NAT changes ports, the peers are connected by then."""
COVER_GAP = 0.002
FAN_GAP = 0.004
FAN_MARGIN = 0.05
DIAGONAL_GAP = 0.020
"""Seconds between two SYNs of a coverage, which is 500 a second at most; between the two halves of it; and between two
where both NATs count, in step."""
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
    networks: Collection[Network],
    random: Draw,
) -> Plan:
    """What both sides allow. ``own`` are our endpoints, which are never dialled; ``loopback``: the peer may be on this
    machine; ``networks`` are those our interfaces are in; ``random`` draws the ports to cover.

    Private addresses are dialled where they can be the peer's: in one of our networks, or behind the NAT that we are
    behind. Anywhere else they would be a stranger's.

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
    together = loopback or _share_an_outside(ours, theirs)
    candidates = [
        each
        for each in candidates_of(theirs, loopback=loopback)
        if each.endpoint not in own
        and each.endpoint.family in options.families
        and (together or is_public(each.endpoint.address) or _is_near(each, networks))
    ]
    dialled_by_them = sum(
        together or each.type is not CandidateType.HOST or is_public(each.endpoint.address)
        for each in candidates_of(ours, loopback=loopback)
    )
    late = _coverage(ours.forecast, theirs.forecast, candidates, dialled_by_them, random) if direct else ()
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


def _share_an_outside(ours: Description, theirs: Description) -> bool:
    """Whether both look alike from outside, or one of them does not know how it looks."""
    seen = [
        {
            each.endpoint.address
            for each in candidates_of(side, loopback=True)
            if each.type is CandidateType.SERVER_REFLEXIVE
        }
        for side in (ours, theirs)
    ]
    return not all(seen) or bool(seen[0] & seen[1])


def _is_near(candidate: Candidate, networks: Collection[Network]) -> bool:
    """Whether somebody else has seen the candidate's address, or it is in one of our networks."""
    if candidate.type is not CandidateType.HOST:
        return True
    address = candidate.endpoint.address
    return any(address.version == network.version and address in network for network in networks)


def _coverage(
    ours: Forecast | None, theirs: Forecast | None, candidates: list[Candidate], dialled_by_them: int, random: Draw
) -> tuple[LateDial, ...]:
    """What is dialled besides the candidates where a NAT changes ports. ``dialled_by_them``: how
    many of our candidates the peer dials.

    Both sides come to matching halves: who changes ports dials the peer's outside from a fan of ports, and the peer
    opens its NAT for the ports that are to be expected.
    """
    # What is the same as what the reflector saw is told once, as what it is besides: mapped, or an interface's.
    outside = next(
        (
            each.endpoint
            for kind in (CandidateType.SERVER_REFLEXIVE, CandidateType.MAPPED, CandidateType.HOST)
            for each in candidates
            if each.type is kind and each.endpoint.family == 4 and is_public(each.endpoint.address)
        ),
        None,
    )
    if outside is None or (ours is None and theirs is None):
        return ()
    if ours is not None and theirs is not None and ours.step and theirs.step:
        # Both count: the n-th dial of each side goes to the port that the other's n-th dial comes from. The dials of
        # the candidates have counted already.
        first = theirs.low if theirs.step > 0 else theirs.high
        ports = [first + (dialled_by_them + number) * theirs.step for number in range(DIAGONALS)]
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
        coverage = size_coverage(ours)
        # Not before the peer has opened its NAT for all ports: a SYN that comes too early may be refused, or take the
        # place in the NAT's table that the peer's own dial should have had.
        begin = COVERAGE_AFTER + coverage.covered * COVER_GAP + FAN_MARGIN
        late += [LateDial(outside, number + 1, begin + number * FAN_GAP) for number in range(coverage.fan)]
    return tuple(late)
