"""Several nodes over one real Redis: pairs meet and are relayed whichever nodes they come to, through every loss."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import blake2b

import pytest
from redis_process import RedisProcess
from server_peers import MailboxPeer, dial, eventually, http, metric, port_of, read_all, running
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from midair.config import ServerLimits, ServerURL
from midair.endpoint import Endpoint
from midair.relay import open_leg
from midair.relay.wire import Preamble
from midair.rendezvous import meet_as_receiver, meet_as_sender
from midair.server import Server
from midair.server.node_wire import encode_node_preamble
from midair.server.shared import Shared

LIMITS = ServerLimits()
TOKEN = b"t" * 32
A, B = b"a" * 8, b"b" * 8


@pytest.fixture(scope="module")
def one_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with RedisProcess(tmp_path_factory.mktemp("redis")) as process:
        yield process


@pytest.fixture
def redis(one_redis: RedisProcess) -> RedisProcess:
    """Empty."""
    one_redis.say("FLUSHALL")
    return one_redis


@asynccontextmanager
async def node(redis: RedisProcess, limits: ServerLimits = LIMITS, *, name: str | None = None) -> AsyncIterator[Server]:
    shared = Shared(redis.url, limits, node=name)
    async with running(shared=shared, limits=limits) as server:
        async with asyncio.timeout(5):
            await shared.first_joined.wait()
        yield server


@asynccontextmanager
async def two_nodes(redis: RedisProcess, limits: ServerLimits = LIMITS) -> AsyncIterator[tuple[Server, Server]]:
    async with node(redis, limits) as one, node(redis, limits) as other:
        yield one, other


def url_of(server: Server) -> ServerURL:
    return ServerURL(secure=False, host="127.0.0.1", port=port_of(server))


async def leg(server: Server, side: bytes, *, timeout: float = 5) -> socket.socket:
    return await open_leg(url_of(server), TOKEN, side, timeout=timeout)


async def waiting_leg(server: Server, side: bytes) -> asyncio.Task[socket.socket]:
    """A leg that waits at ``server``, which the directory knows."""
    task = asyncio.create_task(leg(server, side))
    assert server._shared is not None
    shared = server._shared
    await eventually(lambda: bool(server._relay._waiting))
    await shared.legs.announce()  # comes behind the leg's own question, in the same pipeline
    return task


async def receive(sock: socket.socket, count: int) -> bytes:
    data = b""
    async with asyncio.timeout(5):
        while len(data) < count and (more := await asyncio.get_running_loop().sock_recv(sock, count - len(data))):
            data += more
    return data


async def status(server: Server, path: str) -> str:
    answer = await http(server, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return answer.split(b"\r\n")[0].decode()


async def open_box(peer: MailboxPeer, nameplate: str = "7") -> str:
    await peer.send("claim", nameplate=nameplate)
    mailbox: str = (await peer.expect("claimed"))["mailbox"]
    await peer.send("open", mailbox=mailbox)
    await peer.send("ping", ping=1)
    return mailbox


async def test_a_pair_meets_across_nodes_and_hears_everything_once_and_in_order(redis: RedisProcess) -> None:
    async with (
        two_nodes(redis) as (one, other),
        MailboxPeer.connected(one, "alice") as alice,
        MailboxPeer.connected(other, "bob") as bob,
    ):
        assert await open_box(alice) == await open_box(bob)
        for peer in (alice, bob):
            await peer.expect("pong")
        for number in range(20):
            await alice.send("add", phase=f"a{number}", body="00")
            await bob.send("add", phase=f"b{number}", body="00")
        heard = {peer: [(await peer.expect("message"))["phase"] for _ in range(40)] for peer in (alice, bob)}
        assert heard[alice] == heard[bob]
        assert sorted(heard[alice]) == sorted(f"{side}{number}" for side in "ab" for number in range(20))
        assert metric(one, "midair_pairs_met_total") + metric(other, "midair_pairs_met_total") == 1
        for peer in (alice, bob):
            await peer.send("release")
            await peer.expect("released")
            await peer.send("close")
            await peer.expect("closed")
    assert b"midair:box" not in redis.say("KEYS *")
    assert redis.say("GET midair:stored") == b"$1\r\n0\r\n"


async def test_a_third_side_is_crowded_at_any_node(redis: RedisProcess) -> None:
    async with (
        two_nodes(redis) as (one, other),
        MailboxPeer.connected(one, "alice") as alice,
        MailboxPeer.connected(other, "bob") as bob,
        MailboxPeer.connected(one, "carol") as carol,
    ):
        for peer in (alice, bob):
            await peer.send("claim", nameplate="7")
            await peer.expect("claimed")
        await carol.send("claim", nameplate="7")
        assert (await carol.expect("error"))["error"] == "crowded"


async def test_a_mailbox_survives_its_node_and_goes_on_at_another(redis: RedisProcess) -> None:
    async with node(redis) as other, MailboxPeer.connected(other, "bob") as bob:
        async with node(redis) as one, MailboxPeer.connected(one, "alice") as alice:
            mailbox = await open_box(alice)
            await alice.expect("pong")
            await alice.send("add", phase="pake", body="01")
            await alice.expect("message")
            await one.stop()
        await open_box(bob)
        assert (await bob.expect("message"))["phase"] == "pake"
        await bob.expect("pong")
        await bob.send("add", phase="answer", body="02")
        await bob.expect("message")
        async with MailboxPeer.connected(other, "alice") as alice:
            assert await open_box(alice) == mailbox
            assert [(await alice.expect("message"))["phase"] for _ in range(2)] == ["pake", "answer"]


async def test_what_was_published_while_a_node_was_deaf_is_read_when_it_hears_again(redis: RedisProcess) -> None:
    async with (
        two_nodes(redis) as (one, other),
        MailboxPeer.connected(one, "alice") as alice,
        MailboxPeer.connected(other, "bob") as bob,
    ):
        for peer in (alice, bob):
            await open_box(peer)
            await peer.expect("pong")
        assert one._shared is not None
        hear = one._shared.published

        async def deaf(payload: bytes) -> None:
            pass

        one._shared.published = deaf  # type: ignore[method-assign]
        for phase in ("one", "two"):
            await bob.send("add", phase=phase, body="00")
            await bob.expect("message")
        await alice.send("ping", ping=9)
        await alice.expect("pong")
        one._shared.published = hear  # type: ignore[method-assign]
        redis.say("CLIENT KILL TYPE pubsub")
        assert [(await alice.expect("message"))["phase"] for _ in range(2)] == ["one", "two"]


async def test_a_message_of_which_only_the_next_was_heard_is_read(redis: RedisProcess) -> None:
    async with (
        two_nodes(redis) as (one, other),
        MailboxPeer.connected(one, "alice") as alice,
        MailboxPeer.connected(other, "bob") as bob,
    ):
        for peer in (alice, bob):
            await open_box(peer)
            await peer.expect("pong")
        assert one._shared is not None
        hear, heard = one._shared.published, 0

        async def miss_the_first(payload: bytes) -> None:
            nonlocal heard
            heard += 1
            if heard > 1:
                await hear(payload)

        one._shared.published = miss_the_first  # type: ignore[method-assign]
        for phase in ("one", "two", "three"):
            await bob.send("add", phase=phase, body="00")
        assert [(await alice.expect("message"))["phase"] for _ in range(3)] == ["one", "two", "three"]


async def test_without_its_redis_a_node_says_so_and_recovers_by_itself(redis: RedisProcess) -> None:
    async with node(redis) as server, MailboxPeer.connected(server, "alice") as alice:
        assert await status(server, "/readyz") == "HTTP/1.1 200 OK"
        redis.kill()
        try:
            await eventually(lambda: server.trouble is not None)
            assert await status(server, "/readyz") == "HTTP/1.1 503 Service Unavailable"
            assert await status(server, "/healthz") == "HTTP/1.1 200 OK"
            with pytest.raises(InvalidStatus, match="503"):
                await connect(f"{url_of(server)}/v1")
            await alice.send("allocate")
            await alice.socket.wait_closed()
            assert alice.socket.close_code == 1013
            assert metric(server, 'midair_refusals_total{reason="store-away"}') == 1
        finally:
            redis.start()
        await eventually(lambda: server.trouble is None)
        async with MailboxPeer.connected(server, "alice") as alice:
            await alice.send("allocate")
            await alice.expect("allocated")


async def test_real_peers_meet_though_redis_comes_back_empty_while_one_waits(redis: RedisProcess) -> None:
    async with two_nodes(redis) as (one, other):
        code: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        sending = asyncio.create_task(
            meet_as_sender(url_of(one), code=None, app_versions={}, on_code=code.set_result, wait=15)
        )
        await code
        await eventually(lambda: b"midair:messages" in redis.say("KEYS *"))
        redis.kill()
        await eventually(lambda: one.trouble is not None and other.trouble is not None)
        redis.start()
        await eventually(lambda: one.trouble is None and other.trouble is None)
        receiving = await meet_as_receiver(url_of(other), code.result(), app_versions={}, wait=10)
        async with receiving, await sending as sender:
            await sender.send(b"hello")
            assert await receiving.receive() == b"hello"


async def test_a_redis_that_keeps_its_data_loses_nobody(tmp_path_factory: pytest.TempPathFactory) -> None:
    with RedisProcess(tmp_path_factory.mktemp("kept"), persistent=True) as redis:
        async with node(redis) as server, MailboxPeer.connected(server, "alice") as alice:
            await open_box(alice)
            await alice.expect("pong")
            redis.kill()
            await eventually(lambda: server.trouble is not None)
            redis.start()
            await eventually(lambda: server.trouble is None)
            await alice.send("add", phase="pake", body="00")
            assert (await alice.expect("message"))["phase"] == "pake"


@pytest.mark.parametrize("first", [0, 1])
async def test_relay_legs_at_different_nodes_are_one_connection(redis: RedisProcess, first: int) -> None:
    async with two_nodes(redis) as nodes:
        loop = asyncio.get_running_loop()
        waiting = await waiting_leg(nodes[first], A)
        with await leg(nodes[1 - first], B) as two, await waiting as one:
            data = os.urandom(8 << 20)
            for source, target in ((one, two), (two, one)):
                sending = asyncio.create_task(loop.sock_sendall(source, data))
                assert blake2b(await receive(target, len(data))).digest() == blake2b(data).digest()
                await sending
            one.shutdown(socket.SHUT_WR)
            assert await receive(two, 1) == b""
            await loop.sock_sendall(two, b"still")
            assert await receive(one, 5) == b"still"
        await eventually(lambda: all(server._relay._legs == 0 for server in nodes))
        assert metric(nodes[first], "midair_relay_pairs_total") == 1
        assert metric(nodes[first], "midair_relay_bytes_total") == 2 * len(data) + 5
        assert metric(nodes[1 - first], "midair_relay_forwarded_bytes_total") == 2 * len(data) + 5
        assert metric(nodes[1 - first], "midair_relay_pairs_total") == 0


async def test_legs_that_come_to_different_nodes_at_the_same_moment_find_each_other(redis: RedisProcess) -> None:
    async with two_nodes(redis) as (one, other):
        for _ in range(20):
            first, second = await asyncio.gather(leg(one, A), leg(other, B))
            with first, second:
                await asyncio.get_running_loop().sock_sendall(first, b"x")
                assert await receive(second, 1) == b"x"


async def test_a_leg_whose_partner_has_left_its_node_waits_and_is_found(redis: RedisProcess) -> None:
    async with two_nodes(redis) as (one, other):
        (await waiting_leg(one, A)).cancel()
        await eventually(lambda: not one._relay._waiting)
        waiting = await waiting_leg(other, B)
        await eventually(lambda: metric(other, 'midair_refusals_total{reason="relay-forward"}') == 1)
        with await leg(one, A) as first, await waiting as second:
            await asyncio.get_running_loop().sock_sendall(first, b"x")
            assert await receive(second, 1) == b"x"


async def test_a_leg_whose_partner_waited_at_a_dead_node_waits_and_is_found(redis: RedisProcess) -> None:
    async with node(redis) as other:
        async with node(redis) as dead:
            waiting = await waiting_leg(dead, A)
            await asyncio.get_running_loop().run_in_executor(None, redis.say, "PING")
            await dead.stop()
            await asyncio.gather(waiting, return_exceptions=True)
        second = await waiting_leg(other, B)
        with await leg(other, A), await second:
            pass


async def test_legs_that_waited_while_redis_was_away_find_each_other_when_it_is_back(redis: RedisProcess) -> None:
    async with two_nodes(redis) as (one, other):
        redis.kill()
        try:
            await eventually(lambda: one.trouble is not None and other.trouble is not None)
            legs = [asyncio.create_task(leg(one, A)), asyncio.create_task(leg(other, B))]
            await eventually(lambda: bool(one._relay._waiting and other._relay._waiting))
        finally:
            redis.start()
        for sock in await asyncio.gather(*legs):
            sock.close()


@pytest.mark.parametrize("node_name", ["target", "another"])
async def test_who_lacks_the_key_or_names_another_node_does_not_pass_for_a_node(
    redis: RedisProcess, node_name: str
) -> None:
    async with node(redis, name="target") as server:
        assert server._shared is not None
        key = b"k" * 32 if node_name == "target" else server._shared.legs.key
        assert key is not None
        waiting = await waiting_leg(server, A)
        with await dial(server) as sock:
            preamble = encode_node_preamble(Preamble(token=TOKEN, side=B), key=key, node=node_name)
            await asyncio.get_running_loop().sock_sendall(sock, preamble)
            assert (await read_all(sock)).startswith(b"ERR protocol ")
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with running() as alone, asyncio.timeout(5):
        with await dial(alone) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, preamble)
            assert (await read_all(sock)).startswith(b"ERR protocol ")


async def test_nodes_may_have_more_connections_than_an_address(redis: RedisProcess) -> None:
    limits = replace(LIMITS, connections_per_address=1)
    async with node(redis, limits) as server:
        assert server._shared is not None
        legs = server._shared.legs
        assert legs.fellows == {legs.node: server.endpoints[0]}
        assert server._shared.is_fellow(Endpoint.parse("127.0.0.1:1"))
        assert not server._shared.is_fellow(Endpoint.parse("192.0.2.1:1"))
        socks = [await dial(server) for _ in range(20)]
        await eventually(lambda: server._admission.total == 20)
        for sock in socks:
            sock.close()
