"""What a client says to a proxy until bytes pass through it to the server, whatever the proxy speaks. Pure.

The client speaks first, in the handshake and through the tunnel: the mailbox begins with a request, TLS with a hello,
the relay with its preamble. So nothing can rightly come behind the proxy's last answer, and a handshake may take all
bytes there are without taking any of the server's.
"""

from __future__ import annotations

import re
from enum import Enum
from ipaddress import ip_address
from typing import Protocol

__all__ = ["Handshake", "Refusal", "RefusedError", "host_name"]

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?")
"""What goes to a proxy as a name: letters, digits and hyphens (RFC 1123 2.1), and the underscore people use."""


class Refusal(Enum):
    """In what way a proxy says no."""

    FORBIDDEN = "forbidden"
    """Its rules do not let us to that server."""
    LOGIN_WANTED = "login-wanted"
    """It wants a name and a password, and was given none."""
    LOGIN_UNKNOWN = "login-unknown"
    """It wants a login of a kind that there is not here."""
    LOGIN_WRONG = "login-wrong"
    """It does not take the name and password."""
    UNREACHABLE = "unreachable"
    """It cannot reach the server itself."""
    NONSENSE = "nonsense"
    """It does not speak what we do."""


class RefusedError(Exception):
    """The handshake has failed; ``text`` has details in a few words, and is fit to be shown."""

    def __init__(self, refusal: Refusal, text: str = "") -> None:
        super().__init__(text)
        self.refusal = refusal
        self.text = text


class Handshake(Protocol):
    """One handshake with one proxy: say ``hello``, then what ``receive`` returns, until it ``is_open``."""

    @property
    def is_open(self) -> bool:
        """Whether the tunnel is there."""

    def hello(self) -> bytes:
        """What we say first."""

    def receive(self, data: bytes) -> bytes:
        """What to answer to ``data``, a piece of any length of what the proxy says; often nothing.

        Raises: RefusedError.
        """


def host_name(host: str) -> bytes:
    """A name as the proxy is to look it up, or an address literal as it is. Raises: RefusedError."""
    try:
        return str(ip_address(host)).encode()
    except ValueError:
        pass
    try:
        name = host.encode("idna").decode()
    except UnicodeError:
        name = ""
    if not _HOST.fullmatch(name):
        raise RefusedError(Refusal.UNREACHABLE, "its name is no host's name")
    return name.encode()
