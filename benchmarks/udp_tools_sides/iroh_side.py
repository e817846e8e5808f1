"""One side of a transfer by iroh: `iroh_side.py receive FILE`, and `iroh_side.py send FILE ADDRESS...` with what that
prints first. The content goes over one stream of QUIC, in pieces of 1 MiB. Run by udp_tools.py, with its own Python.

As it is, the package copies what is to be sent byte by byte in a loop of Python. With IROH_MENDED in the environment it
is copied at once, so that what is seen is iroh.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from typing import Any

import iroh  # type: ignore[import-not-found]

ALPN = b"midair/benchmark/0"
PIECE = 1 << 20


def mend() -> None:
    def write(self: Any, value: bytes) -> None:
        with self._reserve(len(value)):
            start = ctypes.cast(self.rbuf.data, ctypes.c_void_p).value
            assert start is not None
            ctypes.memmove(start + self.rbuf.len, bytes(value), len(value))

    iroh.iroh_ffi._UniffiRustBufferBuilder.write = write


async def endpoint() -> iroh.Endpoint:
    options = iroh.EndpointOptions(preset=iroh.preset_minimal(), alpns=[ALPN], relay_mode=iroh.RelayMode.disabled())
    return await iroh.Endpoint.bind(options)


async def receive(path: str) -> None:
    end = await endpoint()
    print(str(iroh.EndpointTicket.from_addr(end.addr())), flush=True)
    incoming = await end.accept_next()
    connection = await (await incoming.accept()).connect()
    stream = await connection.accept_uni()
    begun = time.monotonic()
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    while piece := await stream.read(PIECE):
        os.write(file, bytes(piece))
    os.close(file)
    print(f"{time.monotonic() - begun:.6f}", flush=True)
    connection.close(0, b"")
    await end.close()


async def send(path: str, ticket: str) -> None:
    end = await endpoint()
    connection = await end.connect(iroh.EndpointTicket.from_string(ticket).endpoint_addr(), ALPN)
    stream = await connection.open_uni()
    file = os.open(path, os.O_RDONLY)
    while piece := os.read(file, PIECE):
        await stream.write_all(piece)
    await stream.finish()
    await connection.closed()
    await end.close()


if __name__ == "__main__":
    if os.environ.get("IROH_MENDED"):
        mend()
    asyncio.run(receive(sys.argv[2]) if sys.argv[1] == "receive" else send(sys.argv[2], sys.argv[3]))
