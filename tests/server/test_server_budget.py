"""What may be relayed in a day: counted for each address, over all nodes, and cutting only who has used it up."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from redis_process import RedisProcess
from server_peers import eventually, linked, metric, port_of, read_all, running

from midair.config import ServerLimits
from midair.endpoint import Endpoint
from midair.relay.wire import OK, Preamble, encode_preamble
from midair.server import Server
from midair.server.budget import DAY_SECONDS, OWNERS_MAX, Budget
from midair.server.shared.legs import RedisLegs

LIMITS = replace(ServerLimits(), relay_bytes_per_address_and_day=1000, relay_bytes_per_day=2500)


def test_each_address_and_all_together_have_so_much_a_day() -> None:
    budget = Budget(LIMITS, clock=lambda: 0)
    budget.spend(("a", "b"), 400)
    budget.spend(("a", "c"), 500)
    assert [budget.left((owner,)) for owner in "abcd"] == [100, 600, 500, 1000]
    assert budget.left(("a", "d")) == 100
    budget.spend(("d",), 1000)
    assert [budget.left((owner,)) for owner in "abe"] == [100, 600, 600]
    budget.spend(("e",), 700)
    assert budget.left(("f",)) == 0


def test_a_pair_of_one_address_is_counted_once() -> None:
    budget = Budget(LIMITS, clock=lambda: 0)
    budget.spend(("a", "a"), 400)
    assert budget.left(("a",)) == 600


def test_a_new_day_begins_with_nothing_spent() -> None:
    now = DAY_SECONDS - 1.0
    budget = Budget(LIMITS, clock=lambda: now)
    budget.spend(("a",), 1000)
    assert budget.left(("a",)) == 0
    now += 1
    assert budget.left(("a",)) == 1000
    assert budget.unshared() == {}


def test_addresses_without_number_share_one_account_and_no_memory() -> None:
    budget = Budget(replace(LIMITS, relay_bytes_per_day=1 << 60), clock=lambda: 0)
    for number in range(OWNERS_MAX + 50):
        budget.spend((str(number),), 10)
    assert len(budget._spent) <= OWNERS_MAX + 2
    assert budget.left(("nobody yet",)) < 1000
    assert budget.left(("5",)) == 990


def test_what_is_spent_while_the_others_are_told_is_not_forgotten() -> None:
    budget = Budget(LIMITS, clock=lambda: 0)
    budget.spend(("a",), 300)
    assert budget.unshared() == {"a": 300, "all": 300}
    budget.spend(("a",), 100)
    budget.learn(budget.day, {"a": 800})
    assert budget.left(("a",)) == 100
    budget.learn(budget.day - 1, {"a": 5})
    assert budget.left(("a",)) == 100


async def leg(stack: ExitStack, server: Server, address: str, token: bytes, side: bytes) -> socket.socket:
    """A leg from one of this machine's addresses, whose preamble has been sent."""
    sock = stack.enter_context(socket.socket())
    sock.setblocking(False)
    sock.bind((address, 0))
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", port_of(server)))
    await loop.sock_sendall(sock, encode_preamble(Preamble(token=token * 32, side=side * 8)))
    return sock


async def pair(stack: ExitStack, server: Server, address: str, token: bytes) -> tuple[socket.socket, socket.socket]:
    one, other = [await leg(stack, server, address, token, side) for side in (b"a", b"b")]
    for sock in (one, other):
        assert await asyncio.get_running_loop().sock_recv(sock, len(OK)) == OK
    return one, other


async def test_who_has_used_up_a_day_is_cut_at_the_byte_and_nobody_else_is() -> None:
    limits = replace(ServerLimits(), relay_bytes_per_address_and_day=100_000)
    loop = asyncio.get_running_loop()
    async with running(limits=limits) as server:
        with ExitStack() as stack:
            greedy = await pair(stack, server, "127.0.0.2", b"g")
            frugal = await pair(stack, server, "127.0.0.3", b"f")
            await loop.sock_sendall(greedy[0], b"x" * 60_000)
            second = await pair(stack, server, "127.0.0.2", b"s")
            await loop.sock_sendall(second[0], b"x" * 50_000)
            assert len(await read_all(second[1])) <= 40_000
            await loop.sock_sendall(greedy[0], b"x")
            assert len(await read_all(greedy[1])) == 60_000
            late = await leg(stack, server, "127.0.0.2", b"l", b"a")
            assert (await read_all(late)).startswith(b"ERR quota your address has used up")
            await loop.sock_sendall(frugal[0], b"y" * 100_000)
            frugal[0].shutdown(socket.SHUT_WR)
            assert len(await read_all(frugal[1])) == 100_000
        await eventually(lambda: server._admission.total == 0)
        assert metric(server, "midair_relay_bytes_total") == 200_000
        assert metric(server, 'midair_refusals_total{reason="relay-bytes"}') == 2
        assert metric(server, 'midair_refusals_total{reason="relay-day"}') == 1


@pytest.mark.parametrize("away", [False, True])
async def test_nodes_count_together_and_nothing_is_forgotten_while_redis_is_away(tmp_path: Path, away: bool) -> None:
    with RedisProcess(tmp_path) as redis:
        async with linked(redis.url) as one, linked(redis.url) as other:
            budgets = [Budget(LIMITS, clock=lambda: 5e8) for _ in range(2)]
            nodes = [RedisLegs(link, wait_seconds=1) for link in (one, other)]
            for node in nodes:
                node.address = Endpoint.parse("127.0.0.1:1")
            budgets[0].spend(("a",), 300)
            budgets[1].spend(("a",), 500)
            if away:
                one.up = False
                await nodes[0].share(budgets[0])
                one.up = True
            for node, budget in zip(nodes, budgets, strict=True):
                await node.share(budget)
            assert budgets[1].left(("a",)) == 200
            assert budgets[0].left(("a",)) == 700
            budgets[0].spend(("a",), 50)
            await nodes[0].share(budgets[0])
            assert budgets[0].left(("a",)) == 150
