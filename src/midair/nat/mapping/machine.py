"""One TCP port asked of one router by PCP or NAT-PMP: asked for, renewed while it is wanted, removed at the end. Pure;
:mod:`midair.nat.mapping.datagrams` drives it with what comes from the router and with the clock.

PCP is asked first. A router that only knows NAT-PMP says so (RFC 6887 section 9), or, if it is older than that rule,
nothing; so after FALLBACK_SECONDS of silence NAT-PMP is asked as well, and whichever says yes first is kept.

Both RFCs resend an unanswered request after a wait that doubles. PCP begins with 3 seconds, made for a server at the
carrier's; NAT-PMP with a quarter of one, made for a router at home, and that is what both get here.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import msgspec

from midair.endpoint import Endpoint
from midair.nat.mapping.dialects import Announced, Denied, Dialect, Granted, Reading, Removed
from midair.nat.mapping.outcome import Protocol

__all__ = [
    "FALLBACK_SECONDS",
    "Command",
    "Deny",
    "Event",
    "Finish",
    "Hold",
    "Lose",
    "MappingMachine",
    "PortClosed",
    "Received",
    "Released",
    "Send",
    "Started",
    "State",
    "TimePassed",
]

FALLBACK_SECONDS = 0.1
"""How long PCP may be silent before NAT-PMP is asked beside it. A miniupnpd with nftables rules to write took 64 ms."""
FIRST_WAIT_SECONDS = 0.25
"""RFC 6886 section 3.1."""
WAIT_SECONDS_MAX = 1024.0
"""RFC 6887 section 8.1.1."""
RENEWAL_SECONDS_MIN = 4.0
"""RFC 6887 section 11.2.1: no renewal sooner than that after the last request."""
LIFETIME_SECONDS_MAX = 86_400
"""RFC 6887 section 15: a client should not believe in more than a day."""


class Started(msgspec.Struct, frozen=True):
    """The driver is ready for commands."""


class Received(msgspec.Struct, frozen=True):
    """A datagram came from the router, to us or to everybody."""

    data: bytes


class PortClosed(msgspec.Struct, frozen=True):
    """The router answered by ICMP: nobody listens there."""


class TimePassed(msgspec.Struct, frozen=True):
    """``wake_at`` has come."""


class Released(msgspec.Struct, frozen=True):
    """The mapping is not wanted any more."""


Event = Started | Received | PortClosed | TimePassed | Released


class Send(msgspec.Struct, frozen=True):
    """A datagram for the router."""

    data: bytes


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """The mapping is there, or has changed."""

    protocol: Protocol
    external: Endpoint
    lifetime: int
    """Seconds, as granted."""


class Lose(msgspec.Struct, frozen=True):
    """It has run out; it is still asked for."""


class Deny(msgspec.Struct, frozen=True, kw_only=True):
    """One protocol will not give it."""

    protocol: Protocol
    denied: Denied


class Finish(msgspec.Struct, frozen=True):
    """Nothing more will be ordered."""


Command = Send | Hold | Lose | Deny | Finish


class State(Enum):
    """Where it stands."""

    IDLE = "idle"
    ASKING = "asking"
    HELD = "held"
    RENEWING = "renewing"
    """Held, and asked for again."""
    DENIED = "denied"
    REMOVING = "removing"
    FINISHED = "finished"


_NOBODY = Denied(code=None, text="nobody listens there", other_version=True)


class MappingMachine:
    """``handle`` takes every event with the time in seconds and returns commands; call it again at ``wake_at``."""

    def __init__(
        self, dialects: Sequence[Dialect], *, wish: Endpoint, lifetime: int, recovery_delay: float = 0.0
    ) -> None:
        """``wish`` is the external endpoint to suggest. ``recovery_delay``: how long to wait after the router has told
        everybody that it lost its mappings, random between 0 and 5 s (RFC 6887 section 14.1.3)."""
        self.state = State.IDLE
        self.wake_at: float | None = None
        self.asked: list[Dialect] = []
        """Dialects that were asked and have not refused."""
        self._waiting = list(dialects)
        self._held: Dialect | None = None
        self._hold: Hold | None = None
        self._external = wish
        self._lifetime = lifetime
        self._recovery_delay = recovery_delay
        self._wait = FIRST_WAIT_SECONDS
        self._expires_at = 0.0
        self._sent_at = 0.0
        self._heard: set[Protocol] = set()

    def handle(self, event: Event, now: float) -> list[Command]:
        """What to do about it, in this order."""
        match event:
            case Started():
                self.state = State.ASKING
                return self._ask_next(now)
            case Received(data=data):
                return self._received(data, now)
            case PortClosed():
                return self._port_closed()
            case TimePassed():
                return self._time_passed(now) if self.wake_at is not None and now >= self.wake_at else []
            case Released():
                return self._released(now)

    # -- asking --

    def _ask_next(self, now: float) -> list[Command]:
        """Asks in the next dialect, beside those before."""
        dialect = self._waiting.pop(0)
        self.asked.append(dialect)
        self.wake_at = now + (FALLBACK_SECONDS if self._waiting else self._wait)
        return self._requests([dialect], self._lifetime, now)

    def _ask_again(self, dialects: Sequence[Dialect], now: float, *, lifetime: int) -> list[Command]:
        self._wait = min(2 * self._wait, WAIT_SECONDS_MAX)
        self.wake_at = now + self._wait
        return self._requests(dialects, lifetime, now)

    def _requests(self, dialects: Sequence[Dialect], lifetime: int, now: float) -> list[Command]:
        self._sent_at = now
        return [Send(data) for dialect in dialects for data in dialect.requests(lifetime, self._external)]

    # -- the clock --

    def _time_passed(self, now: float) -> list[Command]:
        match self.state:
            case State.ASKING:
                return (
                    self._ask_next(now) if self._waiting else self._ask_again(self.asked, now, lifetime=self._lifetime)
                )
            case State.HELD:
                self.state = State.RENEWING
                self._wait = FIRST_WAIT_SECONDS
                self.wake_at = now + self._wait
                return self._requests(self._holders(), self._lifetime, now)
            case State.RENEWING:
                commands = self._ask_again(self._holders(), now, lifetime=self._lifetime)
                if now >= self._expires_at:
                    self.state = State.ASKING
                    self.asked = self._holders()
                    self._held = self._hold = None
                    commands.append(Lose())
                else:
                    self.wake_at = min(now + self._wait, max(self._expires_at, now + FIRST_WAIT_SECONDS))
                return commands
            case State.REMOVING:
                return self._ask_again(self._speaking(), now, lifetime=0)
        return []

    def _speaking(self) -> list[Dialect]:
        """Who was asked, has not refused, and has said a word at all."""
        return [dialect for dialect in self.asked if dialect.protocol in self._heard]

    def _holders(self) -> list[Dialect]:
        return [] if self._held is None else [self._held]

    # -- the router --

    def _received(self, data: bytes, now: float) -> list[Command]:
        for dialect in list(self.asked):
            reading = dialect.read(data, now)
            if reading is not None:
                self._heard.add(dialect.protocol)
                return self._understood(dialect, reading, now)
        return []

    def _understood(self, dialect: Dialect, reading: Reading, now: float) -> list[Command]:
        match self.state, reading:
            case State.ASKING, Granted():
                return self._granted(dialect, reading, now)
            case State.RENEWING, Granted() if dialect is self._held:
                return self._granted(dialect, reading, now)
            case State.ASKING, Denied():
                return self._denied(dialect, reading, now)
            case State.ASKING, Removed():
                return self._denied(dialect, Denied(code=None, text="gave it for no time", broken=True), now)
            case State.HELD, Announced(lost=True):
                soon = max(now + self._recovery_delay, self._sent_at + RENEWAL_SECONDS_MIN)
                self.wake_at = soon if self.wake_at is None else min(self.wake_at, soon)
            case State.REMOVING, Removed() | Denied():
                self.asked.remove(dialect)
                if not self._speaking():
                    return self._finished()
        # What is left is late, repeated or a refusal to renew: the mapping lasts as long as it was given for.
        return []

    def _granted(self, dialect: Dialect, granted: Granted, now: float) -> list[Command]:
        lifetime = min(granted.lifetime, LIFETIME_SECONDS_MAX)
        hold = Hold(protocol=dialect.protocol, external=granted.external, lifetime=lifetime)
        changed, self._hold = hold != self._hold, hold
        self.state = State.HELD
        self._held = dialect
        self._waiting.clear()
        self._external = granted.external
        self._expires_at = now + lifetime
        self.wake_at = now + max(RENEWAL_SECONDS_MIN, lifetime / 2)
        return [hold] if changed else []

    def _denied(self, dialect: Dialect, denied: Denied, now: float) -> list[Command]:
        self.asked.remove(dialect)
        commands: list[Command] = [Deny(protocol=dialect.protocol, denied=denied)]
        if not denied.other_version:
            self._waiting.clear()  # the one who would answer has answered
        if self._waiting:
            commands += self._ask_next(now)
        elif not self.asked:
            self.state = State.DENIED
            self.wake_at = None
        return commands

    def _port_closed(self) -> list[Command]:
        if self.state is State.REMOVING:
            return self._finished()
        if self.state is not State.ASKING or self._heard:
            return []  # it speaks, so it only starts anew just now
        denials: list[Command] = [Deny(protocol=each.protocol, denied=_NOBODY) for each in self.asked + self._waiting]
        self.asked.clear()
        self._waiting.clear()
        self.state = State.DENIED
        self.wake_at = None
        return denials

    # -- the end --

    def _released(self, now: float) -> list[Command]:
        if self.state in (State.REMOVING, State.FINISHED):
            return []
        commands = self._requests(self.asked, 0, now)
        # Who never said a word is told, but not waited for, unless it says one now: a slow router may only just have
        # come to what it was asked, and to some a mapping by one protocol replaces that by the other.
        if not self._speaking():
            return commands + self._finished()
        self.state = State.REMOVING
        self._wait = FIRST_WAIT_SECONDS
        self.wake_at = now + self._wait
        return commands

    def _finished(self) -> list[Command]:
        self.state = State.FINISHED
        self.wake_at = None
        return [Finish()]
