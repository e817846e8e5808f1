"""What the server counts, as Prometheus reads it at /metrics. Nothing here names an address, a code or a mailbox."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["CONTENT_TYPE", "USED_BYTES", "Counts", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

USED_BYTES = 4096
"""With less, both sides have said who they are on a relayed connection, and then moved to a direct one."""
_ANSWER_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_WAITING_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_MOODS = ("happy", "lonely", "scary", "errory")
"""Those of midair and magic-wormhole; a client's other words are not repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """A few of the numbers, since the server's start."""

    waiting: int
    """Peers that wait for their other side now."""
    met: int
    """Pairs."""
    relayed: int
    """Pairs whose bytes went through the relay."""
    relayed_bytes: int
    seconds: float
    """How long it has been running."""


class Metrics:
    """One server's numbers, in a registry of their own. No label has a value that a client can choose."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._started = time.monotonic()
        self.connections = Counter(
            "midair_connections", "Connections by what they turned out to be.", ["kind"], registry=registry
        )
        self.open_connections = Gauge(
            "midair_open_connections", "Connections open now, by kind.", ["kind"], registry=registry
        )
        self.waiting = Gauge(
            "midair_waiting", "Peers connected here that have not heard of their other side yet.", registry=registry
        )
        self.meeting_seconds = Histogram(
            "midair_meeting_seconds",
            "From a peer's claim of a nameplate to the other side's first message.",
            buckets=_WAITING_BUCKETS,
            registry=registry,
        )
        self.frame_seconds = Histogram(
            "midair_frame_seconds",
            "From a mailbox frame to what it brings about, the shared store included.",
            buckets=_ANSWER_BUCKETS,
            registry=registry,
        )
        self.mailboxes_left = Counter(
            "midair_mailboxes_left", "Sides that closed their mailbox, by mood.", ["mood"], registry=registry
        )
        self.mailboxes = Gauge("midair_mailboxes", "Mailboxes there are.", registry=registry)
        self.pairs_met = Counter("midair_pairs_met", "Nameplates claimed by both sides.", registry=registry)
        self.relay_pairs = Counter(
            "midair_relay_pairs", "Relay legs that found their partner, in pairs.", registry=registry
        )
        self.open_relay_pairs = Gauge("midair_open_relay_pairs", "Relayed pairs now.", registry=registry)
        self.relay_bytes = Counter("midair_relay_bytes", "Bytes relayed, both directions.", registry=registry)
        self.relay_pairs_used = Counter(
            "midair_relay_pairs_used",
            f"Relayed pairs that carried {USED_BYTES} bytes or more; the others were needless in the end.",
            registry=registry,
        )
        self.relay_wait_seconds = Histogram(
            "midair_relay_wait_seconds",
            "From a relay leg to its partner's.",
            buckets=_WAITING_BUCKETS,
            registry=registry,
        )
        self.relay_forwarded_pairs = Counter(
            "midair_relay_forwarded_pairs",
            "Relay legs joined to another node, which counts the pair.",
            registry=registry,
        )
        self.relay_forwarded_bytes = Counter(
            "midair_relay_forwarded_bytes", "Bytes between legs and other nodes, both directions.", registry=registry
        )
        self.stun_requests = Counter("midair_stun_requests", "STUN requests answered.", registry=registry)
        self.dials_back = Counter(
            "midair_dials_back", "Connections back for NAT checks, by what came of them.", ["answer"], registry=registry
        )
        self.refusals = Counter("midair_refusals", "What was refused, by reason.", ["reason"], registry=registry)

    @contextmanager
    def open_connection(self, kind: str) -> Iterator[None]:
        """Counts a connection of ``kind`` while the block runs."""
        self.connections.labels(kind).inc()
        gauge = self.open_connections.labels(kind)
        gauge.inc()
        try:
            yield
        finally:
            gauge.dec()

    def refused(self, reason: str) -> None:
        """Counts one refusal; ``reason`` is a word of ours, never a client's."""
        self.refusals.labels(reason).inc()

    def counts(self) -> Counts:
        """What people may see."""
        return Counts(
            waiting=int(_value(self.waiting)),
            met=int(_value(self.pairs_met)),
            relayed=int(_value(self.relay_pairs_used)),
            relayed_bytes=int(_value(self.relay_bytes)),
            seconds=time.monotonic() - self._started,
        )

    def left(self, mood: str | None) -> None:
        """Counts one side that has closed its mailbox; ``scary`` is a wrong code."""
        self.mailboxes_left.labels(mood if mood in _MOODS else "other").inc()

    def render(self) -> bytes:
        """The text Prometheus scrapes."""
        return generate_latest(self._registry)


def _value(metric: Counter | Gauge) -> float:
    [family] = metric.collect()
    return float(family.samples[0].value)
