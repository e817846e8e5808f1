"""The mailbox over real WebSockets: our own client of the protocol, and magic-wormhole's."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from server_peers import APP, MailboxPeer, dial, eventually, metric, port_of, read_all, running
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from midair.config import ServerLimits
from midair.server import Server
from midair.server.web import MAX_UNHANDLED_MESSAGES, READ_BYTES

LIMITS = ServerLimits()
HANDSHAKE = (
    b"GET /v1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def test_two_clients_meet() -> None:
    async with (
        running(motd="Hello") as server,
        MailboxPeer.connected(server, "alice") as alice,
        MailboxPeer.connected(server, "bob") as bob,
    ):
        await alice.send("allocate")
        nameplate = (await alice.expect("allocated"))["nameplate"]
        assert nameplate in "123456789"
        for peer in (alice, bob):
            await peer.send("claim", nameplate=nameplate)
            mailbox = (await peer.expect("claimed"))["mailbox"]
            await peer.send("open", mailbox=mailbox)
        assert metric(server, "midair_mailboxes") == 1
        assert metric(server, "midair_pairs_met_total") == 1
        await alice.ask("add", phase="pake", body="00ff")
        for peer in (alice, bob):
            message = await peer.expect("message")
            assert (message["side"], message["phase"], message["body"]) == ("alice", "pake", "00ff")
        for peer in (alice, bob):
            await peer.send("release")
            await peer.expect("released")
            await peer.send("close", mood="happy")
            await peer.expect("closed")
        assert metric(server, "midair_mailboxes") == 0


async def test_a_client_that_comes_back_hears_what_it_missed() -> None:
    async with running() as server, MailboxPeer.connected(server, "bob") as bob:
        await bob.send("open", mailbox="box")
        async with MailboxPeer.connected(server, "alice") as alice:
            await alice.send("open", mailbox="box")
            await alice.send("add", phase="1", body="01")
            await alice.expect("message")
            await bob.expect("message")
        await bob.send("add", phase="2", body="02")
        await bob.expect("message")
        async with MailboxPeer.connected(server, "alice") as alice:
            await alice.send("open", mailbox="box")
            assert [(await alice.expect("message"))["phase"] for _ in range(2)] == ["1", "2"]


async def test_what_was_sent_just_before_the_end_counts() -> None:
    async with running() as server:
        async with MailboxPeer.connected(server, "alice") as alice:
            await alice.send("claim", nameplate="7")
            for number in range(30):
                await alice.send("ping", ping=number)
            await alice.send("release", nameplate="7")
        async with MailboxPeer.connected(server, "bob") as bob, asyncio.timeout(5):
            waiting = None
            while waiting != []:
                await bob.send("list")
                waiting = (await bob.expect("nameplates"))["nameplates"]


async def test_a_message_in_fragments_is_one_message() -> None:
    async with running() as server, MailboxPeer.connected(server) as peer:
        await peer.socket.send(iter(['{"type":', '"ping",', "", '"ping":5}']))
        assert await peer.receive() == {"type": "pong", "pong": 5}


async def test_a_binary_message_is_taken_for_text() -> None:
    async with running() as server, MailboxPeer.connected(server) as peer:
        await peer.socket.send(b'{"type":"ping","ping":5}')
        assert await peer.receive() == {"type": "pong", "pong": 5}


async def test_a_refused_command_says_why_and_the_connection_goes_on() -> None:
    limits = replace(LIMITS, mailboxes_per_address=1)
    async with running(limits=limits) as server, MailboxPeer.connected(server, "alice") as alice:
        await alice.send("claim", nameplate="1")
        await alice.expect("claimed")
        await alice.send("open", mailbox="another")
        refusal = await alice.expect("error")
        assert refusal["error"].startswith("limit: ")
        assert refusal["orig"] == {"type": "open", "mailbox": "another"}
        await alice.send("ping", ping=1)
        await alice.expect("pong")
        assert metric(server, 'midair_refusals_total{reason="mailboxes-per-address"}') == 1


async def test_a_websocket_message_over_the_limit_closes_the_connection() -> None:
    limits = replace(LIMITS, message_bytes=1000)
    async with running(limits=limits) as server:
        for pieces in ("x" * 3000, iter(["x" * 1000] * 3)):
            async with MailboxPeer.connected(server, "alice") as alice:
                with suppress(ConnectionClosed):
                    await alice.socket.send(pieces)
                await alice.socket.wait_closed()
                assert alice.socket.close_code == 1009


async def test_a_broken_websocket_frame_closes_the_connection() -> None:
    async with running() as server:
        with await dial(server) as sock:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, HANDSHAKE + b"\x81\x03abc")  # a client's frames must be masked
            answer = await read_all(sock)
            assert answer.startswith(b"HTTP/1.1 101 ")
            assert b"\x03\xea" in answer  # 1002, protocol error
        await eventually(lambda: server._admission.total == 0)


async def test_a_browser_at_another_site_gets_no_compression_and_no_harm() -> None:
    async with running() as server:
        async with connect(f"ws://127.0.0.1:{port_of(server)}/v1/?x", origin="http://example.org") as socket:  # type: ignore[arg-type]
            assert socket.protocol.extensions == []
        with pytest.raises(InvalidStatus):
            await connect(f"ws://127.0.0.1:{port_of(server)}/v2")


async def test_frames_sent_before_the_handshake_is_answered_are_answered_after_it() -> None:
    async with running() as server:
        loop = asyncio.get_running_loop()
        ping, close = b"\x89\x81\0\0\0\0x", b"\x88\x80\0\0\0\0"
        sent = HANDSHAKE + ping + masked('{"type":"ping","ping":5}') + close
        for cut in (3, len(HANDSHAKE) - 2, len(HANDSHAKE) + 1, len(sent)):
            with await dial(server) as sock:
                await loop.sock_sendall(sock, sent[:cut])
                await asyncio.sleep(0.01)  # so that it arrives in two pieces, mostly
                await loop.sock_sendall(sock, sent[cut:])
                head, _, frames = (await read_all(sock)).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 101 ")
                assert b"\x8a\x01x" in frames


async def test_a_client_that_answers_no_ping_is_closed() -> None:
    async with running(limits=replace(LIMITS, connection_idle_seconds=0.3)) as server:
        with await dial(server) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, HANDSHAKE)
            answer = await read_all(sock)
            assert answer.count(b"\x89\x00") >= 2  # the pings
        await eventually(lambda: server._admission.total == 0)
        assert metric(server, 'midair_refusals_total{reason="idle"}') == 1


async def test_a_client_that_answers_pings_stays() -> None:
    limits = replace(LIMITS, connection_idle_seconds=0.3)
    async with running(limits=limits) as server, MailboxPeer.connected(server) as peer:
        await asyncio.sleep(1)  # three times as long as a silent one would have
        await peer.send("ping", ping=1)
        await peer.expect("pong")


async def filled(server: Server, count: int) -> None:
    """A mailbox ``box`` with ``count`` messages of 60 KB."""
    async with MailboxPeer.connected(server, "alice") as alice:
        await alice.send("open", mailbox="box")
        for number in range(count):
            await alice.send("add", phase=str(number), body="00" * 30_000)
            await alice.expect("message")


async def silent_opener(server: Server) -> socket.socket:
    """A client that opens ``box`` and reads nothing, and whose system takes little for it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", port_of(server)))
    bind, opening = f'{{"type":"bind","appid":"{APP}","side":"bob"}}', '{"type":"open","mailbox":"box"}'
    await loop.sock_sendall(sock, HANDSHAKE + masked(bind) + masked(opening))
    return sock


