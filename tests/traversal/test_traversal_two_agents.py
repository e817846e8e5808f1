"""Two agents against each other over a wire in memory, under a virtual clock.

The wire has delay, jitter and loss, NATs that drop, refuse or swallow SYNs, strangers at candidate addresses, crossing
SYNs that become one connection, connections that die, and a relay that may be slow, dead or absent. Every run is one
seed; a failure prints it.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from midair.endpoint import Endpoint
from midair.port import ConnectFailure
from midair.traversal.agent import Agent, Plan
from midair.traversal.steps import (
    Accepted,
    Acknowledge,
    AcknowledgementSent,
    AgentEvent,
    Authenticate,
    Authenticated,
    Choose,
    Command,
    ConnectionDied,
    Dial,
    Fail,
    Failed,
    Nominate,
    Nominated,
    NominationAcked,
    Opened,
    Rejected,
    RelayFailed,
    RelayReady,
    Retire,
    Started,
    Tick,
    Use,
    WakeAt,
)

DEADLINE = 20.0


@dataclass(eq=False)
class Connection:
    """One TCP connection: the id it has on each side, and whether it still carries anything."""

    number: int
    keys: dict[int, str] = field(default_factory=dict)
    stranger: bool = False
    alive: bool = True
    ready_at: dict[int, float] = field(default_factory=dict)
    """When it is authenticated on each side, if that is known before."""


@dataclass
class Conditions:
    """What a seed makes of the wire."""

    delay: float = 0.05
    jitter: float = 0.0
    skew: float = 0.0
    loss: float = 0.0
    """Of SYNs; the kernel repeats them after 1, 3 and 7 s."""
    refusing: float = 0.0
    """Dials that are refused although the peer listens."""
    deaths: float = 0.0
    """Connections that break some time after they opened."""
    half_open: float = 0.0
    """Dials that open here and nowhere else."""
    directions: tuple[bool, bool] = (True, True)
    """Whether side 0, side 1 can reach the other's address at all."""
    strangers: bool = False
    relay: str = "ready"
    """ready, slow, dead or absent."""
    moving: bool = False
    """Whether what begins on the relay can move."""


class Side:
    def __init__(self, number: int, agent: Agent) -> None:
        self.number = number
        self.agent = agent
        self.wake = float("inf")
        self.wake_version = 0
        self.legs: dict[str, Connection] = {}
        self.used: Connection | None = None
        self.chosen: Connection | None = None
        self.failed: str | None = None
        self.choices = 0
        self.dialling: dict[str, Endpoint] = {}


