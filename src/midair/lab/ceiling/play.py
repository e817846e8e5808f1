"""A simultaneous open, played on paper: two hosts that dial each other, the gates between them, and a clock. Pure.

What happens when two SYNs meet two NATs depends on the moment each gets there, so no table of pairs tells it. Here it
is told as one would with pencil and paper: packets take their time from host to host, gates open, refuse and forget,
sockets live and die. It knows one port on each side and the handshake (RFC 9293 3.5, as Linux does it), nothing else of
TCP, and ends when both ends are established or the time is up. What it saw is kept as notes, which are the reasoning.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from midair.lab.ceiling.gatekeeper import Gatekeeper
from midair.lab.ceiling.packets import NOBODY, Endpoint, Kind, Packet

if TYPE_CHECKING:
    from midair.lab.ceiling.ways import Gate, Way

__all__ = ["INSTANT", "Manner", "Outcome", "play"]

INSTANT: Final = 0.01
"""Seconds between a failure and the next dial when it is "at once": a bound for the SYNs sent."""
_SYN_REPEATED: Final = (1.0, 2.0, 3.0, 4.0, 5.0, 7.0)
"""Seconds after a dial, at which Linux sends its SYN again (four times after a second, then after twice as much)."""
_SYN_ACK_REPEATED: Final = (1.0, 3.0, 7.0)
"""The same for a SYN-ACK."""
_MOST_NOTES: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How one side goes about it."""

    dials: bool = True
    knocks: bool = False
    """It dials another port of the peer's address than the one it knows, only to be let answer that address."""
    pause: float = 0.2
    """Seconds between a failure and the next dial."""
    listens: bool = True
    immune: Kind | None = None
    """RST or ICMP: what its sockets ignore, by a minimum TTL."""
    short_for: float = 0.0
    """Seconds during which its SYNs end before they reach the peer's gates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a play ended."""

    seconds: float | None
    """From the first side's start until both ends are established; None if they were not in time."""
    notes: tuple[str, ...]
    """What was in the way, in order."""
    ending: str = ""
    """How they got together."""


def play(way: Way, a: Manner, b: Manner, *, skew: float, seconds: float, held: frozenset[str]) -> Outcome:
    """Both sides start, b ``skew`` seconds after a, and each gives up ``seconds`` later.

    ``held``: which of "a" and "b" keep a connection to the server open from the same port.
    """
    return _Play(way, a, b, skew=skew, held=held).run(seconds)


@dataclass(slots=True, eq=False)
class _Socket:
    """One connect(), or what the listener makes of a SYN."""

    sequence: int
    peer: Endpoint
    peer_sequence: int = 0
    """Of the peer's SYN; 0 until that is there."""
    accepted: bool = False
    """The listener's."""
    short: bool = False
    """Its packets end before they reach the peer's gates."""
    established: bool = False


@dataclass(slots=True)
class _Side:
    letter: str
    keepers: list[Gatekeeper]
    """Of its own gates, from the inside out."""
    common: list[Gatekeeper]
    """Of the gates both sides share, as far as they have to do with this one."""
    delay: float
    """Seconds from its own outermost gate to where the chains meet."""
    manner: Manner
    starts: float
    dialling: _Socket | None = None
    crossed: bool = False
    """The peer's SYN has met the socket that dials."""
    accepting: dict[Endpoint, _Socket] = field(default_factory=dict)
    """The listener's, by the peer's endpoint. While one is half open, that connection cannot be dialled."""

    @property
    def sockets(self) -> list[_Socket]:
        """All there are."""
        return [*self.accepting.values(), *([self.dialling] if self.dialling else [])]

    @property
    def established(self) -> bool:
        return any(socket.established for socket in self.sockets)

    def socket(self, peer: Endpoint) -> _Socket | None:
        """The one that packets from ``peer`` are for."""
        return next((socket for socket in self.sockets if socket.peer == peer), None)


