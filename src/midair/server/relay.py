"""The relay: legs wait for their partner here, and are joined when it comes.

The task of the second leg drives the pair; the task of the first waits for the outcome. Each closes its own socket,
after the pump has let go of it.

Where there are several nodes, a leg that finds no partner here waits, and at the same time asks the directory; when
that knows the partner at another node, the leg is forwarded: this node dials that one, which takes the connection for
the second leg, and joins the two here. What the directory says may be out of date; then the leg asks again, and is the
first. It also asks again when the directory comes back after having been away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace

from midair.config import ServerLimits
from midair.endpoint import Endpoint
from midair.port import retire, tune_for_bulk
from midair.relay.proof import pair_of
from midair.relay.wire import (
    OK,
    PREAMBLE_BYTES,
    WAIT,
    Preamble,
    Refusal,
    RelayWireError,
    encode_refusal,
    parse_preamble,
)
from midair.server.admission import owner_of
from midair.server.budget import Budget
from midair.server.buffers import Buffer, Buffers
from midair.server.directory import Directory, Elsewhere, reach
from midair.server.metrics import USED_BYTES, Metrics
from midair.server.node_wire import NODE_PREAMBLE_BYTES, parse_node_preamble
from midair.server.pump import End, Pump
from midair.server.secrets import Secrets
from midair.server.store import StoreUnavailable

__all__ = ["Relay"]

log = logging.getLogger("midair.server.relay")

_PARTNER_LATE = Refusal(word="timeout", text="the partner did not come")
_REPLACED = Refusal(word="replaced", text="a newer leg of the same side waits now")
_EARLY = Refusal(word="protocol", text="nothing may be sent before OK")
_MALFORMED = Refusal(word="protocol", text="this is not a relay preamble of version 1")
_STOPPING = Refusal(word="stopping", text="the server is being stopped")
_TOO_MANY_LEGS = Refusal(word="quota", text="the server has no room for another leg")
_TOO_MANY_WAITING = Refusal(word="quota", text="too many legs wait from your address")
_SPENT = Refusal(word="quota", text="your address has used up what may be relayed in a day; midnight is UTC")
_PRIVATE = Refusal(word="secret", text="this server is private, and the leg does not prove that it knows its secret")
_GONE = Refusal(word="gone", text="this leg no longer waits here")

FORWARD_TRIES = 3
"""How often a leg is sent to another node before it only waits here."""


class Relay:
    """All legs of one server."""

    def __init__(
        self,
        limits: ServerLimits,
        metrics: Metrics,
        *,
        new_buffer: Callable[[int], Buffer] | None = None,
        directory: Directory | None = None,
        budget: Budget | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        self._limits = limits
        self._metrics = metrics
        self._buffers = Buffers(new_buffer)
        self._directory = directory
        self._budget = budget or Budget(limits)
        self._secrets = secrets or Secrets()
        self._waiting: dict[bytes, _WaitingLeg] = {}
        self._waiting_owners: Counter[str] = Counter()
        self._legs = 0
        self._stopping = False

    async def serve(self, sock: socket.socket, source: Endpoint, deadline: float, *, inside: bool = False) -> None:
        """One leg, from its preamble to its end. ``deadline`` is the loop's time by which the preamble must be there.
        ``inside``: it stands for one in a WebSocket.

        The socket is closed in the end. Cancelling cuts the pair.
        """
        with sock:
            if (preamble := await self._hear(sock, deadline, PREAMBLE_BYTES, parse_preamble)) is not None:
                if not self._secrets.admits_leg(preamble.token):
                    await self._refuse(sock, _PRIVATE, "relay-secret")
                    return
                preamble = replace(preamble, token=pair_of(preamble.token))
                owner = owner_of(source)
                if self._budget.left((owner,)) == 0:
                    await self._refuse(sock, _SPENT, "relay-day")
                    return
                await self._serve_counted(sock, self._serve_leg(sock, preamble, owner, inside=inside))

    async def serve_node(self, sock: socket.socket, deadline: float) -> None:
        """The same for a leg that another node forwards: its partner waits here, or has gone."""
        with sock:
            preamble = await self._hear(sock, deadline, NODE_PREAMBLE_BYTES, self._parse_node)
            if preamble is not None:
                preamble = replace(preamble, token=pair_of(preamble.token))
                await self._serve_counted(sock, self._serve_forwarded(sock, preamble))

    def ask_again(self) -> None:
        """The directory is back: it may know what it has not known, and may have forgotten what it was told."""
        for leg in self._waiting.values():
            leg.ask_again()

    async def _hear(
        self, sock: socket.socket, deadline: float, count: int, parse: Callable[[bytes], Preamble]
    ) -> Preamble | None:
        try:
            async with asyncio.timeout_at(deadline):
                return parse(await _read_exactly(sock, count))
        except RelayWireError:
            await self._refuse(sock, _MALFORMED, "relay-preamble")
        except TimeoutError:
            self._metrics.refused("silent")
        except OSError:
            pass
        return None

    def _parse_node(self, line: bytes) -> Preamble:
        if self._directory is None or self._directory.key is None:
            raise RelayWireError("this server has no other nodes")
        return parse_node_preamble(line, key=self._directory.key, node=self._directory.node)

    async def _serve_counted(self, sock: socket.socket, serving: Coroutine[None, None, None]) -> None:
        with contextlib.closing(serving):
            if self._stopping:
                await self._refuse(sock, _STOPPING, "relay-stopping")
                return
            if self._legs >= self._limits.relay_legs:
                await self._refuse(sock, _TOO_MANY_LEGS, "relay-legs")
                return
            self._legs += 1
            try:
                await serving
            finally:
                self._legs -= 1

    def send_away(self) -> None:
        """Ends the wait of all legs that have no partner yet, and takes no new ones. Pairs go on."""
        self._stopping = True
        for waiting in list(self._waiting.values()):
            waiting.settle(_STOPPING)

    async def _serve_leg(self, sock: socket.socket, preamble: Preamble, owner: str, *, inside: bool) -> None:
        until = asyncio.get_running_loop().time() + self._limits.relay_wait_seconds
        for tries_left in reversed(range(FORWARD_TRIES + 1)):
            partner = self._waiting.get(preamble.token)
            if partner is not None:
                if partner.side == preamble.side and preamble.asks and partner.inside:
                    # Dialled before the one that waits, and late: its client has taken the other way since.
                    await self._refuse(sock, _REPLACED, "relay-replaced")
                    return
                self._leave(preamble.token, partner)
                if partner.side == preamble.side:
                    partner.settle(_REPLACED)
                elif not partner.outcome.done():  # else it is late, or gone, and its task has not run yet
                    await self._join(partner, sock, owner)
                    return
            if self._waiting_owners[owner] >= self._limits.relay_waiting_per_address:
                await self._refuse(sock, _TOO_MANY_WAITING, "relay-waiting-per-address")
                return
            if preamble.asks and tries_left == FORWARD_TRIES:
                with contextlib.suppress(OSError):  # what is wrong with it shows in a moment
                    sock.send(WAIT)
            leg = _WaitingLeg(sock, preamble.side, owner, inside=inside)
            elsewhere = await self._wait(leg, preamble, until=until, ask=tries_left > 0)
            if elsewhere is None or await self._forward(sock, preamble, elsewhere, owner):
                return

    async def _serve_forwarded(self, sock: socket.socket, preamble: Preamble) -> None:
        partner = self._waiting.get(preamble.token)
        if partner is None or partner.side == preamble.side or partner.outcome.done():
            await self._refuse(sock, _GONE, "relay-gone")
            return
        self._leave(preamble.token, partner)
        await self._join(partner, sock, None)

    async def _wait(self, leg: _WaitingLeg, preamble: Preamble, *, until: float, ask: bool) -> Elsewhere | None:
        """Waits for the partner, and what follows; or says at which node the partner waits."""
        self._waiting[preamble.token] = leg
        self._waiting_owners[leg.owner] += 1
        late = asyncio.get_running_loop().call_at(until, leg.settle, _PARTNER_LATE)
        try:
            elsewhere = await self._wait_or_forward(leg, preamble, ask=ask)
        finally:
            late.cancel()
            if self._waiting.get(preamble.token) is leg:
                self._leave(preamble.token, leg)
            leg.let_go()
        if elsewhere is None and (refusal := leg.outcome.result()) is not None:
            await self._refuse(leg.sock, refusal, f"relay-{refusal.word}")
        return elsewhere

    async def _wait_or_forward(self, leg: _WaitingLeg, preamble: Preamble, *, ask: bool) -> Elsewhere | None:
        """None: the leg's outcome is there."""
        while True:
            # It waits here while the directory is asked: the answer may send the partner here before it arrives.
            elsewhere = await self._ask(preamble) if ask else None
            if elsewhere is not None and self._waiting.get(preamble.token) is leg and not leg.outcome.done():
                return elsewhere
            if await leg.settled():
                return None

    async def _ask(self, preamble: Preamble) -> Elsewhere | None:
        if self._directory is None:
            return None
        try:
            return await self._directory.arrive(preamble)
        except StoreUnavailable:
            return None

    async def _forward(self, sock: socket.socket, preamble: Preamble, place: Elsewhere, owner: str) -> bool:
        """Whether there was anything to forward to; then the pair has ended."""
        assert self._directory is not None
        try:
            far = await reach(place, preamble, self._directory.key or b"")
        except OSError as error:  # TimeoutError is one
            log.debug("a leg cannot be forwarded: %s", type(error).__name__)
            self._metrics.refused("relay-forward")
            return False
        with far:
            # The other node counts for its own client; what is relayed in all is counted there, too.
            pump = self._new_pump(sock, far, (owner,), self._metrics.relay_forwarded_bytes.inc)
            self._metrics.relay_forwarded_pairs.inc()
            try:
                if await self._pump(pump, (sock, far), told=(sock,)) is End.QUOTA:
                    self._metrics.refused("relay-bytes")
            finally:
                pump.stop()
        return True

    def _leave(self, token: bytes, leg: _WaitingLeg) -> None:
        del self._waiting[token]
        leg.unwatch()
        self._waiting_owners[leg.owner] -= 1
        if not self._waiting_owners[leg.owner]:
            del self._waiting_owners[leg.owner]

    async def _join(self, first: _WaitingLeg, second: socket.socket, owner: str | None) -> None:
        """``owner`` of the second; None when another node counts for it."""
        owners = (first.owner,) if owner is None else (first.owner, owner)
        pump = first.pump = self._new_pump(first.sock, second, owners, self._metrics.relay_bytes.inc)
        self._metrics.relay_wait_seconds.observe(asyncio.get_running_loop().time() - first.since)
        self._metrics.relay_pairs.inc()
        self._metrics.open_relay_pairs.inc()
        try:
            end = await self._pump(pump, (first.sock, second), told=(first.sock, second))
        finally:
            pump.stop()
            first.settle(None)
            self._metrics.open_relay_pairs.dec()
            if pump.moved >= USED_BYTES:
                self._metrics.relay_pairs_used.inc()
        log.debug("relayed pair ended: %s", end.name)
        if end is End.QUOTA:
            self._metrics.refused("relay-bytes")

    def _new_pump(
        self, one: socket.socket, other: socket.socket, owners: tuple[str, ...], on_bytes: Callable[[int], None]
    ) -> Pump:
        of_pair = self._limits.relay_bytes

        def allowance() -> int:
            return min(of_pair, self._budget.left(owners))

        def moved(count: int) -> None:
            nonlocal of_pair
            of_pair -= count
            self._budget.spend(owners, count)
            on_bytes(count)

        return Pump(one, other, buffers=self._buffers, allowance=allowance, on_bytes=moved)

    async def _pump(self, pump: Pump, ends: Iterable[socket.socket], *, told: Iterable[socket.socket]) -> End:
        try:
            for sock in ends:
                tune_for_bulk(sock)
                sock.setblocking(False)
            for sock in told:
                sock.send(OK)  # into an empty send buffer: it neither blocks nor comes short
        except OSError:
            return End.BROKEN
        pump.start()
        loop = asyncio.get_running_loop()
        while not pump.done.done():
            idle_at = pump.last_moved + self._limits.relay_idle_seconds
            if idle_at <= loop.time():
                self._metrics.refused("relay-idle")
                return End.STOPPED
            await asyncio.wait([pump.done], timeout=idle_at - loop.time())
        return pump.done.result()

    async def _refuse(self, sock: socket.socket, refusal: Refusal, reason: str) -> None:
        self._metrics.refused(reason)
        await refuse_leg(sock, refusal)


