"""A simulated host: addresses, routes, and a TCP stack as Linux has it. Pure.

As with SO_REUSEADDR and SO_REUSEPORT on every socket, a port may have any number of connections and a listener for each
IP version beside them; only the 4-tuple of two addresses and two ports is taken by one at a time.
"""

from __future__ import annotations

import errno
import heapq
import os
from functools import lru_cache
from ipaddress import ip_interface
from itertools import count
from typing import TYPE_CHECKING, Final, Protocol

from midair.lab.node import NEVER
from midair.lab.packet import ACK, FIN, RST, SYN, TCP, echo_reply, tcp_packet
from midair.lab.router import RoutingTable
from midair.lab.simulation.connection import Connection
from midair.lab.simulation.listener import HalfOpen, Listener
from midair.lab.simulation.reassembly import MASK
from midair.lab.simulation.state import TIME_WAIT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from midair.lab.blueprint import HostPart, Interface
    from midair.lab.node import Emission
    from midair.lab.packet import Packet
    from midair.lab.simulation.happenings import Handler

__all__ = ["Endpoint", "Ends", "SimulatedHost"]

Endpoint = tuple[bytes, int]
"""An address, packed, and a port."""
Ends = tuple[bytes, int, bytes, int]
"""The 4-tuple of a connection: local address and port, remote address and port."""

DEFAULT_TTL: Final = 64
EPHEMERAL_PORTS: Final = (32768, 60999)
"""``net.ipv4.ip_local_port_range``."""
SEQUENCE_RATE: Final = 15_625_000
"""Initial sequence numbers grow by so much a second (Linux, ``seq_scale``: one in 64 ns)."""
LOOPBACK: Final = -1
"""The port of what a host sends to itself."""


class Timed(Protocol):
    """What has a timer."""

    due_at: float
    queued_at: float

    def expire(self, now: float) -> None: ...


