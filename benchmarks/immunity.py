"""Whether sockets that ignore what a NAT answers to their SYNs do better than dialling again at once (docs/adr/0012).

Three ways, on the lab's wire with real agents, sockets and Linux routers, 50 ms one way between the peers:

    again    what midair does: a dial that is refused is repeated at once
    rst      both send with a TTL of 255 and take nothing below 128 (IP_MINTTL), which the RSTs of NATs are
    both     besides, ``a`` sends with 200 and takes nothing below 201, so that ICMP errors about its SYNs do not count

A ``skew`` is how much later than agreed ``b`` starts. The times are from a's start to its choice, the later of both.

    python benchmarks/immunity.py --output FILE
    python benchmarks/immunity.py --ceilings         how many pairs of the full matrix need it, or SYNs with a low TTL
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from midair.channel import Role
from midair.endpoint import Endpoint, Family
from midair.lab import Lab
from midair.lab.ceiling import DIRECT, Conditions, Technique, ceiling
from midair.lab.matrix import full_cells
from midair.port import LocalPort, make_room_for
from midair.traversal.agreement import Agreement
from midair.traversal.leg import Leg
from midair.traversal.race import Race
from midair.trials.contender import BUDGET
from midair.trials.real import connect_all, serving
from midair.trials.result import PairResult

__all__: list[str] = []

CELLS = (
    "drop x drop",
    "drop x rst",
    "drop x icmp",
    "rst x rst",
    "rst x icmp",
    "icmp x icmp",
    "kernel:masquerade-drop x kernel:masquerade-reject-rst",
    "kernel:masquerade-drop x kernel:masquerade-reject-icmp",
    "kernel:masquerade-reject-rst x kernel:masquerade-reject-rst",
    "kernel:masquerade-reject-rst x kernel:masquerade-reject-icmp",
)
SKEWS = (0.0, 0.1, 0.5)
"""Seconds; twice the first is what a slow mailbox costs, the last one is a start that has failed."""
DELAY = 0.05
AT_ONCE = 5
SOCKETS = 2_000
IP_MINTTL = 21
"""Of linux/in.h."""
WAYS: dict[str, dict[Role, tuple[int, int]] | None] = {
    "again": None,
    "rst": {Role.A: (255, 128), Role.B: (255, 128)},
    "both": {Role.A: (200, 201), Role.B: (255, 128)},
}
"""The TTL that is sent with, and the least that is taken."""

_hops: ContextVar[tuple[int, int] | None] = ContextVar("hops", default=None)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tries", type=int, default=5, help="of each pair, way and skew")
    parser.add_argument("--cells", action="append", default=[], help="only pairs with this in their names")
    parser.add_argument("--ceilings", action="store_true", help="only count who needs it, by what NATs do")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.ceilings:
        return count_who_needs(Technique.REFUSAL_IMMUNITY, Technique.LOW_TTL, Technique.NO_LISTENER)
    make_room_for(SOCKETS)
    cells = [cell for cell in CELLS if not arguments.cells or any(each in cell for each in arguments.cells)]
    found = []
    for cell in cells:
        for skew in SKEWS:
            for way in WAYS:
                results = summary(played(cell, way, skew, arguments.tries))
                found.append({"cell": cell, "skew": skew, "way": way, **results})
                print(found[-1], flush=True)
    document = {
        "command": f"python {' '.join(sys.argv)}",
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "load": round(os.getloadavg()[0], 1)},
        "found": found,
    }
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 0


def count_who_needs(*techniques: Technique) -> int:
    """Pairs whose ceiling is lower without one of these."""
    cells = full_cells((0.0,))
    conditions = Conditions(budget=BUDGET)
    for technique in techniques:
        needing = [
            cell
            for cell in cells
            if ceiling(cell.topology, DIRECT - {technique}, conditions).probability
            < ceiling(cell.topology, DIRECT, conditions).probability
        ]
        print(f"{technique.value}: {len(needing)} of {len(cells)} pairs need it", *needing)
    return 0


def summary(results: Sequence[PairResult]) -> dict[str, Any]:
    direct = sorted(result.a.seconds for result in results if result.direct)
    return {
        "tries": len(results),
        "direct": len(direct),
        "p50": round(median(direct), 3) if direct else None,
        "most": round(direct[-1], 3) if direct else None,
        "syns": median(result.a.dials + result.b.dials for result in results),
    }


def played(cell: str, way: str, skew: float, tries: int) -> list[PairResult]:
    """A new lab for each round, so that no NAT remembers an earlier try."""
    results: list[PairResult] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.object(Agreement, "moment", late(skew)))
        if (hops := WAYS[way]) is not None:
            make_immune(hops, stack)
        while len(results) < tries:
            count = min(AT_ONCE, tries - len(results))
            with Lab([cell] * count, seed=1 + len(results)) as lab, serving(lab) as server:
                results += connect_all(lab, server, lab.pairs, mail_delay=DELAY)
    return results


def late(skew: float) -> Callable[[Agreement], Awaitable[None]]:
    """The controlled side starts so many seconds after it should."""
    moment = Agreement.moment

    async def later(agreement: Agreement) -> None:
        await moment(agreement)
        if not agreement._controlling:
            await asyncio.sleep(skew)

    return later


def make_immune(hops: dict[Role, tuple[int, int]], stack: contextlib.ExitStack) -> None:
    """What a race opens has these until it is connected; what asks the reflector has not."""
    dial, listen, new_socket, connect = Race._dial, Race._accept, LocalPort._socket, LocalPort.connect

    async def immune_dial(race: Race, leg: Leg, remote: Endpoint, local: int) -> None:
        _hops.set(hops[race._role])
        await dial(race, leg, remote, local)

    async def immune_listen(race: Race, port: LocalPort, family: Family) -> None:
        _hops.set(hops[race._role])
        await listen(race, port, family)

    def immune_socket(port: LocalPort, family: Family) -> socket.socket:
        sock = new_socket(port, family)
        if family == 4 and (wanted := _hops.get()) is not None:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, wanted[0])
            sock.setsockopt(socket.IPPROTO_IP, IP_MINTTL, wanted[1])
        return sock

    async def immune_connect(port: LocalPort, remote: Endpoint) -> socket.socket:
        sock = await connect(port, remote)
        if remote.family == 4:
            sock.setsockopt(socket.IPPROTO_IP, IP_MINTTL, 0)
        return sock

    stack.enter_context(patch.object(Race, "_dial", immune_dial))
    stack.enter_context(patch.object(Race, "_accept", immune_listen))
    stack.enter_context(patch.object(LocalPort, "_socket", immune_socket))
    stack.enter_context(patch.object(LocalPort, "connect", immune_connect))


if __name__ == "__main__":
    sys.exit(main())
