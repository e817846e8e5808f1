"""The rules of SO_REUSEADDR and SO_REUSEPORT per system, as a table.

One local port has to carry one listening socket and several dialling ones. What a system asks for in return differs:

* **Linux**, tried (the table of :mod:`midair.port.matrix` is checked in the tests). SO_REUSEADDR alone lets several
  sockets bind one port as long as none of them listens: bind after ``listen()`` is EADDRINUSE, the error of the mail
  this project answers. SO_REUSEPORT on *every* socket of the port, all of one user, lifts the order (since 3.9).
* **macOS, FreeBSD**, not tried. setsockopt(2): "SO_REUSEPORT allows completely duplicate bindings by multiple processes
  if they all set SO_REUSEPORT before binding the port." FreeBSD's SO_REUSEPORT_LB is another thing: it spreads incoming
  connections over listeners.
* **Windows**, not tried. Winsock's "Using SO_REUSEADDR and SO_EXCLUSIVEADDRUSE": SO_REUSEADDR, set before the bind on
  every socket, allows any of them, in any order, and another program's too, so the port can be hijacked. Every
  connection proves the session key before it is used, so that costs a connection, not a secret. SO_EXCLUSIVEADDRUSE
  allows one socket and keeps all others out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["SYSTEMS", "Strategy", "SystemRules", "rules_for"]


class Strategy(Enum):
    """A way to have several sockets on one port."""

    REUSEPORT = "reuseport"
    """SO_REUSEADDR and SO_REUSEPORT on every socket, bound in any order."""
    REUSEADDR = "reuseaddr"
    """SO_REUSEADDR on every socket, bound in any order (Windows)."""
    BIND_FIRST = "bind-first"
    """SO_REUSEADDR on every socket, all bound before one listens (RFC 6544 appendix B)."""
    EXCLUSIVE = "exclusive"
    """One socket at a time: the port dials or listens. Works everywhere, and punches with luck only."""

    @property
    def options(self) -> tuple[str, ...]:
        """The socket options that share a port this way, by their names."""
        return _OPTIONS[self]

    @property
    def any_order(self) -> bool:
        """True when a socket can be bound while another one listens."""
        return self in (Strategy.REUSEPORT, Strategy.REUSEADDR)


_OPTIONS = {
    Strategy.REUSEPORT: ("SO_REUSEADDR", "SO_REUSEPORT"),
    Strategy.REUSEADDR: ("SO_REUSEADDR",),
    Strategy.BIND_FIRST: ("SO_REUSEADDR",),
    Strategy.EXCLUSIVE: (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemRules:
    """What is known of one system."""

    platform: str
    """What ``sys.platform`` begins with; the empty string is every other system."""
    strategies: tuple[Strategy, ...]
    """Best first. The probe takes the first that works on the machine it runs on."""
    options_after_bind: bool
    """True when options set after ``bind()`` count for the sockets bound later. It lets the first socket of a port be
    bound alone, without any option, so that a port somebody else already shares is noticed."""
    alone_options: tuple[str, ...]
    """What a socket sets that shares its port with nobody. POSIX: a restart does not wait for TIME_WAIT to end.
    Windows: no other program can take the port away."""
    tried: bool
    """False: written from the documentation only."""


_POSIX = (Strategy.REUSEPORT, Strategy.BIND_FIRST, Strategy.EXCLUSIVE)

SYSTEMS: tuple[SystemRules, ...] = (
    SystemRules(
        platform="linux",
        strategies=_POSIX,
        options_after_bind=True,
        alone_options=("SO_REUSEADDR",),
        tried=True,
    ),
    SystemRules(
        platform="darwin",
        strategies=_POSIX,
        options_after_bind=False,
        alone_options=("SO_REUSEADDR",),
        tried=False,
    ),
    SystemRules(
        platform="freebsd",
        strategies=_POSIX,
        options_after_bind=False,
        alone_options=("SO_REUSEADDR",),
        tried=False,
    ),
    SystemRules(
        platform="win32",
        strategies=(Strategy.REUSEADDR, Strategy.EXCLUSIVE),
        options_after_bind=False,
        alone_options=("SO_EXCLUSIVEADDRUSE",),
        tried=False,
    ),
    SystemRules(
        platform="",
        strategies=_POSIX,
        options_after_bind=False,
        alone_options=("SO_REUSEADDR",),
        tried=False,
    ),
)


def rules_for(platform: str) -> SystemRules:
    """The rules of a system by its ``sys.platform``."""
    return next(rules for rules in SYSTEMS if platform.startswith(rules.platform))
