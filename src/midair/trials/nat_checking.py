"""Tries the NAT check in the lab, in several networks at once, and compares what it finds with the truth."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from midair.config import ServerLimits
from midair.endpoint import Endpoint
from midair.lab import Host, Lab
from midair.nat.check.measure import measure
from midair.nat.check.report import NatReport
from midair.port import listen_tcp
from midair.server import Server
from midair.trials.nat_truth import Case, Served, truth_of

__all__ = ["Finding", "check_cases", "endpoints_of", "inside", "serving"]

T = TypeVar("T")

_UP_SECONDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One try in one network."""

    case: Case
    report: NatReport | None
    """None when the server could not be reached."""
    wrong: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """By field, the truth and what was found instead."""


def check_cases(cases: Sequence[Case], *, seed: int = 0) -> list[Finding]:
    """All at once, each by its own host; the server must be the same for all.

    Raises: LabUnavailable.
    """
    (served,) = {case.served for case in cases}
    with Lab([case.topology for case in cases], seed=seed) as lab, ThreadPoolExecutor(len(cases)) as pool:
        endpoints = endpoints_of(lab, served)
        with serving(lab.server, endpoints):
            running = [
                pool.submit(inside, pair.a, partial(_measured, _first(endpoints, case.family)))
                for pair, case in zip(lab.pairs, cases, strict=True)
            ]
            return [_compared(case, each.result()) for case, each in zip(cases, running, strict=True)]


@contextlib.contextmanager
def serving(host: Host, endpoints: Sequence[Endpoint]) -> Iterator[None]:
    """A midair server in a host of the lab, for the block. Raises: PortUnavailableError."""
    up: Future[Callable[[], object]] = Future()
    with ThreadPoolExecutor(1) as pool:
        server = pool.submit(inside, host, lambda: _serve(endpoints, up))
        stop = up.result(timeout=_UP_SECONDS)
        try:
            yield
        finally:
            stop()
            server.result()


def inside(host: Host, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs it in a loop of its own, in the host's network."""
    with host.entered():
        return asyncio.run(work())


def endpoints_of(lab: Lab, served: Served) -> list[Endpoint]:
    """Where the lab's server listens. It has two IPv4 addresses, and one of IPv6 if the lab has that."""
    first, second = lab.server.addresses[:2]
    ports, more_ports = served.value
    return [
        *(Endpoint.of(first, port) for port in ports),
        *(Endpoint.of(second, port) for port in more_ports),
        *(Endpoint.of(address, port) for address in lab.server.addresses6[:1] for port in ports),
    ]


def _first(endpoints: Sequence[Endpoint], family: int) -> Endpoint:
    return next(each for each in endpoints if each.family == family)


async def _serve(endpoints: Sequence[Endpoint], up: Future[Callable[[], object]]) -> None:
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    try:
        async with Server(
            [listen_tcp(str(each.address), each.port) for each in endpoints], limits=ServerLimits(dials_back=1000)
        ):
            up.set_result(lambda: loop.call_soon_threadsafe(over.set))
            await over.wait()
    except BaseException as error:
        if not up.done():
            up.set_exception(error)
        raise


async def _measured(server: Endpoint) -> NatReport | None:
    try:
        return await measure(server)
    except OSError:  # TimeoutError, ConnectFailedError
        return None


def _compared(case: Case, report: NatReport | None) -> Finding:
    truth = truth_of(case)
    if truth is None or report is None:
        reached = (truth is not None, report is not None)
        return Finding(case=case, report=report, wrong={"reached": reached} if reached[0] != reached[1] else {})
    found = {name: getattr(report, name) for name in truth}
    return Finding(
        case=case,
        report=report,
        wrong={name: (truth[name], found[name]) for name in truth if truth[name] != found[name]},
    )
