"""One local TCP port that listens and dials at the same time.

The peers of a punch send their SYNs from the port they listen on, so that each NAT sees one mapping. The sockets API
has one socket for each of these things, all bound to one number; :mod:`midair.port.rules` tells how each system lets
that happen. This object owns the number: it holds it with a bound socket of its own, hands out dialling sockets and one
listener a family, and never takes another number instead, because the other side dials the one it was told.

* Any order (SO_REUSEPORT; Windows' SO_REUSEADDR): each dialler is bound when it is asked for.
* Bind first (SO_REUSEADDR alone): nothing can be bound while a socket listens, so ``open()`` binds a pool, as RFC 6544
  appendix B does: "create and bind MAX sockets" and then listen on one and connect the others.
* Exclusive: the one bound socket dials or listens. Another one can follow when it is closed.
"""

from __future__ import annotations

import errno
import logging
import socket
import sys
from collections.abc import Iterable

from midair.endpoint import Endpoint, Family
from midair.port.failures import ConnectFailedError, ConnectFailure
from midair.port.listening import unavailable
from midair.port.outgoing import dial
from midair.port.own_address import is_own_address
from midair.port.probe import probe_strategy
from midair.port.rules import Strategy, rules_for
from midair.port.sockets import bind_wildcard, set_options

__all__ = ["LocalPort"]

log = logging.getLogger("midair.port")

NUMBER_TRIES_MAX = 32
"""Numbers the system may choose until one is free in every family."""
DIALLERS = 25
"""RFC 6544 appendix B: the worst case of sockets one agent needs."""

_FAMILY_LACKING = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


class LocalPort:
    """One port number, on each family of this host. Not thread-safe; a context manager."""

    number: int
    families: frozenset[Family]
    strategy: Strategy

    def __init__(
        self, number: int, strategy: Strategy, bound: dict[Family, list[socket.socket]], diallers: int
    ) -> None:
        """Use :meth:`open`."""
        self.number = number
        self.families = frozenset(bound)
        self.strategy = strategy
        self._bound = bound
        self._diallers = diallers
        self._listeners: dict[Family, socket.socket] = {}
        self._closed = False

    @classmethod
    def open(
        cls,
        number: int = 0,
        *,
        families: Iterable[Family] = (4, 6),
        strategy: Strategy | None = None,
        diallers: int = DIALLERS,
    ) -> LocalPort:
        """Takes the port, the same number on each family; 0 lets the system choose one that is free on all of them.

        A family this host lacks is left out. ``strategy`` None is the one the probe found. ``diallers`` is how many
        dialling sockets a family has under ``BIND_FIRST`` while it listens.

        Raises: PortUnavailableError, when somebody else has the number, or no family works.
        """
        strategy = probe_strategy() if strategy is None else strategy
        wanted = tuple(dict.fromkeys(families))
        if not wanted or diallers < 1:
            raise ValueError("a port needs a family and a dialler")
        tries = 1 if number else NUMBER_TRIES_MAX
        while True:
            tries -= 1
            try:
                bound = _reserve(number, wanted, strategy, diallers)
            except OSError as error:
                if tries and error.errno == errno.EADDRINUSE:
                    continue
                raise unavailable(error, f"port {number}" if number else "port of the system's choice") from error
            chosen = next(iter(bound.values()))[0].getsockname()[1]
            return cls(chosen, strategy, bound, diallers)

    def listen(self, family: Family, *, backlog: int = 16) -> socket.socket:
        """The family's one listener, non-blocking, on every address. It stays ours: :meth:`stop_listening` closes it.

        One only, because the kernel would spread the incoming connections over several.

        Raises: PortUnavailableError; RuntimeError when it listens already; ValueError for a family this port lacks.
        """
        if self._closed:
            raise RuntimeError("this port is closed")
        if family not in self.families:
            raise ValueError(f"this port has no IPv{family}")
        if family in self._listeners:
            raise RuntimeError(f"port {self.number} listens already on IPv{family}")
        try:
            listener = self._socket(family)
            try:
                listener.listen(backlog)
            except BaseException:
                listener.close()
                raise
        except OSError as error:
            raise unavailable(error, f"port {self.number}") from error
        self._listeners[family] = listener
        return listener

    def stop_listening(self, family: Family) -> None:
        """Closes the family's listener, if there is one; it can listen again later. Cancel ``accept()`` on it first.

        This also drops half-open connections that came in, and frees their 4-tuples for a dial.
        """
        listener = self._listeners.pop(family, None)
        if listener is None:
            return
        listener.close()
        try:
            self._replenish(family)
        except OSError as error:
            log.debug("port %d: no new dialling sockets: %s", self.number, error)

    async def connect(self, remote: Endpoint) -> socket.socket:
        """Dials from this port; gives a connected non-blocking socket, which is the caller's.

        Set the deadline with ``asyncio.timeout``: cancelling closes the socket.

        Raises: ConnectFailedError; SELF without a dial when the remote is this port on an address of this machine.
        """
        if self._closed:
            raise ConnectFailedError.because(ConnectFailure.OTHER, errno.EBADF, "this port is closed", remote=remote)
        if remote.family not in self.families:
            raise ConnectFailedError.because(ConnectFailure.UNREACHABLE, errno.EAFNOSUPPORT, remote=remote)
        if remote.port == self.number and is_own_address(remote.address):
            text = "this is our own port"
            raise ConnectFailedError.because(ConnectFailure.SELF, errno.EADDRNOTAVAIL, text, remote=remote)
        try:
            sock = self._socket(remote.family)
        except OSError as error:
            raise ConnectFailedError.of(error, remote) from error
        await dial(sock, remote)
        return sock

    def close(self) -> None:
        """Gives the port back: closes the listeners and what is not handed out. Connections live on. Idempotent."""
        self._closed = True
        for sock in (*self._listeners.values(), *(sock for bound in self._bound.values() for sock in bound)):
            sock.close()
        self._listeners.clear()
        self._bound.clear()

    def __enter__(self) -> LocalPort:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LocalPort {self.number} {self.strategy.value}{' closed' if self._closed else ''}>"

    def _socket(self, family: Family) -> socket.socket:
        """One more bound socket, new or from the pool."""
        pool = self._bound[family]
        if self.strategy is Strategy.BIND_FIRST and family in self._listeners:
            if not pool:
                text = f"all {self._diallers} dialling sockets of port {self.number} are used up"
                raise OSError(errno.ENOBUFS, text)
            return pool.pop()
        if self.strategy is Strategy.EXCLUSIVE and pool:
            return pool.pop()
        return bind_wildcard(family, self.number, _options(self.strategy))

    def _replenish(self, family: Family) -> None:
        if self.strategy is Strategy.BIND_FIRST:
            pool = self._bound[family]
            while len(pool) < self._diallers:
                pool.append(bind_wildcard(family, self.number, _options(self.strategy)))


