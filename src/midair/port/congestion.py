"""The congestion control of a connection: which there is, which may be used, which one runs.

It counts for what is sent, so for the side that sends the content.
"""

from __future__ import annotations

import errno
import socket
from pathlib import Path

from midair.errors import UsageError

__all__ = ["check_congestion_control", "congestion_control_of", "congestion_controls", "use_congestion_control"]

_TCP_CONGESTION: int | None = getattr(socket, "TCP_CONGESTION", None)
"""Linux and FreeBSD have it."""
_NAME_BYTES = 16
"""TCP_CA_NAME_MAX of linux/tcp.h."""
_ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
"""What a process without privileges may use. With them the kernel would even load a module to have what is asked for:
nothing that should happen unless a person has asked for it."""


def congestion_controls() -> tuple[str, ...]:
    """Those the system lets any process use; empty where it does not tell."""
    try:
        return tuple(sorted(_ALLOWED.read_text("ascii").split()))
    except (OSError, UnicodeError):
        return ()


def congestion_control_of(sock: socket.socket) -> str | None:
    """The one that runs; None where the system does not tell, or the socket is closed."""
    if _TCP_CONGESTION is None:
        return None
    try:
        name = sock.getsockopt(socket.IPPROTO_TCP, _TCP_CONGESTION, _NAME_BYTES)
    except OSError:
        return None
    return name.partition(b"\0")[0].decode("ascii", "replace")


def use_congestion_control(sock: socket.socket, name: str) -> bool:
    """Whether it runs now; if not, nothing has changed."""
    return _set(sock, name) is None


def check_congestion_control(name: str) -> None:
    """Raises: UsageError, which says what there is, when no connection of this process can have it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        failure = _set(sock, name)
    if failure is None:
        return
    there = congestion_controls()
    hint = f"There is {', '.join(there)}." if there else "This system does not say what there is."
    if failure == errno.EPERM:
        raise UsageError(
            f"this user may not choose the congestion control {name[:40]!r}",
            hint=f"{hint} root can allow more: sysctl net.ipv4.tcp_allowed_congestion_control.",
        )
    if failure == errno.ENOPROTOOPT:
        raise UsageError(
            "this system does not let a program choose the congestion control", hint="Its own is used without --cc."
        )
    raise UsageError(f"there is no congestion control {name[:40]!r} here", hint=hint)


def _set(sock: socket.socket, name: str) -> int | None:
    """The error's number; None when it went well."""
    if _TCP_CONGESTION is None:
        return errno.ENOPROTOOPT
    try:
        encoded = name.encode("ascii")
    except UnicodeEncodeError:
        return errno.ENOENT
    if not 0 < len(encoded) < _NAME_BYTES or b"\0" in encoded:
        return errno.ENOENT  # the kernel would look at the beginning of a longer one
    try:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_CONGESTION, encoded)
    except OSError as error:
        return error.errno or errno.ENOENT
    return None
