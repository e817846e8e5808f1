"""An echo between two peers who share a code.

python examples/echo.py --server ws://example.org:7420              # shows a code, and answers
python examples/echo.py --server ws://example.org:7420 CODE         # sends each line typed, and shows the answer
"""

from __future__ import annotations

import argparse
import asyncio
import sys

import midair
from midair import events

APPLICATION = "midair-example-echo/1"


async def answer(server: str) -> None:
    """Gives back whatever comes, until the other side ends its stream."""
    async with midair.host(server, on_code=show_code, application=APPLICATION, on_event=show_path) as connection:
        async for piece in connection:
            await connection.write(piece)


async def ask(server: str, code: str) -> None:
    """Sends the lines of stdin, one at a time."""
    async with midair.connect(code, server, application=APPLICATION, on_event=show_path) as connection:
        while line := await asyncio.to_thread(sys.stdin.readline):
            await connection.write(line.rstrip("\n").encode() + b"\n")
            async with asyncio.timeout(10):
                echo = await connection.readuntil(b"\n")
            print(echo.decode(), end="", flush=True)


def show_code(code: str) -> None:
    print(f"code: {code}", flush=True)


def show_path(event: events.Event) -> None:
    """The first, and what it moves to: it may begin on the relay."""
    if isinstance(event, events.PathChosen):
        why = f" ({event.reason})" if event.reason else ""
        print(f"connected: {event.path} with {event.remote}{why}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("code", nargs="?")
    arguments = parser.parse_args()
    try:
        asyncio.run(ask(arguments.server, arguments.code) if arguments.code else answer(arguments.server))
    except midair.MidairError as error:
        sys.exit(f"{error}\n{error.hint}".strip())


if __name__ == "__main__":
    main()
