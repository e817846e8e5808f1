"""One side of a meeting, without I/O: from nothing to a confirmed key and ordered messages, through lost connections.

Theory of operation
-------------------
The server keeps a mailbox of messages, each named by *(side, phase)*, and plays all of them to whoever opens it. So
everything is idempotent: what was said is kept and said again on each new connection until the server's copy of it has
come back (the echo is the acknowledgement), and what is heard twice counts once.

    number ── claim ── mailbox ── open ── pake ⇄ pake ── version ⇄ version ── 0, 1, 2 ...

*pake* carries SPAKE2; *version* is the first message sealed with the key. Until the other side's *version* unseals
nothing else is said or delivered. One that does not unseal means a wrong code, and because each side says its own
before it judges the other's, both find out; the receiver says its own first. The nameplate is released when the other
side is first heard.

An open is followed by a ``ping``. Its ``pong`` comes after the playback, so a message of ours that had been
acknowledged and was not played was forgotten by the server (restarted, without a disk), and is said again.

Who drives it: the server's frames, the user's wishes, and time. The driver carries out the commands each event gives,
and comes back with :class:`TimePassed` when :attr:`Machine.deadline` has come. ``now`` is seconds of any steady clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, assert_never

from midair.errors import (
    MidairError,
    PeerLostError,
    QuotaError,
    RemoteProtocolError,
    ServerUnreachableError,
    UnknownCodeError,
    WrongCodeError,
)
from midair.rendezvous import steps, wire
from midair.rendezvous.clearing import Remains
from midair.rendezvous.conversation import Confirmed, Conversation, Delivered, Posted, Role
from midair.rendezvous.keys import Entropy
from midair.rendezvous.refusals import refusal
from midair.rendezvous.stages import (
    ANSWER_SECONDS,
    BACKOFF_SECONDS,
    CLOSE_SECONDS,
    CONFIRM_SECONDS,
    NEXT,
    OF_ONE_CONNECTION,
    OUTAGE_SECONDS,
    PING_SECONDS,
    PONG_SECONDS,
    PROOF_SECONDS,
    Stage,
    Timer,
)
from midair.rendezvous.steps import Command, Event, Mood, Transmit

__all__ = ["Machine", "Plan", "UnprovenError"]


class UnprovenError(PeerLostError):
    """Somebody was heard under the code, and went away before they proved that they know it."""

    def __init__(self, remains: Remains) -> None:
        super().__init__("the other side went away before it proved that it knows the code")
        self.remains = remains


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is fixed before the meeting starts."""

    server: str
    """As it is named to the person."""
    app_id: str
    side: str
    """Random and fresh for each meeting: what tells the two apart in the mailbox."""
    role: Role
    nameplate: str | None
    """None: the server allocates one."""
    make_code: Callable[[str], str] = field(repr=False)
    """The whole code, given the nameplate."""
    app_versions: Mapping[str, Any]
    wait: float | None
    """Seconds the other side may take to be heard; None: forever."""


