"""One node's link to the Redis (or Valkey) it shares with the others: commands in batches, and a channel of its own.

Commands that are asked for while others are under way go together in one write, in order; so a node needs one
connection, and is fast without many. Nothing is tried twice: whether a command that got no answer has run is not known,
and who asked is told so.

A link that breaks is made anew for ever. What was published meanwhile is lost, so each time it is up again the node is
told that it has missed something; or, when the Redis has come back without what was in it (it has another *epoch*),
that everything is forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import deque
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, Protocol

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from midair.errors import UsageError
from midair.server.store import StoreUnavailable

__all__ = ["Hearer", "Link", "Script"]

log = logging.getLogger("midair.server.shared")

ANSWER_SECONDS: Final = 5.0
"""How long Redis may take for one batch."""
CONNECT_SECONDS: Final = 3.0
RETRY_SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Before it is tried again; the last again and again."""
MAX_BATCH: Final = 200
"""Commands in one write: a busy Redis does them in some milliseconds."""
MAX_WAITING: Final = 20_000
"""Commands that wait for their batch."""
HEARTBEAT_SECONDS: Final = 5.0
"""How often the node says something to itself, and how long that may take: a link that is dead shows by it."""

_ARGUMENT = bytes | str | int | float


class Script:
    """A Lua script of this folder, loaded by its hash."""

    def __init__(self, name: str) -> None:
        self.text = files(__package__).joinpath(name).read_text("utf-8")


class Hearer(Protocol):
    """What is told of the link, by the task that runs it."""

    async def published(self, payload: bytes) -> None:
        """Something came on this node's channel."""

    async def joined(self, *, forgotten: bool) -> None:
        """The link is up: for the first time, or again."""


@dataclass(slots=True)
class _Asked:
    script: Script
    arguments: tuple[_ARGUMENT, ...]
    answer: asyncio.Future[Any]


