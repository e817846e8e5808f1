"""Two peers meet under a code and get a key nobody else has, and a slow, safe way to exchange messages."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from midair.config import APP_ID, ServerURL
from midair.errors import PeerLostError
from midair.rendezvous import steps
from midair.rendezvous.clearing import Clearing, Remains
from midair.rendezvous.client import Mailbox
from midair.rendezvous.codes import generate_code, parse_code
from midair.rendezvous.conversation import MAX_MESSAGES, Role
from midair.rendezvous.keys import derive_key
from midair.rendezvous.machine import Machine, Plan, UnprovenError
from midair.rendezvous.refusals import TurnedAwayError

__all__ = ["MAX_MESSAGE_BYTES", "Meeting", "meet_as_receiver", "meet_as_sender"]

MAX_MESSAGE_BYTES: Final = 24 * 1024
"""One message: sealed, in hex and in its frame it stays below 64 KiB, what servers take."""

_TURNED_AWAY_SECONDS: Final = 1.0
"""Before it is asked again whether there is room."""
_CLOSE_LIMIT_SECONDS: Final = 2.0
"""After this the goodbye is cut short; the machine's and the driver's own limits add up to a little less."""


async def meet_as_sender(
    server: ServerURL,
    *,
    code: str | None = None,
    app_versions: Mapping[str, Any],
    on_code: Callable[[str], None] | None = None,
    wait: float | None = None,
    word_count: int = 2,
    ssl_context: ssl.SSLContext | None = None,
) -> Meeting:
    """Waits at ``server`` for a receiver with the same code, and meets it.

    Args:
        code: made up by the person; None lets the server choose the number and draws ``word_count`` words.
        app_versions: told to the other side, sealed; JSON values, a few kilobytes at most.
        on_code: called once, when a receiver can come, with the code in its one form.
        wait: seconds a receiver may take to come; None: for ever.
        ssl_context: instead of the system's own, for wss.

    Raises: UsageError (the code), ServerUnreachableError, QuotaError, WrongCodeError, CrowdedError, PeerLostError,
        IncompatibleError, RemoteProtocolError.

    Whoever comes and goes before they have proved that they know the code has had no guess, see
    :mod:`midair.rendezvous.conversation`: the code stays good, and is waited with again.

    Cancelling gives the number back and closes the connection, within two seconds.
    """
    loop = asyncio.get_running_loop()
    deadline = None if wait is None else loop.time() + wait
    made: list[str] = [] if code is None else [parse_code(code)[1]]

    def make_code(nameplate: str) -> str:
        made[:] = made or [generate_code(nameplate, os.urandom(word_count))]
        return made[0]

    announce = on_code
    while True:
        try:
            return await _meet(
                server,
                role="sender",
                nameplate=parse_code(made[0])[0] if made else None,
                make_code=make_code,
                app_versions=app_versions,
                on_code=announce,
                wait=None if deadline is None else max(0.0, deadline - loop.time()),
                ssl_context=ssl_context,
            )
        except UnprovenError as error:
            await _clear_away(server, error.remains, ssl_context)
            if deadline is not None and loop.time() >= deadline:
                raise
            announce = None


async def meet_as_receiver(
    server: ServerURL,
    code: str,
    *,
    app_versions: Mapping[str, Any],
    wait: float = 10.0,
    ssl_context: ssl.SSLContext | None = None,
) -> Meeting:
    """Meets the sender who waits at ``server`` with the same code.

    Args:
        app_versions: told to the other side, sealed; JSON values, a few kilobytes at most.
        wait: seconds after which nobody is there.
        ssl_context: instead of the system's own, for wss.

    Raises: UsageError (the code), UnknownCodeError, ServerUnreachableError, QuotaError, WrongCodeError, CrowdedError,
        PeerLostError, IncompatibleError, RemoteProtocolError.

    Cancelling gives the number back and closes the connection, within two seconds.
    """
    nameplate, given = parse_code(code)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait
    while True:
        try:
            return await _meet(
                server,
                role="receiver",
                nameplate=nameplate,
                make_code=lambda _: given,
                app_versions=app_versions,
                on_code=None,
                wait=max(0.0, deadline - loop.time()),
                ssl_context=ssl_context,
            )
        except TurnedAwayError:
            # It may be the place of one who was killed in the middle of a meeting, for whom the sender leaves soon.
            if loop.time() + _TURNED_AWAY_SECONDS >= deadline:
                raise
            await asyncio.sleep(_TURNED_AWAY_SECONDS)


async def _clear_away(server: ServerURL, remains: Remains, ssl_context: ssl.SSLContext | None) -> None:
    """Takes some seconds at most, and never fails. Cancelling cuts the connection."""
    await Mailbox(server, Clearing(remains), on_command=lambda command: None, ssl_context=ssl_context).run()


async def _meet(
    server: ServerURL,
    *,
    role: Role,
    nameplate: str | None,
    make_code: Callable[[str], str],
    app_versions: Mapping[str, Any],
    on_code: Callable[[str], None] | None,
    wait: float | None,
    ssl_context: ssl.SSLContext | None,
) -> Meeting:
    if len(msgspec.json.encode(app_versions)) > MAX_MESSAGE_BYTES:
        raise ValueError(f"app_versions are over the limit of {MAX_MESSAGE_BYTES} bytes")
    plan = Plan(
        server=str(server),
        app_id=APP_ID,
        side=os.urandom(8).hex(),
        role=role,
        nameplate=nameplate,
        make_code=make_code,
        app_versions=app_versions,
        wait=wait,
    )
    meeting = Meeting(server, plan, ssl_context=ssl_context)
    try:
        await meeting._until(lambda: meeting._code is not None)
        if on_code is not None:
            on_code(meeting.code)
        await meeting._until(lambda: meeting._key is not None)
    except BaseException:
        await meeting.close("lonely" if meeting._key is None else "errory")
        raise
    return meeting


class Meeting:
    """A meeting that has come about; made by :func:`meet_as_sender` and :func:`meet_as_receiver`.

    It survives lost connections to the server for a minute. As an async context manager it closes itself: ``happy``,
    or ``errory`` when an exception passes.
    """

    def __init__(self, server: ServerURL, plan: Plan, *, ssl_context: ssl.SSLContext | None) -> None:
        self._server = server
        self._role = plan.role
        self._code: str | None = None
        self._key: bytes | None = None
        self._peer_versions: dict[str, Any] = {}
        self._inbox: deque[bytes] = deque()
        self._sent = 0
        self._failure: BaseException | None = None
        self._changed = asyncio.Event()
        self._closing = False
        self._mailbox = Mailbox(
            server, Machine(plan, entropy=os.urandom), on_command=self._on_command, ssl_context=ssl_context
        )
        self._task = asyncio.create_task(self._mailbox.run(), name="midair-meeting")
        self._task.add_done_callback(self._on_task_done)

    @property
    def code(self) -> str:
        """The code in its one form. A secret until both have met, and of no use to anybody after."""
        assert self._code is not None
        return self._code

    @property
    def key(self) -> bytes:
        """The session key: 32 bytes, confirmed, known to the two sides only. Derive from it; do not use it itself."""
        assert self._key is not None
        return self._key

    @property
    def peer_versions(self) -> dict[str, Any]:
        """The other side's ``app_versions``, with its ``role``; JSON values, unchecked."""
        return self._peer_versions

    def derive(self, purpose: str, length: int = 32) -> bytes:
        """A key of ``length`` bytes for ``purpose``, the same on both sides (HKDF-SHA256, RFC 5869)."""
        return derive_key(self.key, purpose, length)

    async def send(self, message: bytes) -> None:
        """Hands ``message``, at most :data:`MAX_MESSAGE_BYTES`, to the mailbox; it goes out when there is a connection.

        At most 256 messages can be sent in one meeting. Cancelling has no effect, for it does not wait.

        Raises: ValueError: too long, or too many. What ended the meeting; PeerLostError after ``close``.
        """
        if len(message) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {len(message)} bytes is over the limit of {MAX_MESSAGE_BYTES}")
        if self._sent == MAX_MESSAGES:
            raise ValueError(f"more than {MAX_MESSAGES} messages in one meeting")
        self._raise_if_over()
        self._sent += 1
        self._mailbox.post(steps.SendRequested(message=message))

    async def receive(self) -> bytes:
        """The next message of the other side, in the order they were sent. Cancelling loses none.

        That the other side has left is not told by the server; use a deadline.

        Raises: what ended the meeting: ServerUnreachableError, RemoteProtocolError, CrowdedError, QuotaError;
            PeerLostError after ``close``.
        """
        await self._until(lambda: bool(self._inbox))
        return self._inbox.popleft()

    async def close(self, mood: steps.Mood = "happy") -> None:
        """Leaves the mailbox and closes the connection, within two seconds; never fails, and may be called again.

        Cancelling cuts the connection without the goodbye.
        """
        self._closing = True
        self._changed.set()
        self._mailbox.post(steps.CloseRequested(mood=mood))
        try:
            await asyncio.wait({self._task}, timeout=_CLOSE_LIMIT_SECONDS)
        finally:
            if not self._task.done():
                self._task.cancel()
                await asyncio.wait({self._task})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close("happy" if error is None else "errory")

    def __repr__(self) -> str:
        return f"<Meeting as {self._role} at {self._server}>"

    def _on_command(self, command: steps.Command) -> None:
        match command:
            case steps.Announce(code=code):
                self._code = code
            case steps.Met(key=key, peer_versions=versions):
                self._key, self._peer_versions = key, versions
            case steps.Deliver(message=message):
                self._inbox.append(message)
            case steps.Fail(error=error):
                self._failure = error
        self._changed.set()

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        # Reached without a failure only by close or by a mistake of ours, which then is the exception.
        error = None if task.cancelled() else task.exception()
        self._failure = self._failure or error
        self._closing = True
        self._changed.set()

    def _raise_if_over(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closing:
            raise PeerLostError("this meeting is closed")

    async def _until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self._raise_if_over()
            self._changed.clear()
            await self._changed.wait()
