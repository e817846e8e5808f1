"""From what both sides have told each other to what one agent is to try. Pure."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from midair.config import TraversalOptions
from midair.endpoint import Endpoint, Family
from midair.errors import IncompatibleError, NoPathError
from midair.nat.address import is_public, private_range
from midair.nat.forecast import Draw
from midair.traversal.agent import LateDial, Plan
from midair.traversal.candidates import Candidate, CandidateType
from midair.traversal.late_dials import late_dials
from midair.traversal.outlook import look_ahead
from midair.traversal.sync import Description, candidates_of

__all__ = ["Network", "make_plan"]

Network = IPv4Network | IPv6Network

MAX_FAR = 4
"""Private endpoints outside our own networks that are dialled: a peer behind our own NAT has one or two."""
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

    Private addresses are dialled where they can be the peer's: in one of our networks, or, a few of our own private
    ranges, behind the NAT that we are behind. Anywhere else they would be a stranger's.

    Raises: IncompatibleError when both took one role; NoPathError when nothing is allowed by both, or nothing that is
    can be.
    """
    if theirs.controlling == ours.controlling:
        raise IncompatibleError("both sides took the same role")
    direct, relay = ours.direct and theirs.direct, ours.relay and theirs.relay
    if not direct and not relay:
        raise NoPathError(
            f"no connection is allowed by both sides: {_allowed(ours)} here, {_allowed(theirs)} there",
            hint="One of the two has to allow more.",
        )
    why_not = "" if direct else _why_not_direct(ours, theirs)
    if not relay:
        why_not = "it was not allowed" + ("" if not ours.relay else " by the other side")
        here, there = _versions(ours), _versions(theirs)
        if not here & there:
            raise NoPathError(
                f"no direct connection is possible ({_in_words(here)} here, {_in_words(there)} there), and no relay:"
                f" {why_not}",
                hint="A direct connection needs an IP version that both sides have, and allow.",
            )
    together = loopback or _share_an_outside(ours, theirs)
    candidates = _dialled(
        [
            each
            for each in candidates_of(theirs, loopback=loopback)
            if each.endpoint not in own and each.endpoint.family in options.families
        ],
        ours=[each.endpoint.address for each in candidates_of(ours, loopback=loopback)],
        networks=networks,
        together=together,
    )
    dialled_by_them = sum(
        together or each.type is not CandidateType.HOST or is_public(each.endpoint.address)
        for each in candidates_of(ours, loopback=loopback)
    )
    outside = _outside(candidates)
    outlook = look_ahead(ours, theirs, candidates)
    late: tuple[LateDial, ...] = ()
    if direct and outside is not None:
        late = late_dials(ours, theirs, outside, dialled_by_them, random, turns_at_once=outlook.turns_at_once)
    head_start = 0.0 if outlook.hopeless else options.head_start
    if not outlook.hopeless and (ours.forecast is not None or theirs.forecast is not None):
        head_start = max([head_start, *(dial.after + SETTLING for dial in late)])
    return Plan(
        controlling=ours.controlling,
        remotes=tuple(candidate.endpoint for candidate in candidates) if direct else (),
        late=late,
        direct=direct,
        relay=relay,
        head_start=head_start,
        deadline=options.deadline,
        why_not=why_not,
        notes=outlook.notes if direct else (),
    )


def _allowed(side: Description) -> str:
    if side.direct == side.relay:
        return "nothing" if not side.relay else "anything"
    if side.direct:
        return "only a direct one"
    return "only the relay, since it is reached through a proxy," if side.proxied else "only the relay"


def _versions(side: Description) -> set[Family]:
    """The IP versions it has an address of. Both sides find the same, so both give up where there is none in common."""
    return {each.endpoint.family for each in candidates_of(side, loopback=True)}


def _in_words(versions: set[Family]) -> str:
    return " and ".join(f"IPv{version}" for version in sorted(versions)) or "no address"


def _why_not_direct(ours: Description, theirs: Description) -> str:
    """Where one of them allows the relay only."""
    if ours.proxied:
        return "a proxy stands between this computer and the internet"
    if not ours.direct:
        return "only the relay was allowed"
    if theirs.proxied:
        return "a proxy stands between the other side and the internet"
    return "only the relay was allowed by the other side"


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


def _dialled(
    candidates: Collection[Candidate],
    *,
    ours: Collection[IPv4Address | IPv6Address],
    networks: Collection[Network],
    together: bool,
) -> list[Candidate]:
    """Those that can be the peer's, as far as we can tell. The peer can say what it likes, even that it is behind our
    NAT or that a server has seen it at a private address; so of the private ranges only those count in which we have
    an address ourselves, and outside our own networks only a few endpoints."""
    ranges = {private_range(address) for address in ours}
    dialled, far = [], 0
    for each in candidates:
        address = each.endpoint.address
        if any(_broadcasts(address, network) for network in networks):
            continue
        if not is_public(address) and not any(_is_in(address, network) for network in networks):
            told = together or each.type is not CandidateType.HOST
            if not told or private_range(address) not in ranges or far == MAX_FAR:
                continue
            far += 1
        dialled.append(each)
    return dialled


def _is_in(address: IPv4Address | IPv6Address, network: Network) -> bool:
    return address.version == network.version and address in network


def _broadcasts(address: IPv4Address | IPv6Address, network: Network) -> bool:
    """Whether it means the whole network (RFC 919 7); the last two prefixes have no such address (RFC 3021)."""
    return network.version == 4 and network.prefixlen < 31 and address == network.broadcast_address


def _outside(candidates: Collection[Candidate]) -> Endpoint | None:
    """What the peer's port looks like over IPv4. What is the same as what the reflector saw is told once, as what it is
    besides: mapped, or an interface's."""
    return next(
        (
            each.endpoint
            for kind in (CandidateType.SERVER_REFLEXIVE, CandidateType.MAPPED, CandidateType.HOST)
            for each in candidates
            if each.type is kind and each.endpoint.family == 4 and is_public(each.endpoint.address)
        ),
        None,
    )
