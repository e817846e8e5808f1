"""``midair serve`` as a process, and what it is told: files, environment, certificates, signals, logs."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
from pathlib import Path

import pytest
import trustme
from redis_process import RedisProcess
from server_peers import MailboxPeer, eventually, http, metric, port_of, running

from midair.cli.serve_settings import ServeSettings, load_settings
from midair.config import ServerLimits, ServerURL
from midair.errors import UsageError
from midair.server.certificate import Certificate
from support import midair, wait_until


def issue(authority: trustme.CA, path: Path) -> None:
    """A new certificate with its key, in one file that appears at once."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.bytes())
    fresh.rename(path)


def shown_certificate(port: int, authority: trustme.CA) -> bytes:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with (
        socket.create_connection(("127.0.0.1", port), 5) as sock,
        context.wrap_socket(sock, server_hostname="127.0.0.1") as tls,
    ):
        der = tls.getpeercert(binary_form=True)
        assert der is not None
        return der


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('motd = "file"\nlisten = ["127.0.0.1:1"]\n[limits]\nrelay_bytes = 5\nmailboxes = 7\n')
    settings = load_settings(str(file), {"motd": "flag", "listen": (), "cert": None, "relay_bytes": 6})
    assert settings == ServeSettings(
        motd="flag", listen=["127.0.0.1:1"], limits=ServerLimits(relay_bytes=6, mailboxes=7)
    )
    assert load_settings(None, {"listen": (), "motd": None}) == ServeSettings()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("lisen = []", "unknown setting 'lisen'"),
        ("[limits]\nmailboxs = 1", "unknown setting 'mailboxs'"),
        ("[limits]\nmailboxes = -1", "below 0"),
        ("[limits]\nmailboxes = 1.5", "mailboxes"),
        ("listen = 5", "listen"),
        ('log = "xml"', "log"),
        ("limits = 5", "limits"),
        ("=", "server.toml"),
        ('key = "a"', "--key needs --cert"),
        ('node_address = "a:1"', "--node-address needs --store"),
    ],
)
def test_a_setting_that_cannot_be_understood_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_settings(str(file), {})
    assert complaint in str(caught.value)


def test_a_server_by_file_and_environment_renews_its_certificate_logs_json_and_stops(tmp_path: Path) -> None:
    authority, chain, told = trustme.CA(), tmp_path / "chain.pem", tmp_path / "notify"
    issue(authority, chain)
    file = tmp_path / "server.toml"
    file.write_text(f'listen = ["127.0.0.1:0"]\ncert = "{chain}"\nlog = "json"\nmotd = "file"\n')
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(told))
        systemd.settimeout(10)
        with midair(
            "serve", MIDAIR_SERVE_CONFIG=str(file), MIDAIR_SERVE_MOTD="<environment>", NOTIFY_SOCKET=str(told)
        ) as server:
            port = ServerURL.parse(server.line().removeprefix("midair: serving on ")).port
            assert systemd.recv(100) == b"READY=1"
            before = shown_certificate(port, authority)
            issue(authority, chain)
            server.signal(signal.SIGHUP)
            wait_until(lambda: shown_certificate(port, authority) != before, "the new certificate")
            chain.write_text("nonsense")
            server.signal(signal.SIGHUP)
            wait_until(lambda: "old one stays" in server.errors, "the complaint")
            assert shown_certificate(port, authority) != before
            page = asyncio.run(_page(port))
            assert b"&lt;environment&gt;" in page
            server.signal(signal.SIGTERM)
            assert systemd.recv(100) == b"STOPPING=1"
            assert server.wait() == 0
    lines = [json.loads(line) for line in server.errors.splitlines()]
    assert [line["message"][:35] for line in lines] == [
        "the certificate was read again",
        "the certificate cannot be read agai",
        "stopping",
    ]
    assert "127.0.0.1" not in server.errors


async def _page(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    page = await reader.read()
    writer.close()
    return page


async def test_a_changed_certificate_is_noticed_without_a_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midair.server.certificate.LOOK_SECONDS", 0.01)
    authority, chain = trustme.CA(), tmp_path / "chain.pem"
    issue(authority, chain)
    certificate = Certificate(str(chain))
    reloads = 0

    def count() -> bool:
        nonlocal reloads
        reloads += 1
        return Certificate.reload(certificate)

    monkeypatch.setattr(certificate, "reload", count)
    watching = asyncio.create_task(certificate.watch())
    issue(authority, chain)
    await eventually(lambda: reloads == 1)
    await asyncio.sleep(0.1)
    assert reloads == 1
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_a_chain_whose_key_is_not_there_yet_leaves_the_old_certificate_in_use(tmp_path: Path) -> None:
    authority, chain, key = trustme.CA(), tmp_path / "chain.pem", tmp_path / "key.pem"
    issue(authority, chain)
    key.write_bytes(chain.read_bytes())
    certificate = Certificate(str(chain), str(key))
    async with running(ssl_context=certificate.context) as server:
        before = await asyncio.to_thread(shown_certificate, port_of(server), authority)
        issue(authority, chain)
        assert not certificate.reload()
        assert await asyncio.to_thread(shown_certificate, port_of(server), authority) == before
        key.write_bytes(chain.read_bytes())
        assert certificate.reload()
        assert await asyncio.to_thread(shown_certificate, port_of(server), authority) != before


def test_without_its_store_a_server_says_so_and_serves_what_it_can(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/redis.sock"
    with midair("serve", "--listen", "127.0.0.1:0", "--store", url) as server:
        wait_until(lambda: "nobody can meet here" in server.errors, "the complaint")
        with RedisProcess(tmp_path):
            port = ServerURL.parse(server.line().removeprefix("midair: serving on ")).port
            wait_until(lambda: b"200 OK" in asyncio.run(_ready(port)), "readiness")


async def _ready(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


def test_a_store_that_is_no_store_is_refused_in_words(tmp_path: Path) -> None:
    with midair("serve", "--listen", "127.0.0.1:0", "--store", "http://example.org") as server:
        assert server.wait() == 2
    assert "redis://" in server.errors


async def test_the_numbers_tell_who_waits_how_long_and_how_it_ended() -> None:
    async with running() as server, MailboxPeer.connected(server, "alice") as alice:
        await alice.send("claim", nameplate="7")
        mailbox = (await alice.expect("claimed"))["mailbox"]
        await alice.send("open", mailbox=mailbox)
        await alice.ask("ping", ping=1)
        await alice.expect("pong")
        assert metric(server, "midair_waiting") == 1
        async with MailboxPeer.connected(server, "bob") as bob:
            await bob.send("claim", nameplate="7")
            await bob.expect("claimed")
            await bob.send("open", mailbox=mailbox)
            await bob.send("add", phase="pake", body="00")
            await alice.expect("message")
            assert metric(server, "midair_waiting") == 0
            assert metric(server, "midair_meeting_seconds_count") == 1
            assert metric(server, "midair_frame_seconds_count") >= 6
            for peer, mood in ((alice, "scary"), (bob, "\U0001f4a9")):
                await peer.send("close", mood=mood)
        await eventually(lambda: metric(server, 'midair_mailboxes_left_total{mood="other"}') == 1)
        assert metric(server, 'midair_mailboxes_left_total{mood="scary"}') == 1
        assert b"\\u" not in await http(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
