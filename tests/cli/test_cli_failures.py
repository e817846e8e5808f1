"""What can go wrong: one clear line, its own exit code, no traceback, no hang, no half file under the final name."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import Command, midair, serving, wait_until

MIB = 1 << 20
SLOW = ("--limit-rate", "8M")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "big.bin"
    path.write_bytes(os.urandom(24 * MIB))
    return path


def check_end(command: Command, exit_code: int, reason: str, *words: str) -> None:
    """It ended with this exit code, said so in its last event, and in one line with these words for a person."""
    assert command.wait() == exit_code, command.errors
    assert command.done["ok"] is (exit_code == 0)
    assert command.done["exit_code"] == exit_code
    assert command.done["reason"] == reason
    assert "Traceback" not in command.errors
    lines = command.errors.splitlines()
    assert 1 <= len(lines) <= 2, command.errors
    assert lines[0].startswith("midair: ")
    for word in words:
        assert word in command.errors


def under_way(command: Command) -> None:
    command.event("progress", lambda event: 0 < event["bytes"] < event["total"])


def test_a_wrong_code_is_told_to_both_ends_and_costs_the_code(server: str, source: Path, folder: Path) -> None:
    with midair("send", "--json", "--server", server, "--code", "5-right-words", source) as sender:
        sender.event("code")
        with midair("receive", "--json", "--server", server, "5-wrong-words", "-o", folder, "-y") as receiver:
            check_end(receiver, 3, "wrong-code")
            check_end(sender, 3, "wrong-code")
    with midair("receive", "--json", "--server", server, "5-right-words", "-o", folder, "-y", "--wait", "0.5") as late:
        check_end(late, 4, "unknown-code")
    assert list(folder.iterdir()) == []


def test_an_unknown_code_is_said_in_the_time_given(server: str, folder: Path) -> None:
    with midair("receive", "--json", "--server", server, "9-no-body", "-o", folder, "-y", "--wait", "0.5") as receiver:
        check_end(receiver, 4, "unknown-code")


def test_a_folder_that_cannot_be_used_is_said_before_the_code_is_used_up(
    server: str, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with midair("send", "--json", "--server", server, "--code", "5-right-words", source) as sender:
        sender.event("code")
        receive = ("receive", "--json", "--server", server, "5-right-words", "-y", "-o")
        with midair(*receive, tmp_path / "file" / "below") as receiver:
            check_end(receiver, 13, "local-io", "below")
        with midair(*receive, tmp_path / "new" / "folder") as receiver:
            assert (receiver.wait(), sender.wait()) == (0, 0)
    assert (tmp_path / "new" / "folder" / "big.bin").read_bytes() == source.read_bytes()


def test_a_server_that_is_down_is_named(source: Path, folder: Path) -> None:
    with serving() as (address, command):
        command.signal(signal.SIGTERM)
        assert command.wait() == 0
    with midair("send", "--json", "--server", address, source) as sender:
        check_end(sender, 17, "server-unreachable", address)
    with midair("receive", "--json", "--server", address, "3-some-code", "-o", folder, "-y") as receiver:
        check_end(receiver, 17, "server-unreachable", address)


def test_a_direct_transfer_goes_on_when_the_server_dies(
    server_command: tuple[str, Command], source: Path, folder: Path
) -> None:
    address, server = server_command
    with midair("send", "--json", "--server", address, *SLOW, source) as sender:
        code = sender.event("code")["code"]
        with midair("receive", "--json", "--server", address, code, "-o", folder, "-y") as receiver:
            under_way(receiver)
            server.kill()
            assert receiver.wait() == 0
            assert sender.wait() == 0
    assert (folder / "big.bin").read_bytes() == source.read_bytes()


def test_a_relayed_transfer_whose_server_dies_ends_after_the_time_to_meet_again(
    server_command: tuple[str, Command], source: Path, folder: Path
) -> None:
    address, server = server_command
    relay = ("--json", "--server", address, "--path", "relay", "--rejoin", "1.5")
    with midair("send", *relay, *SLOW, source) as sender:
        code = sender.event("code")["code"]
        with midair("receive", *relay, code, "-o", folder, "-y") as receiver:
            under_way(receiver)
            server.kill()
            check_end(receiver, 8, "peer-lost")
            check_end(sender, 8, "peer-lost")
    assert not (folder / "big.bin").exists()


def test_an_existing_target_is_kept_and_named_on_both_sides(server: str, source: Path, folder: Path) -> None:
    (folder / "big.bin").write_text("mine")
    with midair("send", "--json", "--server", server, source) as sender:
        code = sender.event("code")["code"]
        with midair("receive", "--json", "--server", server, code, "-o", folder, "-y") as receiver:
            check_end(receiver, 12, "target-exists", "big.bin")
            assert sender.wait() in (5, 19)
            assert "big.bin" in sender.errors
            assert "Traceback" not in sender.errors
    assert (folder / "big.bin").read_text() == "mine"
    assert [path.name for path in folder.iterdir()] == ["big.bin"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MiB. Needs root, as the lab's tests do."""
    target = tmp_path / "disk"
    target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(target)], check=True)
    yield target
    subprocess.run(["umount", str(target)], check=True)


