"""The agent: decides which connections are tried and which one is taken. Pure; :mod:`midair.traversal.race` drives it
with what happens to sockets and with the clock.

Both sides dial every candidate of the other and listen; every connection that opens proves the session key. With
crossing SYNs, several networks and a relay there can be many good ones, and both sides must end in the same:

* The controlling side (RFC 8445 2.3) nominates the first direct connection that is authenticated, by a record on that
  very connection, or the relay's once the head start is over.
* The controlled side answers the first nomination it gets, on the same connection, chooses that one, and answers
  no other.
* The controlling side chooses only what was answered. While an answer is out for more than ACK_SECONDS it nominates
  another one too. Since the peer answers only one, that cannot make two choices.

What remains is the case no protocol solves: the chosen connection dies while the answer is on its way. Then the
controlled side holds a dead connection, which it finds out, and the controlling one finds no path.

Where both sides can move what has begun, the relay is not the end. The controlling side uses it as soon as the head
start is over and no answer is awaited, and says so by the nomination, which is not answered: there is nothing to be
chosen. The search for a direct connection goes on by the rules above until there is one, or the deadline; its
nomination says that the relay was used before, and when it overtakes the relay's, the answer waits for that. A direct
connection that dies under the answer does no harm then: only the controlling side moves by itself.

A relay that breaks before it was used is not coming back in this attempt. Who can meet the peer again does not wait for
a direct connection to the end then, but only as long as most of them take.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from itertools import count

import msgspec

from midair.endpoint import Endpoint
from midair.traversal.attempt import Attempt, Happening, Stage
from midair.traversal.explanation import no_path, why_not_direct
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
    Stopped,
    Tick,
    Use,
    WakeAt,
)
from midair.traversal.targets import Target, late_gap

__all__ = ["ACK_SECONDS", "MAX_PROVING", "Agent", "LateDial", "Plan"]

ACK_SECONDS = 3.0
"""How long the answer to a nomination may take before another connection is nominated as well."""
MAX_PROVING = 32
"""Connections whose other end is not known yet; half of them are kept for addresses the peer has named."""


class LateDial(msgspec.Struct, frozen=True):
    """One of the many dials of a coverage."""

    remote: Endpoint
    local: int
    """As in Dial."""
    after: float
    """Seconds after the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be tried, as both sides have agreed."""

    controlling: bool
    remotes: tuple[Endpoint, ...]
    """The peer's candidates, best first."""
    late: tuple[LateDial, ...] = ()
    """What is tried besides, a while after the start."""
    direct: bool
    """Dial and accept."""
    relay: bool
    """A relay leg is being opened."""
    head_start: float
    """Seconds direct connections have before the relay is taken."""
    deadline: float
    """Seconds until it all has failed; ACK_SECONDS more while an answer is out."""
    moving: bool = False
    """What begins on the relay can go on on a direct connection."""
    without_relay: float = float("inf")
    """Seconds direct connections have once the relay, which was ready, has broken before it was used."""
    why_not: str = ""
    """Where ``direct`` or ``relay`` is False: why, for a person."""
    notes: tuple[str, ...] = ()
    """What is known of the NATs, for a person."""