async def refuse_leg(sock: socket.socket, refusal: Refusal) -> None:
    """Says no and closes, so that the no arrives."""
    with contextlib.suppress(OSError):
        sock.send(encode_refusal(refusal))
    await retire(sock)


class _WaitingLeg:
    """A leg whose partner is not there yet. ``outcome`` is a refusal, or None when there is nothing to be said."""

    def __init__(self, sock: socket.socket, side: bytes, owner: str, *, inside: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self.sock = sock
        self.side = side
        self.inside = inside
        self.owner = owner
        self.outcome: asyncio.Future[Refusal | None] = self._loop.create_future()
        self.pump: Pump | None = None
        self.since = self._loop.time()
        self._again: asyncio.Future[Refusal | None] = self._loop.create_future()
        self._loop.add_reader(sock, self._heard)

    def settle(self, outcome: Refusal | None) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    async def settled(self) -> bool:
        """Waits until the outcome is there (True), or the directory is to be asked again."""
        await asyncio.wait((self.outcome, self._again), return_when=asyncio.FIRST_COMPLETED)
        self._again = self._loop.create_future() if self._again.done() else self._again
        return self.outcome.done()

    def ask_again(self) -> None:
        if not self._again.done():
            self._again.set_result(None)

    def unwatch(self) -> None:
        self._loop.remove_reader(self.sock)

    def let_go(self) -> None:
        if self.pump is not None:
            self.pump.stop()

    def _heard(self) -> None:
        self.unwatch()
        try:
            early = self.sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            self._loop.add_reader(self.sock, self._heard)
        except OSError:
            self.settle(None)
        else:
            self.settle(_EARLY if early else None)


async def _read_exactly(sock: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < count:
        more = await loop.sock_recv(sock, count - len(data))
        if not more:
            raise RelayWireError("the preamble is cut off")
        data += more
    return data
