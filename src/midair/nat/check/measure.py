"""Measures the NAT between here and a server, for one address family.

All experiments run beside each other, each from a port of its own, since what one has sent would change what another
finds. It takes as long as the slowest, which waits eight seconds for an answer that RFC 5382 wants to come after six.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

from midair.endpoint import Endpoint
from midair.nat.check.judge import (
    CONNECTED,
    IMPOSSIBLE,
    Reflection,
    judge_allocation,
    judge_filtering,
    judge_mapping,
    judge_reaction,
)
from midair.nat.check.report import Allocation, Mapping, NatReport, YesNo
from midair.nat.check.wire import SECONDS_MAX, DialBack, Origin, Result, decode_answer, encode_request
from midair.nat.forecast import PROBES, forecast
from midair.port import ConnectFailedError, LocalPort, PortUnavailableError, retire
from midair.stun import StunConnection, StunError

__all__ = ["measure"]

CONNECT_SECONDS: Final = 3.0
ANSWER_SECONDS: Final = 3.0
HAIRPIN_SECONDS: Final = 2.0
CROSSING_SECONDS: Final = 2
"""The kernel repeats a SYN after one second, and so makes a second crossing."""
CROSSING_TRIES: Final = 3
OTHERS_MAX: Final = 4
"""Other endpoints of the server that are asked."""
_CHANGING: Final = (Mapping.ADDRESS_AND_PORT_DEPENDENT, Mapping.CONNECTION_DEPENDENT)
_FAILURES = (OSError, StunError)  # TimeoutError, ConnectFailedError are OSErrors


async def measure(server: Endpoint, *, seconds: float = 20.0) -> NatReport:
    """What the NAT before this host does, as the server at that endpoint lets us find out; a field that could not be
    measured says so. Takes ``seconds`` at most.

    Raises: ConnectFailedError when the server cannot be reached, StunError when it is no reflector, TimeoutError;
    PortUnavailableError. Cancelling closes everything.
    """
    async with asyncio.timeout(seconds), _reflected(server) as (port, connection, first):
        others = _trustworthy(connection.others, server)
        local = Endpoint(connection.local.address, port.number)
        mapping, allocation, filtering, reaction, crossing, hairpin = await asyncio.gather(
            _mapping(port, local, first, others),
            _allocation(server, first, local),
            _filtering(server),
            _reaction(connection),
            _crossing(server),
            _hairpin(server),
        )
    report = NatReport(
        family=server.family,
        local=local,
        mapped=first.mapped,
        mapping=mapping[0],
        filtering=filtering[0],
        reaction=judge_reaction(reaction),
        simultaneous_open=crossing[0],
        hairpin=hairpin[0],
        notes=tuple(note for _, note in (mapping, filtering, crossing, hairpin) if note),
        **allocation,
    )
    if report.mapping is Mapping.NONE:
        return replace(report, hairpin=YesNo.NOT_MEASURED, allocation=Allocation.NOT_MEASURED)
    if report.simultaneous_open is YesNo.NO and report.mapping in _CHANGING:
        note = "whether SYNs may cross cannot be told where each connection has another port"
        return replace(report, simultaneous_open=YesNo.NOT_MEASURED, notes=(*report.notes, note))
    return report


class _Asking(StunConnection):
    """A connection to the reflector, and how it looks at both ends."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.sock = sock
        self.local = Endpoint.from_sockaddr(sock.getsockname())
        self.others: list[Endpoint] = []

    async def reflect(self, server: Endpoint) -> Reflection:
        mapped, self.others = await self.binding(secrets.token_bytes(12), deadline=ANSWER_SECONDS)
        return Reflection(server, mapped)

    async def dial_back(self, wanted: DialBack) -> Result | None:
        """None when the server does not do that."""
        transaction_id = secrets.token_bytes(12)
        with contextlib.suppress(*_FAILURES):
            answer = decode_answer(
                await self.ask(
                    encode_request(wanted, transaction_id), transaction_id, deadline=wanted.seconds + ANSWER_SECONDS
                )
            )
            return answer if isinstance(answer, Result) else None
        return None


@contextlib.asynccontextmanager
async def _reflected(server: Endpoint) -> AsyncIterator[tuple[LocalPort, _Asking, Reflection]]:
    """A new port that has asked the server, and the connection, which holds the mapping until the end of the block."""
    with LocalPort.open(families=(server.family,)) as port:
        async with asyncio.timeout(CONNECT_SECONDS):
            sock = await port.connect(server)
        with sock:
            connection = _Asking(sock)
            yield port, connection, await connection.reflect(server)


