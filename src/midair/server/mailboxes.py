"""Between the WebSockets and the post office: numbers the connections, carries frames, forgets what is idle."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import Counter

from websockets.frames import CloseCode

from midair.config import ServerLimits
from midair.endpoint import Endpoint
from midair.rendezvous.wire import Error, Message
from midair.server.metrics import Metrics
from midair.server.office import Office, Outgoing
from midair.server.store import MailboxKey, MailboxStore, StoreUnavailable
from midair.server.web import WebConnection

__all__ = ["Mailboxes"]

log = logging.getLogger("midair.server")

CAUGHT_UP_AT_ONCE = 100
"""Mailboxes read at a time after the shared store was away."""

MAX_ERRORS = 20
"""Errors one connection is answered with; a client that goes on regardless is not one that wants to meet."""


class Mailboxes:
    """A :class:`midair.server.web.MailboxHandler`, and a :class:`midair.server.store.Listener`."""

    def __init__(self, store: MailboxStore, limits: ServerLimits, metrics: Metrics, *, motd: str | None) -> None:
        self._store = store
        self._metrics = metrics
        metrics.mailboxes.set_function(lambda: store.mailboxes)
        self._prune_seconds = min(60.0, limits.mailbox_idle_seconds / 4)
        self._office = Office(
            store,
            limits,
            motd=motd,
            met=metrics.pairs_met.inc,
            refused=metrics.refused,
            heard=metrics.meeting_seconds.observe,
            left=metrics.left,
        )
        metrics.waiting.set_function(lambda: self._office.waiting)
        self._numbers = itertools.count(1)
        self._connections: dict[int, WebConnection] = {}
        self._errors: Counter[int] = Counter()
        self._clients: dict[WebConnection, tuple[int, Endpoint]] = {}

    def expect(self, connection: WebConnection, source: Endpoint) -> None:
        """``connection`` comes from ``source``; told before it can open."""
        self._clients[connection] = (next(self._numbers), source)

    def forget(self, connection: WebConnection) -> None:
        """The opposite of :meth:`expect`."""
        self.closed(connection)
        del self._clients[connection]

    def opened(self, connection: WebConnection) -> None:
        number, source = self._clients[connection]
        self._connections[number] = connection
        self._send(self._office.connected(number, source))

    async def received(self, connection: WebConnection, data: bytes) -> None:
        number, _ = self._clients[connection]
        started = time.perf_counter()
        try:
            answers = await self._office.received(number, data, now=self._store.clock(), wall=time.time())
            self._send(answers)
            if any(isinstance(frame, Error) for _, frame in answers):
                self._count_error(number, connection)
        except StoreUnavailable:
            self._metrics.refused("store-away")
            connection.go_away(CloseCode.TRY_AGAIN_LATER)
        self._metrics.frame_seconds.observe(time.perf_counter() - started)

    def closed(self, connection: WebConnection) -> None:
        number, _ = self._clients[connection]
        self._errors.pop(number, None)
        if self._connections.pop(number, None) is not None:
            self._office.disconnected(number)

    def _count_error(self, number: int, connection: WebConnection) -> None:
        self._errors[number] += 1
        if self._errors[number] == MAX_ERRORS:
            self._metrics.refused("errors")
            connection.go_away(CloseCode.POLICY_VIOLATION)

    async def posted(self, mailbox: MailboxKey, index: int, message: Message) -> None:
        self._send(await self._office.posted(mailbox, index, message))

    async def missed(self) -> None:
        mailboxes = self._office.listened_to()
        for start in range(0, len(mailboxes), CAUGHT_UP_AT_ONCE):
            at_once = mailboxes[start : start + CAUGHT_UP_AT_ONCE]
            await asyncio.gather(*[self._catch_up(mailbox) for mailbox in at_once])

    async def forgotten(self) -> None:
        # They come back and say everything again: that fills the store.
        log.warning("the shared store has come back empty: everybody is asked to come again")
        self.send_away(CloseCode.SERVICE_RESTART)

    def send_away(self, code: CloseCode = CloseCode.GOING_AWAY) -> None:
        """Begins to close all of them, those that are no WebSocket yet too."""
        for connection in list(self._clients):
            connection.go_away(code)

    async def prune_forever(self) -> None:
        """Until cancelled."""
        while True:
            seconds = self._prune_seconds
            try:
                now = self._store.clock()
                await self._store.touch(self._office.in_use(), now=now)
                await self._store.prune(now=now)
                await self._store.count()
            except StoreUnavailable:
                seconds = min(seconds, 1.0)
            await asyncio.sleep(seconds)

    async def _catch_up(self, mailbox: MailboxKey) -> None:
        self._send(await self._office.catch_up(mailbox))

    def _send(self, outgoing: list[Outgoing]) -> None:
        for number, frame in outgoing:
            connection = self._connections.get(number)
            if connection is not None:
                connection.send(frame)
