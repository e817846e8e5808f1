"""How packets that pass move a connection from phase to phase, and whether it ends. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midair.lab.behaviour import Reaction
from midair.lab.nat.connection import Connection, Phase
from midair.lab.packet import TCP

if TYPE_CHECKING:
    from midair.lab.behaviour import NatBehaviour
    from midair.lab.nat.policy import Limits
    from midair.lab.nat.table import Table
    from midair.lab.packet import Packet

__all__ = ["Tracker"]


class Tracker:
    """Keeps the connections of a table in step with the packets that pass."""

    __slots__ = ("_behaviour", "_limits", "_table")

    def __init__(self, behaviour: NatBehaviour, table: Table, limits: Limits) -> None:
        self._behaviour = behaviour
        self._table = table
        self._limits = limits

    def begin(self, connection: Connection, packet: Packet, now: float, *, outbound: bool) -> None:
        """The first packet of a connection."""
        self._table.add(connection, now)
        if connection.protocol == TCP:
            connection.track(packet.flags, packet.sequence, outbound=outbound)
        else:
            connection.settled = self._can_settle(connection)

    def segment(self, connection: Connection, packet: Packet, now: float, *, outbound: bool) -> None:
        """A TCP segment without RST."""
        connection.last_seen = now
        self._table.shift(connection, connection.track(packet.flags, packet.sequence, outbound=outbound))
        connection.settled = connection.phase is not Phase.OPENING and self._can_settle(connection)

    def reopen(self, connection: Connection, now: float, *, forget: bool = True) -> bool:
        """A SYN on a connection that was over; whether there may be one more handshake."""
        if not self._limits.admit_half_open(self._table):
            return False
        if forget:
            connection.reopen()
        connection.last_seen = now
        self._table.shift(connection, Phase.OPENING)
        return True

    def reset(self, connection: Connection, now: float) -> bool:
        """A RST; whether it goes on."""
        match self._behaviour.on_rst:
            case Reaction.IGNORES:
                return False
            case Reaction.KEEPS:
                connection.last_seen = now
                self._table.shift(connection, Phase.CLOSING)
            case Reaction.DELETES:
                self._table.remove(connection)
        return True

    def error(self, connection: Connection) -> bool:
        """An ICMP error from outside about a packet of it; whether it goes on."""
        if self._behaviour.on_icmp is Reaction.DELETES:
            self._table.remove(connection)
        return self._behaviour.on_icmp is not Reaction.IGNORES

    def _can_settle(self, connection: Connection) -> bool:
        return not connection.hairpin and not self._behaviour.rewrites_payload
