"""The NAT as a node of the network: what becomes of each packet. Pure.

Read ``receive`` first: a packet on a connection that is under way is found in the table, translated and sent on, there
and then. Everything else goes by ``_outbound`` and ``_inbound``: SYN, FIN and RST, ICMP errors, packets without a
connection, and hairpins, which are an outbound packet and then an inbound one.

Left out: fragments (RFC 4787 REQ-14) and protocols other than TCP, UDP and ICMP are dropped. A TCP segment that
belongs to no connection and is no SYN is dropped without an answer, in both directions. Sequence numbers are looked at
for :class:`SequenceCheck` only: any RST and any ICMP error that quotes a connection is believed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from midair.lab.behaviour import Hairpin, Mapping, SequenceCheck, SimultaneousOpen, Unsolicited
from midair.lab.nat.allocation import Allocator
from midair.lab.nat.connection import Connection, Phase
from midair.lab.nat.mapper import Mapper
from midair.lab.nat.policy import Limits, OutboundPolicy
from midair.lab.nat.site import Site
from midair.lab.nat.table import Table
from midair.lab.nat.tracker import Tracker
from midair.lab.nat.unsolicited import REASONS, LateAnswers, reset_for
from midair.lab.node import NEVER, OUTSIDE_PORT
from midair.lab.packet import (
    ACK,
    FIN,
    RST,
    SYN,
    TCP,
    UDP,
    IcmpReason,
    address_text,
    echo_reply,
    icmp_error,
    is_multicast,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from midair.lab.blueprint import NatPart
    from midair.lab.nat.binding import Endpoint
    from midair.lab.nat.connection import NatEntry
    from midair.lab.node import Emission
    from midair.lab.packet import Packet

__all__ = ["Nat"]

_MARKS: Final = SYN | FIN | RST
"""Flags that change a connection."""


class Nat:
    """One NAT or firewall. IPv6 is filtered as IPv4 is, and never translated."""

    def __init__(self, part: NatPart, random: Random) -> None:
        self.part = part
        self.wake_at = NEVER
        """Not before this has ``tick`` anything to do."""
        self._behaviour = part.behaviour
        self._decrements = part.behaviour.decrements_ttl
        self._random = random
        self._policy = OutboundPolicy(part.behaviour)
        self._limits = Limits(part.behaviour.limits)
        self.renumber(part.outside)

    def renumber(self, outside: Sequence[str]) -> None:
        """The line comes back with other outside addresses, as many as before; all connections are forgotten.

        Raises: ValueError when there are fewer IPv4 addresses than the pool has.
        """
        self._site = Site(self.part, outside)
        self._pool = frozenset(self._site.pool)
        self._table = Table(self._behaviour.timers)
        self._inward, self._outward = self._table.inward, self._table.outward
        allocator = Allocator(self._behaviour.allocation, self._site.pool, self._random)
        self._mapper = Mapper(self._behaviour.mapping, allocator, self._table)
        self._tracker = Tracker(self._behaviour, self._table, self._limits)
        self._late = LateAnswers()
        self.wake_at = NEVER

    def receive(self, packet: Packet, port: int, now: float) -> Sequence[Emission]:
        """Node's."""
        if now >= self.wake_at:
            return [*self.tick(now), *self.receive(packet, port, now)]
        if port == OUTSIDE_PORT:
            connection = self._inward.get(
                (packet.protocol, packet.destination, packet.destination_port, packet.source, packet.source_port)
            )
            if (
                connection is not None
                and connection.settled
                and not packet.flags & _MARKS
                and (not self._decrements or packet.decrement_ttl())
            ):
                connection.last_seen = now
                if connection.translated:
                    packet.set_destination(connection.inside, connection.inside_port)
                return ((connection.port, packet),)
            emissions = self._inbound(packet, now)
        else:
            connection = self._outward.get(
                (packet.protocol, packet.source, packet.source_port, packet.destination, packet.destination_port)
            )
            if (
                connection is not None
                and connection.settled
                and not packet.flags & _MARKS
                and (not self._decrements or packet.decrement_ttl())
            ):
                connection.last_seen = now
                if connection.translated:
                    packet.set_source(connection.outside, connection.outside_port)
                return ((OUTSIDE_PORT, packet),)
            emissions = self._outbound(packet, port, now)
        self._wake()
        return emissions

    def tick(self, now: float) -> Sequence[Emission]:
        """Node's."""
        self._table.expire(now)
        emissions: list[Emission] = []
        for packet in self._late.due(now):
            emissions += self._answer(self._error(IcmpReason.PORT_UNREACHABLE, packet), now)
        self._wake()
        return emissions

    def entries(self, now: float) -> list[NatEntry]:
        """The table as it is."""
        self._table.expire(now)
        return self._table.entries(now)

    def _wake(self) -> None:
        self.wake_at = min(self._table.wake_at, self._late.wake_at)

    # -- from inside --

    def _outbound(self, packet: Packet, port: int, now: float) -> Sequence[Emission]:
        if packet.is_icmp_error:
            return self._outbound_error(packet, port, now)
        connection = self._outward.get(
            (packet.protocol, packet.source, packet.source_port, packet.destination, packet.destination_port)
        )
        if connection is None:
            return self._open(packet, port, now)
        if self._decrements and packet.ttl <= 1:
            return self._expired(packet, port)
        if packet.protocol != TCP:
            connection.last_seen = now
            return self._emit(connection, packet, now)
        if packet.flags & RST:
            return self._emit(connection, packet, now) if self._tracker.reset(connection, now) else ()
        if packet.flags & SYN:
            if packet.flags & ACK:
                return self._emit_syn_ack(connection, packet, now)
            if connection.phase is Phase.CLOSING:
                if connection.translated and self._behaviour.mapping is Mapping.CONNECTION_DEPENDENT:
                    return self._open(packet, port, now)
                if not self._tracker.reopen(connection, now):
                    return ()
        self._tracker.segment(connection, packet, now, outbound=True)
        return self._emit(connection, packet, now)

    def _emit_syn_ack(self, connection: Connection, packet: Packet, now: float) -> Sequence[Emission]:
        """It is the answer to a SYN from outside, and where SYNs have crossed not every NAT understands it."""
        if connection.initial_sequence not in (None, packet.sequence):
            match self._behaviour.sequence_check:
                case SequenceCheck.DROP:
                    return ()
                case SequenceCheck.LEAK:
                    if self._decrements:
                        packet.decrement_ttl()
                    return self._answer(packet, now)
        self._tracker.segment(connection, packet, now, outbound=True)
        return self._emit(connection, packet, now, wrong_port=connection.crossed)

    def _emit(
        self, connection: Connection, packet: Packet, now: float, *, wrong_port: bool = False
    ) -> Sequence[Emission]:
        """Translates an outbound packet and sends it on."""
        if self._decrements:
            packet.decrement_ttl()
        if connection.translated:
            if self._behaviour.rewrites_payload:
                self._rewrite_payload(connection, packet)
            outside_port = connection.outside_port
            packet.set_source(connection.outside, outside_port % 65535 + 1 if wrong_port else outside_port)
        if connection.hairpin:
            return self._inbound(packet, now, turned=True)
        return ((OUTSIDE_PORT, packet),)

    def _open(self, packet: Packet, port: int, now: float) -> Sequence[Emission]:
        """An outbound packet that needs a connection of its own: there is none, or one that is over."""
        behaviour, destination = self._behaviour, packet.destination
        if is_multicast(destination) or not (packet.source_port or packet.destination_port):
            return ()
        if destination in self._site.inside:
            return ((port, echo_reply(packet)),) if packet.is_echo_request else ()
        if (inside_port := self._site.port_towards(destination)) is not None:
            return self._route_inside(packet, port, inside_port)
        hairpin = destination in self._pool
        if hairpin and behaviour.hairpin is Hairpin.INTERNAL_SOURCE:
            return self._turn_around(packet, port)
        if destination in self._site.own and not (hairpin and behaviour.hairpin is Hairpin.EXTERNAL_SOURCE):
            return ()
        if not _opens(packet) or not self._policy.allows(packet):
            return ()
        if self._decrements and packet.ttl <= 1:
            return self._expired(packet, port)
        if not self._limits.admit(self._table, packet.protocol, packet.source, now):
            return ()
        make = self._mapper.translated if self._translated(packet) else self._mapper.untranslated
        binding = make(packet, port)
        if binding is None:
            return ()
        remote = (destination, packet.destination_port)
        if old := self._outward.get((packet.protocol, *binding.inside, *remote)):
            self._table.remove(old)
        connection = Connection(
            packet.protocol,
            binding.inside,
            binding.outside,
            remote,
            port=port,
            now=now,
            binding=binding,
            hairpin=hairpin,
        )
        binding.use_towards(remote)
        self._late.cancel(connection.inward_key)
        self._tracker.begin(connection, packet, now, outbound=True)
        return self._emit(connection, packet, now)

    def _turn_around(self, packet: Packet, port: int) -> Sequence[Emission]:
        """A hairpin that keeps its internal source: nobody is asked, and nothing is remembered."""
        holders = self._table.bindings.holders(packet.protocol, (packet.destination, packet.destination_port))
        if not holders:
            return ()
        if self._decrements and not packet.decrement_ttl():
            return self._expired(packet, port)
        packet.set_destination(*holders[-1].inside)
        return ((holders[-1].port, packet),)

    def _route_inside(self, packet: Packet, port: int, inside_port: int) -> Sequence[Emission]:
        if self._decrements and not packet.decrement_ttl():
            return self._expired(packet, port)
        return ((inside_port, packet),)

    def _outbound_error(self, packet: Packet, port: int, now: float) -> Sequence[Emission]:
        """An ICMP error from inside about a packet that was let in (RFC 5508 4.2)."""
        quoted = packet.quoted
        if quoted is None or (self._decrements and packet.ttl <= 1):
            return ()
        if (inside_port := self._site.port_towards(packet.destination)) is not None:
            return self._route_inside(packet, port, inside_port)
        connection = self._outward.get(
            (quoted.protocol, quoted.destination, quoted.destination_port, quoted.source, quoted.source_port)
        )
        if connection is None:
            return ()
        if self._decrements:
            packet.decrement_ttl()
        if connection.translated:
            packet.set_quoted_destination(connection.outside, connection.outside_port)
            packet.set_source(connection.outside, 0)
        return self._answer(packet, now)

    def _rewrite_payload(self, connection: Connection, packet: Packet) -> None:
        """What application level gateways do; dotted text only where the two addresses are equally long."""
        packet.replace_payload(connection.inside, connection.outside)
        old, new = _dotted(connection.inside), _dotted(connection.outside)
        if len(old) == len(new):
            packet.replace_payload(old, new)

    # -- from outside --

    def _inbound(self, packet: Packet, now: float, *, turned: bool = False) -> Sequence[Emission]:
        """``turned``: it is a hairpin, which has lost its hop on the way out."""
        if packet.is_icmp_error:
            return self._inbound_error(packet, turned=turned)
        connection = self._inward.get(
            (packet.protocol, packet.destination, packet.destination_port, packet.source, packet.source_port)
        )
        if connection is None:
            return self._admit(packet, now, turned=turned)
        if connection.swallowed:
            connection.last_seen = now
            return ()
        if self._decrements and not turned and packet.ttl <= 1:
            return self._expired(packet, OUTSIDE_PORT)
        if packet.protocol != TCP:
            connection.last_seen = now
            return self._deliver(connection, packet, turned=turned)
        if packet.flags & RST:
            return self._deliver(connection, packet, turned=turned) if self._tracker.reset(connection, now) else ()
        if packet.is_syn:
            crossing = connection.awaits_answer
            if crossing:
                match self._behaviour.simultaneous_open:
                    case SimultaneousOpen.DROPS:
                        return ()
                    case SimultaneousOpen.RST:
                        return self._answer(reset_for(packet), now)
                    case SimultaneousOpen.MISTRANSLATES:
                        connection.crossed = True
            if connection.phase is Phase.CLOSING and not self._tracker.reopen(connection, now, forget=not crossing):
                return ()
        self._tracker.segment(connection, packet, now, outbound=False)
        return self._deliver(connection, packet, turned=turned)

    def _deliver(self, connection: Connection, packet: Packet, *, turned: bool) -> Sequence[Emission]:
        """Translates an inbound packet and sends it on."""
        if self._decrements and not turned:
            packet.decrement_ttl()
        if connection.translated:
            packet.set_destination(connection.inside, connection.inside_port)
        return ((connection.port, packet),)

    def _admit(self, packet: Packet, now: float, *, turned: bool) -> Sequence[Emission]:
        """An inbound packet without a connection: a binding lets it in, or it is unsolicited."""
        if not (packet.source_port or packet.destination_port) or (packet.protocol == TCP and not packet.is_syn):
            return ()
        outside = (packet.destination, packet.destination_port)
        remote = (packet.source, packet.source_port)
        translated = self._translated(packet)
        ours = outside[0] in self._pool if translated else self._site.port_towards(outside[0]) is not None
        if not ours:
            return ()
        holders = self._table.bindings.holders(packet.protocol, outside)
        binding = next((one for one in reversed(holders) if one.admits(self._behaviour.filtering, remote)), None)
        if binding is not None:
            inside: Endpoint | None = binding.inside
        elif self._behaviour.unsolicited is Unsolicited.PASS:
            binding = holders[-1] if holders else None
            host = self._site.exposed_host(len(packet.destination)) if translated else packet.destination
            inside = binding.inside if binding else (host, packet.destination_port) if host else None
        else:
            return self._refuse(packet, now, translated=translated)
        if inside is None or (port := self._site.port_towards(inside[0])) is None or inside[0] in self._site.own:
            return ()
        if (packet.protocol, *inside, *remote) in self._outward:
            return ()  # the inside host could not tell it from the connection it has
        if self._decrements and not turned and packet.ttl <= 1:
            return self._expired(packet, OUTSIDE_PORT)
        if not self._limits.admit(self._table, packet.protocol, inside[0], now):
            return ()
        hairpin = packet.source in self._pool
        connection = Connection(
            packet.protocol, inside, outside, remote, port=port, now=now, binding=binding, hairpin=hairpin
        )
        self._tracker.begin(connection, packet, now, outbound=False)
        return self._deliver(connection, packet, turned=turned)

    def _refuse(self, packet: Packet, now: float, *, translated: bool) -> Sequence[Emission]:
        """An unsolicited packet; only a SYN is answered."""
        if packet.protocol != TCP:
            return ()
        outside = (packet.destination, packet.destination_port)
        remote = (packet.source, packet.source_port)
        match self._behaviour.unsolicited:
            case Unsolicited.DROP | Unsolicited.PASS:
                return ()
            case Unsolicited.RST:
                return self._answer(reset_for(packet), now)
            case Unsolicited.ICMP_HOST | Unsolicited.ICMP_PORT | Unsolicited.ICMP_ADMIN as reaction:
                return self._answer(self._error(REASONS[reaction], packet), now)
            case Unsolicited.ICMP_LATE:
                self._late.hold((TCP, *outside, *remote), packet, now)
                return ()
            case Unsolicited.SILENT_DMZ:
                # A firewall has nowhere else to send it; there the SYN is just dropped.
                if translated and self._limits.admit(self._table, TCP, b"", now):
                    nowhere = (b"", 0)
                    connection = Connection(TCP, nowhere, outside, remote, port=OUTSIDE_PORT, now=now, swallowed=True)
                    self._table.add(connection, now)
                return ()

    def _inbound_error(self, packet: Packet, *, turned: bool) -> Sequence[Emission]:
        """An ICMP error about a packet of a connection (RFC 5382 REQ-9, RFC 5508 4.1)."""
        quoted = packet.quoted
        if quoted is None or (self._decrements and not turned and packet.ttl <= 1):
            return ()
        connection = self._inward.get(
            (quoted.protocol, quoted.source, quoted.source_port, quoted.destination, quoted.destination_port)
        )
        if connection is None or connection.swallowed or not self._tracker.error(connection):
            return ()
        if self._decrements and not turned:
            packet.decrement_ttl()
        if connection.translated:
            packet.set_quoted_source(connection.inside, connection.inside_port)
            packet.set_destination(connection.inside, 0)
        return ((connection.port, packet),)

    # -- both ways --

    def _translated(self, packet: Packet) -> bool:
        return packet.version == 4 and self._behaviour.translates

    def _answer(self, packet: Packet, now: float) -> Sequence[Emission]:
        """Sends a packet outside, unless it is for one of our own hosts by its outside address."""
        if packet.destination in self._pool:
            return self._inbound(packet, now, turned=True)
        return ((OUTSIDE_PORT, packet),)

    def _expired(self, packet: Packet, port: int) -> Sequence[Emission]:
        """The packet's last hop was the one to us."""
        return ((port, self._error(IcmpReason.TIME_EXCEEDED, packet, inside=port != OUTSIDE_PORT)),)

    def _error(self, reason: IcmpReason, about: Packet, *, inside: bool = False) -> Packet:
        return icmp_error(reason, about, sender=self._site.error_source(about.destination, inside=inside))


@lru_cache(maxsize=1024)
def _dotted(address: bytes) -> bytes:
    return address_text(address).encode("ascii")


def _opens(packet: Packet) -> bool:
    """Whether it may be the first of a connection from inside."""
    if packet.protocol == TCP:
        return packet.is_syn
    return packet.protocol == UDP or packet.is_echo_request