class _Play:
    def __init__(self, way: Way, a: Manner, b: Manner, *, skew: float, held: frozenset[str]) -> None:
        self._way = way
        self._now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._notes: list[str] = []
        start = min(0.0, skew)
        self._a = _Side("a", _keepers(way.a, "a" in held), _keepers(way.common, "a" in held), way.delay_a, a, -start)
        self._b = _Side(
            "b", _keepers(way.b, "b" in held), _keepers(way.common, "b" in held), way.delay_b, b, skew - start
        )

    def run(self, seconds: float) -> Outcome:
        # Each gives up by itself, and needs to hear from the other before that.
        until = seconds - self._way.delay
        for side in (self._a, self._b):
            if side.manner.dials:
                self._at(side.starts, lambda side=side: self._dial(side))  # type: ignore[misc]
        while self._due and not (self._a.established and self._b.established):
            self._now, _, action = heapq.heappop(self._due)
            if self._now > until:
                break
            action()
        worked = self._a.established and self._b.established
        return Outcome(
            seconds=self._now if worked else None, notes=tuple(self._notes), ending=self._ending() if worked else ""
        )

    def _ending(self) -> str:
        crossed = [side.letter for side in (self._a, self._b) if side.crossed]
        if len(crossed) == 2:
            return "the SYNs cross, and each side takes the other's for the answer to its own"
        if crossed:
            other = "b" if crossed == ["a"] else "a"
            return (
                f"{other}'s SYN comes through the opening that {crossed[0]}'s has made, and meets the socket that dials"
            )
        acceptor = self._a if any(socket.established for socket in self._a.accepting.values()) else self._b
        return f"{acceptor.letter}'s listener accepts {self._peer(acceptor).letter}'s SYN"

    def _at(self, when: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (when, self._count, action))

    def _note(self, text: str) -> None:
        if text and text not in self._notes and len(self._notes) < _MOST_NOTES:
            self._notes.append(text)

    def _peer(self, side: _Side) -> _Side:
        return self._b if side is self._a else self._a

    # -- hosts --

    def _dial(self, side: _Side) -> None:
        if side.dialling is not None or side.established:
            return
        # The endpoint that the server has seen, or for who only knocks, one that nobody has.
        target = (self._peer(side).letter, NOBODY if side.manner.knocks else 0)
        if side.socket(target) is not None:
            self._note(f"{side.letter} cannot dial again, since its listener holds that connection half open")
            self._dial_later(side)
            return
        socket = side.dialling = self._new_socket(target)
        socket.short = self._is_short(side)
        self._send(side, Kind.SYN, socket)
        self._repeat_later(side, socket, _SYN_REPEATED)

    def _dial_later(self, side: _Side) -> None:
        # While its SYNs are short ones, it has nothing better to do than to send the next.
        pause = INSTANT if self._is_short(side) else max(side.manner.pause, INSTANT)
        self._at(self._now + pause, lambda: self._dial(side))

    def _is_short(self, side: _Side) -> bool:
        return self._now < side.starts + side.manner.short_for

    def _new_socket(self, peer: Endpoint) -> _Socket:
        self._count += 1
        return _Socket(sequence=self._count, peer=peer)

    def _repeat_later(self, side: _Side, socket: _Socket, delays: tuple[float, ...]) -> None:
        """``delays`` are in seconds after now; what has not been answered by then is sent again."""
        began = self._now

        def repeat(number: int) -> None:
            if socket.established or socket not in side.sockets:
                return
            if not socket.peer_sequence:
                self._send(side, Kind.SYN, socket)
            elif delays[number] in _SYN_ACK_REPEATED:
                self._send(side, Kind.SYN_ACK, socket)
            arm(number + 1)

        def arm(number: int) -> None:
            if number < len(delays):
                self._at(began + delays[number], lambda: repeat(number))

        arm(0)

    def _receive(self, side: _Side, packet: Packet) -> None:
        """At the host."""
        socket = side.socket(packet.source)
        if packet.kind is Kind.SYN and (socket is None or not socket.peer_sequence):
            self._meet(side, packet, socket)
        elif packet.kind in (Kind.RST, Kind.ICMP):
            if socket is not None and _is_fatal(packet, socket):
                self._fail(side, socket, packet.kind)
        elif socket is None or (packet.kind is not Kind.SYN and packet.acknowledges != socket.sequence):
            # It is about a connection that is not there, or no more.
            self._reset(side, packet)
        elif packet.kind is Kind.SYN:
            # A repetition, or a new beginning: Linux acknowledges what it has had before (RFC 5961).
            self._send(side, Kind.SYN_ACK if socket.accepted and not socket.established else Kind.ACK, socket)
        elif packet.kind is Kind.SYN_ACK:
            socket.peer_sequence = packet.sequence
            socket.established = True
            self._send(side, Kind.ACK, socket)
        elif socket.peer_sequence:
            socket.established = True

    def _meet(self, side: _Side, packet: Packet, socket: _Socket | None) -> None:
        """The peer's SYN: for a socket that dials just that, or for the listener."""
        if socket is not None:
            side.crossed = True
        elif side.manner.listens and self._now >= side.starts and not side.established:
            socket = side.accepting[packet.source] = self._new_socket(packet.source)
            socket.accepted = True
            self._repeat_later(side, socket, _SYN_ACK_REPEATED)
        else:
            self._note(f"nothing listens at {side.letter}'s port when a SYN comes in, and the host answers by RST")
            self._reset(side, packet)
            return
        socket.peer_sequence = packet.sequence
        self._send(side, Kind.SYN_ACK, socket)

    def _fail(self, side: _Side, socket: _Socket, error: Kind) -> None:
        if side.manner.immune is error and not socket.accepted:
            self._note(f"{side.letter}'s socket takes no notice of the {error.value}")
        elif socket.accepted:
            del side.accepting[socket.peer]
        else:
            side.dialling = None
            side.crossed = False
            self._dial_later(side)

    # -- the network --

    def _send(self, side: _Side, kind: Kind, socket: _Socket) -> None:
        acknowledges = 0 if kind is Kind.SYN else socket.peer_sequence
        packet = self._packet(side, kind, socket.peer, sequence=socket.sequence, acknowledges=acknowledges)
        self._emit(side, packet, short=socket.short)

    def _reset(self, side: _Side, packet: Packet) -> None:
        """A host's RST, which answers a packet in the way that RFC 9293 3.5.2 says."""
        sequence = packet.sequence if packet.kind is Kind.SYN else packet.acknowledges
        self._emit(side, self._packet(side, Kind.RST, packet.source, sequence=sequence))

    def _packet(self, side: _Side, kind: Kind, to: Endpoint, *, sequence: int, acknowledges: int = 0) -> Packet:
        source = (f"{side.letter}?", 1) if side.letter in self._way.unknown else (side.letter, 0)
        return Packet(kind=kind, source=source, destination=to, sequence=sequence, acknowledges=acknowledges)

    def _emit(self, side: _Side, packet: Packet, *, short: bool = False) -> None:
        """From the host through its own gates."""
        out = self._out(side.keepers, packet)
        if out is None:
            return
        if short:
            expired = out.answered(Kind.ICMP)
            self._at(self._now + self._way.delay, lambda: self._arrive(side, expired))
        else:
            self._leave(side, out)

    def _leave(self, side: _Side, packet: Packet) -> None:
        """From a side's own outermost gate to where the chains meet, and on."""

        def meet() -> None:
            out = self._out(side.common, packet)
            if out is not None:
                self._turn(self._peer(side), out)

        self._at(self._now + side.delay, meet)

    def _turn(self, side: _Side, packet: Packet) -> None:
        """From where the chains meet to a side."""
        inward = self._in(side.common, packet, lambda answer: self._turn(self._peer(side), answer))
        if inward is not None:
            self._at(self._now + side.delay, lambda: self._arrive(side, inward))

    def _arrive(self, side: _Side, packet: Packet) -> None:
        """At a side's own outermost gate."""
        inward = self._in(side.keepers, packet, lambda answer: self._leave(side, answer))
        if inward is None:
            return
        if inward.destination[1] != NOBODY:
            self._receive(side, inward)
        elif inward.kind is Kind.SYN:
            self._leave(side, replace(inward.answered(Kind.RST), from_host=True))

    def _out(self, keepers: list[Gatekeeper], packet: Packet) -> Packet | None:
        """Outwards through a row of gates."""
        for keeper in keepers:
            passage = keeper.outward(packet, self._now)
            self._note(passage.note)
            if passage.packet is None:
                return None
            packet = passage.packet
        return packet

    def _in(self, keepers: list[Gatekeeper], packet: Packet, answer: Callable[[Packet], None]) -> Packet | None:
        """Inwards through a row of gates."""
        for keeper in reversed(keepers):
            passage = keeper.inward(packet, self._now)
            self._note(passage.note)
            if passage.answer is not None:
                self._refuse(keeper, passage.answer, passage.after, answer)
            if passage.packet is None:
                return None
            packet = passage.packet
        return packet

    def _refuse(self, keeper: Gatekeeper, packet: Packet, after: float, send: Callable[[Packet], None]) -> None:
        """A gate refuses something, at once or later."""
        if after == 0:
            send(packet)
            return

        def refuse() -> None:
            if not keeper.has_opened(packet.source, packet.destination, self._now):
                send(packet)

        self._at(self._now + after, refuse)


def _is_fatal(packet: Packet, socket: _Socket) -> bool:
    """Whether a RST or an ICMP error is believed: it has to be about what the socket has sent. Once the peer's SYN has
    been seen, a RST has to have the peer's sequence numbers too, which no NAT knows."""
    if packet.kind is Kind.ICMP:
        return packet.sequence == socket.sequence and not socket.established
    if socket.peer_sequence:
        return packet.from_host and packet.sequence in (socket.sequence, socket.peer_sequence)
    return packet.sequence == socket.sequence


def _keepers(gates: tuple[Gate, ...], held: bool) -> list[Gatekeeper]:
    return [Gatekeeper(gate, held) for gate in gates]
