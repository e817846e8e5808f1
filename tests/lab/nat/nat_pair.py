"""Two hosts, each behind NATs of its own, 50 ms apart, and what passes between them. Enough of TCP to open a hole."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Final

from nat_bench import Endpoint, ends
from packet_checks import verify

from midair.lab.behaviour import NatBehaviour
from midair.lab.blueprint import NatPart
from midair.lab.nat import Nat
from midair.lab.node import INSIDE_PORT, NEVER, OUTSIDE_PORT
from midair.lab.packet import ACK, RST, SYN, TCP, Packet, address_bytes, parse, tcp_packet

__all__ = ["Pair", "Side"]

ONE_WAY: Final = 0.05
PORT: Final = 5000


@dataclass
class Socket:
    """One connection of a host."""

    remote: Endpoint
    sequence: int
    state: str
    accepted: bool = False
    """By the listener, whose request holds the endpoints from the SYN on."""


@dataclass
class Side:
    """A host that dials, listens on the same port if told so, and dials again 200 ms after an error."""

    address: str
    peer: Endpoint
    """Where it believes the other to be."""
    public: str
    """The address by which the wire finds it."""
    nats: list[Nat]
    """From the inside out."""
    listens: bool
    random: random.Random
    sockets: dict[Endpoint, Socket] = field(default_factory=dict)
    """By remote endpoint: the local one is always the same."""
    errors: int = 0

    @property
    def established(self) -> list[Socket]:
        return [socket for socket in self.sockets.values() if socket.state == "established"]

    def dial(self) -> list[Packet]:
        """Nothing when the endpoints are taken (EADDRNOTAVAIL)."""
        if self.peer in self.sockets:
            return []
        self.sockets[self.peer] = Socket(self.peer, self.random.getrandbits(32), "syn sent")
        return [self._segment(self.sockets[self.peer], SYN)]

    def repeat(self, syn: Packet) -> list[Packet]:
        """The retransmission timer of a SYN has fired."""
        socket = self.sockets.get(ends(syn)[1])
        return [syn.copy()] if socket and (socket.state, socket.sequence) == ("syn sent", syn.sequence) else []

    def take(self, packet: Packet) -> tuple[list[Packet], bool]:
        """What it answers, and whether this was an error to the socket that dials."""
        about = packet.quoted
        remote = ends(about)[1] if about else ends(packet)[0]
        socket = self.sockets.get(remote)
        if about or packet.flags & RST:
            if socket is None or socket.state == "established":
                return [], False
            if socket.state == "syn received" and about:
                return [], False
            del self.sockets[remote]
            self.errors += 1
            return [], not socket.accepted
        if packet.is_syn:
            if socket is None and self.listens:
                socket = Socket(remote, self.random.getrandbits(32), "syn received", accepted=True)
                self.sockets[remote] = socket
            if socket is None or socket.state == "established":
                return [], False
            socket.state = "syn received"
            return [self._segment(socket, SYN | ACK)], False
        if socket is None or not packet.flags & ACK:
            return [], False
        answers = [self._segment(socket, ACK)] if socket.state == "syn sent" else []
        socket.state = "established"
        return answers, False

    def _segment(self, socket: Socket, flags: int) -> Packet:
        return tcp_packet(
            address_bytes(self.address),
            PORT,
            address_bytes(socket.remote[0]),
            socket.remote[1],
            flags,
            sequence=socket.sequence,
            acknowledgement=1 if flags & ACK else 0,
        )


@dataclass
class Pair:
    """Both sides, and the wire between them."""

    a: NatBehaviour | Sequence[NatBehaviour]
    b: NatBehaviour | Sequence[NatBehaviour]
    skew: float = 0.0
    """Seconds by which b begins later."""
    listen: bool = True
    ipv6: bool = False
    seed: int = 1
    now: float = 0.0
    wire: list[tuple[float, str, Packet]] = field(default_factory=list)
    """What has passed between the outermost NATs: when it was sent, by which side, and what."""

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._events: list[tuple[float, int, str, Side, Packet | None]] = []
        self._count = count()
        self.side_a = self._side("a", 1, self.a)
        self.side_b = self._side("b", 2, self.b)
        self._nats = [*self.side_a.nats, *self.side_b.nats]
        for side, start in ((self.side_a, 0.0), (self.side_b, self.skew)):
            self._plan(start, "dial", side)

    def run(self, seconds: float) -> Pair:
        """Plays it."""
        while True:
            woken = min((nat.wake_at, number, nat) for number, nat in enumerate(self._nats))
            event = self._events[0] if self._events else (NEVER, 0, "", self.side_a, None)
            self.now = min(event[0], woken[0])
            if self.now > seconds:
                self.now = seconds
                return self
            if woken[0] < event[0]:
                for port, answer in woken[2].tick(self.now):
                    assert port == OUTSIDE_PORT
                    self._cross(self.side_a if woken[2] in self.side_a.nats else self.side_b, answer)
                continue
            _, _, what, side, packet = heappop(self._events)
            if packet is None or what == "repeat":
                for syn in side.dial() if packet is None else side.repeat(packet):
                    self._plan(self.now + (1.0 if packet is None else 2.0), "repeat", side, syn.copy())
                    self._emit(side, [syn])
            else:
                self._through(side, len(side.nats) - 1, OUTSIDE_PORT, packet)

    @property
    def connected(self) -> bool:
        """At both ends."""
        return bool(self.side_a.established and self.side_b.established)

    def sent(self, name: str) -> list[str]:
        """The kinds of packets a side has put on the wire."""
        return [kind(packet) for _, who, packet in self.wire if who == name]

    def _side(self, name: str, number: int, behaviours: NatBehaviour | Sequence[NatBehaviour]) -> Side:
        chain = [behaviours] if isinstance(behaviours, NatBehaviour) else behaviours
        if self.ipv6:
            address, peer = f"2001:db8:{number}::2", f"2001:db8:{3 - number}::2"
        elif chain and chain[-1].translates:
            address, peer = "10.0.0.2", f"198.51.100.{3 - number}"
        else:
            address, peer = f"198.51.100.{number}", f"198.51.100.{3 - number}"
        nats = []
        for level, behaviour in enumerate(chain):
            outermost = level == len(chain) - 1
            outside = f"198.51.100.{number}" if outermost else f"10.0.{level + 1}.2"
            network = f"10.0.{level}.0/24" if behaviour.translates else f"{outside}/32"
            part = NatPart(
                name=f"{name}.{level}",
                behaviour=behaviour,
                outside=(outside if behaviour.translates else f"192.0.2.{number}", f"2001:db8:f{number}::1"),
                inside=(f"10.0.{level}.1", f"2001:db8:{number}::1"),
                routes=((network, INSIDE_PORT), (f"2001:db8:{number}::/64", INSIDE_PORT)),
            )
            nats.append(Nat(part, self._draw))
        public = address if self.ipv6 else f"198.51.100.{number}"
        return Side(address, (peer, PORT), public, nats, self.listen, self._draw)

    def _plan(self, when: float, what: str, side: Side, packet: Packet | None = None) -> None:
        heappush(self._events, (when, next(self._count), what, side, packet))

    def _emit(self, side: Side, packets: Sequence[Packet]) -> None:
        for packet in packets:
            self._through(side, 0, INSIDE_PORT, packet)

    def _through(self, side: Side, level: int, port: int, packet: Packet) -> None:
        """Through the NATs of a side, at no delay: out into the wire, or in to the host."""
        if level == len(side.nats):
            self._cross(side, packet)
        elif level < 0:
            answers, error = side.take(packet)
            if error:
                self._plan(self.now + 0.2, "dial", side)
            self._emit(side, answers)
        else:
            raw = bytearray(packet.to_bytes())
            verify(raw)
            for out, each in side.nats[level].receive(parse(raw), port, self.now):
                outwards = out == OUTSIDE_PORT
                self._through(side, level + 1 if outwards else level - 1, INSIDE_PORT if outwards else 0, each)

    def _cross(self, side: Side, packet: Packet) -> None:
        name, other = ("a", self.side_b) if side is self.side_a else ("b", self.side_a)
        self.wire.append((self.now, name, packet.copy()))
        if ends(packet)[1][0] == other.public:
            self._plan(self.now + ONE_WAY, "packet", other, packet)


def kind(packet: Packet) -> str:
    """SYN, SYN-ACK, ACK, RST or ICMP."""
    if packet.protocol != TCP:
        return "ICMP"
    if packet.flags & RST:
        return "RST"
    return {SYN: "SYN", SYN | ACK: "SYN-ACK"}.get(packet.flags & (SYN | ACK), "ACK")
