"""What one box remembers of one pair, and what it therefore does with their packets. Pure.

This is the box of RFC 5382 as a person would reason about it: a few entries for one inside host, no addresses, no
ports. It is written apart from the lab's NAT, so that one can be checked against the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from midair.lab.behaviour import (
    Filtering,
    Mapping,
    Pooling,
    PortRule,
    Reaction,
    SequenceCheck,
    SimultaneousOpen,
    Unsolicited,
)
from midair.lab.ceiling.packets import NOBODY, Kind, Packet

if TYPE_CHECKING:
    from midair.lab.ceiling.packets import Endpoint
    from midair.lab.ceiling.ways import Gate

__all__ = ["Gatekeeper", "Passage"]

LATE: Final = 6.0
"""Seconds (RFC 5382 REQ-4)."""
_ICMP: Final = (Unsolicited.ICMP_HOST, Unsolicited.ICMP_PORT, Unsolicited.ICMP_ADMIN)


@dataclass(slots=True)
class _Entry:
    """One connection in its table."""

    inside: Endpoint
    own: Endpoint
    """The outside endpoint."""
    remote: Endpoint
    expires: float
    sequence: int | None = None
    """Of the last outbound SYN; None when the connection was begun from outside."""
    crossed: bool = False
    over: bool = False
    """A RST has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What becomes of a packet at a gate."""

    packet: Packet | None = None
    """What goes on, between other endpoints where they are translated; None: nothing."""
    answer: Packet | None = None
    """What goes back."""
    after: float = 0.0
    """Seconds until the answer goes, unless the host has opened the connection by then."""
    note: str = ""
    """For a person, when it is worth telling."""


@dataclass(slots=True)
class Gatekeeper:
    """One gate's state."""

    gate: Gate
    held: bool
    """A connection to the server keeps the mapping of port 0 alive."""
    _entries: list[_Entry] = field(default_factory=list)
    _remotes: dict[Endpoint, set[Endpoint]] = field(default_factory=dict)
    """By outside endpoint: what it was used towards, for as long as there is a mapping."""
    _swallowed: set[tuple[Endpoint, Endpoint]] = field(default_factory=set)
    """Outside and remote endpoints of what went to a host that does not answer."""
    _surprises: int = 0

    def outward(self, packet: Packet, now: float) -> Passage:
        """A packet from inside. Each that passes keeps its entry for as long as an opening lasts; that an established
        connection lasts longer makes no difference here."""
        self._expire(now)
        entry = next((e for e in self._entries if (e.inside, e.remote) == (packet.source, packet.destination)), None)
        if packet.kind is Kind.SYN:
            if entry is not None and entry.over and self.gate.behaviour.mapping is Mapping.CONNECTION_DEPENDENT:
                self._forget(entry)
                entry = None
            if entry is None:
                if self.gate.behaviour.only_ports or self.gate.behaviour.only_addresses:
                    return Passage(note=f"{self.gate.name} lets nothing out to the peer")
                if self._is_full:
                    return Passage(note=f"{self.gate.name} has no room for another connection")
                entry = self._open(packet.source, packet.destination)
            entry.sequence = packet.sequence
            entry.over = False
        if entry is None or (packet.kind is Kind.RST and not self._reset(entry)):
            return Passage()
        entry.expires = now + self.gate.behaviour.timers.opening
        if packet.kind is Kind.SYN_ACK:
            return self._answered(entry, packet)
        return Passage(packet=replace(packet, source=entry.own))

    def inward(self, packet: Packet, now: float) -> Passage:
        """A packet from outside."""
        self._expire(now)
        if (packet.destination, packet.source) in self._swallowed:
            return Passage()
        entry = next((e for e in self._entries if (e.own, e.remote) == (packet.destination, packet.source)), None)
        if entry is None:
            return self._admit(packet, now) if packet.kind is Kind.SYN else Passage()
        match packet.kind:
            case Kind.RST:
                if not self._reset(entry):
                    return Passage()
            case Kind.ICMP:
                if self.gate.behaviour.on_icmp is Reaction.IGNORES:
                    return Passage()
                if self.gate.behaviour.on_icmp is Reaction.DELETES:
                    self._forget(entry)
            case Kind.SYN if entry.sequence is not None:
                match self.gate.behaviour.simultaneous_open:
                    case SimultaneousOpen.DROPS:
                        return Passage(note=f"{self.gate.name} drops a SYN that crosses its host's")
                    case SimultaneousOpen.RST:
                        return Passage(
                            answer=packet.answered(Kind.RST),
                            note=f"{self.gate.name} answers a SYN that crosses its host's by RST",
                        )
                    case SimultaneousOpen.MISTRANSLATES:
                        entry.crossed = self.gate.behaviour.translates
        entry.expires = now + self.gate.behaviour.timers.opening
        return Passage(packet=replace(packet, destination=entry.inside))

    def has_opened(self, own: Endpoint, remote: Endpoint, now: float) -> bool:
        """Whether there is a connection between these."""
        self._expire(now)
        return any((entry.own, entry.remote) == (own, remote) for entry in self._entries)

    @property
    def _is_full(self) -> bool:
        """Of connections, the one to the server among them, or of half-open ones, which all others are."""
        limits = self.gate.behaviour.limits
        count = len(self._entries)
        return count >= limits.half_open or count + self.held >= min(limits.entries, limits.entries_per_host)

    def _answered(self, entry: _Entry, packet: Packet) -> Passage:
        """The host answers a SYN; where it had sent one itself before, not every NAT understands that."""
        behaviour = self.gate.behaviour
        own = entry.own
        if entry.sequence not in (None, packet.sequence):
            drops = behaviour.sequence_check is SequenceCheck.DROP
            # Where nothing is translated a leak is none.
            if drops or (behaviour.sequence_check is SequenceCheck.LEAK and behaviour.translates):
                return Passage(
                    note=f"the answer of the listener behind {self.gate.name} has a sequence number that the NAT does "
                    "not know, and gets no further"
                )
        if entry.crossed:
            return Passage(
                packet=replace(packet, source=(own[0] + "!", own[1])),
                note=f"{self.gate.name} lets the answer to a crossing SYN out from a wrong port",
            )
        return Passage(packet=replace(packet, source=own))

    def _admit(self, packet: Packet, now: float) -> Passage:
        """A SYN that belongs to no connection."""
        behaviour = self.gate.behaviour
        own, remote = packet.destination, packet.source
        remotes = self._remotes.get(own, set())
        admitted = behaviour.unsolicited is Unsolicited.PASS
        match behaviour.filtering:
            case Filtering.ENDPOINT_INDEPENDENT:
                admitted |= self._mapped(own)
            case Filtering.ADDRESS_DEPENDENT:
                admitted |= any(address == remote[0] for address, _ in remotes)
            case Filtering.ADDRESS_AND_PORT_DEPENDENT:
                admitted |= remote in remotes
            case Filtering.CONNECTION_DEPENDENT:
                pass
        if not admitted:
            return self._refuse(packet)
        if own[1] == NOBODY:
            return Passage(packet=packet)
        if self._is_full:
            return Passage(note=f"{self.gate.name} has no room for another connection")
        inside = next((entry.inside for entry in self._entries if entry.own == own), (own[0].rstrip("?"), 0))
        if any((entry.inside, entry.remote) == (inside, remote) for entry in self._entries):
            return Passage()  # the host could not tell it from the connection it has
        self._entries.append(_Entry(inside, own, remote, expires=now + behaviour.timers.opening))
        return Passage(packet=replace(packet, destination=inside))

    def _refuse(self, packet: Packet) -> Passage:
        unsolicited = self.gate.behaviour.unsolicited
        said = f"{self.gate.name} does not expect a SYN of {packet.source[0].rstrip('?')}'s"
        if unsolicited is Unsolicited.RST:
            return Passage(answer=packet.answered(Kind.RST), note=f"{said} and answers it by RST")
        if unsolicited in _ICMP:
            return Passage(answer=packet.answered(Kind.ICMP), note=f"{said} and answers it by ICMP")
        if unsolicited is Unsolicited.ICMP_LATE:
            return Passage(answer=packet.answered(Kind.ICMP), after=LATE, note=f"{said} and drops it")
        if unsolicited is Unsolicited.SILENT_DMZ and self.gate.behaviour.translates:
            self._swallowed.add((packet.destination, packet.source))
            return Passage(
                note=f"{said}, sends it to a host that does not answer, and then has the port taken for that connection"
            )
        return Passage(note=f"{said} and drops it")

    def _open(self, inside: Endpoint, remote: Endpoint) -> _Entry:
        """A new connection from inside."""
        own = self._outside(inside, remote)
        entry = _Entry(inside, own, remote, expires=0.0)
        self._entries.append(entry)
        self._remotes.setdefault(own, set()).add(remote)
        self._swallowed.discard((own, remote))
        return entry

    def _outside(self, inside: Endpoint, remote: Endpoint) -> Endpoint:
        """Its outside endpoint; another one than the server has seen is a surprise."""
        behaviour = self.gate.behaviour
        if not behaviour.translates:
            return inside
        allocation = behaviour.allocation
        letter, port = inside
        independent = behaviour.mapping is Mapping.ENDPOINT_INDEPENDENT
        taken = (inside, remote) in self._swallowed and allocation.rule is not PortRule.PRESERVING
        in_use = next((entry.own for entry in self._entries if entry.inside == inside), None)
        if independent and in_use is not None and not taken:
            return in_use
        joins = independent and port == 0 and self._mapped(inside)
        match allocation.rule:
            case PortRule.PRESERVING:
                keeps = True
            case PortRule.PRESERVING_UNTIL_CLASH:
                # The server's connection has the port, and a mapping of its own.
                keeps = not self._mapped(inside)
            case _:
                keeps = False
        if port != 0 or taken or not (joins or keeps):
            self._surprises += 1
            port = self._surprises
        if allocation.addresses > 1 and (
            allocation.pooling is Pooling.BY_DESTINATION or (allocation.pooling is Pooling.ARBITRARY and not joins)
        ):
            letter = letter.rstrip("?") + "?"
        return letter, port

    def _mapped(self, own: Endpoint) -> bool:
        """Whether there is a mapping with this outside endpoint."""
        return (self.held and own[1] == 0) or any(entry.own == own for entry in self._entries)

    def _reset(self, entry: _Entry) -> bool:
        """A RST; whether it goes on."""
        match self.gate.behaviour.on_rst:
            case Reaction.IGNORES:
                return False
            case Reaction.DELETES:
                self._forget(entry)
            case Reaction.KEEPS:
                entry.over = True
        return True

    def _expire(self, now: float) -> None:
        for entry in [entry for entry in self._entries if entry.expires <= now]:
            self._forget(entry)

    def _forget(self, entry: _Entry) -> None:
        self._entries.remove(entry)
        # Whom it was used towards is forgotten with the mapping; that of the server is the same only if it is the same
        # for all.
        own = entry.own
        shared = self.gate.behaviour.mapping in (Mapping.NONE, Mapping.ENDPOINT_INDEPENDENT)
        stays = self.held and own[1] == 0 and shared
        if not stays and not any(other.own == own for other in self._entries):
            self._remotes.pop(own, None)
