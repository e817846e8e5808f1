"""The examples of docs/how-to/library.md do what it says, on one machine."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from examples_running import example, said, until_direct

import midair
from support import Command, wait_until

SECRET = "5a" * 32
DOCUMENT = Path(__file__).parents[2] / "docs/how-to/library.md"


def type_in(command: Command, text: str) -> None:
    assert command.process.stdin is not None
    command.process.stdin.write(text)
    command.process.stdin.flush()


def shown(command: Command, count: int) -> list[str]:
    """Its first ``count`` lines."""
    wait_until(lambda: len(command.lines) >= count or command.process.poll() is not None, "its output")
    assert len(command.lines) >= count, (command.lines, command.errors)
    return command.lines[:count]


def test_the_echo_comes_back_line_by_line(server: str) -> None:
    with example("echo.py", "--server", server) as host:
        code = shown(host, 1)[0].removeprefix("code: ")
        with example("echo.py", "--server", server, code) as peer:
            type_in(peer, "good morning\n")
            wait_until(lambda: said(peer) == ["good morning"], "the echo")
            until_direct(peer)
            type_in(peer, "ünïcode 🎐\nno newline at the end")
            assert peer.process.stdin is not None
            peer.process.stdin.close()
            assert peer.wait() == 0, peer.errors
            assert said(peer)[1:] == ["ünïcode 🎐", "no newline at the end"]
        assert host.wait() == 0, host.errors
        until_direct(host)
        assert (host.errors, peer.errors) == ("", "")


def test_the_echo_tells_a_person_what_went_wrong() -> None:
    with example("echo.py", "--server", "ws://127.0.0.1:9", "4-nobody-there") as peer:
        assert peer.wait() == 1
        assert "Traceback" not in peer.errors
        assert "ws://127.0.0.1:9" in peer.errors


def test_two_peers_of_an_own_server_say_hello(server: str) -> None:
    with example("own_signalling.py", "broker", "--listen", "127.0.0.1:0") as broker:
        at = shown(broker, 1)[0].removeprefix("listening on ")
        common = ("--broker", at, "--room", "tea", "--secret", SECRET, "--midair", server, "--direct")
        with (
            example("own_signalling.py", "peer", "--name", "ann", *common) as ann,
            example("own_signalling.py", "peer", "--name", "bob", *common) as bob,
        ):
            for peer, other in ((ann, "bob"), (bob, "ann")):
                assert peer.wait() == 0, peer.errors
                assert peer.lines[0].startswith("connected: direct with ")
                assert peer.lines[1:] == [f"{other} says hello"]
                assert peer.errors == ""
        assert broker.errors == ""


def test_peers_with_different_secrets_are_told(server: str) -> None:
    with example("own_signalling.py", "broker", "--listen", "127.0.0.1:0") as broker:
        at = shown(broker, 1)[0].removeprefix("listening on ")
        common = ("--broker", at, "--room", "tea", "--midair", server)
        with (
            example("own_signalling.py", "peer", "--name", "ann", "--secret", SECRET, *common) as ann,
            example("own_signalling.py", "peer", "--name", "bob", "--secret", "00" * 32, *common) as bob,
        ):
            for peer in (ann, bob):
                assert peer.wait() == 1
                assert "Traceback" not in peer.errors
                assert "another secret" in peer.errors


def test_the_document_names_both_and_what_it_shows_can_be_compiled() -> None:
    text = DOCUMENT.read_text("utf-8")
    for name in ("echo.py", "own_signalling.py"):
        assert f"examples/{name}" in text
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) >= 3
    for snippet in snippets:
        compile(snippet, "library.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_every_public_name_the_document_uses_exists() -> None:
    for name in set(re.findall(r"\bmidair\.(\w+)", DOCUMENT.read_text("utf-8"))) - {"errors"}:
        assert hasattr(midair, name), name
    for name in set(re.findall(r"\bconnection\.(\w+)", DOCUMENT.read_text("utf-8"))):
        assert hasattr(midair.Connection, name), name
