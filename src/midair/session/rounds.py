"""What both ends of a session share: rounds of meet, connect, transfer.

A round ends in success, in a failure that is final (a refusal, a full disk, a wrong code), or in a broken connection.
After a broken connection both sides meet again under the same code, for a bounded time, and the next round goes on
where the journal stands. A guess in such a meeting costs the code just as in the first one, so however often an honest
pair loses one another, a stranger has one guess in all.

The transfer itself runs in a thread of its own with blocking calls; asyncio only waits for it.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import importlib
import logging
import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar

from midair import events
from midair.config import ServerURL, TraversalOptions
from midair.errors import (
    ConnectionLostError,
    IncompatibleError,
    MidairError,
    NoPathError,
    PeerLostError,
    ServerUnreachableError,
    UnknownCodeError,
)
from midair.rendezvous import Meeting
from midair.session.shortfall import shortfall
from midair.transfer import Outcome

if TYPE_CHECKING:
    from midair.channel import Channel, Conversation
    from midair.session.leaving import Leaving
    from midair.traversal import PathResult

__all__ = ["Party", "Session", "Summary"]

_log = logging.getLogger("midair.session")

_VERSIONS_KEY = "midair"
_PROTOCOL_VERSION = 1
_CANCEL_SECONDS = 3.0
"""How long a cancelled transfer thread may take to tell the other side and end."""
_RETRY_SECONDS = 1.0
_MAX_FRUITLESS_ROUNDS = 5
"""Connections in a row that may break before a byte of content has crossed."""


@dataclass(slots=True)
class Summary:
    """What a session has done so far, in bytes of content; becomes the ``done`` event."""

    path: str | None = None
    committed: bool = False
    """All of it stands under its final name at the receiver."""
    bytes_committed: int = 0
    bytes_crossed: int = 0
    bytes_saved: int = 0
    bytes_hashed: int = 0
    carried: Counter[str] = field(default_factory=Counter)
    """Bytes both sides have said to each other, by the kind of path."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """How many files had which outcome, once committed."""

    def done(self, *, seconds: float, error: MidairError | None = None) -> events.Done:
        """The last event of a session that took ``seconds`` and ended with ``error``, or well."""
        return events.Done(
            ok=error is None,
            path=self.path,
            bytes=self.bytes_committed,
            bytes_sent=self.bytes_crossed,
            bytes_saved=self.bytes_saved,
            bytes_hashed=self.bytes_hashed,
            seconds=round(seconds, 6),
            exit_code=0 if error is None else error.exit_code,
            error=None if error is None else error.message,
            reason=None if error is None else error.reason,
            outcomes=self.outcomes,
            carried=dict(self.carried),
        )


class Party(Protocol):
    """A transfer's Sender or Receiver: blocking ``run`` in one thread; ``cancel`` from any other, at once."""

    @property
    def outcome(self) -> Outcome: ...

    def run(self) -> Outcome: ...

    def cancel(self) -> None: ...


P = TypeVar("P", bound=Party)


