"""A private server: who does not know its secret neither meets nor relays there, and the secret is never shown."""

from __future__ import annotations

import asyncio
import signal
import socket
from base64 import b64encode
from pathlib import Path

import pytest
from server_peers import http, metric, port_of, running

from midair.cli.settings import server_from
from midair.config import ServerURL
from midair.errors import SecretError, UnknownCodeError, UsageError
from midair.relay import open_leg
from midair.relay.client import RelayError
from midair.relay.proof import is_proven, pair_of, with_proof
from midair.rendezvous import meet_as_receiver, meet_as_sender
from midair.server import Server
from midair.server.secrets import Secrets
from support import midair

OURS, ANOTHERS, WRONG = "correct-horse-battery", "another-friend-of-ours", "wrong-horse-battery"
SECRETS = Secrets([OURS, ANOTHERS])
TOKEN = bytes(range(32))


def url(server: Server, secret: str = "") -> ServerURL:
    return ServerURL(secure=False, host="127.0.0.1", port=port_of(server), secret=secret)


@pytest.mark.parametrize(("secret", "told"), [("", "it wants a secret"), (WRONG, "does not take the secret")])
async def test_who_does_not_know_the_secret_is_told_so(secret: str, told: str) -> None:
    async with running(secrets=SECRETS) as server:
        with pytest.raises(SecretError, match=told) as caught:
            await meet_as_receiver(url(server, secret), "7-guitarist-revenge", app_versions={})
        assert caught.value.exit_code == 22
        assert "MIDAIR_SERVER" in caught.value.hint
        assert WRONG not in f"{caught.value}{caught.value.hint}"
        assert metric(server, 'midair_refusals_total{reason="secret"}') == 1


async def test_two_who_know_a_secret_each_meet() -> None:
    async with running(secrets=SECRETS) as server:
        code: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        meeting = asyncio.create_task(meet_as_sender(url(server, OURS), app_versions={}, on_code=code.set_result))
        receiver = await meet_as_receiver(url(server, ANOTHERS), await code, app_versions={})
        async with receiver, await meeting as sender:
            assert sender.key == receiver.key


async def leg(server: Server, secret: str, side: bytes) -> socket.socket:
    return await open_leg(url(server, secret), TOKEN, side * 8, timeout=5)


async def test_relay_legs_prove_that_they_know_a_secret_whichever() -> None:
    async with running(secrets=SECRETS) as server:
        first, second = await asyncio.gather(leg(server, OURS, b"a"), leg(server, ANOTHERS, b"b"))
        with first, second:
            await asyncio.get_running_loop().sock_sendall(first, b"hello")
            assert await asyncio.get_running_loop().sock_recv(second, 100) == b"hello"


@pytest.mark.parametrize("secret", ["", WRONG])
async def test_a_relay_leg_without_a_proof_is_refused(secret: str) -> None:
    async with running(secrets=SECRETS) as server:
        with pytest.raises(RelayError, match="private") as caught:
            await leg(server, secret, b"a")
        assert caught.value.word == "secret"


async def test_a_secret_that_is_not_asked_for_does_not_keep_legs_apart() -> None:
    async with running() as server:
        first, second = await asyncio.gather(leg(server, OURS, b"a"), leg(server, "", b"b"))
        first.close()
        second.close()


