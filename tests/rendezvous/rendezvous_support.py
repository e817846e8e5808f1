"""Two machines and a mailbox server in memory, with a clock that is moved by hand."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from midair.errors import MidairError, ServerUnreachableError
from midair.rendezvous import steps, wire
from midair.rendezvous.conversation import Role
from midair.rendezvous.machine import Machine, Plan

APP_ID = "midair/test"
SERVER = "ws://server.test:7420"


def make_plan(
    *,
    side: str = "aaaa",
    role: Role = "sender",
    nameplate: str | None = None,
    secret: str = "acorn-volcano",
    wait: float | None = None,
) -> Plan:
    return Plan(
        server=SERVER,
        app_id=APP_ID,
        side=side,
        role=role,
        nameplate=nameplate,
        make_code=lambda number: f"{number}-{secret}",
        app_versions={"from": side},
        wait=wait,
    )


def make_machine(plan: Plan) -> Machine:
    return Machine(plan, entropy=random.Random(plan.side).randbytes)


@dataclass(eq=False)
class Connection:
    """One WebSocket as the server sees it."""

    frames: deque[wire.ServerFrame] = field(default_factory=deque)
    """On their way to the client."""
    side: str = ""
    mailbox: str | None = None


class MemoryServer:
    """The mailbox protocol's server side, as the reference server has it, without its clock."""

    def __init__(self) -> None:
        self.up = True
        self.nameplates: dict[str, tuple[str, set[str]]] = {}
        self.mailboxes: dict[str, list[wire.Message]] = {}
        self.sides: dict[str, set[str]] = {}
        self.moods: dict[str, str | None] = {}
        self.connections: list[Connection] = []
        self._count = 0

    def accept(self) -> Connection:
        connection = Connection()
        connection.frames.append(wire.Welcome(welcome=wire.WelcomeInfo()))
        self.connections.append(connection)
        return connection

    def forget(self) -> None:
        """A restart without a disk."""
        self.nameplates.clear()
        self.mailboxes.clear()
        self.sides.clear()

    def take(self, connection: Connection, frame: wire.ClientFrame) -> None:
        answer = connection.frames.append
        match frame:
            case wire.Bind(side=side):
                connection.side = side
            case wire.Allocate():
                self._claim("7", connection.side)
                answer(wire.Allocated(nameplate="7"))
            case wire.Claim(nameplate=nameplate):
                mailbox = self._claim(nameplate, connection.side)
                crowded = len(self.sides[mailbox]) > 2
                answer(wire.Error(error="crowded") if crowded else wire.Claimed(mailbox=mailbox))
            case wire.Release(nameplate=nameplate):
                claims = self.nameplates.get(nameplate or "", ("", set()))[1]
                claims.discard(connection.side)
                if not claims:
                    self.nameplates.pop(nameplate or "", None)
                answer(wire.Released())
            case wire.Open(mailbox=mailbox):
                connection.mailbox = mailbox
                self.sides.setdefault(mailbox, set()).add(connection.side)
                connection.frames.extend(self.mailboxes.setdefault(mailbox, []))
            case wire.Add(phase=phase, body=body):
                assert connection.mailbox is not None
                self.post(connection.mailbox, connection.side, phase, body)
            case wire.Close(mailbox=mailbox, mood=mood):
                assert mailbox is not None
                self.moods[connection.side] = mood
                connection.mailbox = None
                self.sides.setdefault(mailbox, set()).discard(connection.side)
                if not self.sides[mailbox]:
                    self.mailboxes.pop(mailbox, None)
                answer(wire.Closed())
            case wire.Ping(ping=number):
                answer(wire.Pong(pong=number))
            case _:
                raise AssertionError(frame)

    def post(self, mailbox: str, side: str, phase: str, body: str) -> None:
        message = wire.Message(side=side, phase=phase, body=body)
        self.mailboxes[mailbox].append(message)
        for connection in self.connections:
            if connection.mailbox == mailbox:
                connection.frames.append(message)

    def _claim(self, nameplate: str, side: str) -> str:
        self._count += 1
        mailbox, claims = self.nameplates.setdefault(nameplate, (f"box{self._count}", set()))
        claims.add(side)
        self.mailboxes.setdefault(mailbox, [])
        self.sides.setdefault(mailbox, set()).add(side)
        return mailbox


class Peer:
    """A machine with what came out of it, driven against a :class:`MemoryServer`."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.machine = make_machine(plan)
        self.connection: Connection | None = None
        self.wants_connection = False
        self.mute = False
        """What is written goes to a connection that is dead without anybody knowing it."""
        self.said: list[wire.ClientFrame] = []
        self.announced: list[str] = []
        self.met: steps.Met | None = None
        self.delivered: list[bytes] = []
        self.errors: list[MidairError] = []
        self.finished = False
        self.feed(steps.Started())

    def feed(self, event: steps.Event) -> None:
        for command in self.machine.handle(event, now=self.world.now):
            assert not self.finished, "nothing may follow Finish"
            match command:
                case steps.Connect():
                    assert self.connection is None
                    self.wants_connection = True
                case steps.Drop():
                    self.lose_connection()
                case steps.Transmit(frame=frame):
                    assert self.connection is not None
                    self.said.append(frame)
                    if not self.mute:
                        self.world.server.take(self.connection, frame)
                case steps.Announce(code=code):
                    self.announced.append(code)
                case steps.Met():
                    assert self.met is None
                    self.met = command
                case steps.Deliver(message=message):
                    assert self.met is not None, "nothing is delivered before the key is confirmed"
                    self.delivered.append(message)
                case steps.Fail(error=error):
                    self.errors.append(error)
                case steps.Finish():
                    self.finished = True
                    self._hang_up()

    def send(self, message: bytes) -> None:
        self.feed(steps.SendRequested(message=message))

    def close(self, mood: steps.Mood = "happy") -> None:
        self.feed(steps.CloseRequested(mood=mood))

    def lose_connection(self) -> None:
        if self.connection is not None:
            self._hang_up()
            self.feed(steps.Disconnected(reason="it closed the connection"))

    def step(self) -> bool:
        """One thing that is due; False: nothing was."""
        if self.wants_connection and not self.finished:
            self.wants_connection = False
            if self.world.server.up:
                self.connection = self.world.server.accept()
                self.feed(steps.Connected())
            else:
                self.feed(steps.ConnectFailed(error=ServerUnreachableError("nothing listens there")))
            return True
        if self.connection is not None and self.connection.frames:
            self.feed(steps.Received(frame=self.connection.frames.popleft()))
            return True
        return False

    def _hang_up(self) -> None:
        self.mute = False
        if self.connection is not None:
            self.world.server.connections.remove(self.connection)
            self.connection = None


class World:
    """Server, peers and clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.server = MemoryServer()
        self.peers: list[Peer] = []

    def add(self, plan: Plan) -> Peer:
        peer = Peer(self, plan)
        self.peers.append(peer)
        return peer

    def settle(self) -> None:
        """Lets everything happen that needs no time."""
        for _ in range(10_000):
            # A list: each peer gets its turn.
            steps_made = [peer.step() for peer in self.peers]
            if not any(steps_made):
                return
        raise AssertionError("the peers talk without end")

    def advance(self, seconds: float) -> None:
        """Moves the clock, stopping at each deadline on the way."""
        end = self.now + seconds
        self.settle()
        while True:
            deadlines = [at for peer in self.peers if (at := peer.machine.deadline) is not None and at <= end]
            self.now = max(self.now, min(deadlines, default=end))
            for peer in self.peers:
                peer.feed(steps.TimePassed())
            self.settle()
            if not deadlines:
                return
