"""Which proxy is used: what was said to midair, else the environment's, and what is spared from it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from midair.cli.policies import Policies
from midair.cli.proxies import spared
from midair.config import ServerURL
from midair.errors import UsageError
from support import midair

SERVER = ServerURL.parse("wss://meet.example.org:7420")
VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY", "MIDAIR_PROXY")


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration file, which is not there yet; nothing else is set."""
    for name in (*VARIABLES, "MIDAIR_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "midair").mkdir()
    return tmp_path / "midair" / "config.toml"


def way(server: ServerURL = SERVER, **given: str) -> str | None:
    """The proxy on the way to the server, and where it was named."""
    proxy = Policies(proxy=given.get("proxy")).way_to(server).proxy
    return None if proxy is None else f"{proxy} {proxy.named_by}"


def test_without_a_word_there_is_none() -> None:
    assert way() is None


def test_what_was_said_to_midair_goes_before_what_was_said_to_all(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://{name.lower().replace('_', '-')}:3128")
        assert way() == f"http://{name.lower().replace('_', '-')}:3128 {name}"
    file.write_text('proxy = "socks5://of-the-file"')
    assert way() == f"socks5://of-the-file:1080 {file}: proxy"
    monkeypatch.setenv("MIDAIR_PROXY", "socks5://of-midair")
    assert way() == "socks5://of-midair:1080 MIDAIR_PROXY"
    assert way(proxy="socks5://said") == "socks5://said:1080 --proxy"
    assert way(proxy="none") is None


def test_http_proxy_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    assert way() is None


def test_what_no_proxy_names_is_reached_without_unless_midair_was_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "localhost, .example.org")
    assert way() is None
    assert way(proxy="http://proxy:3128") == "http://proxy:3128 --proxy"
    monkeypatch.setenv("no_proxy", "elsewhere.net")
    assert way() == "http://proxy:3128 ALL_PROXY"


@pytest.mark.parametrize(
    ("host", "entries", "is_spared"),
    [
        ("localhost", "", True),
        ("127.0.0.1", "", True),
        ("::1", "", True),
        ("example.org", "", False),
        ("example.org", "*", True),
        ("example.org", "other.net example.org", True),
        ("a.example.org", "example.org", True),
        ("a.example.org", ".EXAMPLE.org", True),
        ("a.example.org", "*.example.org", True),
        ("badexample.org", "example.org", False),
        ("example.org", "a.example.org", False),
        ("example.org", "example.org:7420", True),
        ("example.org", "example.org:443", False),
        ("example.org", "10.0.0.0/8,.", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3:7420", True),
        ("10.1.2.3", "10.1.2", False),
        ("110.1.2.3", "10.1.2.3", False),
        ("2001:db8::1", "[2001:db8::1]:7420", True),
        ("2001:db8::1", "2001:db8::/32", True),
        ("2001:db8::1", "0.0.0.0/0", False),
    ],
)
def test_no_proxy_is_read_as_others_read_it(host: str, entries: str, is_spared: bool) -> None:
    assert spared(host, 7420, entries) is is_spared


def test_only_direct_and_a_proxy_exclude_each_other_and_the_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy:3128")
    with pytest.raises(UsageError, match=r"--direct-only and a proxy \(ALL_PROXY\) exclude each other") as caught:
        Policies(direct_only=True).way_to(SERVER)
    assert "--proxy none" in caught.value.hint
    assert Policies(direct_only=True, proxy="none").way_to(SERVER) == SERVER


def test_a_proxy_of_a_kind_that_there_is_not_is_refused_and_not_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "https://ann:hunter2@proxy:443")
    with pytest.raises(UsageError, match=r"^HTTPS_PROXY: midair cannot use a proxy of the kind 'https'$"):
        way()


@contextlib.contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """Something on loopback that says the next of these whenever it is spoken to; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client = listener.accept()[0]
                    with client:
                        for answer in answers:
                            client.recv(1000)
                            client.sendall(answer)
                        if answers[-1]:
                            client.recv(1000)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield str(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 403 No\r\n\r\n", "does not let us through to the server at 192.0.2.1:7420 (HTTP 403)"),
        (b"220 mail.example ESMTP\r\n", "is no HTTP proxy"),
        (b"", "closed the connection without an answer"),
    ],
)
def test_each_failure_is_one_line_a_hint_and_exit_code_21(answer: bytes, words: str) -> None:
    with answering(answer) as port:
        check_end(f"http://ann:hunter2@127.0.0.1:{port}", words)


def test_a_proxy_that_is_not_there_is_said_so() -> None:
    with answering(b"") as port:
        pass
    check_end(f"socks5://ann:hunter2@127.0.0.1:{port}", "cannot be reached: connection refused")


def test_a_server_that_fails_behind_its_proxy_is_told_from_it() -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: ws://elsewhere.example/\r\nContent-Length: 0\r\n\r\n"
    with (
        answering(b"HTTP/1.1 200 OK\r\n\r\n", moved) as port,
        midair("rx", "--json", "--server", "192.0.2.1", "7-some-code", "-y", ALL_PROXY=f"127.0.0.1:{port}") as command,
    ):
        assert command.wait() == 17, command.errors
    assert f"cannot be reached through the proxy at http://127.0.0.1:{port}: it answers HTTP 302" in command.errors


def test_a_proxy_without_a_server_leads_nowhere(tmp_path: Path) -> None:
    with midair("send", "--json", "--proxy", "http://127.0.0.1:1", tmp_path) as command:
        assert command.wait() == 2
    assert command.errors.splitlines()[0] == "midair: a proxy leads to a server, and none is named"


def check_end(proxy: str, words: str) -> None:
    with midair("rx", "--json", "--debug", "--proxy", proxy, "--server", "192.0.2.1", "7-some-code", "-y") as command:
        assert command.wait() == 21, command.errors
    assert command.done["reason"] == "proxy"
    assert "Traceback" not in command.errors
    said = [line for line in command.errors.splitlines() if not line.startswith("2")]  # the others are the log's
    assert len(said) == 2
    assert said[0].startswith("midair: ")
    assert words in said[0]
    assert "hunter2" not in command.errors + "".join(command.lines)
