"""The plain puncher in the simulated net."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from midair.lab.network import Direction
from midair.lab.puncher.machine import (
    Accepted,
    Command,
    Dial,
    Event,
    Failed,
    Listen,
    Opened,
    Puncher,
    Received,
    Send,
    Started,
    Stop,
    Tick,
    WakeAt,
)
from midair.lab.puncher.reflection import REFLECTOR_PORT, endpoint_text, from_reply, reply_to
from midair.lab.puncher.story import EndStory, Punch
from midair.lab.simulation import Simulation
from midair.lab.simulation import happenings as socket

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midair.lab.blueprint import Blueprint
    from midair.lab.packet import Packet
    from midair.lab.puncher.reflection import Endpoint
    from midair.lab.simulation import Connection, Happening, Listener

__all__ = ["play"]

REFLECTION_SECONDS: Final = 10.0
"""How long the server may take to answer."""
LEAD_SECONDS: Final = 0.1
"""From when both ends know each other's endpoint to the first start."""


def play(
    blueprint: Blueprint,
    *,
    skew: float = 0.0,
    seed: int = 0,
    hosts: tuple[str, str] = ("a", "b"),
    server: str = "server",
    version: int = 4,
    explain: bool = True,
) -> Punch:
    """One try of a pair. ``b`` starts ``skew`` seconds after ``a``, or before if negative; ``version`` is that of IP.

    To ``explain`` it, a try that fails is played once more, with somebody watching where the SYNs leave the NATs.

    Raises: ValueError for a blueprint with a Linux router in it; KeyError for a host that is not there.
    """
    punch = _Play(blueprint, skew, seed, hosts, server, version).run()
    if explain and not punch.through:
        punch = _Play(blueprint, skew, seed, hosts, server, version, watched=True).run()
    return punch


class _Play:
    def __init__(
        self,
        blueprint: Blueprint,
        skew: float,
        seed: int,
        hosts: tuple[str, str],
        server: str,
        version: int,
        *,
        watched: bool = False,
    ) -> None:
        self._simulation = Simulation(blueprint, seed)
        self._skew = skew
        reflector = self._simulation.host(server)
        reflector.listen(REFLECTOR_PORT, _reflect, version=version)
        self._reflector = (reflector.addresses(version)[0], REFLECTOR_PORT)
        a, b = (_End(self, self._simulation, host, version) for host in hosts)
        self._ends = (a, b)
        self._edges = _edges(blueprint) if watched else frozenset()
        if watched:
            self._simulation.network.observer = self._watch
            for end in self._ends:
                end.expect_to_be_watched()

    def run(self) -> Punch:
        a, b = self._ends
        for end in self._ends:
            end.ask(self._reflector)
        self._simulation.run(REFLECTION_SECONDS)
        started = self._simulation.now
        if a.seen is not None and b.seen is not None:
            first = started + LEAD_SECONDS
            a.start(first + max(0.0, -self._skew), b.seen)
            b.start(first + max(0.0, self._skew), a.seen)
            self._simulation.run(first + abs(self._skew) + 60.0)
            started = first
        return Punch(a=a.story(started), b=b.story(started))

    def changed(self) -> None:
        """An end has come to something: is that all this run is about?"""
        a, b = self._ends
        if a.is_done and b.is_done:
            self._simulation.stop()

    def _watch(self, node: str, port: int, packet: Packet, now: float, direction: Direction) -> None:
        if packet.is_syn and direction is Direction.SENT and (node, port) in self._edges:
            for end in self._ends:
                end.watch(packet)


