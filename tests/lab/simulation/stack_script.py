"""One script, played to two TCP stacks: the kernel's, and that of a simulated host. What each does is written down.

A script is what happens to a port and when: calls of an application, and segments and ICMP errors from outside. Numbers
in segments count from the initial sequence numbers, so that both stacks' stories can be compared as text.
"""

from __future__ import annotations

import errno
import os
import random
import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from midair.lab.blueprint import HostPart, Interface
from midair.lab.namespace import Namespace
from midair.lab.packet import (
    ACK,
    FIN,
    RST,
    SYN,
    TCP,
    IcmpReason,
    MalformedPacket,
    Packet,
    address_bytes,
    icmp_error,
    parse,
    tcp_packet,
)
from midair.lab.simulation import (
    Accepted,
    Connection,
    Ended,
    Failed,
    Happening,
    Listener,
    Opened,
    Received,
    SimulatedHost,
)
from midair.lab.wire.interfaces import Interfaces

__all__ = ["Call", "Error", "Script", "Segment", "Step", "play_simulated", "play_to_kernel"]

OUR_START = 1_000_000_000
"""The initial sequence number of the outside end."""
FLAGS = {"S": SYN, "A": ACK, "R": RST, "F": FIN}


@dataclass(frozen=True)
class Segment:
    """From outside. ``sequence`` counts from OUR_START, ``acknowledgement`` from the stack's first one; ``bare``: as it
    stands, like the 0 of a RST to a SYN."""

    flags: str
    sequence: int = 0
    acknowledgement: int = 0
    data: bytes = b""
    ttl: int = 60
    bare: bool = False


@dataclass(frozen=True)
class Error:
    """An ICMP error about the stack's last segment."""

    reason: IcmpReason
    quoted_ttl: int | None = None
    shift: int = 0
    """Added to the sequence number it quotes."""


@dataclass(frozen=True)
class Call:
    """By the application: dial, listen, stop listening, send, shutdown, close, abort."""

    what: str
    data: bytes = b""
    ttl: int = 64
    minimum_ttl: int = 0


Step = tuple[float, Segment | Error | Call]


@dataclass
class Script:
    """Steps at their times in seconds, and until when the story is listened to."""

    steps: Sequence[Step]
    until: float
    version: int = 4


@dataclass
class Story:
    """What one stack did; also what is needed to count its numbers from their beginning."""

    lines: list[tuple[float, str]] = field(default_factory=list)
    start: int | None = None
    last: Packet | None = None

    def add(self, at: float, text: str) -> None:
        self.lines.append((at, text))

    def sent(self, at: float, packet: Packet) -> None:
        """A packet of the stack."""
        self.last = packet
        flags = "".join(name for name, bit in FLAGS.items() if packet.flags & bit)
        new = ""
        if packet.flags & SYN and packet.sequence != self.start:
            new = "" if self.start is None else " new"
            self.start = packet.sequence
        base = self.start or 0
        # A RST without ACK to what acknowledged nothing we know has that very number.
        sequence = "bare" if self.start is None and packet.sequence else signed(packet.sequence - base)
        if flags == "AR" and packet.sequence == 0:
            sequence = "zero"
        parts = [f"{flags}{new} {sequence}"]
        if packet.flags & ACK:
            parts.append(f"ack {signed(packet.acknowledgement - OUR_START)}")
        if packet.payload:
            parts.append(f"data {packet.payload.decode()}")
        parts.append(f"ttl {packet.ttl}")
        self.add(at, "> " + " ".join(parts))

    def build(self, step: Segment | Error, ours: bytes, theirs: bytes, number: int) -> Packet:
        """The packet of a step, from the outside end at ``theirs`` port 9 to port ``number`` of ``ours``."""
        if isinstance(step, Error):
            assert self.last is not None
            about = self.last.copy()
            about.raw = None
            about.sequence = (about.sequence + step.shift) & 0xFFFFFFFF
            if step.quoted_ttl is not None:
                about.ttl = step.quoted_ttl
            return icmp_error(step.reason, about, sender=theirs, mtu=1200)
        flags = sum(FLAGS[flag] for flag in step.flags)
        sequence = step.sequence + (0 if step.bare else OUR_START)
        acknowledgement = (self.start or 0) + step.acknowledgement if "A" in step.flags else 0
        return tcp_packet(
            theirs,
            9,
            ours,
            number,
            flags,
            sequence=sequence,
            acknowledgement=acknowledgement,
            ttl=step.ttl,
            data=step.data,
        )