class Agent:
    """One side. ``handle`` takes every event with the time in seconds and returns commands; the last event is the end
    when it returned Choose or Fail. After that it only retires what still comes. Use can come once before Choose, and
    there is no Fail then."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        remotes = plan.remotes if plan.direct else ()
        self._targets = [Target(endpoint=remote, beside=len(remotes)) for remote in remotes]
        self._addresses = {target.endpoint.address for target in self._targets}
        self._due: list[tuple[float, int, Target]] = []
        """Targets by the time of their next dial; an entry counts only while it says what the target says."""
        self._order = count()
        self._target_of: dict[str, Target] = {}
        self._attempts: dict[str, Attempt] = {}
        self._started: float | None = None
        self._decided = False
        self._in_use: str | None = None
        self._begun = False
        """The controlling side has begun on the relay, whether we have heard so there or not."""
        self._nominated_at = -math.inf
        self._relay_trouble = "" if plan.relay else (plan.why_not or "it was not allowed")
        self._relay_broke_at: float | None = None
        self._dial_count = 0
        self._strangers = 0

    @property
    def decided(self) -> bool:
        """Whether it is over."""
        return self._decided

    @property
    def dials(self) -> int:
        """SYNs dialled so far, retries among them; not what the kernel repeats."""
        return sum(target.sent for target in self._targets)

    def handle(self, event: AgentEvent, now: float) -> list[Command]:
        """What to do about it, in this order."""
        commands = self._take(event, now)
        if self._started is not None and not self._decided:
            commands += self._advance(now, self._started)
        return commands

    # -- one event --

    def _take(self, event: AgentEvent, now: float) -> list[Command]:
        match event:
            case Started():
                self._started = now
                for each in self._targets:
                    self._set_dial(each, now)
                gap = late_gap(len(self._plan.late))
                for dial in self._plan.late:
                    late = Target(endpoint=dial.remote, local=dial.local, late=True, gap=gap)
                    self._targets.append(late)
                    self._set_dial(late, now + dial.after)
            case Tick():
                pass
            case Opened(id=key):
                return [Authenticate(key)] if self._move(key, Happening.OPENED) else [Retire(key)]
            case Failed(id=key, failure=failure, name=name):
                target = self._target_of.get(key)
                if target is not None and self._move(key, Happening.FAILED):
                    target.failed(failure, name, now, started=self._start_time)
                    self._set_dial(target, target.next_at)
            case Accepted(id=key, remote=remote):
                return self._accepted(key, remote)
            case Authenticated(id=key):
                if not self._move(key, Happening.AUTHENTICATED):
                    return [Retire(key)]
            case Rejected(id=key, suspicion=suspicion):
                self._rejected(key, suspicion, now)
            case RelayReady(id=key):
                if self._decided or not self._plan.relay:
                    return [Retire(key)]
                self._attempts[key] = Attempt(id=key, how="relay", remote=None, stage=Stage.READY)
            case RelayFailed(text=text, broke=broke):
                self._relay_trouble = text
                if broke:
                    self._relay_broke_at = now
            case Nominated(id=key, begun=begun):
                return self._nominated(key, now, begun=begun)
            case NominationAcked(id=key) | AcknowledgementSent(id=key):
                return self._acknowledged(key, now)
            case ConnectionDied(id=key):
                return self._died(key, now)
            case Stopped():
                if self._in_use is not None and not self._decided:
                    return self._stay(self._in_use, now, "it was over before more was tried")
        return []

    def _accepted(self, key: str, remote: Endpoint) -> list[Command]:
        proving = sum(attempt.stage is Stage.PROVING for attempt in self._attempts.values())
        limit = MAX_PROVING if remote.address in self._addresses else MAX_PROVING // 2
        if self._decided or not self._plan.direct or proving >= limit:
            return [Retire(key)]
        self._attempts[key] = Attempt(id=key, how="accept", remote=remote, stage=Stage.PROVING)
        return [Authenticate(key)]

    def _rejected(self, key: str, suspicion: str, now: float) -> None:
        target = self._target_of.get(key)
        if not self._move(key, Happening.REJECTED):
            return
        if target is not None:
            target.rejected(suspicion, now, started=self._start_time)
            self._set_dial(target, target.next_at)
        else:
            self._strangers += 1

    def _nominated(self, key: str, now: float, *, begun: bool) -> list[Command]:
        """Only the controlled side is told this. While one answer is being sent, a second nomination waits: it counts
        when the first connection dies under the answer."""
        answering = bool(self._nominees())
        if self._plan.controlling or not self._move(key, Happening.NOMINATED):
            return []
        if self._attempts[key].how == "relay" and self._begins_there:
            waiting = [Acknowledge(other) for other in self._nominees() if other != key][:1] if self._begun else []
            return [*self._use(key), *waiting]
        self._begun |= begun
        self._nominated_at = now
        return [] if answering or self._has_to_begin else [Acknowledge(key)]

    def _acknowledged(self, key: str, now: float) -> list[Command]:
        attempt = self._attempts.get(key)
        if attempt is None or not attempt.move(Happening.ACKNOWLEDGED):
            return []
        self._decided = True
        reason = self._why_relayed(now) if attempt.how == "relay" else None
        return [Choose(key, reason), *self._retire_all()]

    def _died(self, key: str, now: float) -> list[Command]:
        attempt, target = self._attempts.get(key), self._target_of.get(key)
        if attempt is None or not self._move(key, Happening.DIED):
            return []
        if target is not None:
            target.lost(now, started=self._start_time)
            self._set_dial(target, target.next_at)
        if attempt.how == "relay":
            self._relay_trouble = "the connection through the relay broke"
            self._relay_broke_at = now
        if not self._plan.controlling and not self._has_to_begin:
            return [Acknowledge(other) for other in self._nominees()[:1]]
        return []

    def _nominees(self) -> list[str]:
        return [key for key, attempt in self._attempts.items() if attempt.stage is Stage.NOMINATED]

    @property
    def _has_to_begin(self) -> bool:
        """Whether nothing can be answered before the news from the relay that it is used."""
        return self._begun and self._in_use is None

    def _move(self, key: str, happening: Happening) -> bool:
        attempt = self._attempts.get(key)
        if attempt is None or not attempt.move(happening):
            return False
        if attempt.stage is Stage.ENDED:
            del self._attempts[key]
            self._target_of.pop(key, None)
        return True

    # -- what is due --

    def _advance(self, now: float, started: float) -> list[Command]:
        # With an answer still out the peer may have chosen already: giving up now would leave it alone with its choice.
        overdue = now >= self._deadline(started) and not self._awaiting_answer(now)
        if overdue and self._in_use is not None:
            return self._stay(self._in_use, now)
        if overdue or self._hopeless():
            return self._fail()
        commands = self._nominate(now, started) if self._plan.controlling else []
        if not self._awaiting_answer(now):
            commands += self._dial_due(now, started)
        commands.append(WakeAt(self._next_wake(now, started)))
        return commands

    def _deadline(self, started: float) -> float:
        deadline = started + self._plan.deadline
        if self._relay_broke_at is None or self._in_use is not None:
            return deadline
        return min(deadline, self._relay_broke_at + self._plan.without_relay)

    def _hopeless(self) -> bool:
        # With a listener there is always hope: the peer may be able to dial us.
        return not self._plan.direct and bool(self._relay_trouble)

    def _nominate(self, now: float, started: float) -> list[Command]:
        if self._awaiting_answer(now):
            return []
        ready = [attempt for attempt in self._attempts.values() if attempt.stage is Stage.READY]
        relay_due = not self._plan.direct or now >= started + self._plan.head_start
        for attempt in sorted(ready, key=lambda attempt: attempt.how == "relay"):
            if attempt.how != "relay" or relay_due:
                if attempt.how == "relay" and self._begins_there:
                    # The other side may give up a little before us, and would not hear of it.
                    margin = min(ACK_SECONDS, self._plan.deadline / 4)
                    return self._use(attempt.id) if now < started + self._plan.deadline - margin else []
                attempt.move(Happening.NOMINATED)
                self._nominated_at = now
                return [Nominate(attempt.id, self._in_use is not None)]
        return []

    def _use(self, relay: str) -> list[Command]:
        self._attempts[relay].move(Happening.NOMINATED)
        self._attempts[relay].move(Happening.ACKNOWLEDGED)
        self._in_use = relay
        return [Use(relay)]

    @property
    def _begins_there(self) -> bool:
        """Whether the relay is only for the beginning."""
        return self._plan.moving and self._plan.direct

    def _awaiting_answer(self, now: float) -> bool:
        return now < self._nominated_at + ACK_SECONDS and bool(self._nominees())

    def _dial_due(self, now: float, started: float) -> list[Command]:
        commands: list[Command] = []
        while self._due and self._due[0][0] <= now:
            at, _, target = heapq.heappop(self._due)
            if target.next_at != at:
                continue
            self._dial_count += 1
            key = f"dial-{self._dial_count}"
            target.dialled(now, started=started)
            self._target_of[key] = target
            self._attempts[key] = Attempt(id=key, how="dial", remote=target.endpoint, stage=Stage.DIALLING)
            commands.append(Dial(key, target.endpoint, target.local))
        return commands

    def _set_dial(self, target: Target, at: float | None) -> None:
        target.next_at = at
        if at is not None:
            heapq.heappush(self._due, (at, next(self._order), target))

    def _next_wake(self, now: float, started: float) -> float:
        times = [started + self._plan.head_start, self._nominated_at + ACK_SECONDS]
        while self._due and self._due[0][2].next_at != self._due[0][0]:
            heapq.heappop(self._due)
        times += [at for at, _, _ in self._due[:1]]
        times.append(self._deadline(started))
        return min(time for time in times if time > now)

    # -- the end --

    def _stay(self, relay: str, now: float, why: str = "") -> list[Command]:
        """The relay, for good."""
        self._decided = True
        reason = self._why_relayed(now)
        return [Choose(relay, f"{why}; {reason}" if why else reason), *self._retire_all()]

    def _fail(self) -> list[Command]:
        self._decided = True
        trouble = self._relay_trouble or "the other side did not take it in time"
        reason = no_path(
            self._targets,
            direct=self._plan.direct,
            relay_trouble=trouble,
            strangers_accepted=self._strangers,
            notes=self._plan.notes,
        )
        broken = self._relay_broke_at is not None and self._plan.without_relay < self._plan.deadline
        return [Fail(reason, broken=broken), *self._retire_all()]

    def _retire_all(self) -> list[Command]:
        others = [key for key, attempt in self._attempts.items() if attempt.stage is not Stage.CHOSEN]
        for key in others:
            self._move(key, Happening.RETIRED)
        return [Retire(key) for key in others]

    def _why_relayed(self, now: float) -> str:
        if not self._plan.direct:
            return self._plan.why_not or "only the relay was allowed"
        seconds = 0.0 if self._started is None else now - self._started
        return why_not_direct(self._targets, seconds, self._plan.notes)

    @property
    def _start_time(self) -> float:
        assert self._started is not None, "nothing can happen to a dial before the start"
        return self._started