async def test_whether_it_lives_is_no_secret() -> None:
    async with running(secrets=SECRETS) as server:
        assert (await http(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")).endswith(b"ok\n")
        answer = await http(server, b"GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b'\r\nWWW-Authenticate: Basic realm="midair"\r\n' in answer


def test_a_proof_is_of_its_pair_and_its_secret() -> None:
    proven = with_proof(TOKEN, OURS)
    assert is_proven(proven, [ANOTHERS, OURS])
    assert not is_proven(proven, [ANOTHERS])
    assert not is_proven(TOKEN, [OURS])
    assert not is_proven(bytes([1]) + proven[1:], [OURS])
    assert pair_of(proven) == pair_of(with_proof(TOKEN, ANOTHERS)) == pair_of(TOKEN)
    assert len(proven) == len(TOKEN)


@pytest.mark.parametrize(
    ("said", "admitted"),
    [
        (b"x:" + OURS.encode(), True),
        (b":" + ANOTHERS.encode(), True),
        (b":", False),
        (OURS.encode(), False),
        (b":" + OURS.encode() + b"x", False),
    ],
)
def test_a_password_counts_and_no_user(said: bytes, admitted: bool) -> None:
    assert SECRETS.admits(f"Basic {b64encode(said).decode()}") is admitted


@pytest.mark.parametrize("header", [None, "", "Basic", "Basic !", "Basic \xe4", f"Bearer {OURS}", OURS])
def test_what_is_no_password_is_not_admitted(header: str | None) -> None:
    assert not SECRETS.admits(header)


def test_secrets_stand_one_on_each_line() -> None:
    secrets = Secrets.parse(f"# friends\n{OURS}\n\n  {ANOTHERS}\n", named_by="file")
    assert secrets.admits(url_of_secret(ANOTHERS).authorization)
    assert not secrets.admits(url_of_secret("# friends").authorization)
    assert OURS not in repr(secrets)


@pytest.mark.parametrize("text", ["", "# none\n", "too short", OURS + "\nümlaut-is-no-ascii\n", "x" * 300])
def test_a_file_without_a_good_secret_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(UsageError, match="file") as caught:
        Secrets.parse(text, named_by="file")
    assert "ümlaut" not in str(caught.value)


def url_of_secret(secret: str) -> ServerURL:
    return ServerURL(secure=False, host="h", port=1, secret=secret)


def test_a_secret_stands_before_the_host_and_is_never_shown() -> None:
    parsed = ServerURL.parse("wss://:p%40ss%2Fword@example.org")
    assert parsed.secret == "p@ss/word"
    assert ServerURL.parse("token@example.org").secret == "token"
    assert f"{parsed}" == "wss://example.org:443"
    assert "word" not in repr(parsed)
    assert "word" not in parsed.mailbox_url


@pytest.mark.parametrize(
    "text", ["ws://:hid#den@h", "ws://:hid/den@h", "ws://:hidden@h:x", "ftp://:hidden@h", "ws://:hidden@"]
)
def test_an_address_that_is_none_is_named_without_its_secret(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        ServerURL.parse(text)
    assert "hid" not in f"{caught.value}{caught.value.hint}"


def test_the_secret_comes_from_the_environment_and_not_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("MIDAIR_SERVER", f"ws://:{OURS}@h")
    by_environment = server_from(f"ws://:{OURS}@h")  # as click hands it over
    assert by_environment is not None
    assert by_environment.secret == OURS
    with pytest.raises(UsageError, match="command line") as caught:
        server_from(f"ws://:{ANOTHERS}@h")
    assert ANOTHERS not in f"{caught.value}{caught.value.hint}"


def test_a_server_with_a_secret_file_lets_in_who_knows_it_and_logs_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text(OURS + "\n")
    with midair("serve", "--listen", "127.0.0.1:0", "--secret-file", str(file), "--debug") as server:
        address = server.line().removeprefix("midair: serving on ").strip()
        with midair("receive", "-y", "7-guitarist-revenge", "-o", str(tmp_path), MIDAIR_SERVER=address) as receiver:
            assert receiver.wait() == 22, receiver.errors
        private = ServerURL.parse(address.replace("ws://", f"ws://:{OURS}@"))
        with pytest.raises(UnknownCodeError):
            asyncio.run(meet_as_receiver(private, "7-guitarist-revenge", app_versions={}, wait=0.1))
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert "midair" in server.errors
    assert OURS not in server.errors
    assert b64encode(b":" + OURS.encode()).decode() not in server.errors


def test_a_secret_that_cannot_be_read_keeps_the_server_from_starting(tmp_path: Path) -> None:
    with midair("serve", "--listen", "127.0.0.1:0", "--secret-file", str(tmp_path / "none")) as server:
        assert server.wait() == 2
    assert "cannot be read" in server.errors
