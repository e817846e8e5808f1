"""The driver of a meeting's machine: one WebSocket at a time, one timer, and nothing it decides by itself."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    SecurityError,
    WebSocketException,
)

from midair.config import ServerURL
from midair.errors import MidairError, ProxyError, QuotaError, SecretError, ServerUnreachableError
from midair.proxy import open_tunnel
from midair.rendezvous import steps, wire

__all__ = ["Mailbox"]

logger = logging.getLogger("midair.rendezvous")

OPEN_SECONDS: Final = 10.0
"""For name, TCP, TLS and WebSocket handshakes together."""
FLUSH_SECONDS: Final = 0.25
"""For frames that are still to be written when the WebSocket is given up."""
HANG_UP_SECONDS: Final = 0.5
"""For the closing handshake; then the connection is cut."""
EYEBALLS_SECONDS: Final = 0.25
"""Before the next address of the server is tried beside the last (RFC 8305 section 8)."""

_OUR_COMPLAINTS: Final = frozenset({1002, 1003, 1007, 1009})
"""Close codes that we send when what we got breaks the WebSocket protocol or is too big (RFC 6455 section 7.4.1)."""


class Driven(Protocol):
    """A :class:`midair.rendezvous.machine.Machine`, or what is driven in the same way."""

    @property
    def deadline(self) -> float | None: ...

    def handle(self, event: steps.Event, *, now: float) -> list[steps.Command]: ...


class Mailbox:
    """Runs ``machine`` against ``server``; commands that are not about the connection go to ``on_command``."""

    def __init__(
        self,
        server: ServerURL,
        machine: Driven,
        *,
        on_command: Callable[[steps.Command], None],
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._server = server
        self._machine = machine
        self._on_command = on_command
        self._ssl_context = ssl_context
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._connection: asyncio.Task[steps.Event] | None = None
        self._outgoing: asyncio.Queue[wire.ClientFrame | None] | None = None
        self._wanted = asyncio.Event()
        """Set by ``Connect``, and by the end."""
        self._finished = False
        self._crash: Exception | None = None

    def post(self, event: steps.SendRequested | steps.CloseRequested) -> None:
        """Hands a wish of the user to the machine, at once; without effect when it is over."""
        self._feed(event)

    async def run(self) -> None:
        """Runs until the machine has finished. Cancelling cuts the WebSocket, within a second, and says no goodbye."""
        try:
            self._feed(steps.Started())
            while True:
                await self._wanted.wait()
                if self._finished:
                    break
                self._wanted.clear()
                self._connection = asyncio.create_task(self._connect_once())
                await asyncio.wait({self._connection})
                dropped = self._connection.cancelled()
                self._feed(steps.Disconnected(reason="it no longer answers") if dropped else self._connection.result())
        finally:
            self._finished = True
            if self._timer is not None:
                self._timer.cancel()
            if self._connection is not None and not self._connection.done():
                self._connection.cancel()
                await asyncio.wait({self._connection})
        if self._crash is not None:
            raise self._crash

    def _feed(self, event: steps.Event) -> None:
        if self._finished:
            return
        try:
            for command in self._machine.handle(event, now=self._loop.time()):
                self._carry_out(command)
        # A mistake of ours; whoever waits for the meeting must hear of it and not wait for ever.
        except Exception as error:
            self._crash = error
            self._carry_out(steps.Finish())
        self._arm_timer()

    def _arm_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadline = None if self._finished else self._machine.deadline
        self._timer = None if deadline is None else self._loop.call_at(deadline, self._feed, steps.TimePassed())

    def _carry_out(self, command: steps.Command) -> None:
        match command:
            case steps.Connect():
                self._wanted.set()
            case steps.Transmit(frame=frame):
                # Without a connection nothing is lost: the machine says it again on the next.
                if self._outgoing is not None:
                    self._outgoing.put_nowait(frame)
            case steps.Drop():
                self._cut()
            case steps.Finish():
                self._finished = True
                self._wanted.set()
                self._cut()
            case _:
                self._on_command(command)

    def _cut(self) -> None:
        if self._connection is not None:
            self._connection.cancel()

    async def _connect_once(self) -> steps.Event:
        """One WebSocket from its opening to its end; says how it ended. Cancelling closes it in good order."""
        try:
            websocket = await self._open()
        except ProxyError as error:
            logger.debug("no way to %s: %s", self._server, error)
            return steps.ConnectFailed(error=error)
        except (OSError, WebSocketException, EOFError) as error:
            logger.debug("no WebSocket to %s: %r", self._server, error)
            return steps.ConnectFailed(error=self._explain(error))
        # Never more than the machine's outbox and a few commands.
        outgoing = self._outgoing = asyncio.Queue()
        writer = asyncio.create_task(_write(websocket, outgoing))
        try:
            self._feed(steps.Connected())
            return await self._read(websocket)
        finally:
            self._outgoing = None
            outgoing.put_nowait(None)
            await _hang_up(websocket, writer)

    async def _open(self) -> ClientConnection:
        way, seconds = await self._way()
        tls: dict[str, Any] = {"ssl": self._ssl_context or True} if self._server.secure else {}
        authorization = self._server.authorization
        try:
            return await connect(
                self._server.mailbox_url,
                compression=None,
                # The environment's proxies are looked at elsewhere, once for the meeting and the relay.
                proxy=None,
                user_agent_header=None,
                additional_headers=None if authorization is None else {"Authorization": authorization},
                open_timeout=seconds,
                close_timeout=HANG_UP_SECONDS,
                # The machine's own pings also show that the server's mailbox side is alive.
                ping_interval=None,
                max_size=wire.MAX_FRAME_BYTES,
                **way,
                **tls,
            )
        except ValueError as error:
            # A redirect that is not followed; what the server has answered says it better.
            if isinstance(error.__cause__, InvalidStatus):
                raise error.__cause__ from None
            raise

    async def _way(self) -> tuple[dict[str, Any], float]:
        """How the WebSocket gets to the server, and the seconds that are left for it. Raises: ProxyError."""
        host, port, proxy = self._server.host, self._server.port, self._server.proxy
        if proxy is None:
            # Naming host and port also keeps redirects from leading elsewhere.
            return {"host": host, "port": port, "happy_eyeballs_delay": EYEBALLS_SECONDS}, OPEN_SECONDS
        deadline = self._loop.time() + OPEN_SECONDS
        sock = await open_tunnel(proxy, host, port, timeout=OPEN_SECONDS)
        return {"sock": sock}, max(0.0, deadline - self._loop.time())

    async def _read(self, websocket: ClientConnection) -> steps.Event:
        while True:
            try:
                frame = wire.decode_server_frame(await websocket.recv())
            except wire.WireError as error:
                self._feed(steps.Violated(reason=str(error)))
                continue
            except ConnectionClosed as closed:
                logger.debug("the WebSocket to %s closed: %s", self._server, closed)
                if closed.sent is not None and not closed.rcvd_then_sent and closed.sent.code in _OUR_COMPLAINTS:
                    return steps.Disconnected(reason="a frame is broken or too large", violated=True)
                return steps.Disconnected(reason="it closed the connection")
            self._feed(steps.Received(frame=frame))

    def _explain(self, error: Exception) -> MidairError:
        if isinstance(error, InvalidStatus) and error.response.status_code == 429:
            return QuotaError(f"the server at {self._server} has had too many connections from here")
        if isinstance(error, InvalidStatus) and error.response.status_code == 401:
            told = "does not take the secret it was told" if self._server.secret else "is private: it wants a secret"
            return SecretError(f"the server at {self._server} {told}")
        way = "" if self._server.proxy is None else f" through the proxy at {self._server.proxy}"
        explained = ServerUnreachableError(f"the server at {self._server} cannot be reached{way}: {_in_words(error)}")
        explained.__cause__ = error
        return explained


async def _write(websocket: ClientConnection, outgoing: asyncio.Queue[wire.ClientFrame | None]) -> None:
    """Writes what is queued, until None; the reader is the one who reports a lost connection."""
    try:
        while (frame := await outgoing.get()) is not None:
            await websocket.send(wire.encode(frame))
    except ConnectionClosed:
        pass


async def _hang_up(websocket: ClientConnection, writer: asyncio.Task[None]) -> None:
    try:
        await asyncio.wait({writer}, timeout=FLUSH_SECONDS)
        if not writer.done():
            # The server does not read, so it will not answer a closing handshake either.
            writer.cancel()
            await asyncio.wait({writer})
        else:
            await websocket.close()
    finally:
        websocket.transport.abort()
        await websocket.wait_closed()


def _in_words(error: Exception) -> str:
    match error:
        case TimeoutError():
            return f"no answer within {OPEN_SECONDS:g} s"
        case ConnectionRefusedError():
            return "nothing listens there (connection refused)"
        case socket.gaierror():
            return f"its name cannot be resolved ({error.strerror})"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({error.verify_message})"
        case ssl.SSLError():
            return f"no TLS with it ({error.reason or 'handshake failed'})"
        case InvalidStatus():
            return f"it answers HTTP {error.response.status_code} where a mailbox should be"
        case InvalidMessage() | EOFError():
            return "what answers there speaks no HTTP"
        case SecurityError() | InvalidHandshake():
            return "it opens no WebSocket"
        case OSError() if error.strerror:
            return error.strerror
        case _:
            return str(error)[:200] or type(error).__name__
