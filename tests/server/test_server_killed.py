"""Nodes as processes of their own, behind a balancer: one is killed in the middle and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from hashlib import blake2b
from pathlib import Path

import pytest
from redis_process import RedisProcess

from midair.config import ServerURL
from midair.rendezvous import meet_as_receiver, meet_as_sender
from support import Command, midair, serving

FILE_BYTES = 24 << 20
PAIRS = 20


@asynccontextmanager
async def balancer(servers: list[str]) -> AsyncIterator[tuple[str, list[str]]]:
    """A ws:// address behind which ``servers`` take turns, those that are alive; and the log of who was taken."""
    taken: list[str] = []
    turns = itertools.count()
    tasks: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 18):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        turn = next(turns)
        for server in servers[turn % len(servers) :] + servers[: turn % len(servers)]:
            url = ServerURL.parse(server)
            with contextlib.suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection(url.host, url.port)
                taken.append(server)
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer))
                far_writer.close()
                break
        writer.close()
        tasks.discard(task)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}", taken
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def two_nodes(redis: RedisProcess, stack: ExitStack) -> dict[str, Command]:
    """Their addresses, and the processes."""
    return dict(stack.enter_context(serving("127.0.0.1:0", "--store", redis.url)) for _ in range(2))


@pytest.mark.timeout(60)
async def test_a_relayed_transfer_goes_on_when_the_node_it_goes_through_is_killed(tmp_path: Path) -> None:
    source, target = tmp_path / "big", tmp_path / "received"
    source.write_bytes(os.urandom(FILE_BYTES))
    target.mkdir()
    with RedisProcess(tmp_path) as redis, ExitStack() as stack:
        nodes = two_nodes(redis, stack)
        async with balancer(list(nodes)) as (address, taken):
            options = ("--server", address, "--relay-only", "--json")
            sender = stack.enter_context(midair("send", *options, "--limit-rate", "12M", source))
            code = (await asyncio.to_thread(sender.event, "code"))["code"]
            receiver = stack.enter_context(midair("receive", *options, "-y", "-o", target, code))
            await asyncio.to_thread(receiver.event, "progress", lambda event: event["bytes"] > FILE_BYTES // 8)
            assert set(taken) == set(nodes)
            nodes[taken[0]].kill()
            assert await asyncio.to_thread(receiver.wait, 40) == 0
            assert await asyncio.to_thread(sender.wait, 10) == 0
        assert len(receiver.of("path")) >= 2
    assert blake2b((target / "big").read_bytes()).digest() == blake2b(source.read_bytes()).digest()


@pytest.mark.timeout(60)
async def test_everybody_who_waits_is_met_though_a_node_is_killed(tmp_path: Path) -> None:
    """Twenty senders wait, at both nodes in turn; one node dies; then their receivers come."""
    with RedisProcess(tmp_path) as redis, ExitStack() as stack:
        nodes = two_nodes(redis, stack)
        async with balancer(list(nodes)) as (address, taken):
            server = ServerURL.parse(address)
            codes: asyncio.Queue[str] = asyncio.Queue()
            senders = [
                asyncio.create_task(meet_as_sender(server, app_versions={}, on_code=codes.put_nowait))
                for _ in range(PAIRS)
            ]
            known = [await codes.get() for _ in range(PAIRS)]
            assert set(taken) == set(nodes)
            nodes[taken[0]].kill()
            receivers = [meet_as_receiver(server, code, app_versions={}, wait=20) for code in known]
            met = await asyncio.gather(*receivers, *senders)
            keys = [{meeting.code: meeting.key for meeting in each} for each in (met[:PAIRS], met[PAIRS:])]
            await asyncio.gather(*[meeting.close() for meeting in met])
        assert keys[0] == keys[1]
        assert len(keys[0]) == PAIRS
