"""Options as frozen dataclasses: what can be chosen, its default, and where the default is from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from midair.endpoint import Family
from midair.errors import UsageError

__all__ = ["APP_ID", "DEFAULT_PORT", "PathPolicy", "ServerLimits", "ServerURL", "TraversalOptions"]

APP_ID = "midair/transfer/1"
"""Our application id at the mailbox server: it keeps our codes apart from other applications' and goes into SPAKE2."""

DEFAULT_PORT = 7420
"""Where `midair serve` listens; below the ephemeral range of Linux (32768 and up)."""

PathPolicy = Literal["auto", "direct", "relay"]
"""auto: direct when it can be had, else the relay. direct, relay: only that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerURL:
    """Where the meeting point is: ``ws://host:port`` or ``wss://host:port``."""

    secure: bool
    host: str
    """A name or an address literal, IPv6 without brackets."""
    port: int

    @classmethod
    def parse(cls, text: str) -> ServerURL:
        """From what a person types; ``host`` and ``host:port`` alone mean ws://, the default port where none is given.

        Raises: UsageError.
        """
        url = text.strip() if "://" in text else f"ws://{text.strip()}"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise UsageError(f"{text[:200]!r} is not a server address: {error}") from error
        if parts.scheme not in ("ws", "wss") or not host:
            raise UsageError(
                f"{text[:200]!r} is not a server address",
                hint="Write it as ws://HOST:PORT, or wss://HOST:PORT with TLS.",
            )
        if parts.path not in ("", "/", "/v1", "/v1/") or parts.query or parts.fragment or parts.username:
            raise UsageError(f"{text[:200]!r}: a server address is only ws://HOST:PORT")
        default = 443 if parts.scheme == "wss" else DEFAULT_PORT
        return cls(secure=parts.scheme == "wss", host=host, port=default if port is None else port)

    @property
    def mailbox_url(self) -> str:
        """The WebSocket of the mailbox protocol."""
        return f"{self}/v1"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'wss' if self.secure else 'ws'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraversalOptions:
    """How hard, and for how long, a direct connection is tried."""

    policy: PathPolicy = "auto"
    """What paths may be used."""
    families: tuple[Family, ...] = (4, 6)
    """The IP versions of direct connections. The server is reached over either."""
    local_port: int | tuple[int, int] = 0
    """The one port that listens and dials; 0 lets the system choose. A pair is a range with both its ends: the first
    port that is free. Where a NAT changes ports, some more are dialled from, and the system chooses these."""
    port_mapping: bool = True
    """Ask the home router for a port (PCP, NAT-PMP, UPnP IGD)."""
    head_start: float = 2.0
    """Seconds from the agreed start until an authenticated relay leg is used. One SYN retransmission (1 s) fits in."""
    deadline: float = 20.0
    """Seconds from the agreed start until the attempt fails for good."""
    server_wait: float = 3.0
    """Seconds the reflector may take to answer before candidates are sent without it."""

    def __post_init__(self) -> None:
        """Raises: UsageError."""
        if not self.families or not set(self.families) <= {4, 6}:
            raise UsageError("a direct connection needs IPv4, IPv6 or both")
        low, high = self.local_port_range
        if self.local_port != 0 and not 1 <= low <= high <= 65535:
            raise UsageError(f"{low}-{high} is no range of ports" if low != high else f"{low} is no port")

    @property
    def local_port_range(self) -> tuple[int, int]:
        """``local_port`` as a pair; (0, 0) where the system chooses."""
        return (self.local_port, self.local_port) if isinstance(self.local_port, int) else self.local_port


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """What one server holds for others, at most. Every number is checked before the memory is taken."""

    connections: int = 10_000
    """Open connections in all; half of the descriptors a Linux process may usually have (20,000)."""
    connections_per_address: int = 200
    """Open connections from one address (/64 for IPv6)."""
    first_bytes_seconds: float = 10.0
    """How long a new connection may take to say what it is."""
    mailboxes: int = 50_000
    """Mailboxes in all."""
    mailboxes_per_address: int = 50
    """Mailboxes opened from one address that are still there."""
    messages_per_mailbox: int = 200
    """Messages kept in one mailbox; a meeting uses about a dozen."""
    message_bytes: int = 64 * 1024
    """One mailbox message; magic-wormhole's own are under 10 KiB."""
    mailbox_idle_seconds: float = 3600.0
    """A mailbox with nobody connected is dropped after this. magic-wormhole's server keeps 11 minutes."""
    connection_idle_seconds: float = 120.0
    """A mailbox connection that answers no WebSocket ping for this long is closed."""
    relay_wait_seconds: float = 120.0
    """How long the first relay leg waits for the second."""
    relay_legs: int = 4_000
    """Relay legs in all."""
    relay_waiting_per_address: int = 50
    """Relay legs from one address that wait for their partner."""
    relay_bytes: int = 1 << 40
    """Bytes one relayed pair may carry in both directions together (1 TiB)."""
    relay_idle_seconds: float = 120.0
    """A relayed pair that carries nothing for this long is closed."""
    stun_requests_per_connection: int = 100
    """Binding requests one connection may make."""
    dials_back_per_minute: int = 30
    """Connections back that one address may ask for in a minute; a NAT check takes six."""
    dials_back: int = 64
    """Connections back under way, in all."""
    stun_idle_seconds: float = 600.0
    """A reflector connection is kept so long without a request: it keeps the NAT's mapping alive (RFC 8489 6.2.2)."""
    drain_seconds: float = 10.0
    """How long SIGTERM waits for running relay pairs."""