def masked(text: str) -> bytes:
    """A short text frame of a client, with a mask of zeros."""
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text.encode()


async def test_a_slow_reader_holds_nobody_up_and_is_closed_when_it_is_dead() -> None:
    async with running(limits=replace(LIMITS, connection_idle_seconds=0.5)) as server:
        await filled(server, 150)
        slow = await silent_opener(server)
        async with MailboxPeer.connected(server, "alice") as alice:
            await alice.send("open", mailbox="box")
            for _ in range(150):
                await alice.expect("message")
        await eventually(lambda: metric(server, 'midair_refusals_total{reason="idle"}') == 1)
        slow.close()


async def test_a_reader_too_slow_for_what_waits_for_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midair.server.server.FRAMES_BESIDE_MESSAGES", 5 - LIMITS.messages_per_mailbox)
    async with running() as server:
        await filled(server, 150)
        slow = await silent_opener(server)
        await eventually(lambda: metric(server, 'midair_refusals_total{reason="slow-reader"}') == 1)
        slow.close()
        await eventually(lambda: server._admission.total == 0)


async def test_a_flood_of_messages_is_worked_off_in_turns() -> None:
    async with running() as server:
        _, flood = await asyncio.open_connection("127.0.0.1", port_of(server))
        flood.write(HANDSHAKE + masked("{}") * 20_000)
        async with MailboxPeer.connected(server) as peer:
            await peer.send("ping", ping=1)
            await peer.expect("pong")
        flood.transport.abort()
        await eventually(lambda: server._admission.total == 0)


