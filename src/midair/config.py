"""Options as frozen dataclasses: what can be chosen, its default, and where the default is from."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

from midair.endpoint import Family
from midair.errors import UsageError

__all__ = [
    "APP_ID",
    "DEFAULT_PORT",
    "PathPolicy",
    "ProxyScheme",
    "ProxyURL",
    "ServerLimits",
    "ServerURL",
    "TraversalOptions",
]

APP_ID = "midair/transfer/1"
"""Our application id at the mailbox server: it keeps our codes apart from other applications' and goes into SPAKE2."""

DEFAULT_PORT = 7420
"""Where `midair serve` listens; below the ephemeral range of Linux (32768 and up)."""

PathPolicy = Literal["auto", "direct", "relay"]
"""auto: direct when it can be had, else the relay. direct, relay: only that."""


ProxyScheme = Literal["socks5", "http"]
"""SOCKS 5 (RFC 1928), or CONNECT of HTTP (RFC 9110 9.3.6) without TLS on the way to the proxy."""

_PROXY_PORTS: dict[ProxyScheme, int] = {"socks5": 1080, "http": 80}
"""RFC 1928 3, and HTTP's own."""
_PROXY_SCHEMES: dict[str, ProxyScheme] = {"socks5": "socks5", "socks5h": "socks5", "socks": "socks5", "http": "http"}
"""curl's ``h`` asks the proxy to look names up, which it always does here."""
MAX_SECRET_BYTES = 255
"""Of a private server's secret."""
_MAX_CREDENTIAL_BYTES = 255
"""A name or a password: RFC 1929 2 has one byte for the length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyURL:
    """A proxy between here and the server: ``socks5://host:port`` or ``http://host:port``. ``str`` leaves out who uses
    it, so that no password is ever shown."""

    scheme: ProxyScheme
    host: str
    """A name or an address literal, IPv6 without brackets."""
    port: int
    user: str = field(default="", repr=False)
    """Empty: nobody has to log in."""
    password: str = field(default="", repr=False)
    named_by: str = field(default="", compare=False)
    """What a person has to change to have another: ``--proxy``, ``ALL_PROXY``."""

    @classmethod
    def parse(cls, text: str, *, named_by: str = "--proxy") -> ProxyURL:
        """From ``[scheme://][user[:password]@]host[:port]``, as curl takes it; no scheme means http.

        Raises: UsageError, in which nothing stands that could be a password.
        """
        url = text.strip() if "://" in text else f"http://{text.strip()}"
        shown = repr(url.partition("://")[0] + "://" + url.partition("://")[2].rpartition("@")[2])[:200]
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
            user, password = (unquote(part or "", errors="strict") for part in (parts.username, parts.password))
        except ValueError:
            host = None
        if host is None or port == 0 or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise UsageError(
                f"{named_by}: {shown} is not a proxy's address",
                hint="Write it as http://HOST:PORT or socks5://HOST:PORT; in a password, @ : / # ? are %40 %3A %2F %23 "
                "%3F.",
            )
        scheme = _PROXY_SCHEMES.get(parts.scheme)
        if scheme is None:
            raise UsageError(
                f"{named_by}: midair cannot use a proxy of the kind {parts.scheme[:20]!r}",
                hint="It can use http:// and socks5://, and does without with --proxy none.",
            )
        for part in (user, password):
            if len(part.encode()) > _MAX_CREDENTIAL_BYTES or not part.isprintable():
                raise UsageError(f"{named_by}: the user or password for {shown} is too long, or has control characters")
        if ":" in user:
            raise UsageError(f"{named_by}: a user of a proxy cannot have a colon in its name")  # RFC 7617 2
        return cls(
            scheme=scheme,
            host=host,
            port=_PROXY_PORTS[scheme] if port is None else port,
            user=user,
            password=password,
            named_by=named_by,
        )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerURL:
    """Where the meeting point is: ``ws://host:port`` or ``wss://host:port``."""

    secure: bool
    host: str
    """A name or an address literal, IPv6 without brackets."""
    port: int
    proxy: ProxyURL | None = None
    """Through which it is reached. Where there is one, the other side is reached by the relay only."""
    secret: str = field(default="", repr=False)
    """What a private server asks for; empty where there is none. ``str`` leaves it out, so that it is never shown."""

    @classmethod
    def parse(cls, text: str) -> ServerURL:
        """From what a person types; ``host`` and ``host:port`` alone mean ws://, the default port where none is given.
        A secret stands before the host: ``ws://:SECRET@host``.

        Raises: UsageError, in which nothing stands that could be a secret.
        """
        url = text.strip() if "://" in text else f"ws://{text.strip()}"
        shown = repr(text.strip().rpartition("@")[2])[:200]
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
            secret = unquote(parts.password or parts.username or "", errors="strict")
        except ValueError as error:
            raise UsageError(f"{shown} is not a server address: {_reason(error)}") from None
        if parts.scheme not in ("ws", "wss") or not host:
            raise UsageError(
                f"{shown} is not a server address",
                hint="Write it as ws://HOST:PORT, or wss://HOST:PORT with TLS.",
            )
        if parts.path not in ("", "/", "/v1", "/v1/") or parts.query or parts.fragment:
            raise UsageError(
                f"{shown}: a server address is only ws://HOST:PORT",
                hint="In a secret before it, @ : / # ? are %40 %3A %2F %23 %3F.",
            )
        if len(secret.encode()) > MAX_SECRET_BYTES or not (secret.isprintable() and secret.isascii()):
            raise UsageError(f"{shown}: the secret before it is too long, or has characters that are not ASCII")
        default = 443 if parts.scheme == "wss" else DEFAULT_PORT
        return cls(secure=parts.scheme == "wss", host=host, port=default if port is None else port, secret=secret)

    @property
    def mailbox_url(self) -> str:
        """The WebSocket of the mailbox protocol."""
        return f"{self}/v1"

    @property
    def authorization(self) -> str | None:
        """The header of that name with the secret, as a password without a user (RFC 7617); None: there is none."""
        return f"Basic {b64encode(b':' + self.secret.encode()).decode()}" if self.secret else None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'wss' if self.secure else 'ws'}://{host}:{self.port}"


