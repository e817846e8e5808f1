"""Legs in WebSockets that come to different nodes of one server, over a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis_process import RedisProcess
from server_peers import metric, running
from web_leg_peers import TOKEN, A, B, all_gone, leg, receive

from midair.config import ServerLimits
from midair.server import Server
from midair.server.shared import Shared


@asynccontextmanager
async def node(redis: RedisProcess) -> AsyncIterator[Server]:
    shared = Shared(redis.url, ServerLimits())
    async with running(shared=shared) as server:
        async with asyncio.timeout(5):
            await shared.first_joined.wait()
        yield server


@pytest.mark.parametrize("forms", [("websocket", "websocket"), ("plain", "websocket"), ("websocket", "plain")])
async def test_legs_at_different_nodes_are_joined_whatever_their_form(forms: tuple[str, str], tmp_path: Path) -> None:
    with RedisProcess(tmp_path) as redis:
        async with node(redis) as one, node(redis) as other:
            first, second = await asyncio.gather(leg(one, forms[0], A), leg(other, forms[1], B))
            with first, second:
                loop = asyncio.get_running_loop()
                for source, target in ((first, second), (second, first)):
                    await loop.sock_sendall(source, TOKEN * 1000)
                    assert await receive(target, 32_000) == TOKEN * 1000
            await all_gone(one)
            await all_gone(other)
            assert sum(metric(each, "midair_relay_forwarded_bytes_total") for each in (one, other)) == 64_000