async def test_what_is_not_handled_yet_is_not_read_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as server, MailboxPeer.connected(server, "alice") as alice:
        handling, go_on = asyncio.Event(), asyncio.Event()

        async def hanging(*arguments: object, **keywords: object) -> list[object]:
            handling.set()
            await go_on.wait()
            return []

        monkeypatch.setattr(server._mailboxes._office, "received", hanging)
        [connection] = server._mailboxes._clients
        flood = asyncio.create_task(_send_forever(alice))
        await handling.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await flood
        assert len(connection._inbox) <= MAX_UNHANDLED_MESSAGES + READ_BYTES // 1000
        go_on.set()


async def _send_forever(peer: MailboxPeer) -> None:
    while True:
        await peer.socket.send("x" * 1000)


async def test_a_mailbox_nobody_comes_back_to_is_forgotten() -> None:
    async with running(limits=replace(LIMITS, mailbox_idle_seconds=0.2)) as server:
        async with MailboxPeer.connected(server, "alice") as alice:
            await alice.send("claim", nameplate="7")
            await alice.expect("claimed")
            await asyncio.sleep(0.5)  # longer than it would last without her
            assert metric(server, "midair_mailboxes") == 1
        await eventually(lambda: metric(server, "midair_mailboxes") == 0)


async def wormhole(server: Server, *arguments: str) -> Process:
    """A real magic-wormhole client; its transit helper is nowhere, because a text needs none."""
    return await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "wormhole"),
        "--relay-url",
        f"ws://127.0.0.1:{port_of(server)}/v1",
        "--transit-helper",
        "tcp:127.0.0.1:1",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "PYTHONWARNINGS": "", "WORMHOLE_QR": "0"},
    )


async def finished(process: Process) -> tuple[int | None, str, str]:
    """Exit code, stdout and stderr; the process is gone afterwards in any case."""
    try:
        async with asyncio.timeout(15):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_two_magic_wormhole_clients_exchange_a_text_through_this_server() -> None:
    async with running(motd="a midair server") as server:
        sender = await wormhole(server, "send", "--text", "hello", "--code", "7-alpha-beta")
        receiver = await wormhole(server, "receive", "7-alpha-beta")
        (sent, _, sender_said), (received, text, receiver_said) = await asyncio.gather(
            finished(sender), finished(receiver)
        )
        assert (sent, received) == (0, 0), (sender_said, receiver_said)
        assert text == "hello\n"
        assert "a midair server" in sender_said
        assert metric(server, "midair_pairs_met_total") == 1
        await eventually(lambda: metric(server, "midair_mailboxes") == 0)
        assert b'reason="' not in server.metrics.render()


async def test_magic_wormhole_allocates_a_code_here_and_a_wrong_one_is_noticed() -> None:
    async with running() as server:
        sender = await wormhole(server, "send", "--text", "hello")
        await eventually(lambda: metric(server, "midair_mailboxes") == 1)
        async with MailboxPeer.connected(server, "looker") as looker:
            await looker.send("bind", appid="x", side="y")
            await looker.expect("error")
        async with MailboxPeer.connected(server) as looker:
            await looker.send("bind", appid="lothar.com/wormhole/text-or-file-xfer", side="looker")
            await looker.send("list")
            [entry] = (await looker.expect("nameplates"))["nameplates"]
        receiver = await wormhole(server, "receive", f"{entry['id']}-wrong-words")
        (sent, _, sender_said), (received, _, _) = await asyncio.gather(finished(sender), finished(receiver))
        assert (sent, received) == (1, 1)
        assert "confirmation failed" in sender_said
        await eventually(lambda: metric(server, "midair_mailboxes") == 0)
