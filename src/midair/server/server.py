"""One server: takes connections on its listeners and hands each to what its first bytes ask for."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import ssl
from collections.abc import Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from midair.config import ServerLimits
from midair.endpoint import Endpoint
from midair.port import accept
from midair.relay.wire import Refusal
from midair.rendezvous.wire import MAX_FRAME_BYTES, Message
from midair.server.admission import Admission, Entry, owner_of
from midair.server.budget import Budget
from midair.server.first_bytes import Kind, detect
from midair.server.http import Pages
from midair.server.mailboxes import Mailboxes
from midair.server.memory import MemoryStore
from midair.server.metrics import Metrics
from midair.server.proxied import Network, ProxyHeaderError, read_header
from midair.server.reflector import Reflector
from midair.server.relay import Relay, refuse_leg
from midair.server.secrets import Secrets
from midair.server.store import MailboxKey, MailboxStore
from midair.server.web import LINGER_SECONDS, WebConnection, WebSettings
from midair.server.web_head import Door

if TYPE_CHECKING:
    from midair.server.shared import Shared

__all__ = ["Server"]

log = logging.getLogger("midair.server")

FRAME_OVERHEAD_BYTES = 1024
"""What JSON and the other fields add to a mailbox message."""
FRAMES_BESIDE_MESSAGES = 64
"""Frames other than messages that may wait for a slow reader: acks and answers."""
ACCEPTED_AT_ONCE = 32
"""Connections taken in one round of the event loop. With one, all others wait for as many rounds as a flood is long."""
ACCEPT_PAUSE_SECONDS = 0.5
"""How long no connection is taken after the system had no descriptor or memory for one."""
REFUSED_SECONDS = 2.0
"""How long a connection above the limits may take to ask for what it will be refused."""

_REFUSAL_REASONS = {Entry.TOLD_FULL: "connections", Entry.TOLD_TOO_MANY: "connections-per-address"}
_REFUSAL_TEXTS = {
    Entry.TOLD_FULL: "this server has no room for another connection",
    Entry.TOLD_TOO_MANY: "too many connections from your address",
}


class Server:
    """The meeting point on one or more listening sockets, which it owns from the start on.

    An asynchronous context manager: serves inside the block, stops at its end. The sockets must be non-blocking, as
    :func:`midair.port.listen_tcp` makes them.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        *,
        limits: ServerLimits | None = None,
        store: MailboxStore | None = None,
        shared: Shared | None = None,
        node_address: Endpoint | None = None,
        proxied_from: Sequence[Network] = (),
        ssl_context: ssl.SSLContext | None = None,
        motd: str | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        """``ssl_context`` adds TLS for HTTP and the mailbox; without it, and besides it, they are served in the clear.

        ``shared`` makes this server one of several nodes; the others reach it at ``node_address``, by default the first
        address it listens on. Connections from ``proxied_from`` begin with a PROXY header, and count for whom it names.
        ``motd`` is shown to everybody who meets here. ``secrets`` make the server private.
        """
        self.limits = limits or ServerLimits()
        self.metrics = Metrics()
        self._listeners = list(listeners)
        self._ssl_context = ssl_context
        self._secrets = secrets or Secrets()
        self._admission = Admission(self.limits)
        self._proxied_from = tuple(proxied_from)
        self._shared = shared
        self._node_address = node_address
        store = shared.store if shared is not None else store or MemoryStore(self.limits)
        self._mailboxes = Mailboxes(store, self.limits, self.metrics, motd=motd)
        self._reflector = Reflector(self.limits, self.metrics, self.endpoints)
        self._budget = Budget(self.limits)
        directory = None if shared is None else shared.legs
        self._relay = Relay(self.limits, self.metrics, directory=directory, budget=self._budget, secrets=self._secrets)
        self._web = {secure: self._web_settings(secure=secure, motd=motd) for secure in (False, True)}
        self._stopping = False
        self._accepting: set[asyncio.Task[None]] = set()
        self._tending: set[asyncio.Task[None]] = set()
        self._serving: dict[asyncio.Task[None], Kind | None] = {}

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where it listens."""
        return [Endpoint.from_sockaddr(listener.getsockname()) for listener in self._listeners]

    @property
    def trouble(self) -> str | None:
        """Why nobody can meet here now; None when all is well."""
        if self._stopping:
            return "this server is being stopped"
        if self._shared is not None and not self._shared.ready:
            return "this server's store is away"
        return None

    async def start(self) -> None:
        """Begins to serve."""
        self._tending = {asyncio.create_task(self._mailboxes.prune_forever())}
        if self._shared is not None:
            address = self._node_address or self.endpoints[0]
            self._tending.add(asyncio.create_task(self._shared.run(self, address, self._budget)))
        self._accepting = {asyncio.create_task(self._accept_forever(listener)) for listener in self._listeners}

    async def stop(self) -> None:
        """Stops at once: closes the listeners and all connections. Idempotent. Cancelling leaves some to be closed."""
        await self._stop_accepting()
        await _cancel(self._serving)
        await _cancel(self._tending)
        self._tending = set()

    async def drain(self) -> None:
        """Stops gracefully: takes nobody in, sends those who meet or wait away, lets relayed pairs finish, then stops.

        Takes ``limits.drain_seconds`` at most. Cancelling leaves some connections open; :meth:`stop` closes them.
        """
        await self._stop_accepting()
        self._mailboxes.send_away()
        self._relay.send_away()
        await _cancel([task for task, kind in self._serving.items() if kind in (None, Kind.STUN)])
        if self._serving:
            await asyncio.wait(self._serving, timeout=self.limits.drain_seconds)
        await self.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    # A Listener of what is shared, for mailboxes and relay.

    async def posted(self, mailbox: MailboxKey, index: int, message: Message) -> None:
        await self._mailboxes.posted(mailbox, index, message)

    async def missed(self) -> None:
        self._relay.ask_again()
        await self._mailboxes.missed()

    async def forgotten(self) -> None:
        self._relay.ask_again()
        await self._mailboxes.forgotten()

    def _web_settings(self, *, secure: bool, motd: str | None) -> WebSettings:
        limits = self.limits
        return WebSettings(
            door=Door(
                pages=Pages(metrics=self.metrics, trouble=lambda: self.trouble, secure=secure, motd=motd),
                trouble=lambda: self.trouble,
                admits=self._secrets.admits,
                metrics=self.metrics,
            ),
            handler=self._mailboxes,
            metrics=self.metrics,
            message_bytes=min(limits.message_bytes + FRAME_OVERHEAD_BYTES, MAX_FRAME_BYTES),
            waiting_frames=limits.messages_per_mailbox + FRAMES_BESIDE_MESSAGES,
            idle_seconds=limits.connection_idle_seconds,
        )

    async def _stop_accepting(self) -> None:
        self._stopping = True
        await _cancel(self._accepting)
        self._accepting = set()
        for listener in self._listeners:
            listener.close()

    async def _accept_forever(self, listener: socket.socket) -> None:
        for number in itertools.count():
            try:
                sock, source = await accept(listener, pause=number % ACCEPTED_AT_ONCE == 0)
            except OSError as error:
                log.warning("no connection can be taken for now: %s", error.strerror)
                self.metrics.refused("accept")
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            owner = owner_of(source)
            # Another node, or a proxy, may have any number of connections.
            fellow = self._is_proxy(source) or (self._shared is not None and self._shared.is_fellow(source))
            entry = self._admission.enter(owner, fellow=fellow)
            if entry is Entry.DROPPED:
                self.metrics.refused("dropped")
                sock.close()
                continue
            serve = self._serve_proxied if self._is_proxy(source) else self._serve
            task = asyncio.create_task(serve(sock, source, entry))
            self._serving[task] = None
            task.add_done_callback(partial(self._served, sock, owner))

    def _served(self, sock: socket.socket, owner: str, task: asyncio.Task[None]) -> None:
        # Here and not in the task: one that is cancelled before its first step never gets to its own clean-up.
        sock.close()
        self._admission.leave(owner)
        del self._serving[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection failed", exc_info=error)

    def _is_proxy(self, source: Endpoint) -> bool:
        return any(source.address in network for network in self._proxied_from)

    async def _serve_proxied(self, sock: socket.socket, proxy: Endpoint, entry: Entry) -> None:
        """As many connections as the proxy likes, but of each client only as many as of any other."""
        try:
            async with asyncio.timeout(self.limits.first_bytes_seconds):
                source = await read_header(sock, proxy)
        except ProxyHeaderError:
            self.metrics.refused("proxy-header")
            return
        except OSError:  # TimeoutError is one
            return
        if source == proxy:
            await self._serve(sock, source, entry)
            return
        owner = owner_of(source)
        entry = self._admission.enter(owner, counted=True)
        if entry is Entry.DROPPED:
            self.metrics.refused("dropped")
            return
        try:
            await self._serve(sock, source, entry)
        finally:
            self._admission.leave(owner, counted=True)

    async def _serve(self, sock: socket.socket, source: Endpoint, entry: Entry) -> None:
        admitted = entry is Entry.ADMITTED
        loop = asyncio.get_running_loop()
        seconds = self.limits.first_bytes_seconds if admitted else min(REFUSED_SECONDS, self.limits.first_bytes_seconds)
        deadline = loop.time() + seconds
        try:
            async with asyncio.timeout_at(deadline):
                kind = await detect(sock)
        except TimeoutError:
            self.metrics.refused("silent")
            return
        except OSError:
            return
        if kind is None:
            return
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = kind
        if not admitted:
            self.metrics.refused(_REFUSAL_REASONS[entry])
        with self.metrics.open_connection(kind.value):
            match kind:
                case Kind.STUN:
                    if admitted:
                        await self._reflector.serve(sock, source)
                case Kind.RELAY:
                    if admitted:
                        await self._relay.serve(sock, source, deadline)
                    else:
                        await refuse_leg(sock, Refusal(word="quota", text=_REFUSAL_TEXTS[entry]))
                case Kind.NODE:
                    if admitted:
                        await self._relay.serve_node(sock, deadline)
                case Kind.TLS if self._ssl_context is None:
                    self.metrics.refused("tls-not-configured")
                case Kind.HTTP | Kind.TLS:
                    await self._serve_web(sock, source, deadline, kind, None if admitted else _REFUSAL_TEXTS[entry])

    async def _serve_web(
        self, sock: socket.socket, source: Endpoint, deadline: float, kind: Kind, refusal: str | None
    ) -> None:
        async def serve_leg(leg: socket.socket, until: float) -> None:
            await self._relay.serve(leg, source, until, inside=True)

        connection = WebConnection(self._web[kind is Kind.TLS], serve_leg=serve_leg, refusal=refusal)
        self._mailboxes.expect(connection, source)
        try:
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout_at(deadline):
                    if kind is Kind.TLS:
                        await loop.connect_accepted_socket(
                            lambda: connection, sock, ssl=self._ssl_context, ssl_shutdown_timeout=LINGER_SECONDS
                        )
                    else:
                        await loop.connect_accepted_socket(lambda: connection, sock)
            except OSError:  # TimeoutError and ssl.SSLError are among them
                self.metrics.refused("tls-handshake")
                return
            try:
                await connection.run(deadline)
            finally:
                connection.abort()
                await connection.wait_lost()
        finally:
            self._mailboxes.forget(connection)


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    cancelled = list(tasks)
    for task in cancelled:
        task.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)
