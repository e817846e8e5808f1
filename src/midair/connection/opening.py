"""Three ways to a connection: a code that one side makes and the other is told, or signalling of a program's own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from midair import events
from midair.channel.keys import KEY_BYTES
from midair.config import ServerURL, TraversalOptions
from midair.connection.signalling import Receive, SealedExchange, Send
from midair.connection.stream import Connection
from midair.errors import IncompatibleError, UsageError
from midair.rendezvous import Meeting, meet_as_receiver, meet_as_sender
from midair.rendezvous.keys import derive_key
from midair.traversal import Exchange, connect_peers

__all__ = ["connect", "host", "punch"]

_VERSIONS_KEY: Final = "midair-stream"
_PROTOCOL_VERSION: Final = 1
_STORY_EVENTS_MAX: Final = 1000


@contextlib.asynccontextmanager
async def host(
    server: ServerURL | str,
    *,
    on_code: Callable[[str], None],
    code: str | None = None,
    application: str = "",
    wait: float | None = None,
    options: TraversalOptions | None = None,
    on_event: events.Listener | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> AsyncIterator[Connection]:
    """Makes a code, waits for a peer who connects with it, and gives the connection to them; it lasts for the block.

        async with midair.host("ws://example.org:7420", on_code=print) as connection:
            await connection.write(b"hello")

    A code is good for one peer. Leaving the block closes the connection in good order, see :meth:`Connection.close`;
    an exception aborts it, so that the peer does not take what it got for all there is. Cancelling leaves nothing
    open, within three seconds.

    Args:
        on_code: called once, when a peer can come, with the code to hand on.
        code: one that both know already; None makes a new one.
        application: both sides must name the same; a name and a version of the program's protocol, such as "chat/1".
        wait: seconds a peer may take to come; None: for ever.
        options: how a path is looked for.
        on_event: told what happens, also when the path changes later; the connection has the same as its ``story``.
        ssl_context: instead of the system's own, for wss.

    Raises: UsageError (server or code), ServerUnreachableError, QuotaError, WrongCodeError, CrowdedError,
        PeerLostError, IncompatibleError, RemoteProtocolError, NoPathError, PortUnavailableError; all are MidairErrors.
    """
    url = _parsed(server)
    meeting = await meet_as_sender(
        url,
        code=code,
        app_versions=_versions(application),
        on_code=on_code,
        wait=wait,
        ssl_context=ssl_context,
    )
    async with _over_a_meeting(
        meeting, url, application, options, on_event, controlling=True, ssl_context=ssl_context
    ) as connection:
        yield connection


@contextlib.asynccontextmanager
async def connect(
    code: str,
    server: ServerURL | str,
    *,
    application: str = "",
    wait: float = 10.0,
    options: TraversalOptions | None = None,
    on_event: events.Listener | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> AsyncIterator[Connection]:
    """The connection to the peer who shows ``code``; it lasts for the block. The rest is as for :func:`host`.

        async with midair.connect("7-crossover-clockwork", "ws://example.org:7420") as connection:
            print(await connection.read())

    Args:
        wait: seconds after which nobody is there.

    Raises: as :func:`host`, and UnknownCodeError.
    """
    url = _parsed(server)
    meeting = await meet_as_receiver(url, code, app_versions=_versions(application), wait=wait, ssl_context=ssl_context)
    async with _over_a_meeting(
        meeting, url, application, options, on_event, controlling=False, ssl_context=ssl_context
    ) as connection:
        yield connection


@contextlib.asynccontextmanager
async def punch(
    send: Send,
    receive: Receive,
    *,
    secret: bytes,
    controlling: bool,
    server: ServerURL | str | None,
    options: TraversalOptions | None = None,
    on_event: events.Listener | None = None,
) -> AsyncIterator[Connection]:
    """The connection to a peer with whom a program can already exchange messages; it lasts for the block.

    Both sides call it within ``options.server_wait`` and ``options.deadline`` of each other (23 s); it sends and
    receives three messages at most, of a kilobyte or two, and none after that. They are sealed with ``secret``, so
    whoever passes them on learns nothing and can only prevent the connection.

    Args:
        send: sends one message to the peer.
        receive: gives the peer's next message, whole and in order; it may be cancelled while it waits.
        secret: 32 random bytes that only the two sides have, new for every connection.
        controlling: True on one side, False on the other; it does not matter which.
        server: a midair server, for the reflector, which tells a host how it is seen from outside, and the relay. None:
            only hosts that need neither are connected, by IPv6, on one network, or by a port the home router gives.

    Leaving the block, cancelling, and the rest is as for :func:`host`.

    Raises: ValueError (the secret), UsageError, NoPathError, PeerLostError, IncompatibleError, RemoteProtocolError,
        PortUnavailableError; what ``send`` and ``receive`` raise, as it is.
    """
    if len(secret) != KEY_BYTES:
        raise ValueError(f"a secret has {KEY_BYTES} bytes, not {len(secret)}")
    if server is None and options is not None and options.policy == "relay":
        raise UsageError("the relay needs a server")
    opening = _Opening(
        key=derive_key(secret, "midair punch"),
        controlling=controlling,
        server=None if server is None else _parsed(server),
        options=options,
        on_event=on_event,
    )
    connection = await opening.over(SealedExchange(send, receive, secret=secret, controlling=controlling))
    async with _lasting(connection):
        yield connection


class _Opening:
    """From an exchange to a connection, and the story of it."""

    def __init__(
        self,
        *,
        key: bytes,
        controlling: bool,
        server: ServerURL | None,
        options: TraversalOptions | None,
        on_event: events.Listener | None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._key = key
        self._ssl_context = ssl_context
        self._controlling = controlling
        self._server = server
        self._options = options or TraversalOptions()
        self._on_event = on_event
        self._story: list[tuple[float, events.Event]] = []
        self._began = asyncio.get_running_loop().time()

    def tell(self, event: events.Event) -> None:
        if len(self._story) < _STORY_EVENTS_MAX:
            self._story.append((asyncio.get_running_loop().time() - self._began, event))
        if self._on_event is not None:
            self._on_event(event)

    async def over(self, exchange: Exchange) -> Connection:
        result = await connect_peers(
            exchange,
            session_key=self._key,
            controlling=self._controlling,
            server=self._server,
            options=self._options,
            on_event=self.tell,
            moves=True,
            ssl_context=self._ssl_context,
        )
        return Connection(result, leading=self._controlling, story=lambda: tuple(self._story), on_event=self.tell)


@contextlib.asynccontextmanager
async def _over_a_meeting(
    meeting: Meeting,
    server: ServerURL,
    application: str,
    options: TraversalOptions | None,
    on_event: events.Listener | None,
    *,
    controlling: bool,
    ssl_context: ssl.SSLContext | None,
) -> AsyncIterator[Connection]:
    try:
        _check(meeting.peer_versions, application)
        opening = _Opening(
            key=meeting.derive("midair stream"),
            controlling=controlling,
            server=server,
            options=options,
            on_event=on_event,
            ssl_context=ssl_context,
        )
        opening.tell(events.Met())
        connection = await opening.over(meeting)
    except BaseException as error:
        await meeting.close("lonely" if isinstance(error, asyncio.CancelledError) else "errory")
        raise
    # The way out of the mailbox takes a round trip, and nobody waits for it.
    goodbye = asyncio.create_task(meeting.close(), name="midair-goodbye")
    try:
        async with _lasting(connection):
            yield connection
    finally:
        await goodbye


@contextlib.asynccontextmanager
async def _lasting(connection: Connection) -> AsyncIterator[None]:
    """As long as the block."""
    try:
        yield
    except BaseException:
        await connection.abort()
        raise
    await connection.close()


def _parsed(server: ServerURL | str) -> ServerURL:
    return ServerURL.parse(server) if isinstance(server, str) else server


def _versions(application: str) -> dict[str, Any]:
    return {_VERSIONS_KEY: {"protocol": _PROTOCOL_VERSION, "application": application}}


def _check(theirs: dict[str, Any], application: str) -> None:
    """Raises: IncompatibleError."""
    told = theirs.get(_VERSIONS_KEY)
    if not isinstance(told, dict) or not isinstance(told.get("protocol"), int):
        raise IncompatibleError("the other side knows the code, but is not a program of this kind")
    if told["protocol"] != _PROTOCOL_VERSION:
        newer = "newer" if told["protocol"] > _PROTOCOL_VERSION else "older"
        raise IncompatibleError(f"the other side has a {newer} midair", hint="Use the same version on both sides.")
    if told.get("application", "") != application:
        raise IncompatibleError("the other side is another program, or another version of this one")