class Machine:
    """Feed :meth:`handle`, carry out what it returns."""

    def __init__(self, plan: Plan, *, entropy: Entropy) -> None:
        self._plan = plan
        self._entropy = entropy
        self._stage = Stage.ALLOCATING if plan.nameplate is None else Stage.CLAIMING
        self._timers: dict[Timer, float] = {}
        self._nameplate = plan.nameplate
        self._released = False
        self._mailbox: str | None = None
        self._conversation: Conversation | None = None
        self._acknowledged: set[str] = set()
        self._mood: Mood = "happy"

        # The connection, across connections:
        self._welcomed = False
        self._failures = 0
        self._last_loss: MidairError | None = None
        # and of the present one:
        self._connected = False
        self._subscribed = False
        self._unanswered: set[type] = set()
        self._pings = 0
        self._playback_ping: int | None = None
        self._expected: set[str] = set()

    @property
    def stage(self) -> Stage:
        """How far it is."""
        return self._stage

    @property
    def deadline(self) -> float | None:
        """When ``TimePassed`` is due; changes with every event."""
        return min(self._timers.values(), default=None)

    def handle(self, event: Event, *, now: float) -> list[Command]:
        """Takes one event in and says what is to be done, in order."""
        if self._stage is Stage.OVER:
            return []
        match event:
            case steps.Started():
                return [steps.Connect()]
            case steps.Connected():
                return self._on_connected(now)
            case steps.ConnectFailed(error=error):
                return self._on_lost(error, now)
            case steps.Disconnected(reason=reason, violated=True):
                return self._on_lost(self._violation(reason), now)
            case steps.Disconnected(reason=reason):
                return self._on_lost(self._unreachable(reason), now)
            case steps.Received(frame=frame):
                return self._on_frame(frame, now)
            case steps.Violated(reason=reason):
                return self._on_violated(reason, now)
            case steps.SendRequested(message=message):
                return self._on_send(message)
            case steps.CloseRequested(mood=mood):
                return self._on_close(mood, now)
            case steps.TimePassed():
                return self._on_time(now)
            case _:
                assert_never(event)

    # The connection

    def _on_connected(self, now: float) -> list[Command]:
        self._connected = True
        self._subscribed = False
        self._unanswered.clear()
        commands: list[Command] = [Transmit(frame=wire.Bind(appid=self._plan.app_id, side=self._plan.side))]
        if self._stage is Stage.CLOSING:
            return commands + self._say_goodbye()
        self._timers[Timer.ANSWER] = now + ANSWER_SECONDS
        self._timers[Timer.PING] = now + PING_SECONDS
        if self._stage is Stage.ALLOCATING:
            return [*commands, self._ask(wire.Allocate(), wire.Allocated)]
        if not self._release_wanted:
            # Also when the mailbox is known: a server that forgot it gives the same number a new one.
            return [*commands, self._claim()]
        return [*commands, *self._release(), *self._open(now)]

    def _on_lost(self, error: MidairError, now: float) -> list[Command]:
        self._connected = self._subscribed = False
        for timer in OF_ONE_CONNECTION:
            self._timers.pop(timer, None)
        if self._stage is Stage.CLOSING:
            return self._end()
        # Nobody was there at all: most likely a wrong address, which a person wants to hear of at once.
        if not self._welcomed or isinstance(error, QuotaError | RemoteProtocolError):
            return self._fail(error, now)
        self._last_loss = error
        self._timers.setdefault(Timer.OUTAGE, now + OUTAGE_SECONDS)
        self._timers[Timer.RECONNECT] = now + BACKOFF_SECONDS[min(self._failures, len(BACKOFF_SECONDS) - 1)]
        self._failures += 1
        return []

    def _on_time(self, now: float) -> list[Command]:
        commands: list[Command] = []
        for timer in [timer for timer, at in sorted(self._timers.items(), key=lambda item: item[1]) if at <= now]:
            # An earlier one may have changed everything.
            if self._timers.pop(timer, None) is not None:
                commands += self._on_timer(timer, now)
        return commands

    def _on_timer(self, timer: Timer, now: float) -> list[Command]:
        match timer:
            case Timer.RECONNECT:
                return [steps.Connect()]
            case Timer.PING:
                self._timers[Timer.PING] = now + PING_SECONDS
                self._timers[Timer.PONG] = now + PONG_SECONDS
                return [self._ping()]
            case Timer.PONG:
                return self._drop()
            case Timer.ANSWER:
                return self._drop() if self._welcomed else self._fail(self._unreachable("it does not answer"), now)
            case Timer.OUTAGE:
                return self._fail(self._last_loss or self._unreachable("it does not answer"), now)
            case Timer.ARRIVAL:
                return self._fail(self._lonely(), now)
            case Timer.CONFIRM:
                return self._fail(UnprovenError(self._remains()), now)
            case Timer.CLOSE:
                return self._end()
            case _:
                assert_never(timer)

    def _drop(self) -> list[Command]:
        for timer in OF_ONE_CONNECTION:
            self._timers.pop(timer, None)
        return [steps.Drop()]

    # The server's frames

    def _on_frame(self, frame: wire.ServerFrame | wire.Unknown, now: float) -> list[Command]:
        self._timers.pop(Timer.PONG, None)
        self._unanswered.discard(type(frame))
        if self._stage is Stage.CLOSING:
            return self._on_frame_while_closing(frame)
        match frame:
            case wire.Welcome(welcome=info):
                if info.error is not None:
                    return self._fail(refusal(info.error, f"The server at {self._plan.server} turns us away"), now)
                self._welcomed = True
            case wire.Allocated(nameplate=nameplate) if self._stage is Stage.ALLOCATING:
                # The code must come back from a person's hands as it left ours.
                if len(nameplate) > 9 or str(int(nameplate)) != nameplate:
                    return self._fail(RemoteProtocolError("the server gave out a strange number"), now)
                self._nameplate = nameplate
                self._enter(Stage.CLAIMING)
                return [self._claim()]
            case wire.Claimed(mailbox=mailbox) if self._may_open:
                return self._on_claimed(mailbox, now)
            case wire.Released():
                self._released = True
            case wire.Message() if self._subscribed:
                return self._on_message(frame, now)
            case wire.Pong(pong=number) if number == self._playback_ping:
                return self._on_playback_over()
            case wire.Error(error=text):
                self._unanswered -= {wire.Allocated, wire.Claimed}
                return self._fail(refusal(text, "The server refused a request"), now)
        return []

    def _on_claimed(self, mailbox: str, now: float) -> list[Command]:
        assert self._nameplate is not None
        self._mailbox = mailbox
        commands: list[Command] = []
        if self._conversation is None:
            code = self._plan.make_code(self._nameplate)
            self._conversation = Conversation(
                code=code,
                app_id=self._plan.app_id,
                side=self._plan.side,
                role=self._plan.role,
                app_versions=self._plan.app_versions,
                entropy=self._entropy,
            )
            self._enter(Stage.WAITING)
            if self._plan.wait is not None:
                self._timers[Timer.ARRIVAL] = now + self._plan.wait
            commands.append(steps.Announce(code=code))
        return commands + self._open(now)

    def _on_message(self, message: wire.Message, now: float) -> list[Command]:
        assert self._conversation is not None
        if message.side == self._plan.side:
            if message.phase in self._conversation.outbox:
                self._acknowledged.add(message.phase)
                self._expected.discard(message.phase)
            return []
        commands: list[Command] = []
        if self._stage is Stage.WAITING:
            self._enter(Stage.CONFIRMING)
            self._timers.pop(Timer.ARRIVAL, None)
            self._timers[Timer.CONFIRM] = now + (PROOF_SECONDS if self._plan.role == "sender" else CONFIRM_SECONDS)
            commands += self._release()
        said = set(self._outbox)
        try:
            outcomes = self._conversation.receive(message.side, message.phase, message.body)
        except MidairError as error:
            last_words = [self._add(phase) for phase in self._outbox if phase not in said]
            return commands + last_words + self._fail(error, now)
        for outcome in outcomes:
            match outcome:
                case Posted(phase=phase):
                    commands.append(self._add(phase))
                case Confirmed(key=key, peer_versions=versions):
                    self._enter(Stage.MET)
                    self._timers.pop(Timer.CONFIRM, None)
                    commands.append(steps.Met(key=key, peer_versions=versions))
                case Delivered(message=payload):
                    commands.append(steps.Deliver(message=payload))
                case _:
                    assert_never(outcome)
        return commands

    def _on_playback_over(self) -> list[Command]:
        self._playback_ping = None
        self._failures = 0
        self._timers.pop(Timer.ANSWER, None)
        self._timers.pop(Timer.OUTAGE, None)
        forgotten = [phase for phase in self._outbox if phase in self._expected]
        self._acknowledged.difference_update(forgotten)
        self._expected.clear()
        return [self._add(phase) for phase in forgotten]

    def _on_violated(self, reason: str, now: float) -> list[Command]:
        commands = self._fail(self._violation(reason), now)
        # It is told that we leave, but who sends garbage is not waited for.
        return commands + self._end() if self._stage is Stage.CLOSING else commands

    # The user

    def _on_send(self, message: bytes) -> list[Command]:
        if self._stage is not Stage.MET:
            return []
        assert self._conversation is not None
        posted = self._conversation.send(message)
        return [self._add(posted.phase)] if self._subscribed else []

    def _on_close(self, mood: Mood, now: float) -> list[Command]:
        if self._stage is Stage.CLOSING:
            return []
        if not self._welcomed and not self._connected:
            return self._end()
        waits_for_reconnect = Timer.RECONNECT in self._timers
        commands = self._begin_closing(mood, now)
        # One more try to tell the server, so that the number does not stay taken.
        return [*commands, steps.Connect()] if waits_for_reconnect else commands

    # The end

    def _fail(self, error: MidairError, now: float) -> list[Command]:
        if self._stage is Stage.CLOSING:
            return self._end()
        failed: list[Command] = [steps.Fail(error=error)]
        if not self._connected:
            return failed + self._end()
        mood: Mood = "errory"
        if isinstance(error, WrongCodeError):
            mood = "scary"
        elif isinstance(error, UnknownCodeError | PeerLostError):
            mood = "lonely"
        return failed + self._begin_closing(mood, now)

    def _begin_closing(self, mood: Mood, now: float) -> list[Command]:
        self._enter(Stage.CLOSING)
        self._mood = mood
        self._timers = {Timer.CLOSE: now + CLOSE_SECONDS}
        return self._say_goodbye() if self._connected else []

    def _say_goodbye(self) -> list[Command]:
        commands: list[Command] = []
        if self._mailbox is not None and not self._subscribed and self._unacknowledged:
            commands += [Transmit(frame=wire.Open(mailbox=self._mailbox))]
            self._subscribed = True
            commands += [self._add(phase) for phase in self._unacknowledged]
        if self._nameplate is not None:
            commands += self._release()
        if self._mailbox is not None:
            commands.append(self._close())
        return commands if self._unanswered else commands + self._end()

    def _on_frame_while_closing(self, frame: wire.ServerFrame | wire.Unknown) -> list[Command]:
        commands: list[Command] = []
        match frame:
            # Answers to what was asked just before: they name what there is to give back.
            case wire.Allocated(nameplate=nameplate) if self._nameplate is None:
                self._nameplate = nameplate
                commands += self._release()
            case wire.Claimed(mailbox=mailbox) if self._mailbox is None:
                self._mailbox = mailbox
                commands.append(self._close())
            case wire.Error():
                self._unanswered.clear()
        return commands if self._unanswered else commands + self._end()

    def _end(self) -> list[Command]:
        self._enter(Stage.OVER)
        self._timers.clear()
        return [steps.Finish()]

    # Small things

    @property
    def _outbox(self) -> dict[str, str]:
        return {} if self._conversation is None else self._conversation.outbox

    @property
    def _unacknowledged(self) -> list[str]:
        return [phase for phase in self._outbox if phase not in self._acknowledged]

    @property
    def _may_open(self) -> bool:
        """Whether a mailbox is what we wait for on this connection."""
        return self._stage in (Stage.CLAIMING, Stage.WAITING) and not self._subscribed

    @property
    def _release_wanted(self) -> bool:
        """Whether the other side was heard, so that the number has done its work."""
        return self._conversation is not None and self._conversation.peer_side is not None

    def _enter(self, stage: Stage) -> None:
        assert stage in NEXT[self._stage], f"{self._stage} to {stage}"
        self._stage = stage

    def _ask(self, frame: wire.ClientFrame, answer: type) -> Transmit:
        self._unanswered.add(answer)
        return Transmit(frame=frame)

    def _claim(self) -> Transmit:
        assert self._nameplate is not None
        return self._ask(wire.Claim(nameplate=self._nameplate), wire.Claimed)

    def _release(self) -> list[Command]:
        """Once a connection, until it is confirmed."""
        if self._released or wire.Released in self._unanswered:
            return []
        return [self._ask(wire.Release(nameplate=self._nameplate), wire.Released)]

    def _open(self, now: float) -> list[Command]:
        assert self._mailbox is not None
        self._subscribed = True
        self._expected = set(self._acknowledged)
        self._timers[Timer.ANSWER] = now + ANSWER_SECONDS
        ping = self._ping()
        self._playback_ping = self._pings
        adds = [self._add(phase) for phase in self._unacknowledged]
        return [Transmit(frame=wire.Open(mailbox=self._mailbox)), *adds, ping]

    def _add(self, phase: str) -> Transmit:
        return Transmit(frame=wire.Add(phase=phase, body=self._outbox[phase]))

    def _close(self) -> Transmit:
        return self._ask(wire.Close(mailbox=self._mailbox, mood=self._mood), wire.Closed)

    def _ping(self) -> Transmit:
        self._pings += 1
        return Transmit(frame=wire.Ping(ping=self._pings))

    def _unreachable(self, reason: str) -> ServerUnreachableError:
        return ServerUnreachableError(f"the server at {self._plan.server} cannot be reached: {reason}")

    def _violation(self, reason: str) -> RemoteProtocolError:
        return RemoteProtocolError(f"the server at {self._plan.server} breaks its protocol: {reason}")

    def _remains(self) -> Remains:
        """What the other side takes up."""
        assert self._conversation is not None
        assert self._conversation.peer_side is not None
        assert self._nameplate is not None
        assert self._mailbox is not None
        return Remains(
            app_id=self._plan.app_id,
            side=self._conversation.peer_side,
            nameplate=self._nameplate,
            mailbox=self._mailbox,
        )

    def _lonely(self) -> MidairError:
        if self._plan.role == "receiver":
            return UnknownCodeError(f"nobody waits under number {self._nameplate} at {self._plan.server}")
        return PeerLostError("nobody came to receive in time")
