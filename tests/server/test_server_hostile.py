"""Hostile clients; a short siege of which `make soak-hostile` is the long form."""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import ExitStack

import pytest
from hostile import ATTACKS, any_attack
from server_peers import MailboxPeer, eventually, metric, port_of, running
from siege import besiege, check
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from midair.server.mailboxes import MAX_ERRORS


def test_an_attack_comes_again_with_its_seed() -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    one, other = random.Random(seed), random.Random(seed)
    attacks = [any_attack(one) for _ in range(150)]
    assert [name for name, _ in attacks] == [name for name, _ in (any_attack(other) for _ in range(150))], seed
    assert {name.removesuffix(" proxied") for name, _ in attacks} == set(ATTACKS), seed


@pytest.mark.timeout(120)
async def test_hostile_clients_crash_nothing_leave_nothing_and_keep_nobody_from_being_served() -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    outcome = await besiege(seed, 2, attackers=40)
    check(outcome)
    assert outcome.attacks.total() > 60, outcome
    assert len(outcome.refusals) > 6, outcome


async def test_a_client_that_errs_again_and_again_is_sent_away() -> None:
    async with running() as server:
        async with MailboxPeer.connected(server, "a") as peer, MailboxPeer.connected(server, "b") as other:
            for _ in range(MAX_ERRORS):
                await peer.send("no such command")
            for _ in range(MAX_ERRORS):
                assert (await peer.expect("error"))["error"] == "unknown type"
            with pytest.raises(ConnectionClosed) as caught:
                await peer.receive()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == CloseCode.POLICY_VIOLATION
            await other.send("ping", ping=1)
            await other.expect("pong")
        await eventually(lambda: server._admission.total == 0)
        assert metric(server, 'midair_refusals_total{reason="errors"}') == 1
        assert not server._mailboxes._errors


async def test_a_flood_of_connections_does_not_keep_others_in_the_queue() -> None:
    async with running() as server:
        with ExitStack() as stack:
            for _ in range(128):
                stack.enter_context(socket.create_connection(("127.0.0.1", port_of(server))))
            rounds = 0
            while server._admission.total < 128:
                rounds += 1
                await asyncio.sleep(0)
            assert rounds < 32
        await eventually(lambda: server._admission.total == 0)
