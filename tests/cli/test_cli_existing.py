"""What is there already, and what could not be stored, as a person or a script meets it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import Command, midair, wait_until

MIB = 1 << 20


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@contextlib.contextmanager
def both(
    server: str, sent: list[Path], folder: Path, *options: str, stdin: int = -3
) -> Iterator[tuple[Command, Command]]:
    """A sender and a receiver at work."""
    with midair("send", "--json", "--server", server, *sent) as sender:
        code = sender.event("code")["code"]
        receive = ("receive", "--json", "--server", server, code, "-o", folder, *options)
        with midair(*receive, stdin=stdin) as receiver:
            yield sender, receiver


def test_what_is_there_and_the_same_is_not_sent_again(server: str, tmp_path: Path, folder: Path) -> None:
    tree = tmp_path / "tree"
    put(tree / "a", os.urandom(MIB))
    put(tree / "b", os.urandom(MIB))
    put(tree / "c", b"new")
    for crossed in (2 * MIB + 3, 0):
        with both(server, [tree], folder, "-y") as (sender, receiver):
            assert (sender.wait(), receiver.wait()) == (0, 0)
        assert sender.done["bytes_sent"] == receiver.done["bytes_sent"] == crossed
        assert sender.done["bytes"] == receiver.done["bytes"] == 2 * MIB + 3
    put(tree / "d", b"newer")
    with both(server, [tree], folder, "-y") as (sender, receiver):
        assert (sender.wait(), receiver.wait()) == (0, 0)
    for command in (sender, receiver):
        assert command.done["bytes_sent"] == 5
        assert command.done["outcomes"] == {"identical": 3, "received": 1}
        assert {e["name"]: e["outcome"] for e in command.of("file")} == {
            "tree/a": "identical",
            "tree/b": "identical",
            "tree/c": "identical",
            "tree/d": "received",
        }


def test_a_file_that_only_looks_the_same_is_found_by_verifying(server: str, tmp_path: Path, folder: Path) -> None:
    source = put(tmp_path / "x.bin", os.urandom(MIB))
    with both(server, [source], folder, "-y") as (sender, receiver):
        assert (sender.wait(), receiver.wait()) == (0, 0)
    before = (folder / "x.bin").stat()
    with (folder / "x.bin").open("r+b") as file:
        file.write(bytes(100))
    os.utime(folder / "x.bin", ns=(before.st_atime_ns, before.st_mtime_ns))
    with both(server, [source], folder, "-y", "--verify", "--overwrite") as (sender, receiver):
        assert (sender.wait(), receiver.wait()) == (0, 0)
    assert receiver.done["outcomes"] == {"received": 1}
    assert (folder / "x.bin").read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("option", "exit_code", "outcome", "there"),
    [
        ("--overwrite", 0, "received", {"x.txt": b"new"}),
        ("--rename", 0, "received", {"x.txt": b"old", "x-1.txt": b"new"}),
        ("--skip", 16, "kept", {"x.txt": b"old"}),
        ("--no-clobber", 16, "kept", {"x.txt": b"old"}),
    ],
)
def test_an_option_decides_where_nobody_can_be_asked(
    server: str, tmp_path: Path, folder: Path, option: str, exit_code: int, outcome: str, there: dict[str, bytes]
) -> None:
    source = put(tmp_path / "x.txt", b"new")
    put(folder / "x.txt", b"old")
    with both(server, [source], folder, "-y", option) as (sender, receiver):
        assert (sender.wait(), receiver.wait()) == (exit_code, exit_code)
    for command in (sender, receiver):
        (file,) = command.of("file")
        assert (file["name"], file["outcome"]) == ("x.txt", outcome)
        assert file.get("stored_as") == ("x-1.txt" if option == "--rename" else None)
        assert command.done.get("reason") == (None if exit_code == 0 else "partial")
        assert command.done["ok"] is (exit_code == 0)
        assert exit_code == 0 or "1 of 1 files was not stored: x.txt" in command.errors
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == there


def test_a_person_is_asked_about_each_thing_and_one_capital_letter_is_for_the_rest(
    server: str, tmp_path: Path, folder: Path, terminal: tuple[int, int]
) -> None:
    ours, theirs = terminal
    for name in ("a", "b", "c", "d"):
        put(tmp_path / "t" / name, b"new " + name.encode())
        put(folder / "t" / name, b"older")
    with both(server, [tmp_path / "t"], folder, "-y", stdin=theirs) as (sender, receiver):
        for count, answer in enumerate(["o", "nonsense", "r", "S"], 1):
            wait_until(lambda count=count: receiver.errors.count("[r]ename") == count, "a question")  # type: ignore[misc]
            os.write(ours, f"{answer}\n".encode())
        assert (sender.wait(), receiver.wait()) == (16, 16)
        assert "5 B from 20" in receiver.errors
        assert "[o]verwrite, [r]ename, [s]kip" in receiver.errors
        assert "t/d is already there" not in receiver.errors
    content = {path.name: path.read_bytes() for path in (folder / "t").iterdir()}
    assert content == {"a": b"new a", "b": b"older", "b-1": b"new b", "c": b"older", "d": b"older"}


def test_quitting_there_refuses_the_whole_transfer(
    server: str, tmp_path: Path, folder: Path, terminal: tuple[int, int]
) -> None:
    ours, theirs = terminal
    source = put(tmp_path / "x", b"new")
    put(folder / "x", b"old")
    with both(server, [source], folder, stdin=theirs) as (sender, receiver):
        wait_until(lambda: "[Y/n]" in receiver.errors, "a question")
        assert "already under 1 name" in receiver.errors
        os.write(ours, b"y\n")
        wait_until(lambda: "[q]uit" in receiver.errors, "the second question")
        os.write(ours, b"q\n")
        assert (receiver.wait(), sender.wait()) == (12, 19)
        assert receiver.done["reason"] == "target-exists"
    assert (folder / "x").read_bytes() == b"old"


def test_a_sender_that_goes_away_ends_the_question_about_what_is_there(
    server: str, tmp_path: Path, folder: Path, terminal: tuple[int, int]
) -> None:
    source = put(tmp_path / "x", b"new")
    put(folder / "x", b"old")
    with both(server, [source], folder, "-y", stdin=terminal[1]) as (sender, receiver):
        wait_until(lambda: "[q]uit" in receiver.errors, "a question")
        sender.process.terminate()
        assert sender.wait() == 143
        assert receiver.wait() == 6
    assert (folder / "x").read_bytes() == b"old"


def test_overwriting_does_not_extend_to_folders(server: str, tmp_path: Path, folder: Path) -> None:
    source = put(tmp_path / "x", b"new")
    put(folder / "x" / "mine", b"mine")
    with both(server, [source], folder, "-y", "--overwrite") as (sender, receiver):
        assert (receiver.wait(), sender.wait()) == (12, 19)
        assert "x is already there, and is a folder" in receiver.errors
    assert (folder / "x" / "mine").read_bytes() == b"mine"


def test_a_file_that_changes_fails_by_name_and_the_others_arrive(server: str, tmp_path: Path, folder: Path) -> None:
    tree = tmp_path / "tree"
    put(tree / "a", os.urandom(12 * MIB))
    put(tree / "b", os.urandom(MIB))
    put(tree / "c", b"c")
    (tree / "elsewhere").symlink_to("/etc/passwd")
    with midair("send", "--json", "--limit-rate", "8M", "--server", server, tree) as sender:
        code = sender.event("code")["code"]
        with midair("receive", "--json", "--server", server, code, "-o", folder, "-y") as receiver:
            receiver.event("progress", lambda event: 0 < event["bytes"] < event["total"])
            (tree / "b").unlink()
            assert (sender.wait(), receiver.wait()) == (16, 16)
    for command in (sender, receiver):
        assert command.done["reason"] == "partial"
        assert command.done["outcomes"] == {"omitted": 1, "received": 2, "source-changed": 1}
        assert command.done["bytes"] == 12 * MIB + 1
        details = {e["name"]: str(e.get("detail")) for e in command.of("file")}
        assert "it is gone" in str(details["tree/b"])
        assert "absolute" in str(details["tree/elsewhere"])
        assert "2 of 4 files were not stored" in command.errors
        assert "Traceback" not in command.errors
    assert sorted(path.name for path in (folder / "tree").iterdir()) == ["a", "c"]


def test_a_person_reads_what_was_not_stored_and_what_was_there(server: str, tmp_path: Path, folder: Path) -> None:
    tree = tmp_path / "tree"
    put(tree / "a", b"a")
    put(tree / "b", b"b" * 100)
    put(tree / "c.txt", b"c")
    (tree / "up").symlink_to("../..")
    put(folder / "tree" / "a", b"kept").rename(folder / "tree" / "a")
    put(folder / "tree" / "b", b"b" * 100)
    with midair("send", "--server", server, "--code", "4-one-two", tree, TERM="dumb") as sender:
        wait_until(lambda: "Code:" in sender.errors, "a code")
        with midair("receive", "--server", server, "4-one-two", "-o", folder, "-y", "--skip", TERM="dumb") as receiver:
            assert (sender.wait(), receiver.wait()) == (16, 16)
    for command in (sender, receiver):
        assert "tree/a: not stored, what was there stays" in command.errors
        assert "tree/up: not stored: it is a link that points out of the folder that is sent" in command.errors
        assert "midair: 2 of 4 files were not stored" in command.errors


def test_where_overwriting_is_not_possible_the_person_is_asked_all_the_same(
    server: str, tmp_path: Path, folder: Path, terminal: tuple[int, int]
) -> None:
    ours, theirs = terminal
    for name in ("x", "y"):
        put(tmp_path / name, b"new")
    put(folder / "x" / "mine", b"mine")
    put(folder / "y", b"old")
    with both(server, [tmp_path / "x", tmp_path / "y"], folder, "-y", "--overwrite", stdin=theirs) as (
        sender,
        receiver,
    ):
        wait_until(lambda: "[q]uit" in receiver.errors, "a question")
        assert "[o]verwrite" not in receiver.errors
        os.write(ours, b"r\n")
        assert (sender.wait(), receiver.wait()) == (0, 0)
        assert receiver.errors.count("[q]uit") == 1
    assert (folder / "x-1").read_bytes() == (folder / "y").read_bytes() == b"new"
