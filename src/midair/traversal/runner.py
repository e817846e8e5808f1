"""Connects two peers who can exchange messages: gather, describe, agree on a moment, race."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from random import SystemRandom
from typing import Protocol

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from midair import events
from midair.channel import Role, SessionKey
from midair.config import ServerURL, TraversalOptions
from midair.errors import PeerLostError
from midair.port import LocalPort, PortUnavailableError, make_room_for
from midair.traversal.agent import Agent
from midair.traversal.gathering import Gathered, gather
from midair.traversal.planning import make_plan
from midair.traversal.race import Race
from midair.traversal.result import PathResult
from midair.traversal.sync import (
    Description,
    Go,
    Message,
    Ping,
    Pong,
    decode,
    describe,
    encode,
    expect,
    start_delay,
)

__all__ = ["Exchange", "connect_peers", "relay_token"]

_log = logging.getLogger("midair.traversal")

_RELAY_SIDES = {Role.A: b"side-A\0\0", Role.B: b"side-B\0\0"}


class Exchange(Protocol):
    """Encrypted messages to the peer and from it, in order; a meeting."""

    async def send(self, message: bytes) -> None: ...

    async def receive(self) -> bytes: ...


async def connect_peers(
    exchange: Exchange,
    *,
    session_key: bytes,
    controlling: bool,
    server: ServerURL | None,
    options: TraversalOptions,
    on_event: events.Listener,
) -> PathResult:
    """One authenticated connection to the peer, the same on both sides. Both call this, one of them ``controlling``.

    ``session_key`` is the 32 secret bytes both share; ``server`` has the reflector and the relay; None: there is
    neither. Emits Reflected, Mapped, Attempted and PathChosen. It ends within ``options.server_wait`` and twice
    ``options.deadline``. The channel of the result is the caller's; so is ``close_leftovers``. Cancelling closes
    everything.

    Raises: NoPathError, whose message says what was tried; IncompatibleError; PeerLostError, and whatever else
    ``exchange`` raises; RemoteProtocolError; PortUnavailableError.
    """
    role = Role.A if controlling else Role.B
    race = Race(SessionKey(session_key), role, on_event)
    try:
        if options.policy != "direct" and server is not None:
            seconds = options.server_wait + options.deadline
            race.open_relay(server, relay_token(session_key), _RELAY_SIDES[role], seconds=seconds)
        return await _connect(exchange, race, role, server, options, on_event)
    except BaseException:
        await race.abandon()
        raise


def relay_token(session_key: bytes) -> bytes:
    """What the two legs of a session have in common at the relay: 32 bytes, from which the key cannot be had."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"midair relay token").derive(session_key)


async def _connect(
    exchange: Exchange,
    race: Race,
    role: Role,
    server: ServerURL | None,
    options: TraversalOptions,
    on_event: events.Listener,
) -> PathResult:
    port: LocalPort | None = None
    gathered = Gathered(candidates=(), loopback=False, reflectors=())
    if options.policy != "relay":
        port = _open_port(options)
        race.leftovers.ports.append(port)
        gathered = await gather(
            port, server, wait=options.server_wait, port_mapping=options.port_mapping, on_event=on_event
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
    )
    async with _bounded(options.server_wait + options.deadline):
        await exchange.send(encode(ours))
        theirs = await _receive(exchange, Description)
        assert isinstance(theirs, Description)
        own = {candidate.endpoint for candidate in gathered.candidates}
        plan = make_plan(
            ours, theirs, own, options, loopback=gathered.loopback, networks=gathered.networks, random=SystemRandom()
        )
        if not plan.relay:
            race.drop_relay()
        await _synchronise(exchange, role)
    if plan.late and (room := make_room_for(len(plan.late))) < len(plan.late):
        plan = replace(plan, late=plan.late[:room])
    agent = Agent(plan)
    winner = await race.run(agent, direct=plan.direct)
    channel = winner.channel
    result = PathResult(
        channel=channel,
        path="relay" if winner.how == "relay" else "direct",
        how=winner.how,
        local=channel.local,
        remote=channel.remote,
        attempts=agent.dials,
        seconds=winner.seconds,
        reason=winner.reason,
        leftovers=race.leftovers,
    )
    on_event(
        events.PathChosen(
            path=result.path,
            how=result.how,
            local=str(result.local),
            remote=str(result.remote),
            attempts=result.attempts,
            seconds=round(result.seconds, 6),
            reason=result.reason,
        )
    )
    return result


def _open_port(options: TraversalOptions) -> LocalPort:
    """The first one that is free. Raises: PortUnavailableError."""
    low, high = options.local_port_range
    for number in range(low, high):
        try:
            return LocalPort.open(number, families=options.families)
        except PortUnavailableError as error:
            _log.debug("not this one: %s", error)
    return LocalPort.open(high, families=options.families)


async def _synchronise(exchange: Exchange, role: Role) -> None:
    """Returns at the agreed moment, which is the same on both sides but for the mailbox's jitter."""
    loop = asyncio.get_running_loop()
    if role is Role.A:
        asked = loop.time()
        await exchange.send(encode(Ping()))
        await _receive(exchange, Pong)
        said = loop.time()
        await exchange.send(encode(Go()))
        await asyncio.sleep(said + start_delay(said - asked) - loop.time())
    else:
        await _receive(exchange, Ping)
        await exchange.send(encode(Pong()))
        await _receive(exchange, Go)


async def _receive(exchange: Exchange, kind: type[Message]) -> Message:
    message = decode(await exchange.receive())
    expect(message, kind)
    return message


@contextlib.asynccontextmanager
async def _bounded(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise PeerLostError(f"the other side did not answer within {seconds:g} s") from error