def _reason(error: ValueError) -> str:
    """Of the standard library's words those that quote nothing."""
    return "its port is no number up to 65535" if "port" in str(error).lower() else "it cannot be understood"


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
    check_file: str = ""
    """Where NAT checks leave what they find (:mod:`midair.nat.check.memory`): it is told to the peer, and both plan
    with it. Empty: nothing is kept."""
    head_start: float = 2.0
    """Seconds from the agreed start until an authenticated relay leg is used for good. One SYN retransmission (1 s)
    fits in."""
    relay_after: float = 0.1
    """The same where what begins on the relay can move: what a network needs in which the relay is no use, and nobody
    notices (docs/adr/0005)."""
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
    mailboxes_per_address_and_day: int = 100_000
    """Mailboxes opened from one address in a day: more than one a second, for thousands behind one carrier's NAT."""
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
    relay_bytes_per_address_and_day: int = 1 << 42
    """Bytes all relayed pairs of one address (/64 for IPv6) may carry on one day of UTC (4 TiB)."""
    relay_bytes_per_day: int = 1 << 60
    """Bytes relayed on one day of UTC in all, on all nodes that share a store; the default is no limit in practice."""
    relay_idle_seconds: float = 120.0
    """A relayed pair that carries nothing for this long is closed."""
    stun_requests_per_connection: int = 100
    """Binding requests one connection may make."""
    dials_back_per_minute: int = 30
    """Connections back that one address may ask for in a minute; a NAT check takes 14 at most."""
    dials_back: int = 64
    """Connections back under way, in all."""
    stun_idle_seconds: float = 600.0
    """A reflector connection is kept so long without a request: it keeps the NAT's mapping alive (RFC 8489 6.2.2)."""
    drain_seconds: float = 10.0
    """How long SIGTERM waits for running relay pairs."""
