"""What a relay leg costs in each of its forms, plain, in a WebSocket, in a WebSocket in TLS: how fast, and CPU seconds.

    python benchmarks/relay_forms.py [--megabytes 512] [--rounds 3]

Two legs of one client process over loopback, sending and receiving in threads as a transfer does, with a `midair serve`
between them. The rounds alternate, and the best of each form counts. CPU seconds are for each gigabyte (10^9 bytes), of
the server and of both clients together.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import ssl
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import trustme

sys.path.insert(0, str(Path(__file__).parent))
from server_processes import server, usage_of

from midair.config import ServerURL
from midair.port import connect_tcp, tune_for_bulk
from midair.relay import open_leg
from midair.relay.websocket_leg import open_websocket
from midair.relay.wire import OK, Preamble, encode_preamble

PAIRS = (("plain", "plain"), ("websocket", "plain"), ("tls", "plain"), ("tls", "tls"))
RECORD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run."""

    megabytes_per_second: float
    server_seconds: float
    client_seconds: float


async def opened(form: str, port: int, token: bytes, side: bytes, trusting: ssl.SSLContext) -> socket.socket:
    """A leg whose partner is there."""
    url = ServerURL(secure=form == "tls", host="127.0.0.1", port=port)
    if form == "plain":
        return await open_leg(url, token, side, timeout=10)
    sock = await open_websocket(url, await connect_tcp(url.host, port, timeout=10), trusting if url.secure else None)
    sock.send(encode_preamble(Preamble(token=token, side=side)))
    if await asyncio.get_running_loop().sock_recv(sock, len(OK)) != OK:
        raise ConnectionError("the relay refused")
    return sock


async def run(forms: tuple[str, str], port: int, pid: int, count: int, trusting: ssl.SSLContext) -> Result:
    """``count`` bytes from the first to the second."""
    token = os.urandom(32)
    sides = zip(forms, (b"a" * 8, b"b" * 8), strict=True)
    first, second = await asyncio.gather(*[opened(form, port, token, side, trusting) for form, side in sides])
    record, buffer = os.urandom(RECORD_BYTES), bytearray(RECORD_BYTES)

    def send() -> None:
        for _ in range(count // RECORD_BYTES):
            first.sendall(record)

    def receive() -> None:
        received = 0
        while received < count:
            received += second.recv_into(buffer, 0, socket.MSG_WAITALL) or sys.exit("the leg was cut")

    with first, second:
        for leg in (first, second):
            tune_for_bulk(leg)
        before, began, own = usage_of(pid).cpu_seconds, time.monotonic(), time.process_time()
        await asyncio.gather(asyncio.to_thread(send), asyncio.to_thread(receive))
        seconds = time.monotonic() - began
        return Result(
            megabytes_per_second=count / seconds / 1e6,
            server_seconds=(usage_of(pid).cpu_seconds - before) / count * 1e9,
            client_seconds=(time.process_time() - own) / count * 1e9,
        )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    issued = authority.issue_cert("127.0.0.1")
    results: dict[tuple[str, str], list[Result]] = {forms: [] for forms in PAIRS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "both.pem"))
        pem = str(folder / "both.pem")
        with server(folder, "--cert", pem, "--key", pem) as (port, pid):
            for _ in range(options.rounds):
                for forms in PAIRS:
                    results[forms].append(await run(forms, port, pid, options.megabytes << 20, trusting))
    print(f"{'legs':<20}{'MB/s':>8}{'server s/GB':>14}{'clients s/GB':>14}")
    for forms, runs in results.items():
        fastest = max(each.megabytes_per_second for each in runs)
        serving, using = min(each.server_seconds for each in runs), min(each.client_seconds for each in runs)
        print(f"{' x '.join(forms):<20}{fastest:>8.0f}{serving:>14.2f}{using:>14.2f}")


if __name__ == "__main__":
    asyncio.run(main())
