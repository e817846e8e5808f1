"""Small messages go out at once, whichever way their connection was made: Nagle's wait for an ACK costs 40 ms each.

asyncio sees to that only for sockets that name IPPROTO_TCP, and an accepted one has its listener's protocol.
"""

from __future__ import annotations

import asyncio
import socket

from midair.endpoint import Endpoint
from midair.port import LocalPort, accept, connect_tcp, listen_tcp


def no_delay(sock: socket.socket) -> bool:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1 and sock.proto == socket.IPPROTO_TCP


async def test_neither_an_ordinary_connection_nor_its_accepted_end_waits() -> None:
    with listen_tcp("127.0.0.1", 0) as listener:
        dialled, (accepted, _) = await asyncio.gather(
            connect_tcp("127.0.0.1", listener.getsockname()[1], timeout=5.0), accept(listener)
        )
        with dialled, accepted:
            assert no_delay(dialled)
            assert no_delay(accepted)


async def test_neither_end_of_a_connection_between_two_ports_waits() -> None:
    with LocalPort.open(families=[4]) as here, LocalPort.open(families=[4]) as there:
        listener = there.listen(4)
        dialled, (accepted, _) = await asyncio.gather(
            here.connect(Endpoint.of("127.0.0.1", there.number)), accept(listener)
        )
        with dialled, accepted:
            assert no_delay(dialled)
            assert no_delay(accepted)
