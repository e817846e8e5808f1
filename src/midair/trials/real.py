"""Pairs of midair's agents in the hosts of a lab, with real sockets, a real server and everything that midair does.

Each side runs in a thread inside its host's network namespace, with an event loop of its own; so does the server. Only
the mailbox is left out: messages go from loop to loop, as late as the lab's links would make them.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from midair import events
from midair.config import ServerURL, TraversalOptions
from midair.errors import MidairError
from midair.port import listen_tcp
from midair.server import Server
from midair.traversal import connect_peers
from midair.traversal.sync import Description, decode
from midair.trials.result import PairResult, SideResult

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from midair.lab import Host, Lab, Pair
    from midair.traversal import PathResult

__all__ = ["connect_all", "serving"]

SERVER_PORT: Final = 443
_SECONDS: Final = 60.0
"""What one side may take in all."""
_PROOF_SECONDS: Final = 10.0
_PROOF: Final = 16
"""The first type of a record that is an application's."""


@contextlib.contextmanager
def serving(lab: Lab) -> Iterator[ServerURL]:
    """A midair server in the lab's server host, for the block. Raises: PortUnavailableError."""
    stop: Future[Callable[[], object]] = Future()

    async def serve() -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with Server([listen_tcp(address, SERVER_PORT) for address in lab.server.addresses[:1]]):
            stop.set_result(lambda: loop.call_soon_threadsafe(ended.set))
            await ended.wait()

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="midair-server") as pool:
        running = pool.submit(_run_inside, lab.server, serve)
        running.add_done_callback(lambda ended: _pass_on(ended, stop))
        end = stop.result()
        try:
            yield ServerURL(secure=False, host=lab.server.address, port=SERVER_PORT)
        finally:
            end()
        running.result()


def connect_all(
    lab: Lab,
    server: ServerURL,
    pairs: Sequence[Pair],
    *,
    options: TraversalOptions | None = None,
    mail_delay: float = 0.05,
    weights: Sequence[int] | None = None,
    room: int | None = None,
) -> list[PairResult]:
    """Lets every pair connect; ``a`` controls. ``mail_delay`` is in seconds one way, peer to peer.

    All of them at once, or those that there is ``room`` for, by their ``weights``, which are 1 if nothing else is said.
    A path counts only when bytes have gone both ways on it. Every pair is over within a minute of its turn.
    """
    del lab  # the pairs are its hosts; it must stay up
    weights = weights or [1] * len(pairs)
    room = room or sum(weights)
    gate = _Gate(room)
    running = []
    with ThreadPoolExecutor(max_workers=2 * min(room, len(pairs)), thread_name_prefix="midair") as pool:
        for pair, weight in zip(pairs, weights, strict=True):
            leave = gate.enter(min(weight, room), of=2)
            each = _Try(server, options or TraversalOptions(), mail_delay)
            a, b = pool.submit(_run_inside, pair.a, each.a), pool.submit(_run_inside, pair.b, each.b)
            a.add_done_callback(leave)
            b.add_done_callback(leave)
            running.append((a, b))
        return [PairResult(a=a.result(), b=b.result()) for a, b in running]


class _Gate:
    """Lets in as much as there is room for."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._changed = threading.Condition()

    def enter(self, weight: int, *, of: int) -> Callable[[object], None]:
        """Waits for room; gives what is to be called when each of so many parts is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._room >= weight)
            self._room -= weight
        left = of

        def leave(_: object) -> None:
            nonlocal left
            with self._changed:
                left -= 1
                if not left:
                    self._room += weight
                    self._changed.notify_all()

        return leave


def _run_inside(host: Host, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    with host.entered():
        return asyncio.run(work())


def _pass_on(ended: Future[Any], awaited: Future[Any]) -> None:
    """Nobody is to wait for what an error has prevented."""
    if (error := ended.exception()) is not None and not awaited.done():
        awaited.set_exception(error)


@dataclass
class _Mailbox:
    """One end of an exchange between two loops."""

    delay: float
    loop: asyncio.AbstractEventLoop = field(init=False)
    inbox: asyncio.Queue[bytes] = field(init=False)
    peer: _Mailbox = field(init=False)
    open: Future[None] = field(default_factory=Future)
    described: float | None = None
    """When the peer's description came, on ``time.monotonic``'s clock."""

    def begin(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.inbox = asyncio.Queue()
        self.open.set_result(None)

    async def send(self, message: bytes) -> None:
        peer = self.peer
        await asyncio.wrap_future(peer.open)
        with contextlib.suppress(RuntimeError):  # the peer's loop has ended, and the peer with it
            peer.loop.call_soon_threadsafe(lambda: peer.loop.call_later(self.delay, peer.inbox.put_nowait, message))

    async def receive(self) -> bytes:
        message = await self.inbox.get()
        if isinstance(decode(message), Description):
            self.described = time.monotonic()
        return message


class _Try:
    """One pair's."""

    def __init__(self, server: ServerURL, options: TraversalOptions, mail_delay: float) -> None:
        self._server = server
        self._options = options
        self._key = secrets.token_bytes(32)
        self._mailboxes = _Mailbox(mail_delay), _Mailbox(mail_delay)
        self._mailboxes[0].peer, self._mailboxes[1].peer = self._mailboxes[1], self._mailboxes[0]

    async def a(self) -> SideResult:
        return await self._side(self._mailboxes[0], controlling=True)

    async def b(self) -> SideResult:
        return await self._side(self._mailboxes[1], controlling=False)

    async def _side(self, mailbox: _Mailbox, *, controlling: bool) -> SideResult:
        mailbox.begin()
        await asyncio.wrap_future(mailbox.peer.open)
        began = time.monotonic()
        story: list[str] = []

        def listen(event: events.Event) -> None:
            story.append(f"{time.monotonic() - began:.3f} {msgspec.json.encode(event).decode()}")

        result: PathResult | None = None
        try:
            async with asyncio.timeout(_SECONDS):
                result = await connect_peers(
                    mailbox,
                    session_key=self._key,
                    controlling=controlling,
                    server=self._server,
                    options=self._options,
                    on_event=listen,
                )
                chosen = time.monotonic()
                await _prove(result, controlling=controlling)
        except (MidairError, TimeoutError) as error:
            reason = str(error) or "it took longer than a minute"
            return _no_path(reason, time.monotonic() - began, story)
        finally:
            if result is not None:
                await result.close_leftovers()
                result.channel.abort()
        described = chosen - (mailbox.described or began)
        choosing = result.seconds - result.authenticated_seconds
        return SideResult(
            path=result.path,
            how=result.how,
            seconds=result.seconds,
            ready_seconds=chosen - began,
            described_seconds=described,
            authenticated_seconds=result.authenticated_seconds,
            described_authenticated_seconds=described - choosing,
            dials=result.attempts,
            reason=result.reason or "",
            story=tuple(story),
        )


async def _prove(result: PathResult, *, controlling: bool) -> None:
    """Bytes both ways, and the last ones are known to have arrived. Raises: MidairError, TimeoutError."""
    channel = result.channel
    async with asyncio.timeout(_PROOF_SECONDS):
        if controlling:
            await channel.send_async(_PROOF, b"to")
            await channel.receive_async()
            await channel.send_async(_PROOF, b"done")
        else:
            await channel.receive_async()
            await channel.send_async(_PROOF, b"fro")
            await channel.receive_async()


def _no_path(reason: str, seconds: float, story: list[str]) -> SideResult:
    return SideResult(
        path="none", how="", seconds=seconds, ready_seconds=seconds, dials=0, reason=reason, story=tuple(story)
    )
