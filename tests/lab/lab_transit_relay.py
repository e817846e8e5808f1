"""magic-wormhole's transit relay, as far as one transfer needs it; run as a program with a port.

Two connections that ask for the same token become one, and are told "ok" (magic-wormhole's docs/transit.md).
"""

from __future__ import annotations

import asyncio
import re
import sys

REQUEST = re.compile(rb"please relay ([0-9a-f]{64})(?: for side [0-9a-f]{16})?\n")

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
waiting: dict[bytes, Connection] = {}


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    match = REQUEST.fullmatch(await reader.readline())
    if match is None:
        writer.close()
    elif match[1] in waiting:
        other_reader, other_writer = waiting.pop(match[1])
        for each in (writer, other_writer):
            each.write(b"ok\n")
        await asyncio.gather(copy(reader, other_writer), copy(other_reader, writer))
    else:
        waiting[match[1]] = reader, writer


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


async def main() -> None:
    async with await asyncio.start_server(relay, "0.0.0.0", int(sys.argv[1])) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