class Session(abc.ABC, Generic[P]):
    """One end of a transfer. ``run`` once; ``summary`` may be read at any time."""

    role: ClassVar[str]
    """``send`` or ``receive``."""

    def __init__(
        self, server: ServerURL, *, on_event: events.Listener, traversal: TraversalOptions, rejoin: float
    ) -> None:
        self.server = server
        self.summary = Summary()
        self._listener = on_event
        self._traversal = traversal
        self._rejoin = rejoin
        self._alone = rejoin
        """Seconds of that in which the server answers, and nobody comes."""
        self._outcome: Outcome | None = None
        self._telling: set[asyncio.Task[None]] = set()
        """What is still said about rounds that are over."""

    async def run(self) -> Summary:
        """Carries the transfer through. Emits every event but ``done``, which belongs to whoever ends the session.

        Raises: PartialError when some files were not stored, and the others are; MidairError for everything else that
        can be expected. Cancelling tells the other side, bounded in time,
        and leaves nothing open.
        """
        try:
            return await self._rounds()
        finally:
            telling = set(self._telling)
            for task in telling:
                task.cancel()
            self._close()
            if telling:
                await asyncio.wait(telling)

    def _close(self) -> None:
        """Whatever it was, it is over: leave nothing open."""

    async def _rounds(self) -> Summary:
        lost_at: float | None = None
        fruitless = 0
        while True:
            crossed = self.summary.bytes_crossed
            try:
                await self._round(lost_at)
                return self._end()
            except ConnectionLostError as error:
                _log.debug("round ended: %s", error)
                fruitless = 0 if self.summary.bytes_crossed > crossed else fruitless + 1
                if fruitless == _MAX_FRUITLESS_ROUNDS:
                    raise PeerLostError(
                        f"the connection broke {fruitless} times in a row before anything was sent"
                    ) from error
                self._emit(events.ConnectionLost(text=error.message))
                lost_at = time.monotonic()
            except PeerLostError:
                # All is here, and only the sender may not know: it had its time to come back and ask.
                if not (self.summary.committed and self.role == "receive"):
                    raise
                return self._end()

    def _end(self) -> Summary:
        """Everything is settled; raises when not all was stored."""
        error = None if self._outcome is None else shortfall(self._outcome, self.role)
        if error is not None:
            raise error
        return self.summary

    @abc.abstractmethod
    async def _meet(self, *, again_within: float | None) -> Meeting:
        """The first meeting (None), or one to find a lost peer again within so many seconds."""

    @abc.abstractmethod
    def _party(self, channel: Conversation) -> P:
        """The transfer's end over the connection that is agreed on, and what it moves to."""

    def _prepare(self) -> None:
        """Import what comes after the meeting, while the other side is being waited for."""
        asyncio.get_running_loop().run_in_executor(None, _import_the_rest, self.role)

    def _emit(self, event: events.Event) -> None:
        if isinstance(event, events.PathChosen):
            self.summary.path = event.path
        self._listener(event)

    async def _round(self, lost_at: float | None) -> None:
        meeting = await (self._meet(again_within=None) if lost_at is None else self._meet_again(lost_at))
        # Only now: the code is shown before what comes after it is imported.
        from midair.traversal import connect_peers

        goodbye: asyncio.Task[None] | None = None
        result: PathResult | None = None
        try:
            mood: Literal["happy", "lonely", "errory"] = "errory"
            try:
                self._check_versions(meeting)
                self._emit(events.Met(resumed=lost_at is not None))
                result = await connect_peers(
                    meeting,
                    session_key=meeting.key,
                    controlling=self.role == "send",
                    server=self.server,
                    options=self._traversal,
                    on_event=self._emit,
                    moves=True,
                    meets_again=True,
                )
                mood = "happy"
            except PeerLostError as error:
                # Gone between the meeting and the connection: as good a reason to meet again as one in mid-transfer.
                raise ConnectionLostError(error.message) from error
            except (NoPathError, ServerUnreachableError) as error:
                # There was a path before. What is in its way now, such as a server being started anew, may go away.
                if lost_at is None or self._traversal.policy == "direct":
                    raise
                raise ConnectionLostError(error.message) from error
            except asyncio.CancelledError:
                mood = "lonely"
                raise
            finally:
                # The way out of the mailbox takes a round trip, and nobody waits for it.
                goodbye = asyncio.create_task(meeting.close(mood), name="midair-goodbye")
                if mood != "happy":
                    await goodbye
            await self._transfer(result, meeting.key)
        finally:
            try:
                if result is not None:
                    result.channel.abort()  # after a transfer it is closed already
                    await result.close_leftovers()
            finally:
                if goodbye is not None:
                    await goodbye

    async def _meet_again(self, lost_at: float) -> Meeting:
        """Meets the lost peer under the same code; the server may be away for a while too.

        Raises: PeerLostError when the time is over.
        """
        deadline = lost_at + self._rejoin
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._stays_away(self._rejoin)
            within = min(left, self._alone)
            try:
                return await self._meet(again_within=within)
            except UnknownCodeError as error:
                if within < left:
                    raise self._stays_away(within) from error
                _log.debug("not met again yet: %s", error)
            except (ServerUnreachableError, PeerLostError) as error:
                _log.debug("not met again yet: %s", error)
            await asyncio.sleep(min(_RETRY_SECONDS, max(0.0, deadline - time.monotonic())))

    def _stays_away(self, seconds: float) -> PeerLostError:
        return PeerLostError(f"the connection broke, and the other side did not come back in {seconds:.0f} s")

    def _versions(self) -> dict[str, Any]:
        return {_VERSIONS_KEY: {"protocol": _PROTOCOL_VERSION}}

    def _check_versions(self, meeting: Meeting) -> None:
        theirs = meeting.peer_versions.get(_VERSIONS_KEY)
        if not isinstance(theirs, dict) or not isinstance(theirs.get("protocol"), int):
            raise IncompatibleError("the other side knows the code but is not midair")
        if theirs["protocol"] != _PROTOCOL_VERSION:
            newer = "newer" if theirs["protocol"] > _PROTOCOL_VERSION else "older"
            raise IncompatibleError(f"the other side has a {newer} midair", hint="Use the same version on both sides.")

    async def _transfer(self, result: PathResult, key: bytes) -> None:
        from midair.session.leaving import Leaving
        from midair.session.way import Way

        leaving = Leaving(self.server, key, self.role)
        way = Way(result, leading=self.role == "send", on_event=self._emit, tune=self._tune)
        watching: asyncio.Task[None] | None = None
        if self._traversal.policy != "direct":  # then nothing at all goes by the relay
            watching = asyncio.create_task(leaving.watch(way.channel), name="midair-watch")
        well = False
        try:
            async with way.kept_alive():
                await self._until_ready()
            await self._run_in_thread(self._party(way.channel))
            well = True
        except ConnectionLostError as error:
            if leaving.heard:
                raise ConnectionLostError("the other side has left this connection") from error
            if leaving.suspicious:
                self._say_left(leaving)
            raise
        finally:
            if watching is not None:
                watching.cancel()
            await way.close(well=well)
            self.summary.carried += way.carried

    def _say_left(self, leaving: Leaving) -> None:
        """Beside what follows."""
        task = asyncio.create_task(leaving.tell(), name="midair-leaving")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def _tune(self, channel: Channel) -> None:
        """Begins the bulk phase of a connection. Raises: OSError when it is gone."""
        from midair.port import tune_for_bulk

        tune_for_bulk(channel.sock)

    async def _until_ready(self) -> None:
        """Until this side can make its party; the other side already waits."""

    async def _run_in_thread(self, party: P) -> None:
        """Cancelling tells the other side and waits a bounded time for the thread."""
        loop = asyncio.get_running_loop()
        finished: asyncio.Future[None] = loop.create_future()

        def settle(error: BaseException | None) -> None:
            if not finished.done():
                finished.set_result(None) if error is None else finished.set_exception(error)

        def work() -> None:
            error: BaseException | None = None
            try:
                party.run()
            except BaseException as caught:
                error = caught
            with contextlib.suppress(RuntimeError):  # the loop is gone: so is everybody who would want to know
                loop.call_soon_threadsafe(settle, error)

        # A daemon, because a person who types Ctrl-C at a question must not have to answer it first.
        thread = threading.Thread(target=work, name=f"midair-{self.role}-{secrets.token_hex(2)}", daemon=True)
        thread.start()
        try:
            await asyncio.shield(finished)
        except asyncio.CancelledError:
            party.cancel()
            with contextlib.suppress(asyncio.TimeoutError, MidairError):
                async with asyncio.timeout(_CANCEL_SECONDS):
                    await asyncio.shield(finished)
            raise
        finally:
            if finished.done() and not finished.cancelled():
                finished.exception()  # looked at, so that asyncio does not report it as forgotten
            outcome = self._outcome = party.outcome
            self.summary.committed = outcome.committed
            self.summary.bytes_committed = outcome.bytes_committed
            self.summary.outcomes = outcome.files.counts()
            self.summary.bytes_crossed += outcome.bytes_crossed
            self.summary.bytes_saved += outcome.bytes_saved
            self.summary.bytes_hashed += outcome.bytes_hashed


def _import_the_rest(role: str) -> None:
    party = "midair.transfer.sender" if role == "send" else "midair.transfer.receiver"
    for name in ("midair.traversal", "midair.session.way", "midair.session.leaving", party):
        importlib.import_module(name)
