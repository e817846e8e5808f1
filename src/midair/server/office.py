"""The post office: what the mailbox protocol means, for all connections of one node.

Sans-I/O: a frame and the time go in, ``(client, frame)`` pairs to write come out, in order. The order in which one
connection may ask for things, and the words of the errors, are magic-wormhole's: each of allocate, claim, release, open
and close once a connection; all of them again, by the same side, on the next connection.

Where several nodes share a store, the office is also told what the others have posted. Nothing that is to be written is
held while the store is waited for, so that what one client gets stays in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
from msgspec import Raw

from midair.config import ServerLimits
from midair.endpoint import Endpoint
from midair.rendezvous import wire
from midair.server.admission import owner_of
from midair.server.listeners import Listeners
from midair.server.store import MailboxKey, MailboxStore, StoreRefusal

__all__ = ["Office", "Outgoing"]

Outgoing = tuple[int, wire.ServerFrame]
"""Which client, and what it gets."""

_MAX_ORIGINAL_BYTES = 4096
_OBJECT = msgspec.json.Decoder(dict[str, Raw])


@dataclass(slots=True)
class _Client:
    id: int
    owner: str
    app: str = ""
    side: str = ""  # empty until bound
    allocated: bool = False
    nameplate: str | None = None
    released: bool = False
    held: str | None = None  # the mailbox behind the claimed nameplate, or the opened one: it is not idle
    mailbox: str | None = None
    listening: bool = False
    closed: bool = False


class _Wrong(Exception):
    """The client asked for something out of order; the text goes to it."""


class Office:
    """Knows who listens to which mailbox.

    ``met`` is called for each pair, ``refused`` with each refusal's reason, ``heard`` with the seconds a side has
    waited for the other's first message, ``left`` with the mood in which one closes its mailbox.
    """

    def __init__(
        self,
        store: MailboxStore,
        limits: ServerLimits,
        *,
        motd: str | None = None,
        met: Callable[[], None] = lambda: None,
        refused: Callable[[str], None] = lambda reason: None,
        heard: Callable[[float], None] = lambda seconds: None,
        left: Callable[[str | None], None] = lambda mood: None,
    ) -> None:
        self._store = store
        self._limits = limits
        self._motd = motd
        self._met = met
        self._refused = refused
        self._heard = heard
        self._left = left
        self._waiting: dict[int, float] = {}  # since when each client waits for the other side
        self._clients: dict[int, _Client] = {}
        self._listeners = Listeners()

    def connected(self, client: int, source: Endpoint) -> list[Outgoing]:
        """A WebSocket has opened; ``client`` is the driver's number for it."""
        self._clients[client] = _Client(client, owner_of(source))
        return [(client, wire.Welcome(welcome=wire.WelcomeInfo(motd=self._motd)))]

    def disconnected(self, client: int) -> None:
        """It has closed, in whatever way."""
        self._waiting.pop(client, None)
        self._stop_listening(self._clients.pop(client))

    @property
    def waiting(self) -> int:
        """Clients who have claimed a nameplate and not heard of the other side yet."""
        return len(self._waiting)

    def in_use(self) -> Iterable[MailboxKey]:
        """Mailboxes somebody is connected for."""
        return {(client.app, client.held) for client in self._clients.values() if client.held is not None}

    async def posted(self, mailbox: MailboxKey, index: int, message: wire.Message) -> list[Outgoing]:
        """Message number ``index`` is in the mailbox, whoever has added it. Raises: StoreUnavailable."""
        start = self._listeners.lacking(mailbox, index)
        if start is None:
            return self._told(self._listeners.deliver(mailbox, index, [message]))
        return self._told(self._listeners.deliver(mailbox, start, await self._store.read(*mailbox, start)))

    async def catch_up(self, mailbox: MailboxKey) -> list[Outgoing]:
        """Reads what may have been posted unheard. Raises: StoreUnavailable."""
        start = self._listeners.heard(mailbox)
        if start is None:
            return []
        return self._told(self._listeners.deliver(mailbox, start, await self._store.read(*mailbox, start)))

    def listened_to(self) -> list[MailboxKey]:
        """Mailboxes with a listener."""
        return list(self._listeners.keys)

    async def received(self, client: int, data: bytes, *, now: float, wall: float) -> list[Outgoing]:
        """``data`` is one whole WebSocket message. ``now`` is the store's clock, ``wall`` seconds since the epoch.

        Raises: StoreUnavailable.
        """
        out: list[Outgoing] = []
        try:
            # The whole text is decoded first: what a decoder skips unseen would reach the client again in ``orig``.
            frame = wire.decode_client_frame(data.decode())
            if isinstance(frame, wire.Unknown):
                raise _Wrong("unknown type")
            if frame.id is not None:
                out.append((client, wire.Ack(id=frame.id)))
            out += await self._handle(self._clients[client], frame, now, wall)
        except (wire.WireError, UnicodeDecodeError) as error:
            self._refused("frame")
            text = str(error) if isinstance(error, wire.WireError) else "not a mailbox frame: not UTF-8"
            out.append((client, wire.Error(error=text, orig=_original(data))))
        except _Wrong as error:
            self._refused("order")
            out.append((client, wire.Error(error=str(error), orig=_original(data))))
        except StoreRefusal as error:
            self._refused(error.reason)
            out.append((client, wire.Error(error=str(error), orig=_original(data))))
        return out

    async def _handle(self, client: _Client, frame: wire.ClientFrame, now: float, wall: float) -> list[Outgoing]:
        match frame:
            case wire.Ping(ping=number):
                return [(client.id, wire.Pong(pong=number))]
            case wire.Bind(appid=app, side=side):
                if client.side:
                    raise _Wrong("already bound")
                client.app, client.side = app, side
                return []
        if not client.side:
            raise _Wrong("must bind first")
        match frame:
            case wire.List():
                numbers = await self._store.waiting(client.app)
                return [(client.id, wire.Nameplates(nameplates=[wire.NameplateEntry(id=number) for number in numbers]))]
            case wire.Allocate():
                return await self._allocate(client, now)
            case wire.Claim(nameplate=nameplate):
                return await self._claim(client, nameplate, now)
            case wire.Release(nameplate=given):
                return await self._release(client, given, now)
            case wire.Open(mailbox=mailbox):
                return await self._open(client, mailbox, now)
            case wire.Add():
                return await self._add(client, frame, now, wall)
            case wire.Close(mailbox=given, mood=mood):
                return await self._close(client, given, mood, now)
        raise AssertionError(frame)  # the decoder knows no others

    async def _allocate(self, client: _Client, now: float) -> list[Outgoing]:
        if client.allocated:
            raise _Wrong("you already allocated one, don't be greedy")
        nameplate = await self._store.allocate(client.app, client.side, owner=client.owner, now=now)
        client.allocated = True
        return [(client.id, wire.Allocated(nameplate=nameplate))]

    async def _claim(self, client: _Client, nameplate: str, now: float) -> list[Outgoing]:
        if client.nameplate is not None:
            raise _Wrong("only one claim per connection")
        client.nameplate = nameplate
        claimed = await self._store.claim(client.app, nameplate, client.side, owner=client.owner, now=now)
        client.held = claimed.mailbox
        if claimed.met:
            self._met()
        else:
            self._waiting[client.id] = now
        return [(client.id, wire.Claimed(mailbox=claimed.mailbox))]

    async def _release(self, client: _Client, given: str | None, now: float) -> list[Outgoing]:
        if client.released:
            raise _Wrong("only one release per connection")
        nameplate = _same(given, client.nameplate, "release and claim must use same nameplate")
        if nameplate is None:
            raise _Wrong("release without nameplate must follow claim")
        client.released = True
        await self._store.release(client.app, nameplate, client.side, now=now)
        return [(client.id, wire.Released())]

    async def _open(self, client: _Client, mailbox: str, now: float) -> list[Outgoing]:
        if client.mailbox is not None:
            raise _Wrong("only one open per connection")
        key = (client.app, mailbox)
        # Before the store is asked: what others post while it answers must not be lost.
        self._listeners.enter(key, client.id)
        try:
            past = await self._store.open(client.app, mailbox, client.side, owner=client.owner, now=now)
            while self._listeners.is_late(key, client.id):
                past = await self._store.read(client.app, mailbox, 0)
        except BaseException:
            self._listeners.leave(key, client.id)
            raise
        client.mailbox = client.held = mailbox
        client.listening = True
        return self._told(self._listeners.admit(key, client.id, past))

    async def _add(self, client: _Client, frame: wire.Add, now: float, wall: float) -> list[Outgoing]:
        if client.mailbox is None or not client.listening:
            raise _Wrong("must open mailbox before adding")
        if len(frame.body) > self._limits.message_bytes:
            raise StoreRefusal("message-bytes", f"limit: a message has at most {self._limits.message_bytes} characters")
        message = wire.Message(side=client.side, phase=frame.phase, body=frame.body, server_rx=wall, id=frame.id)
        index = await self._store.add(client.app, client.mailbox, message, now=now)
        return await self.posted((client.app, client.mailbox), index, message)

    async def _close(self, client: _Client, given: str | None, mood: str | None, now: float) -> list[Outgoing]:
        if client.closed:
            raise _Wrong("only one close per connection")
        mailbox = _same(given, client.mailbox, "open and close must use same mailbox")
        if mailbox is None:
            raise _Wrong("close without mailbox must follow open")
        self._stop_listening(client)
        client.closed = True
        client.held = None
        self._waiting.pop(client.id, None)
        self._left(mood)
        await self._store.close(client.app, mailbox, client.side, now=now)
        return [(client.id, wire.Closed())]

    def _told(self, told: list[tuple[int, wire.Message]]) -> list[Outgoing]:
        for id_, message in told:
            if id_ in self._waiting and message.side != self._clients[id_].side:
                self._heard(self._store.clock() - self._waiting.pop(id_))
        return [*told]

    def _stop_listening(self, client: _Client) -> None:
        if not client.listening or client.mailbox is None:
            return
        client.listening = False
        self._listeners.leave((client.app, client.mailbox), client.id)


def _same(given: str | None, known: str | None, otherwise: str) -> str | None:
    if given is not None and known is not None and given != known:
        raise _Wrong(otherwise)
    return known if given is None else given


def _original(data: bytes) -> Raw:
    # magic-wormhole's client wants the field to be there, and shows it; a large one need not cross the wire again.
    if len(data) > _MAX_ORIGINAL_BYTES:
        return Raw(b"{}")
    try:
        data.decode()
        _OBJECT.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Raw(b"{}")
    return Raw(data)
