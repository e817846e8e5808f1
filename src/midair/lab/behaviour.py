"""What a NAT does, axis by axis, in the words of RFC 4787, RFC 5382 and RFC 7857; and what a link does. Pure values.

Each field of :class:`NatBehaviour` is one knob of the lab's own NAT (:mod:`midair.lab.nat`), and every combination is
allowed. Sources of the axes: RFC 4787 (UDP), RFC 5382 (TCP, section 4 above all), RFC 7857, RFC 6092 (IPv6), and the
surveys of Ford, Srisuresh and Kegel (USENIX 2005) and of Guha and Francis (IMC 2005).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "Allocation",
    "Filtering",
    "Hairpin",
    "LinkBehaviour",
    "Mapping",
    "NatBehaviour",
    "NatLimits",
    "NatTimers",
    "Pooling",
    "PortRule",
    "Reaction",
    "SequenceCheck",
    "SimultaneousOpen",
    "Unsolicited",
]


class Mapping(StrEnum):
    """When two connections of one inside endpoint share one outside endpoint (RFC 4787 4.1, RFC 5382 4.1)."""

    NONE = "no translation"
    """A firewall: addresses stay as they are, everything else applies."""
    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"
    CONNECTION_DEPENDENT = "connection-dependent"
    """Every connection gets a mapping of its own, even a second one to the same endpoint: the SYN that follows a FIN
    from both sides, or a RST, begins one."""


class Filtering(StrEnum):
    """Who may send through a mapping that exists (RFC 4787 5, RFC 5382 4.3)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    """Anybody."""
    ADDRESS_DEPENDENT = "address-dependent"
    """Every port of an address the mapping was used towards."""
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"
    """Every endpoint the mapping was used towards, for as long as the mapping lives."""
    CONNECTION_DEPENDENT = "connection-dependent"
    """Only the packets of a connection that is in the table; the permission ends with the connection, not with the
    mapping."""


class PortRule(StrEnum):
    """How the outside port of a new mapping is found (RFC 4787 4.2)."""

    PRESERVING = "preserving"
    """The inside port, always. Two inside endpoints with one port share it (port overloading, which RFC 5382 REQ-7
    forbids): the later one takes the port over."""
    PRESERVING_UNTIL_CLASH = "preserving until a clash"
    """The inside port unless it is taken; then the next free one."""
    SEQUENTIAL = "sequential"
    """The last one plus ``step``, within the band."""
    PARITY = "parity"
    """Random within the band, odd for odd and even for even inside ports (RFC 4787 4.2.2)."""
    BLOCKS = "blocks"
    """Each inside host has a block of ``block`` consecutive ports, and gets random ones of it (RFC 7753)."""
    RANDOM = "random"
    """Random within the band."""


class Pooling(StrEnum):
    """Which of several outside addresses a new mapping gets (RFC 4787 4.1)."""

    PAIRED = "paired"
    """One inside host, one outside address."""
    ARBITRARY = "arbitrary"
    """A random one each time."""
    BY_DESTINATION = "by destination"
    """One for each remote address, as behind two upstream lines: each line has mappings of its own."""


class Unsolicited(StrEnum):
    """What happens to an inbound SYN that is not let in (RFC 5382 4.3 and REQ-4)."""

    DROP = "dropped"
    RST = "answered by RST"
    ICMP_HOST = "answered by ICMP host unreachable"  # 3/1
    ICMP_PORT = "answered by ICMP port unreachable"  # 3/3
    ICMP_ADMIN = "answered by ICMP administratively prohibited"  # 3/13
    ICMP_LATE = "answered by ICMP port unreachable after 6 s"
    """Unless an outbound SYN of the same connection passes meanwhile (RFC 5382 REQ-4)."""
    PASS = "let in"
    """To the inside host that has the mapping, else to the first inside host ("DMZ", exposed host), port unchanged.
    UDP and ICMP echo too. The first host has the first address of the first inside network that is not the NAT's."""
    SILENT_DMZ = "sent to a host that does not answer"
    """It leaves an entry in the table, which later clashes with the same connection from inside: that one gets another
    port. Where ports are preserved always it takes the port over, and a firewall drops the SYN."""


class SimultaneousOpen(StrEnum):
    """What happens when SYNs cross: an inbound SYN for a connection whose outbound SYN has passed (RFC 5382 4.2)."""

    PASSES = "passes"
    DROPS = "drops the SYN"
    RST = "answers the SYN with RST"
    MISTRANSLATES = "lets the SYN in and the SYN-ACK out with a wrong source port"
    """A firewall does not."""