class _End:
    """One end: a host, a puncher and its sockets."""

    def __init__(self, play: _Play, simulation: Simulation, name: str, version: int) -> None:
        self.seen: Endpoint | None = None
        self._play = play
        self._simulation = simulation
        self._host = simulation.host(name)
        self._version = version
        self._puncher = Puncher("pair", name)
        self._connections: dict[str, Connection] = {}
        self._dialled: list[Connection] = []
        self._listener: Listener | None = None
        self._local: Endpoint = (b"", 0)
        self._peer: Endpoint | None = None
        self._started_at = 0.0
        self._wake_at = 0.0
        self._accepted = 0
        self._sources: dict[Endpoint, None] | None = None

    @property
    def is_done(self) -> bool:
        """With what it is at: asking, or punching."""
        return self._puncher.over if self._peer is not None else self.seen is not None

    def ask(self, reflector: Endpoint) -> None:
        """Asks the server where it sees us, and takes a port by that. The connection stays open: it keeps the NAT's
        entry alive."""
        try:
            connection = self._host.dial(reflector, self._hear_reflector, now=self._simulation.now)
        except OSError:
            return
        self._local = connection.local

    def start(self, at: float, peer: Endpoint) -> None:
        self._peer, self._started_at = peer, at
        self._simulation.at(at, lambda now: self._tell(Started(), now))

    def expect_to_be_watched(self) -> None:
        self._sources = {}

    def watch(self, packet: Packet) -> None:
        """A SYN has left the NATs."""
        if (packet.destination, packet.destination_port) == self._peer:
            assert self._sources is not None
            self._sources[packet.source, packet.source_port] = None

    def story(self, started: float) -> EndStory:
        return EndStory(
            name=self._puncher.name,
            started=max(0.0, self._started_at - started),
            local=endpoint_text(self._local) if self._local[1] else "",
            seen=endpoint_text(self.seen) if self.seen is not None else "",
            towards_peer=None if self._sources is None else tuple(map(endpoint_text, self._sources)),
            syns=sum(connection.syns for connection in self._dialled),
            notes=tuple(self._puncher.notes),
            heard=tuple(self._puncher.heard.items()),
        )

    def _hear_reflector(self, connection: Connection, happening: Happening, now: float) -> None:
        if isinstance(happening, socket.Received) and self.seen is None:
            self.seen = from_reply(happening.data)
            self._play.changed()

    def _tell(self, event: Event, now: float) -> None:
        for command in self._puncher.handle(event, now):
            self._carry_out(command, now)
        if self._puncher.over:
            self._play.changed()

    def _carry_out(self, command: Command, now: float) -> None:
        match command:
            case Dial(id=key):
                self._dial(key, now)
            case Send(id=key, data=data):
                self._connections[key].send(data, now)
            case WakeAt(at=at):
                self._wake_at = at
                self._simulation.at(at, self._wake)
            case Listen():
                self._listener = self._host.listen(self._local[1], self._hear_listener, version=self._version)
            case Stop():
                if self._listener is not None:
                    self._listener.close()
                for connection in self._connections.values():
                    connection.close(now)

    def _dial(self, key: str, now: float) -> None:
        assert self._peer is not None
        source, number = self._local

        def hear(connection: Connection, happening: Happening, now: float) -> None:
            self._hear(key, happening, now)

        try:
            connection = self._host.dial(self._peer, hear, now=now, number=number, source=source)
        except OSError as error:
            self._tell(Failed(key, errno.errorcode[error.errno or 0]), now)
            return
        self._connections[key] = connection
        self._dialled.append(connection)

    def _hear_listener(self, connection: Connection, happening: Happening, now: float) -> None:
        self._accepted += 1
        key = f"accept-{self._accepted}"

        def hear(connection: Connection, happening: Happening, now: float) -> None:
            self._hear(key, happening, now)

        connection.handler = hear
        self._connections[key] = connection
        self._tell(Accepted(key), now)

    def _hear(self, key: str, happening: Happening, now: float) -> None:
        match happening:
            case socket.Opened():
                self._tell(Opened(key), now)
            case socket.Received(data=data):
                self._tell(Received(key, data), now)
            case socket.Failed(error=error):
                del self._connections[key]
                self._tell(Failed(key, errno.errorcode[error]), now)
            case socket.Ended():
                self._connections.pop(key).close(now)
                self._tell(Failed(key, "closed"), now)
            case socket.Accepted():
                raise AssertionError("only a listener hears this")

    def _wake(self, now: float) -> None:
        if now == self._wake_at:
            self._tell(Tick(), now)


def _reflect(connection: Connection, happening: Happening, now: float) -> None:
    """The server: says where it sees who comes."""
    match happening:
        case socket.Accepted():
            connection.send(reply_to(connection.remote), now)
        case socket.Ended():
            connection.close(now)
        case _:
            pass


def _edges(blueprint: Blueprint) -> frozenset[tuple[str, int]]:
    """The ports of nodes that lead to a router."""
    routers = {router.name for router in blueprint.routers}
    ends: Sequence[tuple[str, int, str]] = [
        end
        for cable in blueprint.cables
        for end in ((cable.node, cable.port, cable.other_node), (cable.other_node, cable.other_port, cable.node))
    ]
    return frozenset((node, port) for node, port, other in ends if other in routers and node not in routers)
