"""What connections may be used: options, environment and file, and what does not go together."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from midair.cli.policies import Policies, add_help
from midair.config import PathPolicy, TraversalOptions
from midair.errors import NoPathError, UsageError
from support import Command, midair

Environment = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration file, which is not there yet; nothing else is set."""
    for name in ("PATH", "IP", "PORT", "PORTMAP", "PROXY", "SERVER"):
        monkeypatch.delenv(f"MIDAIR_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "midair").mkdir()
    return tmp_path / "midair" / "config.toml"


def test_without_a_word_everything_is_allowed() -> None:
    assert Policies().traversal() == TraversalOptions()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"direct_only": True}, {"policy": "direct"}),
        ({"relay_only": True}, {"policy": "relay"}),
        ({"path": "direct"}, {"policy": "direct"}),
        ({"direct_only": True, "path": "direct"}, {"policy": "direct"}),
        ({"ipv4": True}, {"families": (4,)}),
        ({"ipv6": True}, {"families": (6,)}),
        ({"port": "50000"}, {"local_port": 50000}),
        ({"port": "50000-50010"}, {"local_port": (50000, 50010)}),
        ({"port": "50000-50000"}, {"local_port": 50000}),
        ({"port": "0"}, {"local_port": 0}),
        ({"portmap": False}, {"port_mapping": False}),
    ],
)
def test_each_option_means_one_thing(given: dict[str, Any], meant: dict[str, Any]) -> None:
    assert Policies(**given).traversal() == TraversalOptions(**meant)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ipv4": True, "ipv6": True}, "-4 and -6 exclude each other"),
        ({"direct_only": True, "relay_only": True}, "--direct-only and --relay-only exclude each other"),
        ({"direct_only": True, "path": "auto"}, "--direct-only and --path auto exclude each other"),
        ({"port": "50000-40000"}, "--port: '50000-40000' is no port and no range of ports"),
        ({"port": "65536"}, "--port: '65536' is no port"),
        ({"port": "0-10"}, "--port: '0-10' is no port"),
        ({"port": "-5"}, "--port: '-5' is no port"),
        ({"port": "http"}, "--port: 'http' is no port"),
    ],
)
def test_what_does_not_go_together_is_said_with_what_to_do(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Policies(**given).traversal()
    assert words in caught.value.message
    assert caught.value.hint


def test_the_command_line_wins_then_the_environment_then_the_file(file: Path, monkeypatch: Environment) -> None:
    file.write_text('path = "relay"\nip = 6\nport = "50000-50001"\nportmap = false\n')
    assert Policies().traversal() == TraversalOptions(
        policy="relay", families=(6,), local_port=(50000, 50001), port_mapping=False
    )
    for name, value in {"PATH": "direct", "IP": "4", "PORT": "40000", "PORTMAP": "yes"}.items():
        monkeypatch.setenv(f"MIDAIR_{name}", value)
    assert Policies().traversal() == TraversalOptions(policy="direct", families=(4,), local_port=40000)
    said = Policies(path="auto", ipv6=True, port="1234", portmap=False)
    assert said.traversal() == TraversalOptions(families=(6,), local_port=1234, port_mapping=False)
    assert Policies(relay_only=True).traversal().policy == "relay"


@pytest.mark.parametrize(("name", "value"), [("PATH", "both"), ("IP", "5"), ("PORT", "many"), ("PORTMAP", "maybe")])
def test_what_the_environment_says_wrongly_is_named(name: str, value: str, monkeypatch: Environment) -> None:
    monkeypatch.setenv(f"MIDAIR_{name}", value)
    with pytest.raises(UsageError, match=f"^MIDAIR_{name}: '{value}' is "):
        Policies().traversal()


@pytest.mark.parametrize("text", ["portmap = 3", "port = true", "path = 4", "unheard = 1", "ip = ", "proxy = []"])
def test_a_file_that_says_it_wrongly_is_named(text: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(UsageError, match=r"config\.toml"):
        Policies().traversal()


def check_usage(command: Command, *words: str) -> None:
    assert command.wait() == 2, command.errors
    assert command.done["reason"] == "usage"
    assert len(command.errors.splitlines()) == 2
    for word in words:
        assert word in command.errors


def test_a_conflict_is_one_line_a_hint_and_exit_code_2(tmp_path: Path) -> None:
    with midair("send", "--json", "-4", "-6", tmp_path) as command:
        check_usage(command, "midair: -4 and -6 exclude each other")
    with midair("receive", "--json", "--server", "ws://192.0.2.1", "--no-relay", "--relay-only", "7-a-b") as command:
        check_usage(command, "midair: --direct-only and --relay-only exclude each other")


def test_two_ip_versions_and_no_relay_are_no_path_and_both_sides_say_so_at_once(
    server: str, tmp_path: Path, folder: Path
) -> None:
    (tmp_path / "file").write_text("content")
    with midair("send", "--json", "--server", server, "--direct-only", "-4", tmp_path / "file") as sender:
        code = sender.event("code")["code"]
        with midair("receive", "--json", "--server", server, "-6", code, "-o", folder, "-y") as receiver:
            receiver.event("met")
            met = time.monotonic()
            assert (receiver.wait(), sender.wait()) == (7, 7)
            assert time.monotonic() - met < 4.0  # the deadline of a direct connection is 20 s
    for command in (sender, receiver):
        assert command.done["reason"] == "no-path"
        assert command.errors.startswith("midair: no direct connection is possible (")
        assert len(command.errors.splitlines()) == 2


@pytest.mark.parametrize(("policy", "words"), [("direct", "--port"), ("relay", "--relay-only"), ("auto", "check")])
def test_who_got_no_connection_is_told_what_would_help(policy: PathPolicy, words: str) -> None:
    error = NoPathError("no direct connection")
    add_help(error, policy)
    assert words in error.hint
    named = NoPathError("no direct connection", hint="this")
    add_help(named, policy)
    assert named.hint == "this"


def test_a_port_that_is_taken_is_named_and_another_of_a_range_is_used(
    server: str, tmp_path: Path, folder: Path
) -> None:
    (tmp_path / "file").write_text("content")
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        number = taken.getsockname()[1]
        for port, exit_code in ((f"{number}", 13), (f"{number}-{number + 20}", 0)):
            with midair("send", "--json", "--server", server, tmp_path / "file") as sender:
                code = sender.event("code")["code"]
                receive = ("receive", "--json", "--server", server, code, "-o", folder, "-y", "--port", port)
                with midair(*receive) as receiver:
                    assert receiver.wait() == exit_code, receiver.errors
                    assert "Traceback" not in receiver.errors
                    if exit_code:
                        assert receiver.done["reason"] == "local-io"
                        assert f"port {number}" in receiver.errors
    assert (folder / "file").read_text() == "content"


def test_help_has_what_is_about_the_connection_together_and_fits_a_terminal() -> None:
    with midair("receive", "--help", COLUMNS="80") as command:
        assert command.wait() == 0
    assert max(map(len, command.lines)) <= 80
    about_the_connection = " ".join(command.lines[command.lines.index("Connection:") :])
    for option in ("--server", "--direct-only, --no-relay", "--relay-only", "--path", "-4", "-6", "--port", "--proxy"):
        assert f"  {option}" in about_the_connection
    for option in ("--json", "--help", "CODE"):
        assert option not in about_the_connection


def test_a_check_of_an_ip_version_that_the_server_has_not_ends_at_once(server: str) -> None:
    with midair("check", "-6", "--no-portmap", "--server", server) as command:
        assert command.wait() == 17
    assert command.errors.startswith(f"midair: {server} has no address for IPv6")
