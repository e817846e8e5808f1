"""coturn in a lab host: a TURN server with TCP allocations (RFC 6062), by TCP only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midair.lab.parts.service import Service, program

if TYPE_CHECKING:
    from midair.lab.namespace import Namespace

__all__ = ["TurnServer"]


class TurnServer(Service):
    """A running server with one user and long-term credentials; a context manager.

    Raises: ServiceUnavailable.
    """

    realm = "lab.test"
    user = "lab"
    password = "secret"

    def __init__(self, host: Namespace, *, address: str, port: int = 3478) -> None:
        settings = {
            "listening-ip": address,
            "listening-port": port,
            "relay-ip": address,
            "realm": self.realm,
            "user": f"{self.user}:{self.password}",
            "userdb": ":memory:",
            "log-file": "stdout",
            "relay-threads": 1,
        }
        switches = (
            "lt-cred-mech",
            "fingerprint",
            "no-udp",
            "no-udp-relay",
            "no-tls",
            "no-dtls",
            "no-cli",
            "simple-log",
        )
        super().__init__(
            host,
            [program("turnserver", "coturn"), "-c", "{configuration}", "--pidfile", "{scratch}"],
            listens=[("tcp", port)],
            configuration="".join(
                [*(f"{name}={value}\n" for name, value in settings.items()), *(f"{name}\n" for name in switches)]
            ),
        )
