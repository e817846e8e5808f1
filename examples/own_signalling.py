"""midair's connection for an application that has a server of its own: here a broker of twenty lines, over plain TCP.

    python examples/own_signalling.py broker --listen 127.0.0.1:7421
    python examples/own_signalling.py peer --broker 127.0.0.1:7421 --room tea --name ann --secret SECRET
    python examples/own_signalling.py peer --broker 127.0.0.1:7421 --room tea --name bob --secret SECRET

The two peers go to the same room and have the same secret, 64 hexadecimal digits, for example from
``python -c 'import secrets; print(secrets.token_hex(32))'``. The broker never sees it, and cannot read what it passes
on. With ``--midair ws://example.org:7420`` the peers also use that server's reflector and relay; two that are both
behind NATs need it. With ``--direct`` the relay is not used.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys

import midair

FIRST, SECOND = b"\1", b"\0"
"""What the broker tells a peer when both are there."""
WAIT_SECONDS = 60.0


class Broker:
    """Brings two who name the same room together, and passes on what each sends to the other."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        room = await reader.readline()
        if room not in self._waiting:
            self._waiting[room] = reader, writer
            return  # the second one's task does the rest
        first_reader, first_writer = self._waiting.pop(room)
        first_writer.write(FIRST)
        writer.write(SECOND)
        await asyncio.gather(pass_on(first_reader, writer), pass_on(reader, first_writer))


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.closing(writer), contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


async def run_broker(host: str, port: int) -> None:
    server = await asyncio.start_server(Broker().serve, host, port)
    host, port = server.sockets[0].getsockname()[:2]
    print(f"listening on {host}:{port}", flush=True)
    async with server:
        await server.serve_forever()


async def run_peer(given: argparse.Namespace) -> None:
    reader, writer = await asyncio.open_connection(*given.broker)
    with contextlib.closing(writer):
        writer.write(f"{given.room}\n".encode())
        async with asyncio.timeout(WAIT_SECONDS):
            role = await reader.readexactly(1)

        async def send(message: bytes) -> None:
            writer.write(len(message).to_bytes(4, "big") + message)
            await writer.drain()

        async def receive() -> bytes:
            length = int.from_bytes(await reader.readexactly(4), "big")
            return await reader.readexactly(length)

        async with midair.punch(
            send,
            receive,
            secret=given.secret,
            controlling=role == FIRST,
            server=given.midair,
            options=midair.TraversalOptions(policy="direct" if given.direct else "auto"),
        ) as connection:
            print(f"connected: {connection.path} with {connection.remote}", flush=True)
            await connection.write(f"{given.name} says hello\n".encode())
            print((await connection.readuntil(b"\n")).decode(), end="", flush=True)


def endpoint(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    broker = commands.add_parser("broker")
    broker.add_argument("--listen", type=endpoint, required=True)
    peer = commands.add_parser("peer")
    peer.add_argument("--broker", type=endpoint, required=True)
    peer.add_argument("--room", required=True)
    peer.add_argument("--name", required=True)
    peer.add_argument("--secret", type=bytes.fromhex, required=True)
    peer.add_argument("--midair")
    peer.add_argument("--direct", action="store_true", help="rather no connection than one through the relay")
    arguments = parser.parse_args()
    try:
        if arguments.command == "broker":
            asyncio.run(run_broker(*arguments.listen))
        else:
            asyncio.run(run_peer(arguments))
    except midair.MidairError as error:
        sys.exit(f"{error}\n{error.hint}".strip())
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