class SequenceCheck(StrEnum):
    """What happens to an outbound SYN-ACK with another initial sequence number than the SYN before it. Linux's
    connection tracking calls it invalid."""

    NONE = "none"
    DROP = "strict, dropped"
    LEAK = "strict, let out untranslated"


class Reaction(StrEnum):
    """What a RST, or an ICMP error, that belongs to a connection does (RFC 5382 REQ-9, REQ-10; RFC 7857 2.2)."""

    DELETES = "forwarded, the entry is deleted"
    KEEPS = "forwarded, the entry is kept"
    IGNORES = "not forwarded"


class Hairpin(StrEnum):
    """What happens to a packet from inside to an outside endpoint of the same NAT (RFC 4787 6, RFC 5382 REQ-8)."""

    NONE = "dropped"
    INTERNAL_SOURCE = "turned around with its internal source"
    EXTERNAL_SOURCE = "turned around with its external source"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Where outside ports and addresses come from."""

    rule: PortRule = PortRule.PRESERVING_UNTIL_CLASH
    low: int = 1024
    high: int = 65535
    """The band, both ends included; preserving rules use it only for what they cannot preserve."""
    step: int = 1
    """SEQUENTIAL: the distance of two ports; may be negative."""
    block: int = 512
    """BLOCKS: ports a host has."""
    addresses: int = 1
    """Outside addresses in the pool."""
    pooling: Pooling = Pooling.PAIRED


@dataclass(frozen=True, slots=True, kw_only=True)
class NatTimers:
    """Seconds without a packet until an entry goes (RFC 5382 REQ-5, RFC 7857 2.1; UDP: RFC 4787 REQ-5). A mapping goes
    with the last of its entries."""

    opening: float = 240.0
    """From the first SYN until the handshake is complete."""
    established: float = 7440.0
    closing: float = 240.0
    """After a FIN from both sides, or after a RST that did not delete the entry."""
    udp: float = 300.0
    """And ICMP echo."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NatLimits:
    """Caps; what exceeds one is dropped."""

    entries: int = 65536
    """Connections in the table (TCP and UDP)."""
    entries_per_host: int = 65536
    """Of one inside address (RFC 6888 REQ-4)."""
    half_open: int = 65536
    """TCP connections whose handshake is not complete."""
    new_per_second: float = float("inf")
    """New connections, as a token bucket that holds one second's worth, at least one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NatBehaviour:
    """One NAT or firewall. By default a well-behaved home router: RFC 5382, but filtering by the exact endpoint."""

    mapping: Mapping = Mapping.ENDPOINT_INDEPENDENT
    filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT
    allocation: Allocation = field(default_factory=Allocation)
    unsolicited: Unsolicited = Unsolicited.DROP
    simultaneous_open: SimultaneousOpen = SimultaneousOpen.PASSES
    sequence_check: SequenceCheck = SequenceCheck.NONE
    on_rst: Reaction = Reaction.KEEPS
    """To a RST in either direction."""
    on_icmp: Reaction = Reaction.KEEPS
    """To an inbound ICMP error about a packet of a connection in the table."""
    hairpin: Hairpin = Hairpin.NONE
    timers: NatTimers = field(default_factory=NatTimers)
    limits: NatLimits = field(default_factory=NatLimits)
    rewrites_payload: bool = False
    """Replaces its inside address, four bytes or dotted text, in outbound payload (what application level gateways do;
    RFC 5382 REQ-6). The payload keeps its length: text is replaced where the outside address is equally long."""
    decrements_ttl: bool = True
    only_ports: tuple[int, ...] = ()
    """Outbound policy: TCP only to these ports; empty for all. What it forbids is dropped."""
    only_addresses: tuple[str, ...] = ()
    """Outbound policy: only to these addresses, such as a proxy's; empty for all."""

    @property
    def translates(self) -> bool:
        """Whether hosts behind it have private IPv4 addresses."""
        return self.mapping is not Mapping.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkBehaviour:
    """One direction of a link."""

    delay: float = 0.0
    """Seconds one way."""
    jitter: float = 0.0
    """Up to so many seconds more, uniformly; order is kept."""
    loss: float = 0.0
    """Probability that a packet is lost."""
    lose_syns: tuple[int, ...] = ()
    """TCP SYNs without ACK to lose, counted from 1 over the life of the link."""
    rate: float = 0.0
    """Bits a second; 0 for no limit."""
    queue: int = 256 * 1024
    """Bytes that may wait when there is a rate; what does not fit is lost."""
    mtu: int = 1500
    """Larger packets are answered by ICMP "fragmentation needed", or dropped when they may be fragmented."""
    up: bool = True
    """A link that is down loses everything."""
