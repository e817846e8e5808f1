"""Addresses as values: an IP address and a TCP port, parsed once, valid ever after."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Literal

__all__ = ["Endpoint", "Family"]

Family = Literal[4, 6]
"""The IP version, as a number people say; socket constants stay inside port/."""


@dataclass(frozen=True, slots=True, order=False)
class Endpoint:
    """One end of a TCP connection."""

    address: IPv4Address | IPv6Address
    port: int
    """0..65535; 0 only where "any port" makes sense."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port {self.port} is not between 0 and 65535")

    @property
    def family(self) -> Family:
        """4 or 6."""
        return 4 if self.address.version == 4 else 6

    @classmethod
    def of(cls, host: str, port: int) -> Endpoint:
        """From an address literal. IPv4-mapped IPv6 becomes IPv4; a zone id (``%eth0``) is refused.

        Raises: ValueError.
        """
        address = ipaddress.ip_address(host)
        if isinstance(address, IPv6Address):
            if address.scope_id:
                raise ValueError(f"{host!r} has a zone; only addresses that mean the same everywhere can be used")
            address = address.ipv4_mapped or address
        return cls(address, port)

    @classmethod
    def from_sockaddr(cls, sockaddr: Any) -> Endpoint:
        """From what the socket module gives: ``(host, port)`` or ``(host, port, flow, scope)``."""
        host, port = sockaddr[0], sockaddr[1]
        return cls.of(str(host).partition("%")[0], int(port))

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """From ``192.0.2.1:7420`` or ``[2001:db8::1]:7420``, as ``str`` writes it.

        Raises: ValueError.
        """
        host, separator, port = text.rpartition(":")
        if not separator or not port.isascii() or not port.isdigit() or len(port) > 5:
            raise ValueError(f"{text[:80]!r} is not ADDRESS:PORT")
        bracketed = host.startswith("[") and host.endswith("]")
        endpoint = cls.of(host[1:-1] if bracketed else host, int(port))
        if bracketed != (ipaddress.ip_address(host.strip("[]")).version == 6):
            raise ValueError(f"{text[:80]!r}: an IPv6 address, and nothing else, stands in brackets")
        return endpoint

    def to_sockaddr(self) -> tuple[str, int]:
        """What the socket module takes, for either family."""
        return str(self.address), self.port

    def __str__(self) -> str:
        return f"{self.address}:{self.port}" if self.family == 4 else f"[{self.address}]:{self.port}"
