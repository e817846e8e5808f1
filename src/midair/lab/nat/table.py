"""The table of connections, found from either side, and when each of them goes. Pure.

A packet on a connection costs no work on timers: it sets ``last_seen``, and the schedule, which has one line for each
connection, looks again later if the connection was used meanwhile.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from midair.lab.nat.binding import Bindings
from midair.lab.nat.connection import Connection, FlowKey, Phase
from midair.lab.node import NEVER

if TYPE_CHECKING:
    from midair.lab.behaviour import NatTimers
    from midair.lab.nat.connection import NatEntry

__all__ = ["Table"]


class Table:
    """All connections of a NAT, and the bindings they have."""

    __slots__ = ("_count", "_schedule", "_timeouts", "bindings", "half_open", "hosts", "inward", "outward")

    def __init__(self, timers: NatTimers) -> None:
        self._timeouts = {
            Phase.OPENING: timers.opening,
            Phase.ESTABLISHED: timers.established,
            Phase.CLOSING: timers.closing,
            Phase.DATAGRAMS: timers.udp,
        }
        self.bindings = Bindings()
        self.inward: dict[FlowKey, Connection] = {}
        """By protocol, outside and remote endpoint: every connection."""
        self.outward: dict[FlowKey, Connection] = {}
        """By protocol, inside and remote endpoint: all but the swallowed ones."""
        self.half_open = 0
        """TCP connections in the phase OPENING."""
        self.hosts: dict[bytes, int] = {}
        """Connections by inside address."""
        self._schedule: list[tuple[float, int, Connection]] = []
        self._count = 0

    @property
    def wake_at(self) -> float:
        """No connection expires before."""
        return self._schedule[0][0] if self._schedule else NEVER

    def add(self, connection: Connection, now: float) -> None:
        """What has the same outside and remote endpoint goes."""
        if old := self.inward.get(connection.inward_key):
            self.remove(old)
        self.inward[connection.inward_key] = connection
        if not connection.swallowed:
            self.outward[connection.outward_key] = connection
            self.hosts[connection.inside] = self.hosts.get(connection.inside, 0) + 1
        if connection.binding is not None:
            self.bindings.claim(connection.binding)
        self.half_open += connection.phase is Phase.OPENING
        self._plan(connection, now + self._timeouts[connection.phase])

    def remove(self, connection: Connection) -> None:
        """It is over. Idempotent."""
        if not connection.alive:
            return
        connection.alive = False
        del self.inward[connection.inward_key]
        if not connection.swallowed:
            del self.outward[connection.outward_key]
            self.hosts[connection.inside] -= 1
            if not self.hosts[connection.inside]:
                del self.hosts[connection.inside]
        if connection.binding is not None:
            self.bindings.release(connection.binding)
        self.half_open -= connection.phase is Phase.OPENING

    def shift(self, connection: Connection, phase: Phase) -> None:
        """The connection comes to another phase, by a packet that was seen at ``last_seen``."""
        if phase is connection.phase:
            return
        self.half_open += (phase is Phase.OPENING) - (connection.phase is Phase.OPENING)
        connection.phase = phase
        expires = connection.last_seen + self._timeouts[phase]
        if expires < connection.scheduled:
            self._plan(connection, expires)

    def expire(self, now: float) -> None:
        """Removes what has not been used for as long as its timer says."""
        schedule = self._schedule
        while schedule and schedule[0][0] <= now:
            due, _, connection = heappop(schedule)
            if not connection.alive or connection.scheduled != due:
                continue
            expires = connection.last_seen + self._timeouts[connection.phase]
            if expires <= now:
                self.remove(connection)
            else:
                self._plan(connection, expires)

    def entries(self, now: float) -> list[NatEntry]:
        """A dump, oldest first."""
        return [
            connection.entry(connection.last_seen + self._timeouts[connection.phase], now)
            for connection in self.inward.values()
        ]

    def _plan(self, connection: Connection, when: float) -> None:
        connection.scheduled = when
        self._count += 1
        heappush(self._schedule, (when, self._count, connection))