class World:
    def __init__(self, seed: int, conditions: Conditions) -> None:
        self.random = random.Random(seed)
        self.conditions = conditions
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._numbers = itertools.count()
        self.connections: list[Connection] = []
        self.addresses = (Endpoint.parse("203.0.113.1:1001"), Endpoint.parse("203.0.113.2:1002"))
        self.elsewhere = Endpoint.parse("192.168.1.5:1005")
        has_relay = conditions.relay != "absent"
        self.sides = tuple(
            Side(
                number,
                Agent(
                    Plan(
                        controlling=number == 0,
                        remotes=(self.addresses[1 - number], *([self.elsewhere] if conditions.strangers else [])),
                        direct=True,
                        relay=has_relay,
                        head_start=0.05 if conditions.moving else 2.0,
                        deadline=DEADLINE,
                        moving=conditions.moving,
                    )
                ),
            )
            for number in range(2)
        )

    # -- the clock --

    def later(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + delay, next(self._order), action))

    def transit(self) -> float:
        return self.conditions.delay + self.random.random() * self.conditions.jitter

    def run(self) -> None:
        for side in self.sides:
            self.later(side.number * self.conditions.skew, lambda side=side: self.tell(side, Started()))  # type: ignore[misc]
        self.start_relay()
        steps = 0
        while self._heap and self.now < 2 * DEADLINE:
            self.now, _, action = heapq.heappop(self._heap)
            action()
            steps += 1
            assert steps < 200_000, "the agents never come to rest"

    def tell(self, side: Side, event: AgentEvent) -> None:
        for command in side.agent.handle(event, self.now):
            self.obey(side, command)

    # -- commands --

    def obey(self, side: Side, command: Command) -> None:
        match command:
            case Dial(id=key, remote=remote):
                side.dialling[key] = remote
                self.dial(side, key, remote)
            case Authenticate(id=key):
                self.prove(side, key)
            case Nominate(id=key, begun=begun):
                self.record(side, key, partial(Nominated, begun=begun))
            case Acknowledge(id=key):
                if side.legs[key].alive:
                    self.record(side, key, NominationAcked)
                    self.later(0.0, lambda: self.tell(side, AcknowledgementSent(key)))
                else:
                    self.later(0.0, lambda: self.tell(side, ConnectionDied(key)))
            case Retire(id=key):
                side.dialling.pop(key, None)
                if (connection := side.legs.pop(key, None)) is not None and connection is not side.chosen:
                    self.kill(connection)
            case Use(id=key):
                assert side.used is None
                if side.number == 0:
                    self.record(side, key, Nominated)
                side.used = side.legs.pop(key)
            case Choose(id=key):
                side.choices += 1
                side.chosen = side.legs.get(key, side.used)
            case Fail(reason=reason):
                side.choices += 1
                side.failed = reason
            case WakeAt(at=at):
                side.wake_version += 1
                version = side.wake_version
                assert at > self.now
                self.later(at - self.now, lambda: self.tell(side, Tick()) if version == side.wake_version else None)

    def record(self, side: Side, key: str, kind: Callable[[str], AgentEvent]) -> None:
        connection, peer = side.legs[key], self.sides[1 - side.number]

        def arrive() -> None:
            if connection.alive and peer.number in connection.keys:
                self.tell(peer, kind(connection.keys[peer.number]))

        # A record does not overtake the last one of the handshake.
        self.later(max(self.transit(), connection.ready_at.get(peer.number, 0.0) - self.now + 1e-6), arrive)

    # -- connections --

    def dial(self, side: Side, key: str, remote: Endpoint) -> None:
        random, conditions, peer = self.random, self.conditions, self.sides[1 - side.number]
        if remote == self.elsewhere:
            self.later(self.transit(), lambda: self.open(side, key, None, stranger=True))
        elif not conditions.directions[side.number]:
            return
        elif random.random() < conditions.refusing:
            failure = random.choice([ConnectFailure.REFUSED, ConnectFailure.RESET, ConnectFailure.UNREACHABLE])
            self.later(2 * self.transit(), lambda: self.fail(side, key, failure))
        elif random.random() < conditions.half_open:
            self.later(2 * self.transit(), lambda: self.open(side, key, None, stranger=False))
        else:
            lost = next((wait for wait in (0.0, 1.0, 3.0, 7.0) if random.random() >= conditions.loss), None)
            if lost is not None:
                self.later(lost + self.transit(), lambda: self.syn_arrives(side, key, peer))

    def syn_arrives(self, side: Side, key: str, peer: Side) -> None:
        if key not in side.dialling:
            return
        crossing = [other for other, remote in peer.dialling.items() if remote == self.addresses[side.number]]
        if crossing and self.random.random() < 0.7:
            other = crossing[0]
            connection = self.connect(side, key)
            del peer.dialling[other]
            connection.keys[peer.number] = other
            peer.legs[other] = connection
            self.tell(peer, Opened(other))
        elif peer.agent.decided:
            self.later(self.transit(), lambda: self.fail(side, key, ConnectFailure.REFUSED))
            return
        else:
            connection = self.connect(side, key)
            accepted = f"accept-{connection.number}"
            connection.keys[peer.number] = accepted
            peer.legs[accepted] = connection
            self.tell(peer, Accepted(accepted, self.addresses[side.number]))
        self.later(self.transit(), lambda: self.tell(side, Opened(key)))

    def connect(self, side: Side, key: str) -> Connection:
        connection = Connection(next(self._numbers))
        self.connections.append(connection)
        side.dialling.pop(key, None)
        side.legs[key] = connection
        connection.keys[side.number] = key
        if self.random.random() < self.conditions.deaths:
            self.later(self.random.random() * 1.0, lambda: self.kill(connection))
        return connection

    def open(self, side: Side, key: str, peer: Side | None, *, stranger: bool) -> None:
        if key in side.dialling:
            connection = self.connect(side, key)
            connection.stranger = stranger
            self.tell(side, Opened(key))

    def fail(self, side: Side, key: str, failure: ConnectFailure) -> None:
        if side.dialling.pop(key, None) is not None:
            self.tell(side, Failed(key, failure, failure.name))

    def prove(self, side: Side, key: str) -> None:
        connection, peer = side.legs[key], self.sides[1 - side.number]

        def ends() -> None:
            if key not in side.legs:
                return
            if connection.stranger:
                side.legs.pop(key)
                self.tell(side, Rejected(key, "stranger"))
            elif not connection.alive or peer.number not in connection.keys:
                side.legs.pop(key)
                self.kill(connection)
                self.tell(side, Rejected(key, "closed"))
            else:
                self.tell(side, Authenticated(key))

        patience = 3.0 if peer.number not in connection.keys and not connection.stranger else 2 * self.transit()
        self.later(patience, ends)

    def kill(self, connection: Connection) -> None:
        if not connection.alive:
            return
        connection.alive = False
        for number, key in connection.keys.items():
            self.later(self.transit(), lambda side=self.sides[number], key=key: self.die(side, key, connection))  # type: ignore[misc]

    def die(self, side: Side, key: str, connection: Connection) -> None:
        if side.legs.get(key) is connection:
            self.tell(side, ConnectionDied(key))

    def start_relay(self) -> None:
        relay = self.conditions.relay
        if relay == "dead":
            for side in self.sides:
                self.later(self.transit(), lambda side=side: self.tell(side, RelayFailed("dead")))  # type: ignore[misc]
        elif relay in ("ready", "slow"):
            connection = Connection(next(self._numbers), keys={0: "relay", 1: "relay"})
            self.connections.append(connection)
            wait = 0.0 if relay == "ready" else self.random.random() * 25
            for side in self.sides:
                side.legs["relay"] = connection
                connection.ready_at[side.number] = after = wait + self.transit()
                self.later(after, lambda side=side: self.tell(side, RelayReady("relay")))  # type: ignore[misc]
            if self.random.random() < self.conditions.deaths:
                self.later(self.random.random() * 5, lambda: self.kill(connection))


