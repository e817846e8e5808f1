"""The relay: legs wait for their partner here, and are joined when it comes.

The task of the second leg drives the pair; the task of the first waits for the outcome. Each closes its own socket,
after the pump has let go of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Callable

from midair.config import ServerLimits
from midair.endpoint import Endpoint
from midair.port import retire, tune_for_bulk
from midair.relay.wire import (
    OK,
    PREAMBLE_BYTES,
    Preamble,
    Refusal,
    RelayWireError,
    encode_refusal,
    parse_preamble,
)
from midair.server.admission import owner_of
from midair.server.buffers import Buffer, new_buffer
from midair.server.metrics import Metrics
from midair.server.pump import End, Pump

__all__ = ["Relay"]

log = logging.getLogger("midair.server.relay")

_PARTNER_LATE = Refusal(word="timeout", text="the partner did not come")
_REPLACED = Refusal(word="replaced", text="a newer leg of the same side waits now")
_EARLY = Refusal(word="protocol", text="nothing may be sent before OK")
_MALFORMED = Refusal(word="protocol", text="this is not a relay preamble of version 1")
_STOPPING = Refusal(word="stopping", text="the server is being stopped")
_NO_ROOM = Refusal(word="quota", text="the server has no room for this pair")
_TOO_MANY_LEGS = Refusal(word="quota", text="the server has no room for another leg")
_TOO_MANY_WAITING = Refusal(word="quota", text="too many legs wait from your address")


class Relay:
    """All legs of one server."""

    def __init__(
        self, limits: ServerLimits, metrics: Metrics, *, new_buffer: Callable[[], Buffer] = new_buffer
    ) -> None:
        self._limits = limits
        self._metrics = metrics
        self._new_buffer = new_buffer
        self._waiting: dict[bytes, _WaitingLeg] = {}
        self._waiting_owners: Counter[str] = Counter()
        self._legs = 0
        self._stopping = False

    async def serve(self, sock: socket.socket, source: Endpoint, deadline: float) -> None:
        """One leg, from its preamble to its end. ``deadline`` is the loop's time by which the preamble must be there.

        The socket is closed in the end. Cancelling cuts the pair.
        """
        with sock:
            try:
                async with asyncio.timeout_at(deadline):
                    preamble = parse_preamble(await _read_exactly(sock, PREAMBLE_BYTES))
            except RelayWireError:
                await self._refuse(sock, _MALFORMED, "relay-preamble")
                return
            except TimeoutError:
                self._metrics.refused("silent")
                return
            except OSError:
                return
            if self._stopping:
                await self._refuse(sock, _STOPPING, "relay-stopping")
                return
            if self._legs >= self._limits.relay_legs:
                await self._refuse(sock, _TOO_MANY_LEGS, "relay-legs")
                return
            self._legs += 1
            try:
                await self._serve_leg(sock, preamble, owner_of(source))
            finally:
                self._legs -= 1

    def send_away(self) -> None:
        """Ends the wait of all legs that have no partner yet, and takes no new ones. Pairs go on."""
        self._stopping = True
        for waiting in list(self._waiting.values()):
            waiting.settle(_STOPPING)

    async def _serve_leg(self, sock: socket.socket, preamble: Preamble, owner: str) -> None:
        partner = self._waiting.get(preamble.token)
        if partner is not None:
            self._leave(preamble.token, partner)
            if partner.side == preamble.side:
                partner.settle(_REPLACED)
            elif not partner.outcome.done():  # else it is late, or gone, and its task has not run yet
                await self._join(partner, sock)
                return
        if self._waiting_owners[owner] >= self._limits.relay_waiting_per_address:
            await self._refuse(sock, _TOO_MANY_WAITING, "relay-waiting-per-address")
            return
        await self._wait(sock, preamble, owner)

    async def _wait(self, sock: socket.socket, preamble: Preamble, owner: str) -> None:
        loop = asyncio.get_running_loop()
        leg = self._waiting[preamble.token] = _WaitingLeg(sock, preamble.side, owner)
        self._waiting_owners[owner] += 1
        late = loop.call_later(self._limits.relay_wait_seconds, leg.settle, _PARTNER_LATE)
        try:
            refusal = await leg.outcome
        finally:
            late.cancel()
            if self._waiting.get(preamble.token) is leg:
                self._leave(preamble.token, leg)
            leg.let_go()
        if refusal is not None:
            await self._refuse(sock, refusal, f"relay-{refusal.word}")

    def _leave(self, token: bytes, leg: _WaitingLeg) -> None:
        del self._waiting[token]
        leg.unwatch()
        self._waiting_owners[leg.owner] -= 1
        if not self._waiting_owners[leg.owner]:
            del self._waiting_owners[leg.owner]

    async def _join(self, first: _WaitingLeg, second: socket.socket) -> None:
        try:
            pump = Pump(
                first.sock,
                second,
                new_buffer=self._new_buffer,
                allowance=self._limits.relay_bytes,
                on_bytes=self._metrics.relay_bytes.inc,
            )
        except OSError as error:
            log.warning("no pipe for a relayed pair: %s", error)
            first.settle(_NO_ROOM)
            await self._refuse(second, _NO_ROOM, "relay-pipes")
            return
        first.pump = pump
        self._metrics.relay_pairs.inc()
        self._metrics.open_relay_pairs.inc()
        try:
            end = await self._pump(pump, first.sock, second)
        finally:
            pump.stop()
            first.settle(None)
            self._metrics.open_relay_pairs.dec()
        log.debug("relayed pair ended: %s", end.name)
        if end is End.QUOTA:
            self._metrics.refused("relay-bytes")

    async def _pump(self, pump: Pump, first: socket.socket, second: socket.socket) -> End:
        try:
            for sock in (first, second):
                tune_for_bulk(sock)
                sock.setblocking(False)
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

    def __init__(self, sock: socket.socket, side: bytes, owner: str) -> None:
        self._loop = asyncio.get_running_loop()
        self.sock = sock
        self.side = side
        self.owner = owner
        self.outcome: asyncio.Future[Refusal | None] = self._loop.create_future()
        self.pump: Pump | None = None
        self._loop.add_reader(sock, self._heard)

    def settle(self, outcome: Refusal | None) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)

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
