"""Candidates where the reflector is silent, and it has shown that nothing in the clear gets there."""

from __future__ import annotations

import asyncio
import socket

from midair.config import ServerURL
from midair.port import LocalPort
from midair.traversal.gathering import gather


async def test_a_reflector_that_cannot_be_reached_is_not_waited_for() -> None:
    cut = asyncio.Event()
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as silent, LocalPort.open(families=(4,)) as port:
        server = ServerURL(secure=True, host="127.0.0.1", port=silent.getsockname()[1])
        gathering = asyncio.create_task(
            gather(port, server, wait=15, port_mapping=False, cut=cut, on_event=lambda event: None)
        )
        asked, _ = await asyncio.to_thread(silent.accept)
        started = loop.time()
        cut.set()
        with asked:
            gathered = await gathering
        assert loop.time() - started < 5
        assert gathered.reflectors == ()
        assert {candidate.endpoint.port for candidate in gathered.candidates} == {port.number}
