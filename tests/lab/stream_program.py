"""A program with midair's library, for hosts of the lab: it writes until its path is what it was told to wait for.

python stream_program.py SERVER PATH [CODE]

It prints its code, its events as JSON, and in the end what it wrote and what it read.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys

import midair
from midair import events

AFTER = 1 << 20
"""Bytes that are written over the path that was waited for."""
PIECE = 32 * 1024
PAUSE = 0.02
"""Between two pieces: 1.6 MB/s at most."""


def show(name: str, **fields: object) -> None:
    sys.stdout.write(json.dumps({"event": name, **fields}) + "\n")
    sys.stdout.flush()


def show_event(event: events.Event) -> None:
    if isinstance(event, events.PathChosen):
        show("path", path=event.path, remote=event.remote, searching=event.searching, later=event.later)


async def write(connection: midair.Connection, path: str) -> None:
    digest, count, after = hashlib.sha256(), 0, 0
    while after < AFTER:
        piece = os.urandom(PIECE)
        digest.update(piece)
        await connection.write(piece)
        count += len(piece)
        if connection.path == path and not connection.searching:
            after += len(piece)
        await asyncio.sleep(PAUSE)
    await connection.write_eof()
    show("wrote", bytes=count, digest=digest.hexdigest())


async def read(connection: midair.Connection) -> None:
    digest, count, last = hashlib.sha256(), 0, None
    async for piece in connection:
        digest.update(piece)
        count += len(piece)
        if connection.path != last:
            last = connection.path
            show("reading", path=last, bytes=count)
    show("read", bytes=count, digest=digest.hexdigest())


async def main(server: str, path: str, code: str | None) -> None:
    opening = (
        midair.host(server, on_code=lambda made: show("code", code=made), on_event=show_event)
        if code is None
        else midair.connect(code, server, on_event=show_event)
    )
    async with opening as connection:
        show("connected", path=connection.path, searching=connection.searching)
        await asyncio.gather(write(connection, path), read(connection))
        show("done", path=connection.path, story=[event.name for _, event in connection.story])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None))