def signed(number: int) -> int:
    number &= 0xFFFFFFFF
    return number - (1 << 32) if number & 0x80000000 else number


OURS = {4: "10.1.0.2", 6: "2001:db8:a::2"}
INTERFACE = Interface(name="eth0", addresses=(f"{OURS[4]}/24", f"{OURS[6]}/64"), routes=("0.0.0.0/0", "::/0"))


def theirs_of(index: int, version: int) -> bytes:
    return address_bytes(f"198.51.100.{index + 1}" if version == 4 else f"2001:db8:b::{index + 1:x}")


# -- a simulated host --


def play_simulated(script: Script, index: int = 0) -> list[tuple[float, str]]:
    """The story of a simulated host."""
    host = SimulatedHost(HostPart(name="a", interfaces=(INTERFACE,)), random.Random(1))
    story = Story()
    ours, theirs, number = address_bytes(OURS[script.version]), theirs_of(index, script.version), 5000 + index
    now = 0.0
    last: list[Connection] = []
    listeners: list[Listener] = []

    def hear(connection: Connection, happening: Happening, at: float) -> None:
        match happening:
            case Opened():
                story.add(at, "opened")
            case Accepted():
                story.add(at, "accepted")
                last.append(connection)
            case Received(data=data):
                story.add(at, f"received {data.decode()}")
            case Ended():
                story.add(at, "ended")
            case Failed(error=error):
                story.add(at, f"failed {errno.errorcode[error]}")

    def call(what: Call) -> None:
        try:
            match what.what:
                case "dial":
                    last.append(
                        host.dial((theirs, 9), hear, now=now, number=number, ttl=what.ttl, minimum_ttl=what.minimum_ttl)
                    )
                case "listen":
                    listeners.append(
                        host.listen(number, hear, version=script.version, ttl=what.ttl, minimum_ttl=what.minimum_ttl)
                    )
                case "stop listening":
                    listeners.pop().close()
                case "send":
                    last[-1].send(what.data, now)
                case "shutdown":
                    last[-1].shutdown(now)
                case "close":
                    last.pop().close(now)
                case "abort":
                    last.pop().abort(now)
        except OSError as error:
            story.add(now, f"failed {errno.errorcode[error.errno or 0]}")

    def note(emissions: Sequence[tuple[int, Packet]]) -> None:
        for _, packet in emissions:
            story.sent(now, packet)

    def advance(until: float) -> None:
        nonlocal now
        while host.wake_at <= until:
            now = host.wake_at
            note(host.tick(now))
        now = until

    for at, step in script.steps:
        advance(at)
        if isinstance(step, Call):
            call(step)
            note(host.take())
        else:
            note(host.receive(story.build(step, ours, theirs, number), 0, now))
    advance(script.until)
    return story.lines


# -- the kernel --


