"""What a lab is to look like: two hosts, and what stands between each of them and the internet. Pure values.

    a ── boxes of a ──┐                       ┌── internet ── server, proxy
                      ├── shared boxes (if any) ──┤
    b ── boxes of b ──┘                       └──

The text form, which ``parse_topology`` reads and ``str()`` writes, names boxes from the inside out:

    none x drop                 a has a public address, b is behind a NAT that drops unsolicited SYNs
    drop>carrier x rst          a is behind a home NAT, which is behind a carrier's
    (none + none) > drop        both are on one LAN
    (drop + rst) > carrier      two homes behind one carrier
    (drop & mobile) x drop      a has two interfaces, each with its own way out
    kernel:masquerade-drop x drop       a real Linux router before a
    drop,hairpin=external-source x drop     a named box with a knob turned
    drop x rst with ipv6 a.delay=0.1 b.loss=0.01        links, and IPv6 for all

Every link has its default delay unless the text says otherwise: 25 ms one way for a side's access link, 5 ms for the
server's, so 50 ms between a and b and 30 ms between either and the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from midair.lab.behaviour import LinkBehaviour, NatBehaviour
from midair.lab.knobs import turned_link_knobs

__all__ = ["ACCESS_LINK", "SERVER_LINK", "Box", "KernelKind", "Side", "Topology"]

ACCESS_LINK = LinkBehaviour(delay=0.025)
SERVER_LINK = LinkBehaviour(delay=0.005)
"""Of the server, and of the proxy."""


class KernelKind(StrEnum):
    """A Linux router with nftables; :mod:`midair.lab.kernel` has the rules."""

    MASQUERADE_DROP = "masquerade-drop"
    MASQUERADE_RST = "masquerade-rst"
    """The router's own stack answers an unsolicited SYN."""
    MASQUERADE_REJECT_RST = "masquerade-reject-rst"
    """nftables' ``reject with tcp reset``."""
    MASQUERADE_REJECT_ICMP = "masquerade-reject-icmp"
    MASQUERADE_DMZ = "masquerade-dmz"
    """Unsolicited SYNs go to a host that does not answer."""
    MASQUERADE_RANDOM = "masquerade-random"
    MASQUERADE_FULLY_RANDOM = "masquerade-fully-random"
    CONE = "cone"
    """Endpoint-independent mapping and filtering, by a dynamic map."""
    CONE_ADDRESS_FILTER = "cone-address-filter"
    CONE_HAIRPIN = "cone-hairpin"
    FIREWALL_DROP = "firewall-drop"
    FIREWALL_RST = "firewall-rst"
    FIREWALL_ICMP = "firewall-icmp"
    OPENWRT = "openwrt"
    """OpenWrt's defaults: masquerade, REJECT towards the internet."""


@dataclass(frozen=True, slots=True)
class Box:
    """One NAT or firewall."""

    name: str
    """As the text form writes it; for people and for results."""
    kind: NatBehaviour | KernelKind

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One host's ways to the internet."""

    boxes: tuple[Box, ...] = ()
    """From the inside out; none for a public address."""
    second: tuple[Box, ...] | None = None
    """Of a second interface, if the host has one; () when that is public."""

    def __str__(self) -> str:
        first = _chain(self.boxes)
        return first if self.second is None else f"({first} & {_chain(self.second)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The whole."""

    a: Side
    b: Side
    shared: tuple[Box, ...] = ()
    """What both sides are behind together, from the inside out. With no boxes of their own they are on one LAN."""
    ipv6: bool = False
    """All have global IPv6 addresses too; boxes filter them as they filter IPv4, and do not translate."""
    a_link: LinkBehaviour = ACCESS_LINK
    """The access link of side a, in each direction: outside of its outermost own box, or of the host."""
    b_link: LinkBehaviour = ACCESS_LINK
    server_link: LinkBehaviour = SERVER_LINK

    def __str__(self) -> str:
        text = f"({self.a} + {self.b}) > {_chain(self.shared)}" if self.shared else f"{self.a} x {self.b}"
        options = ["ipv6"] if self.ipv6 else []
        for place, link, default in (
            ("a", self.a_link, ACCESS_LINK),
            ("b", self.b_link, ACCESS_LINK),
            ("server", self.server_link, SERVER_LINK),
        ):
            options += [f"{place}.{knob}={value}" for knob, value in turned_link_knobs(link, default).items()]
        return f"{text} with {' '.join(options)}" if options else text


def _chain(boxes: tuple[Box, ...]) -> str:
    return ">".join(map(str, boxes)) or "none"
