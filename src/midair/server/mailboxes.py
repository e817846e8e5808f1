"""Between the WebSockets and the post office: numbers the connections, carries frames, forgets what is idle."""

from __future__ import annotations

import asyncio
import itertools
import time

from midair.config import ServerLimits
from midair.endpoint import Endpoint
from midair.server.metrics import Metrics
from midair.server.office import Office, Outgoing
from midair.server.store import MailboxStore
from midair.server.web import WebConnection

__all__ = ["Mailboxes"]


class Mailboxes:
    """A :class:`midair.server.web.MailboxHandler`."""

    def __init__(self, store: MailboxStore, limits: ServerLimits, metrics: Metrics, *, motd: str | None) -> None:
        self._store = store
        self._metrics = metrics
        self._prune_seconds = min(60.0, limits.mailbox_idle_seconds / 4)
        self._office = Office(store, limits, motd=motd, met=metrics.pairs_met.inc, refused=metrics.refused)
        self._numbers = itertools.count(1)
        self._connections: dict[int, WebConnection] = {}
        self._clients: dict[WebConnection, tuple[int, Endpoint]] = {}

    def expect(self, connection: WebConnection, source: Endpoint) -> None:
        """``connection`` comes from ``source``; told before it can open."""
        self._clients[connection] = (next(self._numbers), source)

    def forget(self, connection: WebConnection) -> None:
        """The opposite of :meth:`expect`."""
        del self._clients[connection]

    def opened(self, connection: WebConnection) -> None:
        number, source = self._clients[connection]
        self._connections[number] = connection
        self._send(self._office.connected(number, source))

    async def received(self, connection: WebConnection, data: bytes) -> None:
        number, _ = self._clients[connection]
        now = asyncio.get_running_loop().time()
        self._send(await self._office.received(number, data, now=now, wall=time.time()))
        self._metrics.mailboxes.set(await self._store.count())

    def closed(self, connection: WebConnection) -> None:
        number, _ = self._clients[connection]
        del self._connections[number]
        self._office.disconnected(number)

    def send_away(self) -> None:
        """Begins to close all of them, those that are no WebSocket yet too."""
        for connection in list(self._clients):
            connection.go_away()

    async def prune_forever(self) -> None:
        """Until cancelled."""
        while True:
            now = asyncio.get_running_loop().time()
            await self._store.touch(self._office.in_use(), now=now)
            await self._store.prune(now=now)
            self._metrics.mailboxes.set(await self._store.count())
            await asyncio.sleep(self._prune_seconds)

    def _send(self, outgoing: list[Outgoing]) -> None:
        for number, frame in outgoing:
            connection = self._connections.get(number)
            if connection is not None:
                connection.send(frame)