class SimulatedHost:
    """A node of the network; the port of an interface is its index. Times are in seconds on the network's clock."""

    def __init__(self, part: HostPart, random: Random) -> None:
        self.name = part.name
        self.on_change: Callable[[], object] = _nobody
        """Called when an application, not a packet or the time, has made ``wake_at`` earlier."""
        self.wake_at = NEVER
        self.due_at = NEVER
        self.queued_at = NEVER
        self._random = random
        self._connections: dict[Ends, Connection | HalfOpen] = {}
        self._listeners: dict[tuple[int, int], Listener] = {}
        self._emissions: list[Emission] = []
        self._own: list[Packet] = []
        """Sent to ourselves and not received yet."""
        self._timers: list[tuple[float, int, Timed]] = []
        self._numbers = count()
        self._busy = False
        """A packet or the time is being dealt with: what is to be sent is returned when that is over."""
        self._sequence_offset = random.getrandbits(32)
        self._places: Places
        self.replace_interfaces(part.interfaces)

    # -- what an application does --

    def addresses(self, version: int = 4) -> list[bytes]:
        """Its own, in the order of its interfaces."""
        return [address for address in self._places.interfaces if len(address) == (4 if version == 4 else 16)]

    def listen(
        self, number: int, handler: Handler, *, version: int = 4, ttl: int = DEFAULT_TTL, minimum_ttl: int = 0
    ) -> Listener:
        """Listens on a port, at every address of an IP version.

        Raises: OSError, EADDRINUSE if somebody listens there already.
        """
        if (version, number) in self._listeners:
            raise _error(errno.EADDRINUSE)
        listener = self._listeners[version, number] = Listener(self, version, number, handler, ttl, minimum_ttl)
        return listener

    def dial(
        self,
        remote: Endpoint,
        handler: Handler,
        *,
        now: float,
        number: int = 0,
        source: bytes = b"",
        ttl: int = DEFAULT_TTL,
        minimum_ttl: int = 0,
    ) -> Connection:
        """Sends a SYN from port ``number`` (0: one that is free) and an address (empty: that of the route).

        Raises: OSError at once, as connect() does: ENETUNREACH without a route, EADDRNOTAVAIL if the 4-tuple is taken
        or the address is not ours.
        """
        address, remote_port = remote
        if source and source not in self._places.interfaces:
            raise _error(errno.EADDRNOTAVAIL)
        port = self.port_towards(address, source)
        if port is None:
            raise _error(errno.ENETUNREACH)
        if not source:
            source = address if port == LOOPBACK else self._places.sources[port, len(address)]
        ends = (source, number or self._free_port(source, remote), address, remote_port)
        start = self.initial_sequence(ends, now)
        known = self._connections.get(ends)
        if known is not None:
            if not isinstance(known, Connection) or known.state is not TIME_WAIT:
                raise _error(errno.EADDRNOTAVAIL)
            start = known.following_start
        connection = self._connections[ends] = Connection(self, ends, port, handler, ttl, minimum_ttl)
        connection.dial(start, now)
        return connection

    @property
    def connections(self) -> list[Connection | HalfOpen]:
        """All there are, in whatever state."""
        return list(self._connections.values())

    def replace_interfaces(self, interfaces: tuple[Interface, ...]) -> None:
        """Other addresses and routes from now on. Connections of an address that is gone hear nothing any more."""
        self._places = _places(interfaces)

    # -- a node --

    def receive(self, packet: Packet, port: int, now: float) -> Sequence[Emission]:
        if packet.destination not in self._places.interfaces:
            return ()
        self._busy = True
        if packet.protocol == TCP:
            self._receive_segment(packet, now)
        elif packet.quoted is not None:
            self._receive_error(packet, packet.quoted, now)
        elif packet.is_echo_request:
            self._emissions.append((port, echo_reply(packet)))
        self._busy = False
        return self.take()

    def tick(self, now: float) -> Sequence[Emission]:
        self._busy = True
        timers = self._timers
        while timers and timers[0][0] <= now:
            at, _, timed = heapq.heappop(timers)
            if timed.queued_at != at:
                continue
            timed.queued_at = NEVER
            if timed.due_at <= now:
                timed.due_at = NEVER
                timed.expire(now)
            elif timed.due_at != NEVER:
                self.arm(timed, timed.due_at)
        self.wake_at = timers[0][0] if timers else NEVER
        self._busy = False
        return self.take()

    def take(self) -> Sequence[Emission]:
        """What an application has caused to be sent; ``tick`` returns it too, at the same instant."""
        emissions = self._emissions
        if emissions:
            self._emissions = []
        return emissions

    # -- what connections and listeners do --

    def transmit(self, port: int, packet: Packet, now: float) -> None:
        """Sends a packet."""
        if port == LOOPBACK:
            self._own.append(packet)
            self.arm(self, now)
            return
        self._emissions.append((port, packet))
        if not self._busy:
            self.arm(self, now)

    def arm(self, timed: Timed, at: float) -> None:
        """Sets the timer of a connection, or stops it (NEVER)."""
        timed.due_at = at
        if at < timed.queued_at:
            # The entry that is there already, if any, is skipped when its time comes.
            timed.queued_at = at
            heapq.heappush(self._timers, (at, next(self._numbers), timed))
            if at < self.wake_at:
                self.wake_at = at
                if not self._busy:
                    self.on_change()

    def expire(self, now: float) -> None:
        """Receives what was sent to ourselves."""
        own, self._own = self._own, []
        for packet in own:
            self._receive_segment(packet, now)

    def hold(self, entry: Connection | HalfOpen) -> None:
        """Has the segments of a 4-tuple go there from now on."""
        self._connections[entry.ends] = entry

    def forget(self, entry: Connection | HalfOpen) -> None:
        """Ends that. Idempotent."""
        if self._connections.get(entry.ends) is entry:
            del self._connections[entry.ends]
        entry.due_at = NEVER

    def stop_listening(self, listener: Listener) -> None:
        """The listener is closed."""
        self._listeners.pop((listener.version, listener.number), None)

    def listener_for(self, packet: Packet) -> Listener | None:
        """Who listens at the port a packet goes to."""
        return self._listeners.get((packet.version, packet.destination_port))

    def receive_unknown(self, packet: Packet, ends: Ends, now: float) -> None:
        """A segment of no connection: a listener's, or nobody's."""
        listener = self.listener_for(packet)
        if listener is not None:
            listener.receive(packet, ends, now)
        else:
            self.refuse(packet, now)

    def refuse(self, packet: Packet, now: float) -> None:
        """Answers a segment that should not have come by a RST (RFC 9293 3.10.7.1)."""
        flags = packet.flags
        if flags & RST:
            return
        port = self.port_towards(packet.source, packet.destination)
        if port is None:
            return
        if flags & ACK:
            answer, sequence, acknowledgement = RST, packet.acknowledgement, 0
        else:
            answer, sequence = RST | ACK, 0
            acknowledgement = packet.sequence + len(packet.payload) + (flags & SYN != 0) + (flags & FIN)
        reset = tcp_packet(
            packet.destination,
            packet.destination_port,
            packet.source,
            packet.source_port,
            answer,
            sequence=sequence,
            acknowledgement=acknowledgement,
            ttl=DEFAULT_TTL,
        )
        self.transmit(port, reset, now)

    def initial_sequence(self, ends: Ends, now: float) -> int:
        """Of a new connection: RFC 6528, with the clock of Linux, and without a secret."""
        _, local_port, remote, remote_port = ends
        of_the_ends = (
            local_port * 0x9E3779B1 + remote_port * 0x85EBCA77 + int.from_bytes(remote[-4:], "big") * 0xC2B2AE3D
        )
        return (self._sequence_offset + of_the_ends + int(now * SEQUENCE_RATE)) & MASK

    def port_towards(self, remote: bytes, source: bytes) -> int | None:
        """The interface by which packets to somebody leave: that of the source address if it leads there (as with a
        routing table for each address), else the one with the longest prefix. None: there is no route."""
        return self._places.port_towards(remote, source)

    # -- inside --

    def _receive_segment(self, packet: Packet, now: float) -> None:
        ends = (packet.destination, packet.destination_port, packet.source, packet.source_port)
        connection = self._connections.get(ends)
        if connection is not None:
            connection.receive(packet, now)
        else:
            self.receive_unknown(packet, ends, now)

    def _receive_error(self, packet: Packet, quoted: Packet, now: float) -> None:
        if quoted.protocol == TCP:
            ends = (quoted.source, quoted.source_port, quoted.destination, quoted.destination_port)
            connection = self._connections.get(ends)
            if connection is not None:
                connection.receive_error(packet, now)

    def _free_port(self, source: bytes, remote: Endpoint) -> int:
        while True:
            number = self._random.randint(*EPHEMERAL_PORTS)
            if (source, number, *remote) not in self._connections and (4, number) not in self._listeners:
                return number