def random_conditions(random: random.Random) -> Conditions:
    pick = random.choice
    return Conditions(
        delay=pick([0.0, 0.001, 0.05, 0.3]),
        jitter=pick([0.0, 0.01, 0.2]),
        skew=pick([0.0, 0.01, 0.4, 3.0]),
        loss=pick([0.0, 0.3, 0.9]),
        refusing=pick([0.0, 0.5, 0.95]),
        deaths=pick([0.0, 0.0, 0.3, 0.9]),
        half_open=pick([0.0, 0.0, 0.3]),
        directions=pick([(True, True), (True, True), (True, False), (False, True), (False, False)]),
        strangers=random.random() < 0.3,
        relay=pick(["ready", "ready", "slow", "dead", "absent"]),
    )


def judge(world: World) -> None:
    a, b = world.sides
    assert a.choices == b.choices == 1, "each side ends exactly once"
    assert a.agent.decided
    assert b.agent.decided
    if a.chosen is not None:
        assert a.chosen is b.chosen, "the controlling side is never alone with its choice"
    elif b.chosen is not None:
        # The one case no protocol solves: it died while the answer was on its way.
        assert world.conditions.deaths, "without deaths both end in the same"
    else:
        assert a.failed
        assert b.failed


@pytest.mark.parametrize("block", range(20))
def test_whatever_the_wire_does_both_sides_end_in_the_same_connection_or_in_none(block: int) -> None:
    for seed in range(block * 50, block * 50 + 50):
        world = World(seed, random_conditions(random.Random(f"conditions {seed}")))
        try:
            world.run()
            judge(world)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {world.conditions}: {error}") from error


