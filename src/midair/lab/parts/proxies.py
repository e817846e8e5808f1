"""Proxies in a lab host, for what can reach nothing else: SOCKS5 (microsocks) and HTTP CONNECT (tinyproxy)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midair.lab.parts.service import Service, program

if TYPE_CHECKING:
    from midair.lab.namespace import Namespace

__all__ = ["HttpProxy", "SocksProxy"]


class SocksProxy(Service):
    """A running SOCKS5 proxy (RFC 1928), open to all or to one user (RFC 1929); a context manager.

    Raises: ServiceUnavailable.
    """

    def __init__(self, host: Namespace, *, address: str, port: int = 1080, user: str = "", password: str = "") -> None:
        credentials = ["-u", user, "-P", password] if user else []
        super().__init__(
            host,
            [program("microsocks", "microsocks"), "-i", address, "-p", str(port), *credentials],
            listens=[("tcp", port)],
        )


class HttpProxy(Service):
    """A running HTTP proxy that has CONNECT (RFC 9110 9.3.6) to any port, open to all or to one user (Basic, RFC 7617);
    a context manager.

    Raises: ServiceUnavailable.
    """

    def __init__(self, host: Namespace, *, address: str, port: int = 8888, user: str = "", password: str = "") -> None:
        settings = [f"Listen {address}", f"Port {port}", "Timeout 600", "LogLevel Connect"]
        if user:
            settings.append(f"BasicAuth {user} {password}")
        super().__init__(
            host,
            [program("tinyproxy", "tinyproxy-bin"), "-d", "-c", "{configuration}"],
            listens=[("tcp", port)],
            configuration="\n".join((*settings, "")),
        )
