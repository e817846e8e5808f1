"""One of midair's agents on a simulated host."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from midair.lab.simulation import Accepted as SocketAccepted
from midair.lab.simulation import Connection, Ended, Received
from midair.lab.simulation import Failed as SocketFailed
from midair.lab.simulation import Opened as SocketOpened
from midair.nat.forecast import FAN_MAX, PROBES, forecast
from midair.port.failures import ConnectFailedError
from midair.traversal.agent import Agent
from midair.traversal.candidates import Candidate, CandidateType, dialable, priority, select
from midair.traversal.knowledge import our_reports
from midair.traversal.late_dials import SPARE
from midair.traversal.planning import Network, make_plan
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
    RelayReady,
    Retire,
    Started,
    Tick,
    WakeAt,
)
from midair.traversal.sync import Description, describe, start_delay
from midair.trials.conversation import CONFIRMATION, NOMINATION, Heard, Leg, preface
from midair.trials.reflection import REQUEST, endpoint_of, reflected, remote_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from midair.config import TraversalOptions
    from midair.endpoint import Endpoint
    from midair.lab.simulation import Happening, SimulatedHost, Simulation

__all__ = ["SimulatedSide"]

AUTHENTICATION_SECONDS: Final = 3.0
SETTLE_SECONDS: Final = 1.0
RELAY: Final = "relay"


class SimulatedSide:
    """Gathers, describes, agrees on a moment with its ``peer`` and races; ``ended`` when that is over."""

    peer: SimulatedSide

    def __init__(
        self,
        simulation: Simulation,
        name: str,
        *,
        controlling: bool,
        session: int,
        reflectors: Sequence[tuple[bytes, int]],
        mail_delay: float,
        options: TraversalOptions,
        networks: tuple[Network, ...],
        random: Random,
    ) -> None:
        """``mail_delay`` is in seconds one way, from peer to peer."""
        self.ended = False
        self.how = ""
        self.reason = ""
        self.started_at = 0.0
        self.ended_at = 0.0
        self.authenticated_at: float | None = None
        """Of a direct connection that was chosen."""
        self._simulation = simulation
        self._host: SimulatedHost = simulation.host(name)
        self._controlling = controlling
        self._session = session
        self._reflectors = reflectors
        self._mail_delay = mail_delay
        self._options = options
        self._random = random
        self._networks = networks
        self._numbers = random.sample(range(20_000, 32_000), 1 + FAN_MAX)
        """Our ports; the first one listens."""
        self._mappings: list[tuple[int, Endpoint]] = []
        self._unanswered = 0
        self._ours: Description | None = None
        self._theirs: Description | None = None
        self._own: frozenset[Endpoint] = frozenset()
        self._agent: Agent | None = None
        self._events: deque[AgentEvent] = deque()
        self._handling = False
        self._legs: dict[str, Leg] = {}
        self._accepted = 0
        self._wake = 0.0
        self._round_trip: float | None = None

    @property
    def dials(self) -> int:
        """SYNs dialled, as the agent counts them."""
        return self._agent.dials if self._agent is not None else 0

    # -- before the race --

    def begin(self, now: float) -> None:
        """Both sides have met: gather."""
        self._simulation.at(now + self._options.server_wait, self._describe)
        if self._controlling:
            self._mail(self.peer.take_ping, now, now)
        self._ask([(self._numbers[0], each) for each in self._reflectors if self._has_family_of(each)], now)

    def _has_family_of(self, reflector: tuple[bytes, int]) -> bool:
        return bool(self._host.addresses(4 if len(reflector[0]) == 4 else 6))

    def _ask(self, questions: Sequence[tuple[int, tuple[bytes, int]]], now: float) -> None:
        """Asks reflectors about ports; when all have answered, goes on."""
        self._unanswered += len(questions)
        for number, reflector in questions:
            try:
                self._host.dial(reflector, self._reflector_said, now=now, number=number)
            except OSError:
                self._unanswered -= 1
        if not self._unanswered:
            self._gathered(now)

    def _reflector_said(self, connection: Connection, happening: Happening, now: float) -> None:
        match happening:
            case SocketOpened():
                connection.send(REQUEST, now)
                return
            case Received(data=data):
                self._mappings.append((connection.local[1], reflected(data)))
            case SocketFailed():
                pass
            case _:
                return
        self._unanswered -= 1
        if not self._unanswered:
            self._gathered(now)

    def _gathered(self, now: float) -> None:
        changed = any(local != mapped.port for local, mapped in self._mappings if mapped.family == 4)
        if changed and len(self._mappings) <= len(self._reflectors):
            self._ask([(number, self._reflectors[0]) for number in self._numbers[1 : 1 + PROBES]], now)
        else:
            self._describe(now)

    def _describe(self, now: float) -> None:
        if self._ours is not None:
            return
        number = self._numbers[0]
        hosts = [endpoint_of(address, number) for version in (6, 4) for address in self._host.addresses(version)]
        reflexive = [mapped for local, mapped in self._mappings if local == number]
        candidates = [
            Candidate(type=kind, endpoint=endpoint, priority=priority(kind, endpoint, order))
            for kind, endpoints in ((CandidateType.HOST, hosts), (CandidateType.SERVER_REFLEXIVE, reflexive))
            for order, endpoint in enumerate(endpoints)
            if dialable(endpoint, loopback=False)
        ]
        chosen = select(candidates)
        self._own = frozenset(candidate.endpoint for candidate in chosen)
        policy = self._options.policy
        expected = forecast([(local, mapped.port) for local, mapped in self._mappings if mapped.family == 4])
        self._ours = describe(
            chosen,
            controlling=self._controlling,
            direct=policy != "relay",
            relay=policy != "direct",
            forecast=expected,
            spare=self._spare(),
            reports=our_reports(self._mappings, {str(each.address) for each in hosts}, expected),
        )
        self._mail(self.peer.take_description, self._ours, now)
        self._ready(now)

    def take_description(self, description: Description, now: float) -> None:
        """The peer's has arrived."""
        self._theirs = description
        self._ready(now)

    def _spare(self) -> int:
        """As :func:`midair.traversal.gathering.gather` has it: a port more, where ports are known to be kept."""
        known = [local == mapped.port for local, mapped in self._mappings if mapped.family == 4]
        return self._numbers[SPARE] if known and all(known) else 0

    def take_ping(self, asked: float, now: float) -> None:
        """Answers at once."""
        self._mail(self.peer.take_pong, asked, now)

    def take_pong(self, asked: float, now: float) -> None:
        """The round trip is known."""
        self._round_trip = now - asked
        self._ready(now)

    def _ready(self, now: float) -> None:
        """As :class:`midair.traversal.agreement.Agreement` has it: when all is known, go."""
        if not self._controlling or self._round_trip is None or self._ours is None or self._theirs is None:
            return
        self._mail(self.peer.start, None, now)
        self._simulation.at(now + start_delay(self._round_trip), lambda then: self.start(None, then))

    def _mail(self, to: Callable[..., None], what: object, now: float) -> None:
        self._simulation.at(now + self._mail_delay, lambda then: to(what, then))

    # -- the race --

    def start(self, _: None, now: float) -> None:
        """The agreed moment."""
        assert self._ours is not None
        assert self._theirs is not None
        plan = make_plan(
            self._ours,
            self._theirs,
            self._own,
            self._options,
            loopback=False,
            networks=self._networks,
            random=self._random,
        )
        self._agent = Agent(plan)
        self.started_at = now
        if plan.direct:
            for version in (4, 6):
                if self._host.addresses(version):
                    self._host.listen(self._numbers[0], self._accepted_one, version=version)
            if self._ours.spare:
                self._host.listen(self._ours.spare, self._accepted_one, version=4)
        self._tell(Started(), now)
        if plan.relay:
            self._simulation.at(now + 2 * self._mail_delay, lambda then: self._tell(RelayReady(RELAY), then))

    def _tell(self, event: AgentEvent, now: float) -> None:
        self._events.append(event)
        if self._handling or self._agent is None:
            return
        self._handling = True
        try:
            while self._events:
                for command in self._agent.handle(self._events.popleft(), now):
                    self._carry_out(command, now)
        finally:
            self._handling = False

    def _carry_out(self, command: Command, now: float) -> None:
        match command:
            case Dial(id=key, remote=remote, local=local):
                self._dial(key, remote, self._numbers[local], now)
            case Authenticate(id=key):
                self._prove(self._legs[key], now)
            case Nominate(id=key) | Acknowledge(id=key):
                self._nominate(key, now)
            case Retire(id=key):
                if key in self._legs:
                    self._retire(self._legs.pop(key), now)
            case WakeAt(at=at):
                self._wake = at
                self._simulation.at(at, self._tick)
            case Choose(id=key, reason=reason):
                self.authenticated_at = self._legs[key].authenticated_at if key in self._legs else None
                self._end(RELAY if key == RELAY else key.partition("-")[0], reason or "", now)
            case Fail(reason=reason):
                self._end("", reason, now)

    def _tick(self, now: float) -> None:
        if now >= self._wake and not self.ended:
            self._tell(Tick(), now)

    def _end(self, how: str, reason: str, now: float) -> None:
        self.ended, self.how, self.reason, self.ended_at = True, how, reason, now

    def _dial(self, key: str, remote: Endpoint, number: int, now: float) -> None:
        try:
            connection = self._host.dial(remote_of(remote), _not_yet, now=now, number=number)
        except OSError as error:
            self._failed(key, error)
            return
        leg = self._legs[key] = Leg(key, connection, self._session)
        connection.handler = partial(self._happened, leg)

    def _failed(self, key: str, error: OSError) -> None:
        failure = ConnectFailedError.of(error)
        self._events.append(Failed(key, failure.failure, failure.errno_name))

    def _accepted_one(self, connection: Connection, happening: Happening, now: float) -> None:
        if not isinstance(happening, SocketAccepted):
            return
        self._accepted += 1
        leg = Leg(f"accept-{self._accepted}", connection, self._session)
        self._legs[leg.key] = leg
        connection.handler = partial(self._happened, leg)
        self._tell(Accepted(leg.key, endpoint_of(*connection.remote)), now)

    def _prove(self, leg: Leg, now: float) -> None:
        leg.proving = True
        self._simulation.at(now + AUTHENTICATION_SECONDS, lambda then: self._reject(leg, "timeout", then))
        self._send(leg, preface(self._session), now)

    def _nominate(self, key: str, now: float) -> None:
        if key == RELAY:
            said = NominationAcked if self.peer._controlling else Nominated
            self._simulation.at(now + self._mail_delay, lambda then: self.peer._tell(said(RELAY), then))
        else:
            self._send(self._legs[key], NOMINATION, now)
        if not self._controlling:
            self._events.append(AcknowledgementSent(key))

    def _send(self, leg: Leg, data: bytes, now: float) -> None:
        try:
            leg.connection.send(data, now)
        except OSError:
            self._broken(leg, now)

    def _happened(self, leg: Leg, connection: Connection, happening: Happening, now: float) -> None:
        match happening:
            case SocketOpened():
                self._tell(Opened(leg.key), now)
            case Received(data=data):
                for heard in leg.listening.feed(data):
                    self._heard(leg, heard, now)
            case Ended():
                self._broken(leg, now)
            case SocketFailed(error=number):
                if leg.proving or leg.authenticated:
                    self._broken(leg, now)
                elif self._legs.pop(leg.key, None) is not None:
                    self._failed(leg.key, OSError(number, ""))
                    self._flush(now)

    def _heard(self, leg: Leg, heard: Heard, now: float) -> None:
        match heard:
            case Heard.PREFACE:
                self._send(leg, CONFIRMATION, now)
            case Heard.CONFIRMATION:
                leg.proving, leg.authenticated, leg.authenticated_at = False, True, now
                if leg.retired:
                    leg.connection.close(now)
                else:
                    self._tell(Authenticated(leg.key), now)
            case Heard.NOMINATION:
                self._tell(NominationAcked(leg.key) if self._controlling else Nominated(leg.key), now)
            case Heard.STRANGER:
                self._reject(leg, "stranger", now)

    def _reject(self, leg: Leg, suspicion: str, now: float) -> None:
        if leg.proving:
            leg.proving = False
            leg.connection.abort(now)
            if self._legs.pop(leg.key, None) is not None:
                self._tell(Rejected(leg.key, suspicion), now)

    def _broken(self, leg: Leg, now: float) -> None:
        if leg.proving:
            self._reject(leg, "broken", now)
        elif leg.authenticated and self._legs.pop(leg.key, None) is not None:
            leg.connection.abort(now)
            self._tell(ConnectionDied(leg.key), now)

    def _retire(self, leg: Leg, now: float) -> None:
        """Without a RST, which would be taken for the other's: one that is proving itself may go on for a while."""
        leg.retired = True
        if leg.proving:
            self._simulation.at(now + SETTLE_SECONDS, leg.connection.close)
        else:
            leg.connection.close(now)

    def _flush(self, now: float) -> None:
        if self._events and not self._handling:
            self._tell(self._events.pop(), now)


def _not_yet(connection: Connection, happening: Happening, now: float) -> None:
    raise AssertionError("nothing happens to a connection while dial() runs")
