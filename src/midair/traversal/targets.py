"""A target: one remote candidate, when it is dialled next, and what came of it so far.

A dial that is refused, reset or answered by an ICMP error is repeated at once, but not more than one SYN in 10 ms: the
peer's NAT refuses what comes before the peer's own SYN has passed it, and every moment without a socket in SYN_SENT is
one in which the peer's SYN meets nothing. Measured on 21 hard pairs of NATs at a skew of 100 ms: 160 of 210 connect
so, 51 with a pause of 200 ms. A SYN that is not answered stays out; the kernel repeats it. After 1.5 s in which the
two sides were surely both dialling, patience is cheaper than insistence.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from midair.endpoint import Endpoint
from midair.port.failures import ConnectFailure

__all__ = ["MAX_DIALS", "MAX_STRANGERS", "Target", "late_gap", "retry_gap"]

EAGER_SECONDS = 1.5
EAGER_GAP = 0.010
EAGER_RATE = 400.0
"""SYNs a second that all targets may come to meanwhile: four of them go as fast as they can."""
PATIENT_GAPS = (0.050, 0.250)
"""Seconds between two dials after that: the first gap, and what it grows to by half each time."""
MAX_DIALS = 400
"""Of one target: 150 in the eager time, and a deadline's worth of patient ones."""
MAX_LATE_DIALS = 8
IN_TURNS = 2
"""So few are no coverage: they are dialled as eagerly as a candidate, for as long as a turn takes."""
MAX_DIALS_IN_TURNS = 64
LATE_RATE = 500.0
"""SYNs a second that all of a coverage may come to, the repeated ones among them."""
MAX_STRANGERS = 3
"""So often somebody else may answer at an address before it is left alone."""

_UNSENT = {ConnectFailure.DUPLICATE, ConnectFailure.IN_USE, ConnectFailure.RESOURCES, ConnectFailure.SELF}
"""Failures before any SYN left."""
_HOPELESS = {ConnectFailure.SELF, ConnectFailure.DENIED, ConnectFailure.OTHER}
"""Failures that the next dial would meet again."""


def retry_gap(elapsed: float, patient_dials: int, targets: int = 1) -> float:
    """Seconds between two dials, ``elapsed`` seconds after the start; ``patient_dials``: made since the eager time;
    ``targets``: how many are dialled besides one another."""
    if elapsed < EAGER_SECONDS:
        return max(EAGER_GAP, targets / EAGER_RATE)
    first, most = PATIENT_GAPS
    return min(most, first * 1.5 ** min(patient_dials, 10))


def late_gap(count: int) -> float:
    """Seconds between two dials of each of the ``count`` that are dialled late."""
    return EAGER_GAP if count <= IN_TURNS else max(PATIENT_GAPS[1], count / LATE_RATE)


@dataclass(slots=True, kw_only=True)
class Target:
    """One remote endpoint; at most one dial of it is on its way."""

    endpoint: Endpoint
    local: int = 0
    """Which of our ports it is dialled from, as in Dial."""
    beside: int = 1
    """How many are dialled like this one, itself among them."""
    late: bool = False
    """One of those that begin a while after the start: dialled few times."""
    gap: float = PATIENT_GAPS[1]
    """Seconds between two dials of it, if it is."""
    next_at: float | None = None
    """When to dial it; None while a dial or a connection is on its way, or when it is given up."""
    dials: int = 0
    sent: int = 0
    """Dials that put a SYN on the wire, as far as can be told."""
    strangers: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """How often a dial ended with which errno; those not sent are left out."""
    _dialled_at: float = 0.0
    _patient_dials: int = 0

    @property
    def unanswered(self) -> int:
        """SYNs sent of which nothing was heard."""
        return max(0, self.sent - self.failures.total() - self.strangers)

    def dialled(self, now: float, *, started: float) -> None:
        """A dial goes out."""
        self.next_at = None
        self.dials += 1
        self.sent += 1
        self._dialled_at = now
        if now - started >= EAGER_SECONDS:
            self._patient_dials += 1

    def failed(self, failure: ConnectFailure, name: str, now: float, *, started: float) -> None:
        """That dial came to nothing."""
        if failure in _UNSENT:
            self.sent -= 1
        else:
            self.failures[name] += 1
        if failure not in _HOPELESS:
            pause = PATIENT_GAPS[1] if failure is ConnectFailure.RESOURCES else 0.0
            self._again(now, started=started, pause=pause)

    def rejected(self, suspicion: str, now: float, *, started: float) -> None:
        """It opened, but the peer was not there. One that broke was not a stranger: a NAT may have done that."""
        if suspicion in ("closed", "broken", "timeout"):
            self.failures[suspicion] += 1
            self._again(now, started=started)
            return
        self.strangers += 1
        if self.strangers < MAX_STRANGERS:
            self._again(now, started=started, pause=PATIENT_GAPS[1])

    def lost(self, now: float, *, started: float) -> None:
        """An authenticated connection to it died before it was chosen."""
        self.failures["died"] += 1
        self._again(now, started=started)

    def _again(self, now: float, *, started: float, pause: float = 0.0) -> None:
        if self.late:
            if self.dials < (MAX_DIALS_IN_TURNS if self.gap == EAGER_GAP else MAX_LATE_DIALS):
                self.next_at = max(now + pause, self._dialled_at + self.gap)
        elif self.dials < MAX_DIALS:
            self.next_at = max(
                now + pause, self._dialled_at + retry_gap(now - started, self._patient_dials, self.beside)
            )
