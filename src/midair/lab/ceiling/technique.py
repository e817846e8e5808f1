"""The ways there are to get a TCP connection between two hosts, in the order in which they cost more. Pure."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["DIRECT", "EVERY", "PLAIN", "Technique"]


class Technique(StrEnum):
    """One way. A contender has a set of them."""

    PRIVATE_ADDRESSES = "private addresses"
    DIRECT_DIAL = "direct dial"
    REVERSAL = "connection reversal"
    SIMULTANEOUS_OPEN = "simultaneous open"
    HAIRPIN = "hairpin"
    INSTANT_REDIAL = "instant redial"
    REFUSAL_IMMUNITY = "refusal immunity"
    NO_LISTENER = "no listener"
    TIMED_OPEN = "timed simultaneous open"
    LOW_TTL = "low TTL opening"
    ADDRESS_PERMISSION = "address permission"
    EVERY_INTERFACE = "every interface"
    IPV6 = "IPv6"
    PORT_MAPPING = "port mapping"
    PREDICTION = "port prediction"
    COVERAGE = "port coverage"
    RELAY = "relay"

    @property
    def description(self) -> str:
        """One line for a person."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS = {
    Technique.PRIVATE_ADDRESSES: "Dial the peer's own address, on a network both are on.",
    Technique.DIRECT_DIAL: "a dials b, whom anybody can reach.",
    Technique.REVERSAL: "b dials a, whom anybody can reach, after a has asked for it through the server.",
    Technique.SIMULTANEOUS_OPEN: "Both listen on one port and dial from it; what fails is dialled again after a pause.",
    Technique.HAIRPIN: "Both dial outside endpoints of the NAT both are behind, and it turns the packets around.",
    Technique.INSTANT_REDIAL: "What fails is dialled again at once, so that a socket waits nearly all the time.",
    Technique.REFUSAL_IMMUNITY: "The sockets ignore RSTs and ICMP errors that a NAT made, by a minimum TTL.",
    Technique.NO_LISTENER: "Only dial, so that no listener answers with a sequence number the NAT does not know.",
    Technique.TIMED_OPEN: "Both start at an agreed moment, so that the SYNs cross on the way and none is unsolicited.",
    Technique.LOW_TTL: "Open the own NAT first, by SYNs that end before they reach the peer's.",
    Technique.ADDRESS_PERMISSION: "Send one SYN to the peer's address, and accept from any port of it.",
    Technique.EVERY_INTERFACE: "Do it over each interface of a host that has several.",
    Technique.IPV6: "Do it over IPv6, where nothing is translated.",
    Technique.PORT_MAPPING: "Ask the home router for a port by PCP, NAT-PMP or UPnP.",
    Technique.PREDICTION: "Dial the ports the peer's NAT is going to use next.",
    Technique.COVERAGE: "Open many ports towards the peer and let it dial from many, until two of them meet.",
    Technique.RELAY: "Both dial the server, which passes the bytes on.",
}

EVERY = frozenset(Technique)
DIRECT = EVERY - {Technique.RELAY}
"""Everything that needs no relay."""
PLAIN = frozenset({Technique.SIMULTANEOUS_OPEN, Technique.HAIRPIN})
"""What the plain puncher does: one port that listens and dials the one public endpoint of the peer."""
