"""Whether SYNs may cross (simultaneous open): the server's is sent so that it meets ours on the way."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from midair.endpoint import Endpoint
from midair.nat.check.asking import ANSWER_SECONDS, FAILURES, reflected
from midair.nat.check.judge import CONNECTED, ICMP, IMPOSSIBLE, RST
from midair.nat.check.report import YesNo
from midair.nat.check.wire import Origin, Result, decode_answer
from midair.port import ConnectFailedError, LocalPort, PortUnavailableError

__all__ = ["measure_crossing"]

SECONDS: Final = 2
"""The kernel repeats a SYN after one second, and so makes a second crossing."""
REDIALS: Final = 4
TRIES: Final = 3
TRIES_REFUSED: Final = 6
"""What is refused is over at once, and is what becomes of a SYN that comes before ours has gone, too."""


async def measure_crossing(server: Endpoint) -> tuple[YesNo, str]:
    """Also a note when it could not be measured. A SYN that meets the NAT too early or too late fails like one that may
    not cross, hence several tries."""
    found = YesNo.NOT_MEASURED
    silences = 0
    for _ in range(TRIES_REFUSED):
        with contextlib.suppress(*FAILURES, PortUnavailableError):
            answer = await _cross_once(server)
            if answer == CONNECTED:
                return YesNo.YES, ""
            if answer is not None:
                found = YesNo.NO
            silences += answer not in (RST, ICMP)
        if silences >= TRIES:
            break
    return found, "" if found is YesNo.NO else "whether dials may cross was not measured: the server did not dial back"


async def _cross_once(server: Endpoint) -> int | None:
    """What came of the server's SYN: only an answer to that counts. None when it sent none."""
    async with reflected(server) as (port, connection, _):
        announced, transaction_id = await connection.announced_dial(SECONDS)
        if not isinstance(announced, Origin):
            return None
        # By the address we know it by: its own may be another, which is translated on the way.
        dialling = asyncio.create_task(_dial(port, Endpoint(server.address, announced.endpoint.port)))
        try:
            async with asyncio.timeout(SECONDS + ANSWER_SECONDS):
                result = decode_answer(await connection.answer(transaction_id))
        finally:
            dialling.cancel()
            await asyncio.wait([dialling])
    return result.answer if isinstance(result, Result) and result.answer != IMPOSSIBLE else None


async def _dial(port: LocalPort, remote: Endpoint) -> None:
    """Again at once when it is refused, as by a server that is later than we are."""
    for _ in range(REDIALS):
        with contextlib.suppress(ConnectFailedError):
            with await port.connect(remote):
                await asyncio.sleep(SECONDS)
            return
