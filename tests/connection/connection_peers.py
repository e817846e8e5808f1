"""Two ends of a connection in one loop, over loopback, with a real server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field

import midair
from midair import Connection, Server, ServerURL, TraversalOptions
from midair.port import listen_tcp

__all__ = ["QUICK", "SECRET", "Courier", "Ends", "nothing_left_open", "pair", "serving"]

QUICK = TraversalOptions(head_start=0.5, relay_after=0.5, deadline=3.0, server_wait=1.0)
"""The relay only where it has to be."""
SECRET = b"s" * 32


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[ServerURL]:
    listener = listen_tcp("127.0.0.1", 0)
    port = listener.getsockname()[1]
    async with Server([listener]):
        yield ServerURL(secure=False, host="127.0.0.1", port=port)


@dataclass
class Courier:
    """Somebody else's server, as one side sees it: two queues."""

    outbox: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    inbox: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    seen: list[bytes] = field(default_factory=list)

    @property
    def other(self) -> Courier:
        return Courier(self.inbox, self.outbox, self.seen)

    async def send(self, message: bytes) -> None:
        self.seen.append(message)
        await self.outbox.put(message)

    async def receive(self) -> bytes:
        return await self.inbox.get()


@dataclass
class Ends:
    """Both ends, each in a task of its own that goes on until it is told to leave."""

    a: Connection
    b: Connection
    _leave: dict[str, asyncio.Event]
    _tasks: dict[str, asyncio.Task[None]]

    async def leave(self, which: str) -> None:
        """This end leaves its block. Raises: what that does."""
        self._leave[which].set()
        await self._tasks[which]

    def leaving(self, which: str) -> Awaitable[None]:
        """The same, meanwhile."""
        self._leave[which].set()
        return self._tasks[which]


@contextlib.asynccontextmanager
async def pair(server: ServerURL | None = None, *, options: TraversalOptions = QUICK) -> AsyncIterator[Ends]:
    """Two ends of one connection; those that have not left by then leave at the end of the block."""
    courier = Courier()
    loop = asyncio.get_running_loop()
    leave = {name: asyncio.Event() for name in "ab"}
    opened: dict[str, asyncio.Future[Connection]] = {name: loop.create_future() for name in "ab"}

    async def side(name: str, courier: Courier, server: ServerURL) -> None:
        try:
            async with midair.punch(
                courier.send,
                courier.receive,
                secret=SECRET,
                controlling=name == "a",
                server=server,
                options=options,
            ) as connection:
                opened[name].set_result(connection)
                await leave[name].wait()
        except BaseException as error:
            if not opened[name].done():
                opened[name].set_exception(error)
            raise

    async with contextlib.AsyncExitStack() as stack:
        at = server if server is not None else await stack.enter_async_context(serving())
        tasks = {
            "a": asyncio.ensure_future(side("a", courier, at)),
            "b": asyncio.ensure_future(side("b", courier.other, at)),
        }
        try:
            yield Ends(await opened["a"], await opened["b"], leave, tasks)
            for name in "ab":
                leave[name].set()
            await asyncio.gather(*(task for task in tasks.values() if not task.done()))
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)


@contextlib.asynccontextmanager
async def nothing_left_open() -> AsyncIterator[None]:
    """No descriptor and no task more than before, or soon: the server, which is in this process too, has its time."""
    gc.collect()
    descriptors, tasks = len(os.listdir("/proc/self/fd")), asyncio.all_tasks()
    yield
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 1
    while (left := asyncio.all_tasks() - tasks) or len(os.listdir("/proc/self/fd")) > descriptors:
        assert loop.time() < deadline, left or "descriptors"
        await asyncio.sleep(0.005)
