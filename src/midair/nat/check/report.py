"""What a NAT check finds, as values. Every field can be NOT_MEASURED, and ``notes`` then says why."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from midair.endpoint import Endpoint

__all__ = ["Allocation", "Filtering", "Mapping", "NatReport", "Opening", "Pooling", "Reaction", "YesNo"]


class Mapping(StrEnum):
    """Which outside endpoint connections get (RFC 4787 4.1, RFC 5382 4.1)."""

    NONE = "no translation"
    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"
    CONNECTION_DEPENDENT = "connection-dependent"
    NOT_MEASURED = "not measured"


class Allocation(StrEnum):
    """Where the outside port comes from (RFC 4787 4.2)."""

    PRESERVING = "preserving"
    SEQUENTIAL = "sequential"
    BAND = "random in a band"
    RANDOM = "random"
    NOT_MEASURED = "not measured"


class Pooling(StrEnum):
    """Which outside address connections get, where there are several (RFC 4787 4.1)."""

    ONE = "one address"
    """Or several, of which this computer always gets the same."""
    ARBITRARY = "several addresses, by chance"
    BY_DESTINATION = "several addresses, by destination"
    NOT_MEASURED = "not measured"


class Filtering(StrEnum):
    """Who gets in through a mapping (RFC 4787 5, RFC 5382 4.3)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"
    """Or stricter: what a connection-dependent filter does besides cannot be told from here."""
    NOT_MEASURED = "not measured"


class Reaction(StrEnum):
    """What happens to an unsolicited SYN (RFC 5382 REQ-4)."""

    PASS = "let in"
    DROP = "dropped"
    RST = "answered by RST"
    ICMP_HOST = "answered by ICMP host unreachable"
    ICMP_PORT = "answered by ICMP port unreachable"
    ICMP_ADMIN = "answered by ICMP administratively prohibited"
    ICMP_OTHER = "answered by another ICMP error"
    ICMP_LATE = "answered by ICMP after 6 s"
    NOT_MEASURED = "not measured"


class Opening(StrEnum):
    """What came of asking the routers to open a port."""

    OPENED = "opened"
    IN_VAIN = "opened, but nothing arrives"
    REFUSED = "refused"
    """Some router speaks a protocol for it, and said no."""
    NOT_OFFERED = "not offered"
    NOT_MEASURED = "not measured"


class YesNo(StrEnum):
    """Found, not found, or not measured."""

    YES = "yes"
    NO = "no"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class NatReport:
    """One address family's."""

    family: int
    """4 or 6."""
    local: Endpoint | None = None
    mapped: Endpoint | None = None
    """How ``local`` looks from outside."""
    mapping: Mapping = Mapping.NOT_MEASURED
    allocation: Allocation = Allocation.NOT_MEASURED
    step: int = 0
    """SEQUENTIAL: from one port to the next."""
    band: tuple[int, int] = (0, 0)
    """BAND: about where its ports are."""
    filtering: Filtering = Filtering.NOT_MEASURED
    reaction: Reaction = Reaction.NOT_MEASURED
    simultaneous_open: YesNo = YesNo.NOT_MEASURED
    hairpin: YesNo = YesNo.NOT_MEASURED
    pooling: Pooling = Pooling.NOT_MEASURED
    nats: int | None = None
    """NATs between here and the internet; 2 for two or more, None when not measured."""
    only_web: YesNo = YesNo.NOT_MEASURED
    """Whether a firewall lets out to ports 80 and 443 only."""
    notes: tuple[str, ...] = field(default=())
    """Why what was not measured was not."""
