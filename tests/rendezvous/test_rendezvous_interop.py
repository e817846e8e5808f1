"""Meetings through magic-wormhole's own mailbox server, and with magic-wormhole's own client."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from midair.config import APP_ID, ServerURL
from midair.errors import CrowdedError, ServerUnreachableError, UnknownCodeError, WrongCodeError
from midair.rendezvous import Meeting, meet_as_receiver, meet_as_sender

TWIST = Path(sys.executable).with_name("twist")


class ReferenceServer:
    """``twist wormhole-mailbox`` in a folder of its own, where it also keeps its database."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.folder = folder
        self.url = ServerURL(secure=False, host="127.0.0.1", port=self.port)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        endpoint = f"--port=tcp:{self.port}:interface=127.0.0.1"
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [TWIST, "wormhole-mailbox", endpoint], cwd=self.folder, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + 15
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(timeout=10)
            self._process = None

    def forget(self) -> None:
        for path in self.folder.glob("relay.sqlite*"):
            path.unlink()

    def stored(self, table: str) -> int:
        database = sqlite3.connect(self.folder / "relay.sqlite")
        try:
            count = database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
        finally:
            database.close()
        assert isinstance(count, int)
        return count


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReferenceServer]:
    server = ReferenceServer(tmp_path_factory.mktemp("mailbox"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ReferenceServer]:
    server = ReferenceServer(tmp_path)
    server.start()
    yield server
    server.kill()


async def meet_both(server: ServerURL, code: str | None = None) -> tuple[Meeting, Meeting]:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    sender = asyncio.create_task(meet_as_sender(server, code=code, app_versions={"n": 1}, on_code=ready.set_result))
    receiver = await meet_as_receiver(server, await ready, app_versions={"n": 2})
    return await sender, receiver


async def test_two_peers_meet_at_the_reference_server_and_leave_nothing_there(shared_server: ReferenceServer) -> None:
    sender, receiver = await meet_both(shared_server.url)
    async with sender, receiver:
        assert sender.key == receiver.key
        assert receiver.peer_versions == {"n": 1, "role": "sender"}
        for number in range(10):
            await sender.send(b"%d" % number)
        assert [await receiver.receive() for _ in range(10)] == [b"%d" % number for number in range(10)]
    assert shared_server.stored("nameplates") == 0
    assert shared_server.stored("mailboxes") == 0


async def test_the_same_code_is_good_for_a_second_meeting_of_the_pair(shared_server: ReferenceServer) -> None:
    first = await meet_both(shared_server.url)
    # The number is free although nobody has left the first meeting yet.
    second = await meet_both(shared_server.url, first[0].code)
    assert first[0].key != second[0].key
    for meeting in (*first, *second):
        await meeting.close()


async def test_a_wrong_code_at_the_reference_server_is_found_out_by_both(shared_server: ReferenceServer) -> None:
    errors = await asyncio.gather(
        meet_as_sender(shared_server.url, code="71-acorn-volcano", app_versions={}),
        meet_as_receiver(shared_server.url, "71-acorn-tornado", app_versions={}),
        return_exceptions=True,
    )
    assert [type(error) for error in errors] == [WrongCodeError, WrongCodeError]
    assert shared_server.stored("mailboxes") == 0


async def test_an_unknown_code_leaves_nothing_at_the_reference_server(shared_server: ReferenceServer) -> None:
    with pytest.raises(UnknownCodeError):
        await meet_as_receiver(shared_server.url, "72-acorn-volcano", app_versions={}, wait=0.1)
    assert shared_server.stored("nameplates") == 0
    assert shared_server.stored("mailboxes") == 0


async def test_a_third_under_one_number_is_turned_away(own_server: ReferenceServer) -> None:
    ready = asyncio.Event()
    first = asyncio.create_task(
        meet_as_sender(own_server.url, code="5-acorn-volcano", app_versions={}, on_code=lambda _: ready.set())
    )
    await ready.wait()
    await asyncio.get_running_loop().run_in_executor(None, claim_silently, own_server)
    with pytest.raises(CrowdedError):
        await meet_as_receiver(own_server.url, "5-acorn-volcano", app_versions={}, wait=1.5)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first


def claim_silently(server: ReferenceServer) -> None:
    """A second side that claims the number and says nothing in the mailbox."""
    with connect(server.url.mailbox_url, compression=None, proxy=None) as websocket:
        websocket.send(json.dumps({"type": "bind", "appid": APP_ID, "side": "silent"}))
        websocket.send(json.dumps({"type": "claim", "nameplate": "5"}))
        while json.loads(websocket.recv(timeout=5))["type"] != "claimed":
            pass


async def test_a_meeting_survives_a_server_that_is_killed_and_started_again(own_server: ReferenceServer) -> None:
    loop = asyncio.get_running_loop()
    sender, receiver = await meet_both(own_server.url)
    async with sender, receiver:
        await sender.send(b"before")
        assert await receiver.receive() == b"before"
        own_server.kill()
        await sender.send(b"while it was away")
        await loop.run_in_executor(None, own_server.start)
        await sender.send(b"after")
        assert await receiver.receive() == b"while it was away"
        assert await receiver.receive() == b"after"


async def test_a_waiting_sender_is_found_after_the_server_forgot_everything(own_server: ReferenceServer) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[str] = loop.create_future()
    waiting = asyncio.create_task(meet_as_sender(own_server.url, app_versions={}, on_code=ready.set_result))
    code = await ready
    own_server.kill()
    own_server.forget()
    await loop.run_in_executor(None, own_server.start)
    async with await meet_as_receiver(own_server.url, code, app_versions={}) as receiver, await waiting as sender:
        assert sender.key == receiver.key


async def test_a_server_that_is_down_is_named_in_the_error(tmp_path: Path) -> None:
    server = ReferenceServer(tmp_path)
    with pytest.raises(ServerUnreachableError, match=str(server.port)):
        await meet_as_receiver(server.url, "7-acorn-volcano", app_versions={})


WORMHOLE_CLIENT = """
import json, sys
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react
import wormhole

async def run(reactor):
    app_id, url, code = sys.argv[1:]
    peer = wormhole.create(app_id, url, reactor, versions={"who": "wormhole"})
    peer.set_code(code)
    versions = await peer.get_versions()
    peer.send_message(b"from wormhole")
    message = await peer.get_message()
    derived = peer.derive_key("midair/relay", 32)
    print(json.dumps({"versions": versions, "message": message.decode(), "derived": derived.hex()}))
    await peer.close()

react(lambda reactor: ensureDeferred(run(reactor)))
"""


async def test_magic_wormholes_own_client_is_a_peer(shared_server: ReferenceServer) -> None:
    code = "73-acorn-volcano"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "ignore", "-c", WORMHOLE_CLIENT, APP_ID, shared_server.url.mailbox_url, code),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with await meet_as_sender(shared_server.url, code=code, app_versions={"n": 1}, wait=15) as meeting:
            assert meeting.peer_versions == {"who": "wormhole"}
            assert await meeting.receive() == b"from wormhole"
            await meeting.send(b"from midair")
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert json.loads(output) == {
        "versions": {"n": 1, "role": "sender"},
        "message": "from midair",
        "derived": meeting.derive("midair/relay").hex(),
    }