def _reserve(
    number: int, families: tuple[Family, ...], strategy: Strategy, diallers: int
) -> dict[Family, list[socket.socket]]:
    """The bound sockets that hold the number, by family. Raises: OSError."""
    bound: dict[Family, list[socket.socket]] = {}
    lacking: OSError | None = None
    try:
        for family in families:
            try:
                first = _claim(family, number, strategy)
            except OSError as error:
                if error.errno not in _FAMILY_LACKING:
                    raise
                lacking = error
                continue
            bound[family] = [first]
            number = first.getsockname()[1]
            if strategy is Strategy.BIND_FIRST:
                for _ in range(diallers - 1):
                    bound[family].append(bind_wildcard(family, number, _options(strategy)))
    except BaseException:
        for sock in (sock for socks in bound.values() for sock in socks):
            sock.close()
        raise
    if lacking is not None and not bound:
        raise lacking
    return bound


def _options(strategy: Strategy) -> tuple[str, ...]:
    return rules_for(sys.platform).alone_options if strategy is Strategy.EXCLUSIVE else strategy.options


def _claim(family: Family, number: int, strategy: Strategy) -> socket.socket:
    """The first socket of a port. It fails when somebody else has the number, even somebody who would share it.

    Two programs on one port would each get half of the incoming connections. So, where the system allows it, the first
    socket is bound without the options that share and gets them afterwards. Raises: OSError.
    """
    options = _options(strategy)
    if not rules_for(sys.platform).options_after_bind:
        return bind_wildcard(family, number, options)
    try:
        sock = bind_wildcard(family, number)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or number == 0:
            raise
        # Perhaps only our own last run, in TIME_WAIT: SO_REUSEADDR passes over that, but over nobody who listens.
        sock = bind_wildcard(family, number, ["SO_REUSEADDR"])
    try:
        if strategy is Strategy.REUSEPORT:
            set_options(sock, ["SO_REUSEADDR"], 0)  # so that nobody else's SO_REUSEADDR passes over us
            set_options(sock, ["SO_REUSEPORT"])
        else:
            set_options(sock, options)
    except BaseException:
        sock.close()
        raise
    return sock