def judge_move(world: World) -> None:
    a, b = world.sides
    assert a.choices == b.choices == 1, "each side ends exactly once"
    relay = next((connection for connection in world.connections if connection.keys.get(0) == "relay"), None)
    for side in world.sides:
        assert side.used in (None, relay)
        assert side.used is None or not side.failed
    if b.used is not None:
        assert a.used is relay, "the controlled side begins nowhere by itself"
    if a.chosen is not None and a.chosen is not relay:
        assert b.chosen is a.chosen, "the controlling side never moves alone"
    if not world.conditions.deaths:
        assert (a.used, a.chosen) == (b.used, b.chosen)
        assert (a.failed is None) == (b.failed is None)


@pytest.mark.parametrize("block", range(10))
def test_where_they_can_move_both_use_the_relay_or_none_and_nobody_moves_alone(block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        conditions = replace(random_conditions(random.Random(f"conditions {seed}")), moving=True)
        world = World(seed, conditions)
        try:
            world.run()
            judge_move(world)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {world.conditions}: {error}") from error


def test_where_they_can_move_the_relay_is_used_at_once_and_left_whenever_a_syn_comes_through() -> None:
    for loss in (0.0, 0.9):
        world = World(4, Conditions(moving=True, loss=loss))
        world.run()
        judge_move(world)
        a, _ = world.sides
        assert a.chosen is not a.used
        assert a.used is not None
        assert a.chosen is not None
        assert a.chosen.alive


def test_where_they_can_move_and_nothing_direct_is_possible_the_relay_stays() -> None:
    world = World(1, Conditions(moving=True, directions=(False, False)))
    world.run()
    judge_move(world)
    for side in world.sides:
        assert side.used is side.chosen
        assert side.chosen is not None


def outcome(conditions: Conditions, seed: int = 1) -> tuple[World, Connection | None]:
    world = World(seed, conditions)
    world.run()
    judge(world)
    return world, world.sides[0].chosen


def test_the_simulation_reaches_every_kind_of_end() -> None:
    ends = set()
    for seed in range(150):
        _, chosen = outcome(random_conditions(random.Random(f"conditions {seed}")), seed)
        ends.add("none" if chosen is None else "+".join(sorted(key.split("-")[0] for key in chosen.keys.values())))
    assert ends == {"none", "relay+relay", "dial+dial", "accept+dial"}


def test_crossing_syns_connect_directly_and_the_relay_is_not_used() -> None:
    world, chosen = outcome(Conditions())
    assert chosen is not None
    assert "relay" not in chosen.keys.values()
    assert world.sides[0].agent.dials == 1


def test_one_direction_is_enough() -> None:
    for directions in ((True, False), (False, True)):
        _, chosen = outcome(Conditions(directions=directions))
        assert chosen is not None
        assert sorted(key.split("-")[0] for key in chosen.keys.values()) == ["accept", "dial"]


def test_a_lost_syn_that_the_kernel_repeats_still_beats_the_relay() -> None:
    _, chosen = outcome(Conditions(refusing=0.9))
    assert chosen is not None
    assert "relay" not in chosen.keys.values()


def test_where_nothing_direct_is_possible_the_relay_is_taken_after_the_head_start() -> None:
    _, chosen = outcome(Conditions(directions=(False, False)))
    assert chosen is not None
    assert set(chosen.keys.values()) == {"relay"}


def test_where_nothing_at_all_is_possible_both_say_so() -> None:
    world, chosen = outcome(Conditions(directions=(False, False), relay="dead"))
    assert chosen is None
    for side in world.sides:
        assert side.failed == "no direct connection (1 dial: no answer 1), and no relay: dead"


def test_in_the_end_nothing_is_left_but_the_chosen_one() -> None:
    for seed in range(30):
        world, chosen = outcome(Conditions(skew=0.4, refusing=0.5, jitter=0.2), seed)
        alive = [connection for connection in world.connections if connection.alive]
        assert chosen is not None
        assert alive == [chosen], f"seed {seed}"
