"""The network a blueprint describes: nodes, the links between them, and what is under way. Pure.

Whoever drives it gives it packets (``inject``) and the time (``run_until``). It gives packets that reach a node without
a machine, a host that is a network namespace for example, to ``deliver``. Everything happens at the instant it is due,
not at the instant the driver found the time for it, so delays do not add up the driver's lateness.

A link without delay is crossed at once, in a loop: the packet is at the other end of the network when ``inject``
returns.
"""

from __future__ import annotations

import heapq
from collections import deque
from enum import StrEnum
from itertools import count
from typing import TYPE_CHECKING

from midair.lab.blueprint import HostPart, KernelPart, NatPart, RouterPart
from midair.lab.link import Link
from midair.lab.node import NEVER
from midair.lab.packet import SYN, IcmpReason, Packet, address_bytes, icmp_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from midair.lab.behaviour import LinkBehaviour
    from midair.lab.blueprint import Blueprint
    from midair.lab.node import Emission, Node

__all__ = ["Direction", "Network", "Part", "Port"]

Part = RouterPart | NatPart | HostPart | KernelPart
"""A node of a blueprint."""


class Direction(StrEnum):
    """Which way a packet passes a port; what is lost on a link is sent and not received."""

    SENT = "sent"
    RECEIVED = "received"


class Port:
    """One end of a cable, at a node."""

    __slots__ = ("far", "link", "number", "station")

    def __init__(self, station: _Station, number: int, link: Link) -> None:
        self.station = station
        self.number = number
        self.link = link
        """Towards the other end."""
        self.far: Port = self


class _Station:
    """A node in its place."""

    __slots__ = ("addresses", "due", "machine", "name", "ports")

    def __init__(self, name: str, machine: Node | None) -> None:
        self.name = name
        self.machine = machine
        self.addresses: tuple[bytes, ...] = ()
        """From which it sends ICMP errors."""
        self.ports: dict[int, Port] = {}
        self.due = NEVER
        """The earliest instant at which the agenda has its tick."""