class KernelPlayer:
    """One script's sockets in the kernel."""

    def __init__(self, script: Script, index: int, namespace: Namespace) -> None:
        self.script = script
        self.story = Story()
        self.steps = list(script.steps)
        self.number = 5000 + index
        self.ours, self.theirs = address_bytes(OURS[script.version]), theirs_of(index, script.version)
        self.theirs_text = f"198.51.100.{index + 1}" if script.version == 4 else f"2001:db8:b::{index + 1:x}"
        self.namespace = namespace
        self.connections: list[socket.socket] = []
        self.connecting: set[socket.socket] = set()
        self.silent: set[socket.socket] = set()
        self.ended: set[socket.socket] = set()
        self.listeners: list[socket.socket] = []
        self.everything: list[socket.socket] = []

    def new_socket(self, call: Call) -> socket.socket:
        with self.namespace.entered():
            sock = socket.socket(socket.AF_INET if self.script.version == 4 else socket.AF_INET6)
        self.everything.append(sock)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if self.script.version == 4:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, call.ttl)
            sock.setsockopt(socket.IPPROTO_IP, 21, call.minimum_ttl)  # IP_MINTTL
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, call.ttl)
            sock.setsockopt(socket.IPPROTO_IPV6, 73, call.minimum_ttl)  # IPV6_MINHOPCOUNT
        sock.bind((OURS[self.script.version], self.number))
        return sock

    def call(self, call: Call, now: float) -> None:
        try:
            match call.what:
                case "dial":
                    sock = self.new_socket(call)
                    self.connections.append(sock)
                    number = sock.connect_ex((self.theirs_text, 9))
                    if number != errno.EINPROGRESS:
                        raise OSError(number, os.strerror(number))
                    self.connecting.add(sock)
                case "listen":
                    sock = self.new_socket(call)
                    sock.listen(8)
                    self.listeners.append(sock)
                case "stop listening":
                    self.listeners.pop().close()
                case "send":
                    self.connections[-1].send(call.data)
                case "shutdown":
                    self.connections[-1].shutdown(socket.SHUT_WR)
                case "close":
                    self.connections.pop().close()
                case "abort":
                    sock = self.connections.pop()
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    sock.close()
        except OSError as error:
            self.story.add(now, f"failed {errno.errorcode[error.errno or 0]}")

    def close(self) -> None:
        for sock in self.everything:
            sock.close()

    def watch(self, now: float) -> None:
        """What has become of the sockets."""
        for listener in self.listeners:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                continue
            self.everything.append(sock)
            sock.setblocking(False)
            self.connections.append(sock)
            self.story.add(now, "accepted")
        for sock in list(self.connections):
            if sock in self.silent or sock.fileno() < 0:
                continue
            if sock in self.connecting:
                poll = select.poll()
                poll.register(sock, select.POLLOUT)
                if not poll.poll(0):
                    continue
                self.connecting.discard(sock)
                if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    self.story.add(now, f"failed {errno.errorcode[number]}")
                    self.silent.add(sock)
                    continue
                self.story.add(now, "opened")
            self.read(sock, now)

    def read(self, sock: socket.socket, now: float) -> None:
        if sock in self.ended:
            if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.story.add(now, f"failed {errno.errorcode[number]}")
            return
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                self.story.add(now, f"failed {errno.errorcode[error.errno or 0]}")
                self.silent.add(sock)
            return
        if data:
            self.story.add(now, f"received {data.decode()}")
        else:
            self.story.add(now, "ended")
            self.ended.add(sock)


def play_to_kernel(scripts: Sequence[Script]) -> list[list[tuple[float, str]]]:
    """The stories of all scripts, played at once in one network namespace."""
    with ExitStack() as stack:
        namespace = stack.enter_context(Namespace("script"))
        interfaces = stack.enter_context(Interfaces(ethernet=False))
        tun = interfaces.make(namespace, INTERFACE).descriptor
        players = [KernelPlayer(script, index, namespace) for index, script in enumerate(scripts)]
        for player in players:
            stack.callback(player.close)
        by_port = {player.number: player for player in players}
        started = time.monotonic()
        until = max(script.until for script in scripts)

        def now() -> float:
            return time.monotonic() - started

        while (at := now()) < until:
            due = min((player.steps[0][0] for player in players if player.steps), default=until)
            select.select([tun], [], [], max(0.0, min(due - at, 0.002)))
            read_tun(tun, by_port, now)
            for player in players:
                while player.steps and player.steps[0][0] <= now():
                    _, step = player.steps.pop(0)
                    if isinstance(step, Call):
                        player.call(step, now())
                    else:
                        packet = player.story.build(step, player.ours, player.theirs, player.number)
                        os.write(tun, packet.to_bytes())
                    player.watch(now())
                    read_tun(tun, by_port, now)
                player.watch(now())
        return [[(at, text) for at, text in player.story.lines if at <= player.script.until] for player in players]


def read_tun(tun: int, by_port: dict[int, KernelPlayer], now: Callable[[], float]) -> None:
    while True:
        try:
            packet = parse(bytearray(os.read(tun, 65536)))
        except BlockingIOError:
            return
        except MalformedPacket:
            continue
        player = by_port.get(packet.source_port)
        if packet.protocol == TCP and player is not None:
            player.story.sent(now(), packet)
