"""A connection to a real Redis, with everything an address can ask for."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trustme
from redis_process import RedisProcess

from midair.server.shared.redis_address import RedisAddress
from midair.server.shared.redis_connection import RedisConnection, open_redis
from midair.server.shared.resp import Reply, ReplyError
from support import wait_until


@asynccontextmanager
async def connected(address: RedisAddress) -> AsyncIterator[RedisConnection]:
    connection = await open_redis(address, timeout=5)
    try:
        yield connection
    finally:
        connection.abort()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisProcess]:
    with RedisProcess(tmp_path) as process:
        yield process


@contextmanager
def secured(folder: Path, chain: Path, ca: Path) -> Iterator[int]:
    """A Redis with TLS, whose password is `word`: its port."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
    options = {"port": 0, "tls-port": port, "bind": "127.0.0.1", "requirepass": "word", "save": "", "dir": folder}
    options |= {"tls-cert-file": chain, "tls-key-file": chain, "tls-ca-cert-file": ca, "tls-auth-clients": "no"}
    argv = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    with subprocess.Popen(["redis-server", *argv], stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: is_listening(port), "Redis")
            yield port
        finally:
            process.kill()


def is_listening(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


async def test_answers_come_in_the_order_of_the_questions(redis: RedisProcess) -> None:
    async with connected(RedisAddress.parse(redis.url)) as connection:
        answers = [connection.ask("INCR", "counter") for _ in range(1000)]
        wrong = connection.ask("NONSENSE")
        assert await asyncio.gather(*answers) == list(range(1, 1001))
        assert isinstance(await wrong, ReplyError)
        assert connection.silent_since is None
        with pytest.raises(ReplyError):
            await connection.say("NONSENSE")


async def test_what_is_published_is_heard(redis: RedisProcess) -> None:
    heard: asyncio.Queue[Reply] = asyncio.Queue()
    address = RedisAddress.parse(redis.url)
    async with connected(address) as channel, connected(address) as other:
        await channel.subscribe("here", heard.put_nowait)
        for number in range(3):
            assert await other.say("PUBLISH", "here", number) == 1
        async with asyncio.timeout(5):
            assert [await heard.get() for _ in range(3)] == [b"0", b"1", b"2"]


async def test_questions_fail_when_redis_goes_and_afterwards(redis: RedisProcess) -> None:
    async with connected(RedisAddress.parse(redis.url)) as connection:
        waiting = connection.ask("BLPOP", "nothing", 0)
        redis.kill()
        for answer in (waiting, connection.ask("GET", "x")):
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(answer, 5)
        assert connection.lost.done()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(connection.ask("GET", "x"), 5)


async def test_a_password_a_database_and_tls_are_used(tmp_path: Path) -> None:
    authority = trustme.CA()
    chain, ca = tmp_path / "chain.pem", tmp_path / "ca.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(chain))
    authority.cert_pem.write_to_path(str(ca))
    with secured(tmp_path, chain, ca) as port:
        place = f"127.0.0.1:{port}"
        async with connected(RedisAddress.parse(f"rediss://:word@{place}/3?ssl_ca_certs={ca}")) as connection:
            assert " db=3 " in str(await connection.say("CLIENT", "INFO"))
        with pytest.raises(ReplyError, match="WRONGPASS"):
            await open_redis(RedisAddress.parse(f"rediss://:drow@{place}/3?ssl_ca_certs={ca}"), timeout=5)
        with pytest.raises(OSError, match="certificate"):
            await open_redis(RedisAddress.parse(f"rediss://:word@{place}/3"), timeout=5)