def _trustworthy(others: list[Endpoint], server: Endpoint) -> list[Endpoint]:
    """Other endpoints of the server that we ask: on its own address, or on another global one. A server must not send
    us to our own network."""
    fitting = [
        each
        for each in dict.fromkeys(others)
        if each.family == server.family
        and each.port
        and (each.address == server.address or each.address.is_global or not server.address.is_global)
    ]
    own = [each for each in fitting if each.address == server.address]
    return [*own[: OTHERS_MAX // 2], *(each for each in fitting if each.address != server.address)][:OTHERS_MAX]


async def _mapping(port: LocalPort, local: Endpoint, first: Reflection, others: list[Endpoint]) -> tuple[Mapping, str]:
    seen: list[Reflection] = []
    again: Reflection | None = None
    async with contextlib.AsyncExitStack() as stack:
        for other in others:
            with contextlib.suppress(*_FAILURES):
                seen.append(await _reflect_once(port, other, stack))
        if seen and any(each.mapped != first.mapped for each in seen):
            # One more connection to an endpoint that was asked already, when the one before it is over.
            await stack.aclose()
            with contextlib.suppress(*_FAILURES):
                again = await _reflect_once(port, seen[-1].asked, stack)
    return judge_mapping(local, first, seen, again)


async def _reflect_once(port: LocalPort, server: Endpoint, stack: contextlib.AsyncExitStack) -> Reflection:
    async with asyncio.timeout(CONNECT_SECONDS):
        sock = await port.connect(server)
    stack.push_async_callback(retire, sock)
    return await _Asking(sock).reflect(server)


async def _allocation(server: Endpoint, first: Reflection, local: Endpoint) -> dict[str, Any]:
    async with contextlib.AsyncExitStack() as stack:
        samples = [(local.port, first.mapped.port)]

        async def probe() -> None:
            with contextlib.suppress(*_FAILURES, PortUnavailableError):
                port, _, reflection = await stack.enter_async_context(_reflected(server))
                samples.append((port.number, reflection.mapped.port))

        await asyncio.gather(*(probe() for _ in range(PROBES)))
    if len(samples) < PROBES // 2:
        return {}
    expected = forecast(samples)
    band = None if expected is None else (expected.low, expected.high)
    step = 0 if expected is None else expected.step
    found = judge_allocation(step, band)
    return {"allocation": found, "step": step, "band": band if band and found is Allocation.BAND else (0, 0)}


async def _filtering(server: Endpoint) -> tuple[Any, str]:
    """Two ports, each of which has sent to one endpoint of the server only."""

    async def let_in(wanted: DialBack) -> Result | None:
        with contextlib.suppress(*_FAILURES, PortUnavailableError):
            async with _reflected(server) as (port, connection, _):
                port.listen(server.family)
                return await connection.dial_back(wanted)
        return None

    return judge_filtering(*await asyncio.gather(let_in(DialBack()), let_in(DialBack(other_address=True))))


async def _reaction(connection: _Asking) -> Result | None:
    """A port that listens and was never used."""
    with LocalPort.open(families=(connection.local.family,)) as unused:
        unused.listen(connection.local.family)
        return await connection.dial_back(DialBack(port=unused.number, seconds=SECONDS_MAX))


async def _crossing(server: Endpoint) -> tuple[YesNo, str]:
    """Whether SYNs may cross. One that meets the NAT too early or too late fails like one that may not, hence several
    tries."""
    found = YesNo.NOT_MEASURED
    for _ in range(CROSSING_TRIES):
        with contextlib.suppress(*_FAILURES, PortUnavailableError):
            found = await _cross_once(server)
            if found is not YesNo.NO:
                break
    return found, "" if found is not YesNo.NOT_MEASURED else "whether SYNs may cross was not measured"


async def _cross_once(server: Endpoint) -> YesNo:
    """The server's SYN, sent so that it meets ours on the way: only an answer to it counts."""
    transaction_id = secrets.token_bytes(12)
    async with _reflected(server) as (port, connection, _):
        answer = decode_answer(
            await connection.ask(
                encode_request(DialBack(crossing=True, seconds=CROSSING_SECONDS), transaction_id),
                transaction_id,
                deadline=ANSWER_SECONDS,
            )
        )
        if not isinstance(answer, Origin) or answer.endpoint.address != server.address:
            return YesNo.NOT_MEASURED
        dialling = asyncio.create_task(_dial(port, answer.endpoint))
        try:
            async with asyncio.timeout(CROSSING_SECONDS + ANSWER_SECONDS):
                result = decode_answer(await connection.answer(transaction_id))
        finally:
            dialling.cancel()
            await asyncio.wait([dialling])
    if not isinstance(result, Result) or result.answer == IMPOSSIBLE:
        return YesNo.NOT_MEASURED
    return YesNo.YES if result.answer == CONNECTED else YesNo.NO


async def _dial(port: LocalPort, remote: Endpoint) -> None:
    with contextlib.suppress(ConnectFailedError):
        sock = await port.connect(remote)
        with sock:
            await asyncio.sleep(CROSSING_SECONDS)


async def _hairpin(server: Endpoint) -> tuple[YesNo, str]:
    """From one port of ours to the outside endpoint of another, and the other way round: what is turned around is
    filtered as well, and lets in only whom has been sent to."""
    try:
        async with _reflected(server) as (one, _, seen_one), _reflected(server) as (other, _, seen_other):
            one.listen(server.family)
            other.listen(server.family)
            dials = [_opens(one, seen_other.mapped), _opens(other, seen_one.mapped)]
            return (YesNo.YES if any(await asyncio.gather(*dials)) else YesNo.NO), ""
    except (*_FAILURES, PortUnavailableError):
        return YesNo.NOT_MEASURED, "whether connections are turned around was not measured"


async def _opens(port: LocalPort, remote: Endpoint) -> bool:
    with contextlib.suppress(OSError):
        async with asyncio.timeout(HAIRPIN_SECONDS):
            (await port.connect(remote)).close()
            return True
    return False
