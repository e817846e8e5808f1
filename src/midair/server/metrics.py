"""What the server counts, as Prometheus reads it at /metrics. Nothing here names an address, a code or a mailbox."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One server's numbers, in a registry of their own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.connections = Counter(
            "midair_connections", "Connections by what they turned out to be.", ["kind"], registry=registry
        )
        self.open_connections = Gauge(
            "midair_open_connections", "Connections open now, by kind.", ["kind"], registry=registry
        )
        self.mailboxes = Gauge("midair_mailboxes", "Mailboxes there are.", registry=registry)
        self.pairs_met = Counter("midair_pairs_met", "Nameplates claimed by both sides.", registry=registry)
        self.relay_pairs = Counter(
            "midair_relay_pairs", "Relay legs that found their partner, in pairs.", registry=registry
        )
        self.open_relay_pairs = Gauge("midair_open_relay_pairs", "Relayed pairs now.", registry=registry)
        self.relay_bytes = Counter("midair_relay_bytes", "Bytes relayed, both directions.", registry=registry)
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

    def render(self) -> bytes:
        """The text Prometheus scrapes."""
        return generate_latest(self._registry)
