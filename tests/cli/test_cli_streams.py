"""Streams and texts between real commands: in shell pipes, on terminals, for scripts."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from support import Command, midair, wait_until

MIB = 1 << 20
CODE = "6-one-stream"


def shell(server: str, line: str, cwd: Path) -> Command:
    """``line`` in bash, with MIDAIR for the command."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MIDAIR")}
    environment |= {
        "MIDAIR": f"{shlex.quote(sys.executable)} -m midair",
        "MIDAIR_SERVER": server,
        "XDG_CONFIG_HOME": "/nonexistent",
        "PYTHONWARNINGS": "error",
    }
    return Command(
        subprocess.Popen(
            ["bash", "-c", line],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
    )


def test_tar_at_both_ends(server: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "sub").mkdir(parents=True)
    there.mkdir()
    (here / "sub/large").write_bytes(os.urandom(9 * MIB))
    (here / "small").write_text("small")
    sender = shell(server, f"tar c . | $MIDAIR send --code {CODE} -; exit ${{PIPESTATUS[1]}}", here)
    receiver = shell(server, f"$MIDAIR receive {CODE} -y -o - | tar x; exit ${{PIPESTATUS[0]}}", there)
    try:
        assert (sender.wait(), receiver.wait()) == (0, 0), receiver.errors
        assert "verified and taken by the receiver" in sender.errors
    finally:
        sender.close()
        receiver.close()
    assert (there / "sub/large").read_bytes() == (here / "sub/large").read_bytes()
    assert sorted(path.name for path in there.iterdir()) == ["small", "sub"]


def test_a_reader_that_has_enough_ends_both_sides_with_one_exit_code(server: str, tmp_path: Path) -> None:
    sender = shell(server, f"yes | $MIDAIR send --code {CODE} -; exit ${{PIPESTATUS[1]}}", tmp_path)
    receiver = shell(server, f"$MIDAIR receive {CODE} -y -o - | head -3; exit ${{PIPESTATUS[0]}}", tmp_path)
    try:
        assert (sender.wait(), receiver.wait()) == (20, 20)
        assert receiver.lines == ["y", "y", "y"]
        for command in (sender, receiver):
            assert "has closed it before the end" in command.errors
            assert "Traceback" not in command.errors
            assert "BrokenPipe" not in command.errors
    finally:
        sender.close()
        receiver.close()


def test_a_stream_into_a_folder_has_the_name_it_was_given(server: str, tmp_path: Path, folder: Path) -> None:
    read, write = os.pipe()
    with midair("send", "--json", "--server", server, "--name", "log.txt", "-", stdin=read) as sender:
        os.close(read)
        code = sender.event("code")["code"]
        with midair("receive", "--json", "--server", server, code, "-y", "-o", folder) as receiver:
            os.write(write, b"first\n")
            assert receiver.event("progress")["total"] is None
            os.write(write, b"second\n")
            os.close(write)
            assert (sender.wait(), receiver.wait()) == (0, 0)
    for command in (sender, receiver):
        assert command.of("offer")[0]["kind"] == "stream"
        assert command.of("offer")[0]["bytes"] is None
        assert command.done["bytes"] == 13
        assert command.done["outcomes"] == {"received": 1}
        assert command.of("file")[0]["name"] == "log.txt"
    assert (folder / "log.txt").read_text() == "first\nsecond\n"
    assert [path.name for path in folder.iterdir()] == ["log.txt"]


def test_a_signal_while_the_input_is_silent_ends_both_sides_and_leaves_nothing(server: str, folder: Path) -> None:
    read, write = os.pipe()
    with midair("send", "--json", "--server", server, "-", stdin=read) as sender:
        os.close(read)
        code = sender.event("code")["code"]
        with midair("receive", "--json", "--server", server, code, "-y", "-o", folder) as receiver:
            os.write(write, b"some")
            receiver.event("progress")
            sender.signal(signal.SIGINT)
            assert (sender.wait(), receiver.wait()) == (130, 6)
    os.close(write)
    assert list(folder.iterdir()) == []


def test_a_file_goes_into_a_pipe_as_well(server: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(__file__, arcname="inside.py")
    with midair("send", "--json", "--server", server, tmp_path / "x.tar") as sender:
        code = sender.event("code")["code"]
        receiver = shell(server, f"$MIDAIR receive {code} -y -o - | tar t", tmp_path)
        try:
            assert (sender.wait(), receiver.wait()) == (0, 0)
            assert receiver.lines == ["inside.py"]
        finally:
            receiver.close()


def test_a_folder_for_a_pipe_is_refused_with_what_to_do(server: str, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with midair("send", "--json", "--server", server, tmp_path / "tree") as sender:
        code = sender.event("code")["code"]
        with midair("receive", "--server", server, code, "-y", "-o", "-") as receiver:
            assert receiver.wait() == 2
            assert "more than one file" in receiver.errors
            assert "tar c DIR | midair send -" in receiver.errors
            assert sender.wait() == 19


def test_a_text_is_shown_and_nothing_is_written(server: str, folder: Path) -> None:
    with midair("send", "--json", "--server", server, "--text", "-", stdin=-1) as sender:
        assert sender.process.stdin is not None
        sender.process.stdin.write("the password is\n\t\x1b[1mcorrect horse")
        sender.process.stdin.close()
        code = sender.event("code")["code"]
        with midair("receive", "--server", server, code, "-y", "-o", folder) as receiver:
            assert (sender.wait(), receiver.wait()) == (0, 0)
    assert receiver.lines == ["the password is", "\t\x1b[1mcorrect horse"]
    assert "correct horse" not in receiver.errors + sender.errors + "".join(sender.lines)
    assert sender.done["outcomes"] == {}
    assert list(folder.iterdir()) == []


def test_a_script_gets_a_text_as_an_event(server: str, folder: Path) -> None:
    with midair("send", "--json", "--server", server, "--text", "Grüße\x1b[2J") as sender:
        code = sender.event("code")["code"]
        with midair("receive", "--json", "--server", server, code, "-y", "-o", folder) as receiver:
            assert (sender.wait(), receiver.wait()) == (0, 0)
    assert [event["text"] for event in receiver.of("text")] == ["Grüße\x1b[2J"]


def test_on_a_terminal_a_text_is_asked_about_and_shown_escaped(
    server: str, folder: Path, terminal: tuple[int, int]
) -> None:
    ours, theirs = terminal
    with midair("send", "--json", "--server", server, "--text", "a\x1b[31mb\u202ec") as sender:
        code = sender.event("code")["code"]
        line = [sys.executable, "-m", "midair", "receive", "--server", server, code, "-o", str(folder)]
        receiver = subprocess.Popen(
            line, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "dumb"}
        )
        said = b""

        def heard(words: bytes) -> bool:
            nonlocal said
            os.set_blocking(ours, False)
            with contextlib.suppress(BlockingIOError):
                said += os.read(ours, 4096)
            return words in said

        try:
            wait_until(lambda: heard(b"Show a text of 11 bytes? [Y/n]"), "a question")
            assert b"\\x1b[31m" not in said
            os.write(ours, b"y\n")
            wait_until(lambda: heard(b"Done:"), "the end")
            assert receiver.wait(15) == 0
        finally:
            receiver.kill()
            receiver.wait()
        assert sender.wait() == 0
    assert b"a\\x1b[31mb\\u202ec\r\n" in said
    assert b"\x1b[31m" not in said


def test_a_stream_is_not_written_to_a_terminal(server: str, terminal: tuple[int, int]) -> None:
    read, write = os.pipe()
    with midair("send", "--json", "--server", server, "-", stdin=read) as sender:
        code = sender.event("code")["code"]
        line = [sys.executable, "-m", "midair", "receive", "--server", server, code, "-y", "-o", "-"]
        receiver = subprocess.run(
            line, stdin=subprocess.DEVNULL, stdout=terminal[1], stderr=subprocess.PIPE, timeout=15, check=False
        )
        assert receiver.returncode == 2
        assert b"with >" in receiver.stderr
        assert sender.wait() == 19
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("send",), "nothing to send"),
        (("send", "-", "x"), "alone"),
        (("send", "--text", "x", "y"), "alone"),
        (("send", "--name", "x", "y"), "--name"),
        (("send", "--name", "a/b", "-"), "folder"),
        (("send", "--text", "x" * 1100 + "\udcff"), "Unicode"),
        (("receive", "--json", "-o", "-", "--server", "ws://127.0.0.1:9", "7-some-code"), "stdout"),
    ],
)
def test_what_does_not_go_together_is_said_at_once(arguments: tuple[str, ...], words: str) -> None:
    with midair(*arguments) as command:
        assert command.wait() == 2
        assert words in command.errors
        assert "Traceback" not in command.errors


def test_a_text_is_left_unfinished_with_ctrl_c(terminal: tuple[int, int]) -> None:
    with midair("send", "--json", "--text", "-", stdin=terminal[1]) as sender:
        wait_until(lambda: "Ctrl-D" in sender.errors, "an invitation")
        sender.signal(signal.SIGINT)
        assert sender.wait() == 130
        assert sender.done["reason"] == "cancelled"


def test_while_the_other_side_is_silent_both_a_person_and_a_script_are_told(server: str, folder: Path) -> None:
    read, write = os.pipe()
    with midair("send", "--json", "--server", server, "-", stdin=read) as sender:
        os.close(read)
        code = sender.event("code")["code"]
        with midair("receive", "--server", server, code, "-y", "-o", folder, TERM="dumb") as receiver:
            assert sender.event("waiting")["seconds"] >= 3
            wait_until(lambda: "waiting for the other side" in receiver.errors, "it to be said")
            os.close(write)
            assert (sender.wait(), receiver.wait()) == (0, 0)
