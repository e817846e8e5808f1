"""A server that dies, and is started anew, when both have the relay and have not begun there."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from midair import Server, events
from midair.config import ServerURL, TraversalOptions
from midair.endpoint import Endpoint
from midair.port import listen_tcp
from midair.session import ReceiveSession, SendSession, Summary
from midair.traversal import gathering, runner
from midair.traversal.agreement import Agreement
from midair.traversal.race import Race

NOWHERE = Endpoint.parse("127.0.0.1:9")


class MeetingPoint:
    """A server that can be started anew on its port."""

    def __init__(self) -> None:
        self.port = 0
        self.starts = 0
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.stop()
        listener = listen_tcp("127.0.0.1", self.port)
        self.port = listener.getsockname()[1]
        self._running = asyncio.create_task(self._run(listener))
        self.starts += 1

    async def stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    async def _run(self, listener: socket.socket) -> None:
        async with Server([listener]):
            await asyncio.Event().wait()


@pytest.mark.parametrize("when", ["before the word to start", "after the word to start"])
async def test_both_meet_again_at_once(when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = MeetingPoint()
    await at.start()
    races: list[Race] = []
    open_relay, moment, gather = Race.open_relay, Agreement.moment, gathering.gather

    def open_a_relay(race: Race, *arguments: Any, **options: Any) -> None:
        races.append(race)
        open_relay(race, *arguments, **options)

    async def die(agreement: Agreement) -> None:
        if not agreement._controlling or at.starts > 1:
            return
        while not all("relay" in race._legs and race._legs["relay"].channel for race in races):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await at.start()

    async def dying_moment(agreement: Agreement) -> None:
        if when.startswith("before"):
            await die(agreement)
        await moment(agreement)
        if when.startswith("after"):
            await die(agreement)

    async def gather_nothing_of_use(*arguments: Any, **options: Any) -> gathering.Gathered:
        gathered = await gather(*arguments, **options)
        return replace(gathered, candidates=tuple(replace(each, endpoint=NOWHERE) for each in gathered.candidates[:1]))

    monkeypatch.setattr(Race, "open_relay", open_a_relay)
    monkeypatch.setattr(Agreement, "moment", dying_moment)
    monkeypatch.setattr(runner, "gather", gather_nothing_of_use)
    (tmp_path / "x").write_bytes(os.urandom(100_000))
    url = ServerURL(secure=False, host="127.0.0.1", port=at.port)
    code: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    told: dict[str, list[events.Event]] = {"send": [], "receive": []}

    def on_sending(event: events.Event) -> None:
        told["send"].append(event)
        if isinstance(event, events.CodeReady):
            code.set_result(event.code)

    options = TraversalOptions(families=(4,), port_mapping=False)
    sender = SendSession([tmp_path / "x"], url, on_event=on_sending, traversal=options)
    sending = asyncio.ensure_future(sender.run())
    receiver = ReceiveSession(
        await code,
        url,
        tmp_path / "there",
        accept=lambda offer: True,
        on_event=told["receive"].append,
        traversal=options,
    )
    try:
        async with asyncio.timeout(12):
            results = await asyncio.gather(sending, receiver.run(), return_exceptions=True)
    finally:
        await at.stop()
    assert all(isinstance(result, Summary) for result in results), results
    assert at.starts == 2
    for seen in told.values():
        story = [event.name for event in seen if event.name in ("met", "lost", "path")]
        assert story[:4] == ["met", "lost", "met", "path"], story
    assert (tmp_path / "there/x").read_bytes() == (tmp_path / "x").read_bytes()
