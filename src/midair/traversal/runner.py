"""Connects two peers who can exchange messages: gather, describe, agree on a moment, race."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import SystemRandom

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from midair import events
from midair.channel import Role, SessionKey
from midair.config import ServerURL, TraversalOptions
from midair.errors import PeerLostError, UsageError
from midair.nat.check.memory import recall
from midair.nat.told import understand
from midair.port import LocalPort, PortUnavailableError, make_room_for
from midair.traversal.agent import Agent
from midair.traversal.agreement import Agreement, Exchange
from midair.traversal.gathering import Gathered, gather
from midair.traversal.knowledge import Earlier
from midair.traversal.leg import Winner
from midair.traversal.planning import make_plan
from midair.traversal.race import Race
from midair.traversal.result import PathResult
from midair.traversal.search import Search
from midair.traversal.sync import describe

__all__ = ["Exchange", "connect_peers", "relay_token"]

WITHOUT_RELAY_SECONDS = 1.0
"""Most direct connections that come about are there in a third of this, the stubborn ones in more; then both meet
again, begin on the relay, and have all the time for the rest."""

_log = logging.getLogger("midair.traversal")

_RELAY_SIDES = {Role.A: b"side-A\0\0", Role.B: b"side-B\0\0"}


async def connect_peers(
    exchange: Exchange,
    *,
    session_key: bytes,
    controlling: bool,
    server: ServerURL | None,
    options: TraversalOptions,
    on_event: events.Listener,
    moves: bool = False,
    meets_again: bool = False,
    ssl_context: ssl.SSLContext | None = None,
) -> PathResult:
    """One authenticated connection to the peer, the same on both sides. Both call this, one of them ``controlling``.

    ``session_key`` is the 32 secret bytes both share; ``server`` has the reflector and the relay; None: there is
    neither. Emits Reflected, Mapped, Attempted and PathChosen. It ends within ``options.server_wait`` and twice
    ``options.deadline``. The channel of the result is the caller's; so is ``close_leftovers``. Cancelling closes
    everything.

    ``moves``: the caller can go on over another connection later. Where both sides can, the relay is taken as soon as
    it is ready, and the result has a ``search`` for a direct one that goes on. ``meets_again``: the caller can meet the
    peer once more; where what the relay was to carry cannot begin, that is better than waiting for a direct connection
    to the end, and both sides get PeerLostError. ``ssl_context`` is for the relay, where TLS is needed to get there:
    instead of the system's own.

    Raises: NoPathError, whose message says what was tried; IncompatibleError; PeerLostError, and whatever else
    ``exchange`` raises; RemoteProtocolError; PortUnavailableError.
    """
    if _proxied(server):
        options = _through_the_proxy(options)
    role = Role.A if controlling else Role.B
    race = Race(SessionKey(session_key), role, on_event)
    try:
        if options.policy != "direct" and server is not None:
            seconds = options.server_wait + options.deadline
            token, side = relay_token(session_key), _RELAY_SIDES[role]
            race.open_relay(server, token, side, seconds=seconds, ssl_context=ssl_context)
        async with Agreement(exchange, role) as agreement:
            return await _connect(
                agreement, race, role, server, options, on_event, moves=moves, meets_again=meets_again
            )
    except BaseException:
        await race.abandon()
        raise


def relay_token(session_key: bytes) -> bytes:
    """What the two legs of a session have in common at the relay: 32 bytes, from which the key cannot be had."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"midair relay token").derive(session_key)


async def _connect(
    agreement: Agreement,
    race: Race,
    role: Role,
    server: ServerURL | None,
    options: TraversalOptions,
    on_event: events.Listener,
    *,
    moves: bool,
    meets_again: bool,
) -> PathResult:
    port: LocalPort | None = None
    gathered = Gathered(candidates=(), loopback=False, reflectors=())
    if options.policy != "relay":
        port = _open_port(options)
        race.leftovers.ports.append(port)
        gathered = await gather(
            port,
            server,
            wait=options.server_wait,
            port_mapping=options.port_mapping,
            earlier=_earlier(options.check_file),
            cut=race.cut,
            on_event=on_event,
        )
        race.leftovers.sockets.update(gathered.reflectors)
        race.leftovers.ports += gathered.fan
        race.leftovers.mapped = gathered.mapped
    ours = describe(
        gathered.candidates,
        controlling=role is Role.A,
        direct=options.policy != "relay",
        relay=options.policy != "direct" and server is not None,
        forecast=gathered.forecast,
        spare=gathered.spare,
        reports=gathered.reports,
        proxied=_proxied(server),
        moves=moves,
    )
    async with _bounded(options.server_wait + options.deadline):
        theirs = await agreement.describe(ours)
        own = {candidate.endpoint for candidate in gathered.candidates}
        plan = make_plan(
            ours, theirs, own, options, loopback=gathered.loopback, networks=gathered.networks, random=SystemRandom()
        )
        if not plan.relay:
            race.drop_relay()
        await agreement.moment()
    if plan.late and (room := make_room_for(len(plan.late))) < len(plan.late):
        plan = replace(plan, late=plan.late[:room])
    if moves and theirs.moves and plan.relay and plan.direct:
        plan = replace(plan, moving=True, head_start=min(plan.head_start, options.relay_after))
        if meets_again:
            plan = replace(plan, without_relay=WITHOUT_RELAY_SECONDS)
    agent = Agent(plan)

    def result_of(winner: Winner) -> PathResult:
        return PathResult(
            channel=winner.channel,
            path="relay" if winner.how == "relay" else "direct",
            how=winner.how,
            local=winner.channel.local,
            remote=winner.channel.remote,
            attempts=agent.dials,
            seconds=winner.seconds,
            authenticated_seconds=winner.authenticated,
            reason=winner.reason,
            leftovers=race.leftovers,
            later=winner.later,
            search=None if winner.final else Search(race, result_of),
        )

    result = result_of(await race.run(agent, direct=plan.direct))
    on_event(result.event())
    return result


def _earlier(file: str) -> list[Earlier]:
    """What checks have found; a small file, so it is read without much ado."""
    if not file:
        return []
    found = recall(Path(file))
    now = time.time()
    return [(each.local, each.mapped, replace(understand(each.told), age=now - each.found)) for each in found]


def _proxied(server: ServerURL | None) -> bool:
    return server is not None and server.proxy is not None


def _through_the_proxy(options: TraversalOptions) -> TraversalOptions:
    """No direct connection passes a proxy, and one beside it may be what it is there to prevent. Raises: UsageError."""
    if options.policy == "direct":
        raise UsageError("there is no direct connection through a proxy, and no other was allowed")
    return replace(options, policy="relay")


def _open_port(options: TraversalOptions) -> LocalPort:
    """The first one that is free. Raises: PortUnavailableError."""
    low, high = options.local_port_range
    for number in range(low, high):
        try:
            return LocalPort.open(number, families=options.families)
        except PortUnavailableError as error:
            _log.debug("not this one: %s", error)
    return LocalPort.open(high, families=options.families)


@contextlib.asynccontextmanager
async def _bounded(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise PeerLostError(f"the other side did not answer within {seconds:g} s") from error
