"""A receiver that is killed in the middle of a meeting, at a real server: the code is as good as before."""

from __future__ import annotations

import asyncio
import os

import pytest
from websockets.asyncio.client import connect

from midair.config import APP_ID, ServerURL
from midair.errors import PeerLostError, WrongCodeError
from midair.rendezvous import Meeting, machine, meet_as_receiver, meet_as_sender, meeting, wire
from midair.rendezvous.keys import KeyExchange


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PROOF_SECONDS", 0.4)
    monkeypatch.setattr(meeting, "_TURNED_AWAY_SECONDS", 0.1)


class Waiting:
    """A sender, and the codes it announces."""

    def __init__(self, server: str, *, wait: float | None = None) -> None:
        self.codes: asyncio.Queue[str] = asyncio.Queue()
        self.task: asyncio.Task[Meeting] = asyncio.create_task(
            meet_as_sender(ServerURL.parse(server), app_versions={}, on_code=self.codes.put_nowait, wait=wait)
        )


async def comes_and_goes(server: str, code: str) -> None:
    """Says the first half of what a receiver says, as soon as there is room, and is gone without a word."""
    while not await came(server, code):  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def came(server: str, code: str) -> bool:
    async with connect(ServerURL.parse(server).mailbox_url) as websocket:

        async def say(frame: wire.ClientFrame) -> None:
            await websocket.send(wire.encode(frame))

        await say(wire.Bind(appid=APP_ID, side=os.urandom(8).hex()))
        await say(wire.Claim(nameplate=code.partition("-")[0]))
        while not isinstance(claimed := wire.decode_server_frame(await websocket.recv()), wire.Claimed):
            if isinstance(claimed, wire.Error):
                return False
        await say(wire.Open(mailbox=claimed.mailbox))
        await say(wire.Add(phase="pake", body=KeyExchange(code, APP_ID, os.urandom).message.hex()))
        while not (
            isinstance(frame := wire.decode_server_frame(await websocket.recv()), wire.Message)
            and frame.phase == "pake"
            and frame.body
        ):
            pass
        websocket.transport.abort()
        return True


async def test_the_same_code_is_good_for_whoever_comes_next(server: str) -> None:
    sender = Waiting(server)
    code = await sender.codes.get()
    async with asyncio.timeout(8):
        for _ in range(2):
            await comes_and_goes(server, code)
        receiver = await meet_as_receiver(ServerURL.parse(server), code, app_versions={})
        met = await sender.task
    assert met.key == receiver.key
    assert met.code == code
    assert sender.codes.empty(), "the code is shown once"
    await asyncio.gather(met.close(), receiver.close())


async def test_a_wrong_code_after_that_is_still_the_end_of_it(server: str) -> None:
    sender = Waiting(server)
    code = await sender.codes.get()
    async with asyncio.timeout(8):
        await comes_and_goes(server, code)
        with pytest.raises(WrongCodeError):
            await meet_as_receiver(ServerURL.parse(server), code + "x", app_versions={})
        with pytest.raises(WrongCodeError):
            await sender.task


async def test_a_sender_that_waits_only_so_long_does_so_whoever_comes_and_goes(server: str) -> None:
    sender = Waiting(server, wait=0.5)
    code = await sender.codes.get()
    await comes_and_goes(server, code)
    async with asyncio.timeout(4):
        with pytest.raises(PeerLostError):
            await sender.task
