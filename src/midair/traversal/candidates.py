"""Candidates: the endpoints at which a peer may be reached, their priorities, and which ones of a peer's we dial.

One midair candidate is all three of RFC 6544's TCP types at once: the port behind it dials (active), listens (passive)
and meets crossing SYNs (simultaneous-open). So a candidate carries no tcptype, and takes the highest direction
preference its type has in RFC 6544 4.2, which is 6 for every type.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address

from midair.endpoint import Endpoint

__all__ = ["MAX_CANDIDATES", "Candidate", "CandidateType", "dialable", "priority", "select"]

MAX_CANDIDATES = 16
"""One description carries at most so many; a machine with several networks and both families has about six."""


class CandidateType(Enum):
    """RFC 8445 5.1.1 and RFC 6544 3; the values are those of SDP (RFC 8839 5.1), which has none for MAPPED."""

    HOST = "host"
    """An address of an interface."""
    MAPPED = "mapped"
    """A port that the home router gave us for the asking; RFC 6544 calls it NAT-assisted."""
    SERVER_REFLEXIVE = "srflx"
    """What a reflector saw: the outside of the NAT."""
    RELAYED = "relay"
    """An endpoint at a server that passes everything on."""


_TYPE_PREFERENCES = {
    CandidateType.HOST: 126,
    CandidateType.MAPPED: 105,
    CandidateType.SERVER_REFLEXIVE: 100,
    CandidateType.RELAYED: 0,
}
"""RFC 8445 5.1.2.2, RFC 6544 4.2."""
_DIRECTION_PREFERENCE = 6
_MAX_OTHER_PREFERENCE = 8191
_COMPONENT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One endpoint to be tried."""

    type: CandidateType
    endpoint: Endpoint
    priority: int
    """RFC 8445 5.1.2: higher is tried first; 1 to 2**31 - 1."""


def priority(kind: CandidateType, endpoint: Endpoint, order: int = 0) -> int:
    """RFC 8445 5.1.2.1, with the local preference of RFC 6544 4.2. ``order`` counts those of a kind, best first.

    IPv6 goes before IPv4 (RFC 8421 4): there is often no NAT in its way.
    """
    family = 4096 if endpoint.family == 6 else 0
    other = max(0, _MAX_OTHER_PREFERENCE - 4096 + family - order)
    local = (_DIRECTION_PREFERENCE << 13) + other
    return (_TYPE_PREFERENCES[kind] << 24) + (local << 8) + (256 - _COMPONENT)


def select(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """One candidate an endpoint, highest priority first, at most MAX_CANDIDATES.

    Where there are too many, interfaces give way: what is behind a NAT is reached by its reflexive candidates.
    """
    best: dict[Endpoint, Candidate] = {}
    for candidate in sorted(candidates, key=lambda candidate: -candidate.priority):
        best.setdefault(candidate.endpoint, candidate)
    hosts = [candidate for candidate in best.values() if candidate.type is CandidateType.HOST]
    surplus = set(hosts[max(0, len(hosts) - max(0, len(best) - MAX_CANDIDATES)) :])
    return tuple(candidate for candidate in best.values() if candidate not in surplus)[:MAX_CANDIDATES]


def dialable(endpoint: Endpoint, *, loopback: bool) -> bool:
    """Whether we dial an endpoint because a peer says so.

    Private addresses are: they are the way on a common network. An address that is no single host's, or means another
    host to each who reads it, is not. ``loopback``: our own server is on this machine, so the peer may be.
    """
    address = endpoint.address
    if not endpoint.port or address.is_multicast or address.is_unspecified or address.is_link_local:
        return False
    if isinstance(address, IPv4Address) and (address.is_reserved or int(address) >> 24 == 0):
        return False  # 240.0.0.0/4, the broadcast address in it; 0.0.0.0/8, "this network" (RFC 6890)
    return loopback or not address.is_loopback
