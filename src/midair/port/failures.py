"""Why a connection did not come about: the system's error numbers sorted by what they mean for a punch.

The numbers differ between systems, the names do not: Linux and BSD numbers come from :mod:`errno`, Winsock's (10013 to
10065) are written down here, and both are shown as ``ECONNREFUSED``.
"""

from __future__ import annotations

import errno
import os
import socket
from enum import Enum

from midair.endpoint import Endpoint
from midair.errors import LocalIOError

__all__ = ["ConnectFailedError", "ConnectFailure", "PortUnavailableError", "classify", "errno_name"]


class ConnectFailure(Enum):
    """What a failed dial says about the path, or about us."""

    REFUSED = "refused"
    """A RST, or on Linux an ICMP port unreachable: nobody listens, or a NAT answers an early SYN."""
    RESET = "reset"
    """It opened, or was about to, and the other end or a NAT took it back."""
    UNREACHABLE = "unreachable"
    """No way there: an ICMP error, no route, or a family this host lacks."""
    TIMED_OUT = "timed-out"
    """The kernel gave up sending SYNs."""
    IN_USE = "in-use"
    """The local port could not be bound (EADDRINUSE)."""
    DUPLICATE = "duplicate"
    """Another socket has this 4-tuple already (EADDRNOTAVAIL): a dial, an accepted connection, or half of one."""
    SELF = "self"
    """The remote endpoint is our own."""
    DENIED = "denied"
    """A firewall or sandbox on this machine said no."""
    RESOURCES = "resources"
    """Out of descriptors, buffers or prepared sockets."""
    OTHER = "other"


_MEANINGS: dict[ConnectFailure, tuple[str, ...]] = {
    ConnectFailure.REFUSED: ("ECONNREFUSED",),
    ConnectFailure.RESET: ("ECONNRESET", "ECONNABORTED", "EPIPE", "ENOTCONN", "ESHUTDOWN", "EPROTO"),
    ConnectFailure.UNREACHABLE: (
        "EHOSTUNREACH",
        "ENETUNREACH",
        "EHOSTDOWN",
        "ENETDOWN",
        "ENONET",
        "ENOPROTOOPT",  # Linux, after an ICMP protocol unreachable (3/2)
        "EAFNOSUPPORT",
    ),
    ConnectFailure.TIMED_OUT: ("ETIMEDOUT",),
    ConnectFailure.IN_USE: ("EADDRINUSE",),
    ConnectFailure.DUPLICATE: ("EADDRNOTAVAIL",),
    ConnectFailure.DENIED: ("EACCES", "EPERM"),
    ConnectFailure.RESOURCES: ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"),
}

_WINSOCK_NAMES = {
    10013: "EACCES",
    10022: "EINVAL",
    10024: "EMFILE",
    10042: "ENOPROTOOPT",
    10047: "EAFNOSUPPORT",
    10048: "EADDRINUSE",
    10049: "EADDRNOTAVAIL",
    10050: "ENETDOWN",
    10051: "ENETUNREACH",
    10053: "ECONNABORTED",
    10054: "ECONNRESET",
    10055: "ENOBUFS",
    10057: "ENOTCONN",
    10058: "ESHUTDOWN",
    10060: "ETIMEDOUT",
    10061: "ECONNREFUSED",
    10064: "EHOSTDOWN",
    10065: "EHOSTUNREACH",
}

_FAILURES = {name: failure for failure, names in _MEANINGS.items() for name in names}
_RESOLVER_NAMES = {
    value: name for name, value in vars(socket).items() if name.startswith("EAI_") and isinstance(value, int)
}


def errno_name(error: OSError) -> str:
    """``ECONNREFUSED`` and the like, the same on every system; ``EAI_NONAME`` and the like for name lookups."""
    if error.errno is None:
        return "ETIMEDOUT" if isinstance(error, TimeoutError) else type(error).__name__
    if isinstance(error, socket.gaierror):
        return _RESOLVER_NAMES.get(error.errno, f"EAI {error.errno}")
    name = _WINSOCK_NAMES.get(error.errno) or errno.errorcode.get(error.errno, f"errno {error.errno}")
    return name.removeprefix("WSA")


def classify(error: OSError) -> ConnectFailure:
    """What an error of ``bind()`` or ``connect()`` means."""
    if isinstance(error, ConnectFailedError):
        return error.failure
    return _FAILURES.get(errno_name(error), ConnectFailure.OTHER)


class ConnectFailedError(OSError):
    """One dial failed. ``failure`` says what that means, ``errno_name`` is what the system said (``ECONNREFUSED``)."""

    def __init__(
        self,
        number: int,
        text: str,
        *,
        failure: ConnectFailure,
        errno_name: str,
        remote: Endpoint | None = None,
        others: tuple[ConnectFailedError, ...] = (),
    ) -> None:
        super().__init__(number, text)
        self.failure = failure
        self.errno_name = errno_name
        self.remote = remote
        """Where it was to go; None when the name could not be resolved."""
        self.others = others
        """The failures of the name's other addresses, when there were several."""

    def __str__(self) -> str:
        where = "" if self.remote is None else f"{self.remote}: "
        return f"{where}{self.strerror} ({self.errno_name})"

    @classmethod
    def of(cls, error: OSError, remote: Endpoint | None = None) -> ConnectFailedError:
        """From what the system raised."""
        text = error.strerror or str(error) or type(error).__name__
        return cls(error.errno or 0, text, failure=classify(error), errno_name=errno_name(error), remote=remote)

    @classmethod
    def because(cls, failure: ConnectFailure, number: int, text: str = "", *, remote: Endpoint) -> ConnectFailedError:
        """For what we refuse ourselves, under the error number that says it best."""
        name = errno.errorcode.get(number, str(number)).removeprefix("WSA")
        return cls(number, text or os.strerror(number), failure=failure, errno_name=name, remote=remote)


class PortUnavailableError(LocalIOError):
    """The local port cannot be had; nothing was taken instead of it."""
