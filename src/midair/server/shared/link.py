"""One node's link to the Redis (or Valkey) it shares with the others: a connection to ask, and one to hear on.

Commands that are asked for in one round of the event loop go together in one write, and nothing waits for the answers
before it; so a node needs one connection, and is fast without many. Nothing is tried twice: whether a command that got
no answer has run is not known, and who asked is told so.

A link that breaks is made anew for ever. What was published meanwhile is lost, so each time it is up again the node is
told that it has missed something; or, when the Redis has come back without what was in it (it has another *epoch*),
that everything is forgotten.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections import deque
from importlib.resources import files
from typing import Any, Final, Protocol

from midair.server.shared.redis_address import RedisAddress
from midair.server.shared.redis_connection import RedisConnection, open_redis
from midair.server.shared.resp import Argument, Reply, ReplyError
from midair.server.store import StoreUnavailable

__all__ = ["Hearer", "Link", "Script"]

log = logging.getLogger("midair.server.shared")

ANSWER_SECONDS: Final = 5.0
"""How long Redis may answer nothing of what it is asked."""
CONNECT_SECONDS: Final = 3.0
RETRY_SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Before it is tried again; the last again and again."""
HEARTBEAT_SECONDS: Final = 5.0
"""How often the node says something to itself, and how long that may take: a link that is dead shows by it."""
LOOKS_PER_HEARTBEAT: Final = 10
"""How often it is looked whether Redis still answers."""
MAX_UNHEARD: Final = 10_000
"""Publications that wait to be handled; with more, no more are read."""

_MADE_ANEW: Final = frozenset({"NOSCRIPT", "LOADING"})
"""Errors after which the link is made anew: another Redis answers, or this one was started anew."""


class Script:
    """A Lua script of this folder, known to Redis by its hash."""

    def __init__(self, name: str) -> None:
        self.text: Final = files(__package__).joinpath(name).read_text("utf-8")
        self.hash: Final = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class Hearer(Protocol):
    """What is told of the link, by the task that runs it."""

    async def published(self, payload: bytes) -> None:
        """Something came on this node's channel."""

    async def joined(self, *, forgotten: bool) -> None:
        """The link is up: for the first time, or again."""


class Link:
    """Usable while :meth:`run` runs."""

    def __init__(self, url: str, *, node: str | None = None) -> None:
        """``url``: redis://, rediss:// or unix://. Raises: UsageError."""
        self.node: Final = node or secrets.token_hex(8)
        """This process's name among the nodes."""
        self.up = False
        """Whether anything can be asked."""
        self.ready = False
        """Whether, besides, the node has caught up."""
        self._address = RedisAddress.parse(url)
        self._commands: RedisConnection | None = None
        self._loaded: set[Script] = set()
        self._epoch: Reply = None
        self._channel = f"midair:node {self.node}"
        self._unheard: deque[bytes] = deque()
        self._hears = asyncio.Event()
        self._echoes = 0

    @property
    def host(self) -> str | None:
        """Where Redis is; None when it is here, behind a Unix socket."""
        return self._address.host

    async def call(self, script: Script, *arguments: Argument) -> Any:
        """What ``script`` answers. Cancelling does not keep it from running. Raises: StoreUnavailable."""
        commands = self._commands
        if commands is None or not self.up or commands.full:
            raise StoreUnavailable("the shared store is away")
        if script not in self._loaded:
            self._loaded.add(script)
            commands.ask("SCRIPT", "LOAD", script.text)  # ahead of its first use
        try:
            reply = await commands.ask("EVALSHA", script.hash, 0, *arguments)
        except ConnectionError as error:
            raise StoreUnavailable("the shared store did not answer") from error
        if not isinstance(reply, ReplyError):
            return reply
        if reply.kind in _MADE_ANEW:
            commands.abort()
        else:  # such as out of memory, or a script of ours that is wrong
            log.warning("the shared store refuses: %s", str(reply)[:200])
        raise StoreUnavailable("the shared store refuses")

    async def run(self, hearer: Hearer) -> None:
        """Keeps the link up until cancelled; then, or when it breaks, everything asked for fails."""
        failures = 0
        while True:
            connections: list[RedisConnection] = []
            try:
                for _ in range(2):
                    connections.append(await open_redis(self._address, timeout=CONNECT_SECONDS))
                commands, channel = connections
                forgotten = await self._join(commands, channel)
                failures = 0
                await self._use(commands, channel, hearer, forgotten=forgotten)
            except Exception as error:
                expected = isinstance(error, ReplyError | OSError)  # TimeoutError is one
                if failures == 0 or not expected:
                    log.warning("the shared store is away: %s", _kind_of(error), exc_info=not expected)
            finally:
                self._commands, self.up, self.ready = None, False, False
                for connection in connections:
                    connection.abort()
            await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            failures += 1

    async def _join(self, commands: RedisConnection, channel: RedisConnection) -> bool:
        """Subscribes, and says whether Redis has forgotten what this node knew of it."""
        self._unheard.clear()
        async with asyncio.timeout(ANSWER_SECONDS):
            await channel.subscribe(self._channel, lambda payload: self._pushed(channel, payload))
            # From here on nothing is lost.
            await commands.say("SET", "midair:epoch", secrets.token_hex(16), "NX")
            epoch = await commands.say("GET", "midair:epoch")
        self._loaded.clear()
        forgotten = self._epoch is not None and epoch != self._epoch
        self._epoch = epoch
        return forgotten

    async def _use(
        self, commands: RedisConnection, channel: RedisConnection, hearer: Hearer, *, forgotten: bool
    ) -> None:
        self._commands, self.up = commands, True
        tasks = {
            asyncio.create_task(self._beat(commands)),
            asyncio.create_task(self._hear(channel, hearer, forgotten=forgotten)),
        }
        try:
            await asyncio.wait({commands.lost, channel.lost, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            raise ConnectionError("Redis has closed the connection")
        finally:
            self._commands, self.up, self.ready = None, False, False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hear(self, channel: RedisConnection, hearer: Hearer, *, forgotten: bool) -> None:
        try:
            await hearer.joined(forgotten=forgotten)
            self.ready = True
            while True:
                while self._unheard:
                    await hearer.published(self._unheard.popleft())
                channel.resume()
                self._hears.clear()
                await self._hears.wait()
        except StoreUnavailable as error:
            raise ConnectionError(str(error)) from error

    def _pushed(self, channel: RedisConnection, payload: Reply) -> None:
        if not isinstance(payload, bytes) or not payload:
            self._echoes += 1
            return
        self._unheard.append(payload)
        self._hears.set()
        if len(self._unheard) >= MAX_UNHEARD:
            channel.pause()

    async def _beat(self, commands: RedisConnection) -> None:
        # Through Redis and back on our own channel: a command that is answered says nothing of the channel.
        loop = asyncio.get_running_loop()
        while True:
            before = self._echoes
            commands.ask("PUBLISH", self._channel, b"")
            for _ in range(LOOKS_PER_HEARTBEAT):
                await asyncio.sleep(HEARTBEAT_SECONDS / LOOKS_PER_HEARTBEAT)
                since = commands.silent_since
                if since is not None and loop.time() - since > ANSWER_SECONDS:
                    raise TimeoutError("Redis does not answer")
            if self._echoes == before:
                raise ConnectionError("the channel is dead")


def _kind_of(error: Exception) -> str:
    return error.kind if isinstance(error, ReplyError) else type(error).__name__
