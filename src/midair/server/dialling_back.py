"""Connecting back to who asks for it, so that they see what their NAT lets in.

What it cannot be made to do: connect to anybody but the address that asks, over a TCP connection that proves it has
that address; send anything there; do it often; or look into the network it is in itself. Who asks from a private
address, or from one of this machine, is a proxy or a neighbour, whom no NAT is before.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections import deque
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from midair.config import ServerLimits
from midair.endpoint import Endpoint
from midair.nat.address import is_public
from midair.nat.check.wire import DialBack, Origin, Result, decode_request, encode_origin, encode_result
from midair.port import Answer, DialOutcome, ObservedDial, is_own_address, own_addresses
from midair.server.admission import owner_of
from midair.server.metrics import Metrics
from midair.stun.wire import Message

__all__ = ["DiallingBack", "all_endpoints", "other_endpoints"]

_ANSWERS = (Answer.CONNECTED, Answer.RST, Answer.ICMP, Answer.SILENCE, Answer.IMPOSSIBLE)
_IMPOSSIBLE = Result(answer=_ANSWERS.index(Answer.IMPOSSIBLE))
_OWNERS_MAX = 10_000
"""Addresses whose last minute is remembered; beyond that, nobody new is served."""
_FIRST_PORT = 1024
"""Below are services (RFC 6335 6)."""
_OTHERS_MAX = 8
"""Other endpoints that are told."""
_ROUND_TRIP = struct.Struct("=68xI")
"""``tcpi_rtt`` in ``struct tcp_info``, microseconds."""
_SEND_SECONDS = 5.0
_WAIT = 0.7
"""Of the round trip: the rest is for ourselves to be late in."""


class DiallingBack:
    """All connections back of one server."""

    def __init__(self, limits: ServerLimits, metrics: Metrics, listening: Sequence[Endpoint]) -> None:
        self._limits = limits
        self._metrics = metrics
        self._listening = listening
        self._under_way = 0
        self._asked: dict[str, deque[float]] = {}

    async def answer(self, sock: socket.socket, asked: Message, source: Endpoint, local: Endpoint) -> bytes:
        """Does what is asked for, and gives the last response; an earlier one is sent on ``sock``.

        Raises: StunError for a request that makes no sense; OSError, TimeoutError when the asker has gone.
        """
        wanted = decode_request(asked)
        address = self._dial_from(wanted, local)
        target = Endpoint(source.address, wanted.port or source.port)
        if address is None or not _may_be_dialled(target) or not self._admit(owner_of(source)):
            return encode_result(_IMPOSSIBLE, asked.transaction_id)
        self._under_way += 1
        try:
            with ObservedDial(Endpoint(address, 0), ignore_bare_syns=wanted.crossing) as dial:
                if wanted.crossing:
                    await _announce(sock, dial.source, asked.transaction_id)
                outcome = await dial.dial(target, seconds=wanted.seconds)
        except OSError as error:
            if isinstance(error, (TimeoutError, ConnectionError)):
                raise
            outcome = DialOutcome(answer=Answer.IMPOSSIBLE)
        finally:
            self._under_way -= 1
        self._metrics.dials_back.labels(outcome.answer.value).inc()
        return encode_result(
            Result(answer=_ANSWERS.index(outcome.answer), icmp=outcome.icmp, milliseconds=int(outcome.seconds * 1000)),
            asked.transaction_id,
        )

    def _dial_from(self, wanted: DialBack, local: Endpoint) -> IPv4Address | IPv6Address | None:
        """None: we have no other address."""
        if not wanted.other_address:
            return local.address
        others = (each.address for each in self._listening if each.family == local.family)
        return next((each for each in others if each != local.address and not each.is_unspecified), None)

    def _admit(self, owner: str) -> bool:
        now = time.monotonic()
        for known in [known for known, times in self._asked.items() if times[-1] < now - 60]:
            del self._asked[known]
        times = self._asked.get(owner, deque())
        while times and times[0] < now - 60:
            times.popleft()
        full = self._under_way >= self._limits.dials_back or (not times and len(self._asked) >= _OWNERS_MAX)
        if full or len(times) >= self._limits.dials_back_per_minute:
            self._metrics.refused("dials-back")
            return False
        times.append(now)
        self._asked[owner] = times
        return True


def all_endpoints(listening: Sequence[Endpoint]) -> list[Endpoint]:
    """Where a server that listens there can be reached, as far as it knows: a wildcard stands for each public address
    of this machine, and for whatever else somebody has come to."""
    found = []
    for each in listening:
        if each.address.is_unspecified:
            found += [Endpoint(own, each.port) for own in own_addresses(each.family) if is_public(own)]
        found.append(each)
    return list(dict.fromkeys(found))


def other_endpoints(listening: Sequence[Endpoint], local: Endpoint) -> list[Endpoint]:
    """Where else whoever has come to ``local`` can ask: at every other endpoint we listen on, of the same family."""
    found = []
    for each in listening:
        if each.family == local.family:
            address = local.address if each.address.is_unspecified else each.address
            found.append(Endpoint(address, each.port))
    return [each for each in dict.fromkeys(found) if each != local][:_OTHERS_MAX]


def _may_be_dialled(target: Endpoint) -> bool:
    return target.port >= _FIRST_PORT and is_public(target.address) and not is_own_address(target.address)


async def _announce(sock: socket.socket, origin: Endpoint, transaction_id: bytes) -> None:
    """Says where from, and waits until the asker's own SYN has left its NAT, but not until it has arrived here: that
    takes a round trip, and the asker some time."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_SEND_SECONDS):
        await loop.sock_sendall(sock, encode_origin(Origin(origin), transaction_id))
    seconds = 0.0
    with contextlib.suppress(OSError, AttributeError, struct.error):  # only Linux tells
        information = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        seconds = _ROUND_TRIP.unpack_from(information)[0] / 1e6
    await asyncio.sleep(min(seconds, 2.0) * _WAIT)
