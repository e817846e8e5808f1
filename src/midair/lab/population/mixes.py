"""Populations: which hosts there are, in shares, and where each share is from. Pure values.

No survey gives the whole distribution. What is measured is cited; what is not is an estimate, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MIXES", "HostClass", "Mix"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostClass:
    """Hosts that are connected in one way."""

    side: str
    """The boxes before it, in the text form of a topology's side: ``drop>carrier``; ``none`` for a public address."""
    percent: float
    source: str
    """Where the share is from, for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """A population. Shares of the classes add up to 100."""

    name: str
    title: str
    classes: tuple[HostClass, ...]
    ipv6_percent: float
    """Hosts with global IPv6, behind a firewall that is like their NAT."""
    ipv6_source: str
    same_lan_percent: float
    """Pairs whose hosts are in one home, and so are on one LAN."""
    same_lan_source: str


_FORD = "Ford, Srisuresh, Kegel 2005"
_GUHA = "Guha, Francis 2005"
_MODEL = "estimate"
_PROBELAB = "ProbeLab 2026: 91 % of IPFS peers behind NAT"
_RICHTER = "Richter et al. 2016"

HOME_2005 = Mix(
    name="home-2005",
    title="Home NATs of 2005, everybody behind one",
    classes=(
        HostClass(
            side="full-cone", percent=10, source=f"{_FORD}: 64 % pass TCP punching; the part open to all: {_MODEL}"
        ),
        HostClass(side="drop", percent=48, source=f"{_FORD}: the rest of those 64 %"),
        HostClass(side="strict", percent=6, source=f"{_FORD}: Linux routers, which check sequence numbers, among them"),
        HostClass(
            side="rst", percent=14, source=f"{_FORD}: 82 % map UDP consistently, 64 % pass TCP; most of the 18 % reset"
        ),
        HostClass(side="icmp", percent=3, source=f"{_GUHA}: few answer by ICMP; {_MODEL}"),
        HostClass(side="no-simopen", percent=1, source=f"RFC 5382 REQ-2: some block simultaneous open; {_MODEL}"),
        HostClass(
            side="symmetric-sequential",
            percent=12,
            source=f"{_FORD}: 18 % inconsistent; {_GUHA}: ports of most can be predicted",
        ),
        HostClass(side="symmetric", percent=6, source=f"{_FORD}: the rest of those 18 %"),
    ),
    ipv6_percent=0,
    ipv6_source="IPv6 had no users to speak of",
    same_lan_percent=0,
    same_lan_source="the survey has none",
)

IPFS_2025 = Mix(
    name="ipfs-2025",
    title="Computers at home and at work, 2025",
    classes=(
        HostClass(side="none", percent=9, source=_PROBELAB),
        HostClass(side="firewall", percent=3, source=f"public address, nothing let in; {_MODEL}"),
        HostClass(side="https-only", percent=2, source=f"only ports 80 and 443 let out; {_MODEL}"),
        HostClass(side="full-cone", percent=6, source=f"RFC 5382 REQ-3 recommends it; {_MODEL}"),
        HostClass(side="drop", percent=27, source=f"{_MODEL}, after {_FORD}"),
        HostClass(side="strict", percent=15, source=f"Linux routers; {_MODEL}"),
        HostClass(side="rst", percent=10, source=f"OpenWrt's default rejects with a reset; {_MODEL}, after {_FORD}"),
        HostClass(side="icmp", percent=4, source=f"{_GUHA}: few; {_MODEL}"),
        HostClass(
            side="symmetric-sequential", percent=3, source=f"{_RICHTER}: under 2 % of home NATs, others up to 11 %"
        ),
        HostClass(side="symmetric", percent=2, source=f"{_RICHTER}: the same"),
        HostClass(side="drop>carrier", percent=8, source=f"{_RICHTER}: carrier NAT in 17-18 % of access networks"),
        HostClass(side="drop>carrier-symmetric", percent=1, source=f"{_RICHTER}: 11 % of those are symmetric"),
        HostClass(side="carrier", percent=6, source=f"{_RICHTER}: mobile carriers, 60 % not symmetric"),
        HostClass(side="mobile", percent=4, source=f"{_RICHTER}: mobile carriers, 40 % symmetric"),
    ),
    ipv6_percent=46,
    ipv6_source="Google 2026: 46-51 % of users",
    same_lan_percent=5,
    same_lan_source=_MODEL,
)

MOBILE = Mix(
    name="mobile",
    title="Four in ten on a mobile network",
    classes=(
        HostClass(side="none", percent=4, source=_MODEL),
        HostClass(side="firewall", percent=2, source=_MODEL),
        HostClass(side="https-only", percent=2, source=_MODEL),
        HostClass(side="full-cone", percent=4, source=_MODEL),
        HostClass(side="drop", percent=18, source=f"{_MODEL}, after {_FORD}"),
        HostClass(side="strict", percent=10, source=f"Linux routers; {_MODEL}"),
        HostClass(side="rst", percent=7, source=f"{_MODEL}, after {_FORD}"),
        HostClass(side="icmp", percent=3, source=f"{_GUHA}: few; {_MODEL}"),
        HostClass(side="symmetric-sequential", percent=2, source=_RICHTER),
        HostClass(side="symmetric", percent=1, source=_RICHTER),
        HostClass(side="drop>carrier", percent=6, source=f"{_RICHTER}: carrier NAT in 17-18 % of access networks"),
        HostClass(side="drop>carrier-symmetric", percent=1, source=f"{_RICHTER}: 11 % of those are symmetric"),
        HostClass(side="carrier", percent=24, source=f"{_RICHTER}: over 90 % of mobile networks, 60 % not symmetric"),
        HostClass(side="mobile", percent=16, source=f"{_RICHTER}: 40 % of those are symmetric"),
    ),
    ipv6_percent=46,
    ipv6_source="Google 2026: 46-51 % of users",
    same_lan_percent=3,
    same_lan_source=_MODEL,
)

MIXES = {mix.name: mix for mix in (HOME_2005, IPFS_2025, MOBILE)}