def fill(path: Path) -> None:
    """Takes what room there is."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(64 * 1024)):
            pass


def test_a_disk_too_small_is_said_before_anything_is_sent(server: str, source: Path, small_disk: Path) -> None:
    with midair("send", "--json", "--server", server, source) as sender:
        code = sender.event("code")["code"]
        with midair("receive", "--json", "--server", server, code, "-o", small_disk, "-y") as receiver:
            check_end(receiver, 11, "disk-full")
            assert sender.wait() in (5, 19)
            assert sender.done["bytes_sent"] == 0
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_fills_up_in_between_ends_both_sides_and_keeps_what_is_there(
    server: str, source: Path, small_disk: Path
) -> None:
    source.write_bytes(os.urandom(12 * MIB))
    with midair("send", "--json", "--server", server, *SLOW, source) as sender:
        code = sender.event("code")["code"]
        with midair("receive", "--json", "--server", server, code, "-o", small_disk, "-y") as receiver:
            under_way(receiver)
            fill(small_disk / "somebody-else")
            check_end(receiver, 11, "disk-full")
            check_end(sender, 19, "peer-failed")
    assert not (small_disk / "big.bin").exists()
    (small_disk / "somebody-else").unlink()
    with midair("send", "--json", "--server", server, source) as sender:
        code = sender.event("code")["code"]
        with midair("receive", "--json", "--server", server, code, "-o", small_disk, "-y") as receiver:
            assert (receiver.wait(), sender.wait()) == (0, 0)
            assert receiver.of("resumed")[0]["bytes"] > 0
    assert (small_disk / "big.bin").read_bytes() == source.read_bytes()


def test_a_source_truncated_while_sending_fails_on_both_sides_by_name(server: str, source: Path, folder: Path) -> None:
    with midair("send", "--json", "--server", server, *SLOW, source) as sender:
        code = sender.event("code")["code"]
        with midair("receive", "--json", "--server", server, code, "-o", folder, "-y") as receiver:
            under_way(receiver)
            os.truncate(source, MIB)
            check_end(sender, 10, "source-changed", "big.bin")
            assert receiver.wait() == 10
            assert "big.bin" in receiver.errors
            assert "Traceback" not in receiver.errors
    assert not (folder / "big.bin").exists()


def test_a_receiver_that_nobody_can_ask_says_how_to_accept_before_the_code_is_used_up(
    server: str, source: Path, folder: Path
) -> None:
    with midair("send", "--json", "--server", server, source) as sender:
        code = sender.event("code")["code"]
        receive = ("receive", "--json", "--server", server, code, "-o", folder)
        with midair(*receive) as receiver:
            check_end(receiver, 2, "usage", "-y")
        assert list(folder.iterdir()) == []
        with midair(*receive, "-y") as receiver:
            assert (receiver.wait(), sender.wait()) == (0, 0)


@pytest.mark.parametrize(("answer", "accepted"), [("n", False), ("y", True), ("", True)])
def test_the_person_at_the_receiver_decides(
    server: str, tmp_path: Path, folder: Path, terminal: tuple[int, int], answer: str, accepted: bool
) -> None:
    ours, theirs = terminal
    source = tmp_path / "letter.txt"
    source.write_text("hello")
    with midair("send", "--json", "--server", server, source) as sender:
        code = sender.event("code")["code"]
        with midair("receive", "--json", "--server", server, code, "-o", folder, stdin=theirs) as receiver:
            wait_until(lambda: "[Y/n]" in receiver.errors, "a question")
            assert "letter.txt" in receiver.errors
            os.write(ours, f"{answer}\n".encode())
            if accepted:
                assert (receiver.wait(), sender.wait()) == (0, 0)
            else:
                assert receiver.wait() == 5
                assert receiver.done["reason"] == "refused"
                check_end(sender, 5, "refused")
    assert [path.name for path in folder.iterdir()] == (["letter.txt"] if accepted else [])


def test_a_sender_that_goes_away_ends_the_question(
    server: str, source: Path, folder: Path, terminal: tuple[int, int]
) -> None:
    with midair("send", "--json", "--server", server, source) as sender:
        code = sender.event("code")["code"]
        with midair("receive", "--json", "--server", server, code, "-o", folder, stdin=terminal[1]) as receiver:
            wait_until(lambda: "[Y/n]" in receiver.errors, "a question")
            sender.signal(signal.SIGINT)
            check_end(sender, 130, "cancelled")
            assert receiver.wait() == 6
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("who", ["sender", "receiver"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_one_side_with_its_code_and_the_other_is_told(
    server: str, source: Path, folder: Path, who: str, how: signal.Signals
) -> None:
    with midair("send", "--json", "--server", server, *SLOW, source) as sender:
        code = sender.event("code")["code"]
        with midair("receive", "--json", "--server", server, code, "-o", folder, "-y") as receiver:
            under_way(receiver)
            cancelled, told = (sender, receiver) if who == "sender" else (receiver, sender)
            cancelled.signal(how)
            check_end(cancelled, 128 + how, "cancelled")
            check_end(told, 6, "peer-cancelled")
    assert not (folder / "big.bin").exists()


def test_a_signal_while_waiting_for_the_other_side_ends_at_once(server: str, source: Path) -> None:
    with midair("send", "--json", "--server", server, source) as sender:
        sender.event("code")
        sender.signal(signal.SIGINT)
        check_end(sender, 130, "cancelled")


def test_two_senders_under_one_code_are_told_what_they_are(server: str, source: Path) -> None:
    with midair("send", "--json", "--server", server, "--code", "8-same-code", source) as first:
        first.event("code")
        with midair("send", "--json", "--server", server, "--code", "8-same-code", source) as second:
            check_end(second, 15, "incompatible", "both sides want to send")
            check_end(first, 15, "incompatible", "both sides want to send")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("send", "--server", "ws://127.0.0.1:9", "/no/such/file"), "/no/such/file"),
        (("receive", "--server", "http://x", "3-a-code"), "ws://HOST:PORT"),
        (("receive", "--server", "ws://127.0.0.1:9", "not-a-code"), "code"),
        (("receive", "3-some-code"), "--server"),
        (("check",), "--sockets"),
        (("serve", "--listen", "nonsense"), "HOST:PORT"),
    ],
)
def test_what_cannot_be_understood_is_said_in_a_line(arguments: tuple[str, ...], words: str) -> None:
    with midair(*arguments) as command:
        assert command.wait() in (2, 13)
        assert words in command.errors
        assert "Traceback" not in command.errors