class Places:
    """What an interface's addresses and routes come to."""

    __slots__ = ("_known", "_table", "_tables", "interfaces", "sources")

    def __init__(self, interfaces: tuple[Interface, ...]) -> None:
        self.interfaces: dict[bytes, int] = {}
        """By address: the interface that has it."""
        self.sources: dict[tuple[int, int], bytes] = {}
        """By interface and length of address: the first that it has."""
        self._known: dict[tuple[bytes, bytes], int | None] = {}
        routes: list[tuple[str, int]] = []
        for port, interface in enumerate(interfaces):
            for text in interface.addresses:
                address = ip_interface(text)
                self.interfaces.setdefault(address.packed, port)
                self.sources.setdefault((port, len(address.packed)), address.packed)
                routes.append((str(address.network), port))
            routes += [(prefix, port) for prefix in interface.routes]
        self._table = RoutingTable(routes)
        self._tables = [
            RoutingTable([route for route in routes if route[1] == port]) for port in range(len(interfaces))
        ]

    def port_towards(self, remote: bytes, source: bytes) -> int | None:
        key = (remote, source)
        if key not in self._known:
            self._known[key] = self._look_up(remote, source)
        return self._known[key]

    def _look_up(self, remote: bytes, source: bytes) -> int | None:
        if remote in self.interfaces:
            return LOOPBACK
        port = self._tables[self.interfaces[source]].port_towards(remote) if source in self.interfaces else None
        if port is None:
            port = self._table.port_towards(remote)
        return port if port is not None and (port, len(remote)) in self.sources else None


@lru_cache(maxsize=4096)
def _places(interfaces: tuple[Interface, ...]) -> Places:
    return Places(interfaces)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _nobody() -> None:
    """Somebody looks at ``wake_at`` himself."""