class Link:
    """Usable while :meth:`run` runs."""

    def __init__(self, url: str, *, node: str | None = None) -> None:
        """``url``: redis://, rediss:// or unix://, as redis-py has them. Raises: UsageError."""
        self.node: Final = node or secrets.token_hex(8)
        """This process's name among the nodes."""
        self.up = False
        """Whether anything can be asked."""
        self.ready = False
        """Whether, besides, the node has caught up."""
        self._waiting: deque[_Asked] = deque()
        self._asked = asyncio.Event()
        self._hashes: dict[Script, str] = {}
        self._epoch: bytes | str | None = None
        self._channel = f"midair:node {self.node}"
        self._echoes = 0
        try:
            self._redis = Redis.from_url(
                url,
                socket_timeout=ANSWER_SECONDS,
                socket_connect_timeout=CONNECT_SECONDS,
                retry=Retry(NoBackoff(), 0),
                max_connections=4,
            )
        except ValueError as error:
            raise UsageError(
                "the address of the store cannot be understood",
                hint="Write it as redis://HOST:PORT/0, rediss:// with TLS, or unix:///PATH.",
            ) from error

    @property
    def host(self) -> str | None:
        """Where Redis is; None when it is here, behind a Unix socket."""
        host: str | None = self._redis.connection_pool.connection_kwargs.get("host")
        return host

    async def call(self, script: Script, *arguments: _ARGUMENT) -> Any:
        """What ``script`` answers. Cancelling does not keep it from running. Raises: StoreUnavailable."""
        if not self.up or len(self._waiting) >= MAX_WAITING:
            raise StoreUnavailable("the shared store is away")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Asked(script, arguments, answer))
        self._asked.set()
        return await answer

    async def run(self, hearer: Hearer) -> None:
        """Keeps the link up until cancelled; then, or when it breaks, everything asked for fails."""
        failures = 0
        try:
            while True:
                try:
                    async with self._redis.pubsub() as channel:
                        forgotten = await self._join(channel)
                        failures = 0
                        await self._use(channel, hearer, forgotten=forgotten)
                except Exception as error:
                    expected = isinstance(error, RedisError | OSError)  # TimeoutError is one
                    if failures == 0 or not expected:
                        log.warning("the shared store is away: %s", type(error).__name__, exc_info=not expected)
                    self._fail()
                    with contextlib.suppress(RedisError, OSError):
                        await self._redis.connection_pool.disconnect()
                    await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                    failures += 1
        finally:
            self._fail()
            with contextlib.suppress(RedisError, OSError):
                await self._redis.aclose()

    async def _join(self, channel: PubSub) -> bool:
        """Subscribes, and says whether Redis has forgotten what this node knew of it."""
        await channel.subscribe(self._channel)
        if await channel.get_message(timeout=ANSWER_SECONDS) is None:  # the confirmation: from here on nothing is lost
            raise TimeoutError("no answer to the subscription")
        await self._redis.set("midair:epoch", secrets.token_hex(16), nx=True)
        epoch = await self._redis.get("midair:epoch")
        self._hashes.clear()
        forgotten = self._epoch is not None and epoch != self._epoch
        self._epoch = epoch
        return forgotten

    async def _use(self, channel: PubSub, hearer: Hearer, *, forgotten: bool) -> None:
        self.up = True
        tasks = {
            asyncio.create_task(self._work()),
            asyncio.create_task(self._beat()),
            asyncio.create_task(self._hear(channel, hearer, forgotten=forgotten)),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._fail()
            # The library can swallow a cancellation while it is busy with a broken connection.
            while pending := [task for task in tasks if not task.done()]:
                for task in pending:
                    task.cancel()
                await asyncio.wait(pending, timeout=0.2)
            await asyncio.gather(*tasks, return_exceptions=True)

    def _fail(self) -> None:
        self.up = self.ready = False
        while self._waiting:
            _settle(self._waiting.popleft().answer, StoreUnavailable("the shared store is away"))

    async def _hear(self, channel: PubSub, hearer: Hearer, *, forgotten: bool) -> None:
        try:
            await hearer.joined(forgotten=forgotten)
            self.ready = True
            async for message in channel.listen():
                if message["type"] != "message":
                    continue
                if message["data"]:
                    await hearer.published(message["data"])
                else:
                    self._echoes += 1
        except StoreUnavailable as error:
            raise ConnectionError(str(error)) from error
        raise ConnectionError("the channel has ended")

    async def _beat(self) -> None:
        # Through Redis and back on our own channel: a command that is answered says nothing of the channel.
        while True:
            before = self._echoes
            await self._redis.publish(self._channel, b"")
            await asyncio.sleep(HEARTBEAT_SECONDS)
            if self._echoes == before:
                raise ConnectionError("the channel is dead")

    async def _work(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
                try:
                    await self._run_batch(batch)
                except BaseException:
                    for asked in batch:
                        _settle(asked.answer, StoreUnavailable("the shared store did not answer"))
                    raise

    async def _run_batch(self, batch: list[_Asked]) -> None:
        for script in {asked.script for asked in batch} - self._hashes.keys():
            self._hashes[script] = await self._redis.script_load(script.text)
        async with self._redis.pipeline(transaction=False) as pipeline:
            for asked in batch:
                pipeline.evalsha(self._hashes[asked.script], 0, *asked.arguments)
            answers = await pipeline.execute(raise_on_error=False)
        for asked, answer in zip(batch, answers, strict=True):
            match answer:
                case NoScriptError():  # somebody has flushed them, or it was started anew
                    raise answer
                case ResponseError():  # such as out of memory, or a script of ours that is wrong
                    log.warning("the shared store refuses: %s", str(answer)[:200])
                    _settle(asked.answer, StoreUnavailable("the shared store refuses"))
                case RedisError():
                    raise answer
                case _:
                    _settle(asked.answer, answer)


def _settle(future: asyncio.Future[Any], outcome: Any) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
