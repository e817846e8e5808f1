"""Drives the agent: sockets and tasks for its commands, events for what becomes of them.

Every connection is a :class:`Leg` with at most one task that waits for something: its dial, then its authentication,
then the peer's word on it. Retiring a leg happens beside the race, and may outlive it (:class:`Leftovers`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import ssl
from collections.abc import Coroutine, Iterable
from typing import Any

from midair import events
from midair.channel import (
    AuthenticationError,
    Channel,
    ChannelClosed,
    RecordType,
    Role,
    SessionKey,
    authenticate,
)
from midair.config import ServerURL
from midair.endpoint import Endpoint, Family
from midair.errors import ConnectionLostError, NoPathError, PeerLostError, QuotaError, RemoteProtocolError
from midair.port import ConnectFailedError, ConnectFailure, LocalPort, PortUnavailableError, Strategy, accept, retire
from midair.relay import RelayError, open_leg
from midair.traversal.agent import Agent
from midair.traversal.leg import Leg, Winner
from midair.traversal.report import AttemptLog
from midair.traversal.result import Leftovers
from midair.traversal.steps import (
    Accepted,
    Acknowledge,
    AcknowledgementSent,
    AgentEvent,
    Authenticate,
    Authenticated,
    Choose,
    Command,
    ConnectionDied,
    Dial,
    Fail,
    Failed,
    Nominate,
    Nominated,
    NominationAcked,
    Opened,
    Rejected,
    RelayFailed,
    RelayReady,
    Retire,
    Started,
    Stopped,
    Tick,
    Use,
    WakeAt,
)

__all__ = ["Race"]

_log = logging.getLogger("midair.traversal")

AUTHENTICATION_SECONDS = 3.0
"""One lost segment on a new connection is repeated after 1 s (RFC 6298 2); then there is time for a slow round trip."""
SETTLE_SECONDS = 1.0
"""How long a loser may go on proving itself: ended in the middle, it would be answered with a RST."""
ACCEPT_PAUSE = 0.1
"""Seconds to wait when accepting fails, which is when descriptors have run out."""
LISTENING = 2
"""Ports that listen: our own and the spare one."""
MAX_PINGS = 64
_BEGUN = b"begun"
"""What a nomination carries when the relay has been used before."""

_RESULTS = {"closed": "ECONNRESET", "broken": "ECONNRESET", "timeout": "ETIMEDOUT"}
"""What an authentication that failed is called in an event; the others were strangers."""


class Race:
    """One side's connections. ``open_relay`` at any time, then ``run``, and ``go_on`` when its winner is not final;
    ``abandon`` whenever that did not end well."""

    def __init__(self, key: SessionKey, role: Role, on_event: events.Listener) -> None:
        self.leftovers = Leftovers()
        self._key = key
        self._role = role
        self._on_event = on_event
        self._happened: asyncio.Queue[AgentEvent | BaseException] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self.cut = asyncio.Event()
        """What is in the clear, and no HTTP, does not get to the server; set when that shows."""
        self._relay: asyncio.Task[None] | None = None
        self._legs: dict[str, Leg] = {}
        self._used: Leg | None = None
        self._unclaimed: Leg | None = None
        """Agreed on, and not yet the caller's."""
        self._agent: Agent | None = None
        self._relay_told = False
        """The agent knows of the relay."""
        self._started = self._wake = 0.0
        self._accepted = 0
        self._attempts = AttemptLog()

    def open_relay(
        self, server: ServerURL, token: bytes, side: bytes, *, seconds: float, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        """Begin to open a leg to the relay, and wait there for the peer as long as that."""
        self._relay = self._spawn(self._open_relay(server, token, side, seconds, ssl_context))

    def drop_relay(self) -> None:
        """The relay is not wanted after all."""
        if self._relay is not None:
            self._relay.cancel()

    async def run(self, agent: Agent, *, direct: bool) -> Winner:
        """Start now; race over the ports of ``leftovers`` (not ``direct``: only the relay) until one connection is
        agreed on, or the relay is used while the race goes on.

        Cancelling leaves everything as it is: call ``abandon``. Raises: NoPathError; PeerLostError when the relay was
        ready and broke.
        """
        self._agent = agent
        self._started = self._wake = asyncio.get_running_loop().time()
        if direct:
            for port in self.leftovers.ports[:LISTENING]:
                for family in sorted(port.families):
                    self._spawn(self._accept(port, family))
        return await self._until_agreed(Started())

    async def go_on(self) -> Winner:
        """After a winner that is not final: the final one, which may be the same. Cancelling as for ``run``."""
        self._unclaimed = None
        return await self._until_agreed(await self._next(self._wake))

    def stop(self) -> None:
        """Nothing better is needed any more: ``go_on`` ends at once."""
        self._happened.put_nowait(Stopped())

    async def abandon(self) -> None:
        """Close everything, the channels too, without patience, but what ``run`` gave before ``go_on``. Idempotent."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks)
        finally:
            for leg in self._legs.values():
                self.leftovers.sockets.update(leg.sockets)
            if self._unclaimed is not None:
                self.leftovers.sockets.update(self._unclaimed.sockets)
            await self.leftovers.close_now()

    # -- the loop --

    async def _until_agreed(self, event: AgentEvent) -> Winner:
        assert self._agent is not None
        loop = asyncio.get_running_loop()
        while True:
            event = self._unless_the_relay_broke(event)
            used: Leg | None = None
            for command in self._agent.handle(event, loop.time()):
                match command:
                    case Use(id=key):
                        used = self._used = self._unclaimed = self._legs.pop(key)
                    case Choose(id=key, reason=reason):
                        self._unclaimed = self._legs.pop(key, None)
                        chosen = self._unclaimed or self._used
                        assert chosen is not None
                        await self._finish(unanswered=chosen.how == "relay")
                        return self._winner(chosen, reason, final=True)
                    case Fail(reason=reason, broken=broken):
                        self._report_unanswered()
                        raise PeerLostError("the relay broke before it was used") if broken else NoPathError(reason)
                    case WakeAt(at=at):
                        self._wake = at
                    case _:
                        self._carry_out(command)
            if used is not None:
                if self._role is Role.A:
                    await self._say_that_it_begins(used)
                return self._winner(used, None, final=False)
            event = await self._next(self._wake)

    def _unless_the_relay_broke(self, event: AgentEvent) -> AgentEvent:
        """Until it is used or asked nobody of the controlling side reads there (see ``_prove``), nor would notice. So
        that is looked for before anything else is done; ``event`` is next then."""
        leg = self._legs.get("relay")
        self._relay_told |= isinstance(event, RelayReady)
        if self._role is Role.B or not self._relay_told or leg is None or leg.channel is None or not leg.has_ended:
            return event
        del self._legs["relay"]
        leg.channel.abort()
        if isinstance(event, RelayReady):
            return RelayFailed("the connection through the relay broke", broke=True)
        self._happened.put_nowait(event)
        return ConnectionDied("relay")

    def _winner(self, leg: Leg, reason: str | None, *, final: bool) -> Winner:
        now = asyncio.get_running_loop().time()
        return Winner.of(leg, reason, self._started, now, final=final, later=final and self._used is not None)

    async def _next(self, wake: float) -> AgentEvent:
        try:
            async with asyncio.timeout_at(wake):
                event = await self._happened.get()
        except TimeoutError:
            return Tick()
        if isinstance(event, BaseException):
            raise event
        return event

    def _carry_out(self, command: Command) -> None:
        match command:
            case Dial(id=key, remote=remote, local=local):
                leg = self._legs[key] = Leg(id=key, how="dial", remote=remote)
                leg.task = self._spawn(self._dial(leg, remote, local))
            case Authenticate(id=key):
                leg = self._legs[key]
                leg.proving = True
                leg.task = self._spawn(self._prove(leg))
            case Nominate(id=key, begun=begun):
                self._send_on(self._legs[key], _BEGUN if begun else b"")
            case Acknowledge(id=key):
                self._send_on(self._legs[key], b"")
            case Retire(id=key):
                if key in self._legs:
                    self._retire(self._legs.pop(key))
            case Use() | Choose() | Fail() | WakeAt():
                raise AssertionError("_until_agreed() takes these itself")

    def _send_on(self, leg: Leg, payload: bytes) -> None:
        task = self._spawn(self._send_nomination(leg, payload))
        if leg.task is None or leg.task.done():
            leg.task = task

    async def _finish(self, *, unanswered: bool) -> None:
        """One is chosen: the others are retired, and nobody is accepted any more."""
        if unanswered:
            self._report_unanswered()
        self._tell(self._attempts.flush())
        legs, self._legs = self._legs, {}
        rest = self._tasks - {leg.task for leg in legs.values()} - {task for task in self._tasks if task.done()}
        for leg in legs.values():
            self._retire(leg)
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._happened.put_nowait(error)  # a mistake of ours; run() raises it

    # -- one leg --

    async def _dial(self, leg: Leg, remote: Endpoint, local: int) -> None:
        try:
            leg.sock = await self._local_port(local, remote).connect(remote)
        except PortUnavailableError:
            self._legs.pop(leg.id, None)
            self._happened.put_nowait(Failed(leg.id, ConnectFailure.RESOURCES, "ENFILE"))
            return
        except ConnectFailedError as error:
            self._legs.pop(leg.id, None)
            self._note(leg, error.errno_name)
            self._happened.put_nowait(Failed(leg.id, error.failure, error.errno_name))
            return
        self._happened.put_nowait(Opened(leg.id))

    def _local_port(self, local: int, remote: Endpoint) -> LocalPort:
        """One of the fan that is not there yet is opened. Raises: PortUnavailableError."""
        ports = self.leftovers.ports
        while local >= len(ports):
            ports.append(LocalPort.open(families=(remote.family,)))
        return ports[local]

    async def _accept(self, port: LocalPort, family: Family) -> None:
        if port.strategy is Strategy.EXCLUSIVE:
            return  # the port is one socket; it is worth more as a dial
        try:
            listener = port.listen(family)
        except PortUnavailableError as error:
            _log.debug("cannot listen on IPv%d: %s", family, error)
            return
        while True:
            try:
                sock, remote = await accept(listener)
            except OSError as error:
                _log.debug("cannot accept: %s", error)
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            self._accepted += 1
            key = f"accept-{self._accepted}"
            self._legs[key] = Leg(id=key, how="accept", remote=remote, sock=sock)
            self._happened.put_nowait(Accepted(key, remote))

    async def _open_relay(
        self, server: ServerURL, token: bytes, side: bytes, seconds: float, ssl_context: ssl.SSLContext | None
    ) -> None:
        try:
            sock = await open_leg(server, token, side, timeout=seconds, ssl_context=ssl_context, on_cut=self.cut.set)
        except (RelayError, QuotaError) as error:
            self._happened.put_nowait(RelayFailed(str(error)))
            return
        leg = self._legs["relay"] = Leg(id="relay", how="relay", remote=None, sock=sock, proving=True)
        leg.task = asyncio.current_task()
        await self._prove(leg)

    async def _prove(self, leg: Leg) -> None:
        assert leg.sock is not None
        try:
            leg.channel = await authenticate(
                leg.sock, self._key, self._role, secrets.token_bytes(32), timeout=AUTHENTICATION_SECONDS
            )
        except AuthenticationError as error:
            self._legs.pop(leg.id, None)
            self._note(leg, _RESULTS.get(error.suspicion, "stranger"))
            if leg.how == "relay":
                self._happened.put_nowait(RelayFailed(f"nobody proved the key there ({error})"))
            else:
                self._happened.put_nowait(Rejected(leg.id, error.suspicion))
            return
        finally:
            leg.settled.set()
        leg.authenticated_at = asyncio.get_running_loop().time()
        self._note(leg, "ok")
        self._happened.put_nowait(RelayReady(leg.id) if leg.how == "relay" else Authenticated(leg.id))
        # An answer from the relay is awaited when it is asked for: what begins there unasked must find nobody reading.
        if not (leg.how == "relay" and self._role is Role.A):
            await self._await_nomination(leg, leg.channel)

    async def _await_nomination(self, leg: Leg, channel: Channel) -> None:
        try:
            for _ in range(MAX_PINGS):
                record = await channel.receive_async()
                if record.type == RecordType.NOMINATE:
                    if self._role is Role.A:
                        self._happened.put_nowait(NominationAcked(leg.id))
                    else:
                        self._happened.put_nowait(Nominated(leg.id, record.payload == _BEGUN))
                    return
                if record.type != RecordType.PING:
                    break
        except (ConnectionLostError, RemoteProtocolError, ChannelClosed) as error:
            _log.debug("%s ended: %s", leg.id, error)
        self._died(leg, channel)

    async def _send_nomination(self, leg: Leg, payload: bytes) -> None:
        """The nomination, or the answer to it: the same record, in the other direction."""
        assert leg.channel is not None
        try:
            await leg.channel.send_async(RecordType.NOMINATE, payload)
        except ConnectionLostError:
            self._died(leg, leg.channel)
            return
        if self._role is Role.B:
            self._happened.put_nowait(AcknowledgementSent(leg.id))
        elif leg.how == "relay":
            await self._await_nomination(leg, leg.channel)

    async def _say_that_it_begins(self, leg: Leg) -> None:
        assert leg.channel is not None
        with contextlib.suppress(ConnectionLostError):  # what begins there will meet it, too
            await leg.channel.send_async(RecordType.NOMINATE, b"")

    def _died(self, leg: Leg, channel: Channel) -> None:
        if self._legs.pop(leg.id, None) is not None:
            channel.abort()
            self._happened.put_nowait(ConnectionDied(leg.id))

    def _retire(self, leg: Leg) -> None:
        if leg.retiring:
            return
        leg.retiring = True
        task = asyncio.get_running_loop().create_task(self._retire_in_peace(leg))
        self.leftovers.retiring.add(task)
        self.leftovers.sockets.update(leg.sockets)
        task.add_done_callback(self.leftovers.retiring.discard)

    async def _retire_in_peace(self, leg: Leg) -> None:
        if leg.task is not None:
            if leg.proving:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SETTLE_SECONDS):
                        await leg.settled.wait()
            leg.task.cancel()
            await asyncio.wait({leg.task})
        for sock in leg.sockets:
            await retire(sock)
            self.leftovers.sockets.discard(sock)

    # -- the story --

    def _note(self, leg: Leg, result: str) -> None:
        if leg.how != "relay" and not leg.retiring:
            self._tell(self._attempts.note(leg.how, str(leg.remote), result))

    def _report_unanswered(self) -> None:
        for leg in self._legs.values():
            if leg.how == "dial" and leg.sock is None:
                self._note(leg, "ETIMEDOUT")
        self._tell(self._attempts.flush())

    def _tell(self, told: Iterable[events.Event]) -> None:
        for event in told:
            self._on_event(event)
