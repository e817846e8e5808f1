"""A listening socket of a simulated host, and the half-open connections that have come to it. Pure.

A half-open connection is Linux's request socket: it answers a SYN by a SYN-ACK with an initial sequence number of its
own, also when the SYN meant a connect() of ours that has just failed. It holds the 4-tuple, so that a connect() to the
same peer fails by EADDRNOTAVAIL, until the handshake is complete, a RST ends it, or the SYN-ACKs, repeated after 1, 3,
7, 15 and 31 s, have been in vain for 63 s (``tcp_synack_retries``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from midair.lab.node import NEVER
from midair.lab.packet import ACK, FIN, RST, SYN, tcp_packet
from midair.lab.simulation.connection import ACK_PAUSE, RECEIVE_WINDOW, Connection
from midair.lab.simulation.errors import FATAL_TO_HALF_OPEN
from midair.lab.simulation.happenings import Accepted
from midair.lab.simulation.reassembly import MASK, distance

if TYPE_CHECKING:
    from midair.lab.packet import Packet
    from midair.lab.simulation.happenings import Handler
    from midair.lab.simulation.host import Ends, SimulatedHost

__all__ = ["HalfOpen", "Listener"]

MOST_REPETITIONS: Final = 5
_ACCEPTED = Accepted()


class Listener:
    """Made by :meth:`SimulatedHost.listen`."""

    __slots__ = ("_host", "address", "handler", "minimum_ttl", "number", "open", "ttl", "version")

    def __init__(
        self, host: SimulatedHost, version: int, number: int, handler: Handler, ttl: int, minimum_ttl: int
    ) -> None:
        self.version = version
        """4 or 6."""
        self.number = number
        """The port."""
        self.handler = handler
        """Hears of every accepted connection, and of what happens to it until it gets a handler of its own."""
        self.ttl = ttl
        self.minimum_ttl = minimum_ttl
        self.open = True
        self._host = host

    def close(self) -> None:
        """Accepts nothing more. Connections live on. Idempotent."""
        self.open = False
        self._host.stop_listening(self)

    def receive(self, packet: Packet, ends: Ends, now: float) -> None:
        """A segment that belongs to no connection has come."""
        flags = packet.flags
        if packet.ttl < self.minimum_ttl or flags & RST:
            return
        if flags & ACK:
            self._host.refuse(packet, now)
        elif flags & SYN and not flags & FIN:
            port = self._host.port_towards(ends[2], ends[0])
            if port is not None:
                half_open = HalfOpen(self._host, self, ends, port, packet.sequence, now)
                self._host.hold(half_open)
                half_open.begin(now)


class HalfOpen:
    """A connection whose SYN has come to a listener, and whose SYN-ACK has gone out."""

    __slots__ = (
        "_host",
        "_listener",
        "_out_of_place_at",
        "_port",
        "_repetitions",
        "_sent_at",
        "_start",
        "_their_start",
        "due_at",
        "ends",
        "queued_at",
    )

    def __init__(
        self, host: SimulatedHost, listener: Listener, ends: Ends, port: int, their_start: int, now: float
    ) -> None:
        self.ends = ends
        self.due_at = NEVER
        self.queued_at = NEVER
        self._host = host
        self._listener = listener
        self._their_start = their_start
        self._start = host.initial_sequence(ends, now)
        self._port = port
        self._repetitions = 0
        self._sent_at = now
        self._out_of_place_at = -ACK_PAUSE

    def begin(self, now: float) -> None:
        """Sends the SYN-ACK."""
        self._send(SYN | ACK, self._start, now)
        self._host.arm(self, now + 1.0)

    def receive(self, packet: Packet, now: float) -> None:
        """A segment of this connection has come (RFC 9293 3.10.7.4, ``tcp_check_req``)."""
        flags, sequence = packet.flags, packet.sequence
        expected = (self._their_start + 1) & MASK
        if not self._listener.open:
            self._host.forget(self)
            self._host.receive_unknown(packet, self.ends, now)
            return
        if flags & (SYN | ACK | RST) == SYN and sequence == self._their_start:
            if self._may_answer(now):
                self._send(SYN | ACK, self._start, now)
                self._host.arm(self, now + 2.0**self._repetitions)
            return
        if flags & ACK and packet.acknowledgement != (self._start + 1) & MASK:
            self._listener.receive(packet, self.ends, now)
            return
        length = len(packet.payload) + (flags & SYN != 0) + (flags & FIN)
        ahead = distance(sequence, expected)
        if ahead and not (-length < ahead < RECEIVE_WINDOW):
            if not flags & RST and self._may_answer(now):
                self._send(ACK, self._start + 1, now)
            return
        if flags & (RST | SYN):
            if not flags & RST:
                self._host.refuse(packet, now)
            self._host.forget(self)
        elif flags & ACK:
            self._complete(packet, now)

    def receive_error(self, packet: Packet, now: float) -> None:
        """An ICMP error about our SYN-ACK has come."""
        assert packet.quoted is not None
        if packet.quoted.sequence == self._start and packet.reason in FATAL_TO_HALF_OPEN[packet.version]:
            self._host.forget(self)

    def expire(self, now: float) -> None:
        """The timer has run out."""
        if self._repetitions >= MOST_REPETITIONS or not self._listener.open:
            self._host.forget(self)
            return
        self._repetitions += 1
        self._send(SYN | ACK, self._start, now)
        self._host.arm(self, now + 2.0**self._repetitions)

    def _complete(self, packet: Packet, now: float) -> None:
        listener = self._listener
        connection = Connection(self._host, self.ends, self._port, listener.handler, listener.ttl, listener.minimum_ttl)
        self.due_at = NEVER
        self._host.hold(connection)
        connection.take_over(self._start, packet, None if self._repetitions else now - self._sent_at)
        connection.handler(connection, _ACCEPTED, now)
        connection.receive(packet, now)

    def _may_answer(self, now: float) -> bool:
        """Not too often (``tcp_oow_rate_limited``)."""
        if now - self._out_of_place_at < ACK_PAUSE:
            return False
        self._out_of_place_at = now
        return True

    def _send(self, flags: int, sequence: int, now: float) -> None:
        local, local_port, remote, remote_port = self.ends
        packet = tcp_packet(
            local,
            local_port,
            remote,
            remote_port,
            flags,
            sequence=sequence,
            acknowledgement=self._their_start + 1,
            ttl=self._listener.ttl,
        )
        self._host.transmit(self._port, packet, now)