class Network:
    """All nodes of a blueprint, joined by its cables.

    ``make_node`` makes the machine of a part, or returns None for a node that is played by somebody else.
    ``now`` never goes back from one call to the next.

    Raises: ValueError for a cable to a node that does not exist, or for two cables in one port.
    """

    def __init__(self, blueprint: Blueprint, make_node: Callable[[Part], Node | None], random: Random) -> None:
        self.deliver: Callable[[str, int, Packet, float], object] = _lose
        """Called with what reaches a node without a machine: its name, its port, the packet and the time."""
        self.observer: Callable[[str, int, Packet, float, Direction], object] | None = None
        """Called with everything that leaves or reaches a node, before the node can change it."""
        self._make_node = make_node
        self._random = random
        self._stations: dict[str, _Station] = {}
        self._cables: list[tuple[Port, Port]] = []
        self._agenda: list[tuple[float, int, Port | None, Packet | _Station]] = []
        """What is to happen, as a heap: a packet arrives at a port, or a node without port has its tick."""
        self._numbers = count()
        parts: tuple[Part, ...] = (*blueprint.routers, *blueprint.nats, *blueprint.hosts, *blueprint.kernels)
        for part in parts:
            self._place(part)
        for cable in blueprint.cables:
            near = self._plug(cable.node, cable.port, cable.there)
            far = self._plug(cable.other_node, cable.other_port, cable.back)
            near.far, far.far = far, near
            self._cables.append((near, far))

    # -- driving --

    @property
    def wake_at(self) -> float:
        """When ``run_until`` has something to do; NEVER if nothing is under way."""
        return self._agenda[0][0] if self._agenda else NEVER

    def inject(self, node: str, port: int, packet: Packet, now: float) -> None:
        """A packet leaves ``node`` by ``port``; it is the network's from then on. Raises: LookupError."""
        self.send(self.port(node, port), packet, now)

    def port(self, node: str, port: int) -> Port:
        """The handle of a port, for ``send``. Raises: LookupError."""
        try:
            return self._stations[node].ports[port]
        except KeyError:
            raise LookupError(f"no cable is plugged into port {port} of {node}") from None

    def send(self, port: Port, packet: Packet, now: float) -> None:
        """As ``inject``."""
        self._carry(port, packet, now)
        if port.station.machine is not None:
            self._schedule(port.station)

    def run_until(self, now: float) -> None:
        """Does everything that is due until ``now``, in order of time."""
        agenda = self._agenda
        while agenda and agenda[0][0] <= now:
            due, _, port, what = heapq.heappop(agenda)
            if port is not None:
                assert isinstance(what, Packet)
                self._forward(port.station, self._receive(port, what, due), due)
            else:
                assert isinstance(what, _Station)
                self._tick(what, due)

    def reschedule(self, node: str) -> None:
        """To be called when somebody else than the network has changed a node, so that its tick may be due earlier.
        Raises: LookupError."""
        self._schedule(self._station(node))

    # -- changing --

    def set_link(
        self,
        where: int | tuple[str, int],
        *,
        there: LinkBehaviour | None = None,
        back: LinkBehaviour | None = None,
    ) -> None:
        """Changes a cable, named by its index in the blueprint or by a node and its port; None leaves a direction as it
        is. ``there`` is the direction from the cable's first node, or from the node named. Raises: LookupError."""
        if isinstance(where, int):
            if not 0 <= where < len(self._cables):
                raise LookupError(f"there is no cable {where}")
            near, far = self._cables[where]
        else:
            near = self.port(*where)
            far = near.far
        if there is not None:
            near.link.behaviour = there
        if back is not None:
            far.link.behaviour = back

    def replace(self, part: Part) -> None:
        """Puts a new machine in the place of the node of that name: other addresses, other routes, an empty table.
        Raises: LookupError."""
        station = self._station(part.name)
        station.machine = self._make_node(part)
        station.addresses = _addresses_of(part)
        if station.machine is not None:
            self._schedule(station)

    def node(self, name: str) -> Node | None:
        """The machine of a node. Raises: LookupError."""
        return self._station(name).machine

    # -- inside --

    def _station(self, name: str) -> _Station:
        if name not in self._stations:
            raise LookupError(f"there is no node {name}")
        return self._stations[name]

    def _place(self, part: Part) -> None:
        if part.name in self._stations:
            raise ValueError(f"two nodes are called {part.name}")
        station = self._stations[part.name] = _Station(part.name, self._make_node(part))
        station.addresses = _addresses_of(part)

    def _plug(self, node: str, number: int, behaviour: LinkBehaviour) -> Port:
        station = self._stations.get(node)
        if station is None:
            raise ValueError(f"a cable leads to {node}, which does not exist")
        if number in station.ports:
            raise ValueError(f"port {number} of {node} has two cables")
        port = station.ports[number] = Port(station, number, Link(behaviour, self._random))
        return port

    def _carry(self, port: Port, packet: Packet, now: float) -> None:
        """A packet leaves by a port, and what follows from that, for as long as it takes no time."""
        departures: deque[tuple[Port, Packet]] | None = None
        while True:
            raw, link = packet.raw, port.link
            if link.plain and raw is not None and len(raw) <= link.mtu and not packet.flags & SYN and not self.observer:
                far: Port | None = port.far  # most packets, and this is most of what _depart would do
            else:
                far = self._depart(port, packet, now)
            if far is not None:
                station = far.station
                if (machine := station.machine) is None or self.observer is not None:
                    emissions = self._receive(far, packet, now)
                else:
                    emissions = machine.receive(packet, far.number, now)
                    if machine.wake_at < station.due:
                        self._schedule(station)
                if departures is None and len(emissions) == 1:
                    number, packet = emissions[0]
                    port = station.ports[number]
                    continue
                if emissions:
                    departures = departures or deque()
                    departures.extend([(station.ports[number], emitted) for number, emitted in emissions])
            if not departures:
                return
            port, packet = departures.popleft()

    def _depart(self, port: Port, packet: Packet, now: float) -> Port | None:
        """Sends a packet by a link; returns the port it is at now, None when it will be there later or never."""
        if self.observer is not None:
            self.observer(port.station.name, port.number, packet, now, Direction.SENT)
        link = port.link
        if packet.segment_length > link.mtu:
            self._refuse(port, packet, now)
            return None
        arrival = link.send(now, packet)
        if arrival is None:
            return None
        if arrival > now:
            heapq.heappush(self._agenda, (arrival, next(self._numbers), port.far, packet))
            return None
        return port.far

    def _receive(self, port: Port, packet: Packet, now: float) -> Sequence[Emission]:
        """Hands a packet to the node it has reached."""
        station = port.station
        if self.observer is not None:
            self.observer(station.name, port.number, packet, now, Direction.RECEIVED)
        machine = station.machine
        if machine is None:
            self.deliver(station.name, port.number, packet, now)
            return ()
        emissions = machine.receive(packet, port.number, now)
        if machine.wake_at < station.due:
            self._schedule(station)
        return emissions

    def _forward(self, station: _Station, emissions: Sequence[Emission], now: float) -> None:
        for number, packet in emissions:
            self._carry(station.ports[number], packet, now)

    def _refuse(self, port: Port, packet: Packet, now: float) -> None:
        """A packet is larger than the link's MTU. The node that sent it gets the ICMP error as though it came from the
        link (RFC 1191 4, RFC 8201), and hands it on to whom it concerns: so a NAT translates it as it does any other.
        """
        if packet.may_be_fragmented or packet.is_icmp_error:
            return
        station = port.station
        senders = (*station.addresses, *port.far.station.addresses, packet.destination)
        sender = next(address for address in senders if len(address) == len(packet.source))
        error = icmp_error(IcmpReason.TOO_BIG, packet, sender=sender, mtu=port.link.mtu)
        self._forward(station, self._receive(port, error, now), now)

    def _tick(self, station: _Station, due: float) -> None:
        if due != station.due:
            return  # an earlier instant was found since
        station.due = NEVER
        machine = station.machine
        if machine is None:
            return
        if machine.wake_at <= due:
            self._forward(station, machine.tick(due), due)
        self._schedule(station)

    def _schedule(self, station: _Station) -> None:
        """Sees to it that the agenda has the tick of a node in time."""
        assert station.machine is not None
        wake_at = station.machine.wake_at
        if wake_at < station.due:
            station.due = wake_at
            heapq.heappush(self._agenda, (wake_at, next(self._numbers), None, station))


def _lose(node: str, port: int, packet: Packet, now: float) -> None:
    """Nobody takes what is delivered."""


def _addresses_of(part: Part) -> tuple[bytes, ...]:
    if isinstance(part, RouterPart):
        texts = part.addresses
    elif isinstance(part, NatPart):
        texts = (*part.inside, *part.outside)
    else:
        texts = ()
    return tuple(map(address_bytes, texts))
