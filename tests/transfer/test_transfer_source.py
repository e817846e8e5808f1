"""What is found to send, what cannot be sent, and what happens when it changes."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from transfer_support import Log, Running, channels, send_and_receive, start_receiving, tree

from midair import events
from midair.errors import LocalIOError, UsageError
from midair.transfer import Sender, scan
from midair.transfer.pace import EventPace
from midair.transfer.source import SourceReader


def names(*paths: Path) -> list[str]:
    return [entry.path for entry in scan(paths).manifest.entries]


def test_a_folder_is_listed_in_sorted_order_each_folder_before_its_content(tmp_path: Path) -> None:
    for name in ("b/2", "b/1/x", "a", "c"):
        (tmp_path / "t" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "t" / name).write_text(name)
    assert names(tmp_path / "t") == ["t", "t/a", "t/b", "t/b/1", "t/b/1/x", "t/b/2", "t/c"]


def test_the_current_folder_is_sent_under_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here/below").mkdir(parents=True)
    (tmp_path / "here/x").write_text("x")
    monkeypatch.chdir(tmp_path / "here")
    assert names(Path(".")) == ["here", "here/below", "here/x"]
    monkeypatch.chdir(tmp_path / "here/below")
    assert names(Path("..")) == ["here", "here/below", "here/x"]


def test_a_link_that_is_named_is_followed_and_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/x").write_text("x")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "to-file").symlink_to("real/x")
    assert names(tmp_path / "link", tmp_path / "to-file") == ["link", "link/x", "to-file"]


def test_nothing_is_read_beforehand(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(1 << 42)
    assert scan([tmp_path / "huge"]).manifest.total == 1 << 42


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("make", [make_pipe, make_socket])
def test_what_is_neither_file_folder_nor_link_is_omitted_by_name_or_refused_when_it_was_named(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    (tmp_path / "t").mkdir()
    make(tmp_path / "t/odd")
    (entry,) = [entry for entry in scan([tmp_path / "t"]).manifest.entries if entry.path == "t/odd"]
    assert (entry.kind, entry.detail) == ("omitted", "it is neither a file, a folder nor a link")
    with pytest.raises(UsageError, match="t/odd"):
        scan([tmp_path / "t/odd"])


def test_what_goes_away_while_we_look_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c/d"):
        (tmp_path / "t" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "t" / name).write_text("x")
    (tmp_path / "t/l").symlink_to("a")
    real = os.scandir

    @contextlib.contextmanager
    def vanishing(path: str) -> Iterator[list[os.DirEntry[str]]]:
        with real(path) as entries:
            found = list(entries)
        if path.endswith("t"):
            (tmp_path / "t/b").unlink()
        if path.endswith("c"):
            (tmp_path / "t/c/d").unlink()
            (tmp_path / "t/l").unlink()
        yield found

    monkeypatch.setattr(os, "scandir", vanishing)
    entries = scan([tmp_path / "t"]).manifest.entries
    assert [(e.path, e.kind) for e in entries] == [
        ("t", "directory"),
        ("t/a", "file"),
        ("t/c", "directory"),
        ("t/l", "omitted"),
    ]


@pytest.mark.parametrize("name", [b"a\nb", b"\xff\xfe", b"a\\b", "\u202e".encode()])
def test_a_name_that_no_receiver_would_take_is_refused_and_shown_escaped(tmp_path: Path, name: bytes) -> None:
    (tmp_path / "t").mkdir()
    with open(os.fsencode(tmp_path / "t") + b"/" + name, "wb"):
        pass
    with pytest.raises(UsageError, match="t/") as refused:
        scan([tmp_path / "t"])
    assert refused.value.message.isprintable()


def test_two_of_one_name_or_none_at_all_cannot_be_sent(tmp_path: Path) -> None:
    for folder in ("1", "2"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x").write_text("")
    for paths in ([tmp_path / "1/x", tmp_path / "2/x"], [], [Path("/")]):
        with pytest.raises(UsageError):
            scan(paths)
    (tmp_path / "x.part").write_text("")
    with pytest.raises(UsageError):
        scan([tmp_path / "1/x", tmp_path / "x.part"])


def test_what_is_not_there_or_goes_in_circles_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name in ("absent", "loop"):
        with pytest.raises(LocalIOError, match=name):
            scan([tmp_path / name])


def truncate(path: Path) -> None:
    os.truncate(path, 100_000)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replace(path: Path) -> None:
    twin = path.with_name("twin")
    twin.write_bytes(path.read_bytes())
    found = path.stat()
    os.utime(twin, ns=(found.st_atime_ns, found.st_mtime_ns))
    twin.rename(path)


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(0, 1))


def truncate_and_extend(path: Path) -> None:
    size = path.stat().st_size
    os.truncate(path, 0)
    os.truncate(path, size)


def turn_into_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("place", ["in the middle", "at the end"])
@pytest.mark.parametrize("when", ["before", "during"])
@pytest.mark.parametrize("change", [truncate, grow, replace, rewrite, truncate_and_extend, Path.unlink, turn_into_pipe])
def test_a_source_that_changes_fails_alone_and_by_name_and_no_half_file_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], when: str, place: str
) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "there").mkdir()
    big = "t/big" if place == "in the middle" else "t/zero"
    for name in ("before", "last"):
        (tmp_path / "t" / name).write_bytes(name.encode() * 300_000)
    victim = tmp_path / big
    victim.write_bytes(b"x" * 8_000_000)
    # The open file is still the one that was scanned: a file that is replaced or removed is sent to its end.
    survives = when == "during" and change in (replace, Path.unlink, turn_into_pipe)
    changed = False
    real = SourceReader.read_into

    def read_into(reader: SourceReader, index: int, offset: int, buffer: memoryview) -> None:
        nonlocal changed
        if not changed and index == (2 if big == "t/big" else 3) and (when == "before" or offset > 0):
            changed = True
            change(victim)
        real(reader, index, offset, buffer)

    monkeypatch.setattr(SourceReader, "read_into", read_into)
    sent, received = Log(), Log()
    outcomes = send_and_receive([tmp_path / "t"], tmp_path / "there", sent=sent, received=received)
    for outcome, log in zip(outcomes, (sent, received), strict=True):
        assert outcome.committed
        assert outcome.bytes_committed == 3_000_000 + 8_000_000 * survives
        last = log.of(events.Progress)[-1]
        assert isinstance(last, events.Progress)
        assert last.bytes == last.total == outcome.bytes_committed
        finished = {e.file: e for e in log.of(events.FileFinished) if isinstance(e, events.FileFinished)}
        assert finished[big].outcome == ("received" if survives else "source-changed")
        assert survives or f"{big} changed" in (finished[big].detail or "")
        assert [file.name for file in outcome.files.not_stored()] == ([] if survives else [big])
    there = tree(tmp_path / "there")
    assert there.keys() == {"t", "t/before", "t/last", *([big] if survives else [])}
    assert there["t/last"][0] == b"last" * 300_000


def test_what_had_arrived_of_a_file_that_fails_is_no_progress_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers go back on both sides, to what is there of the others."""
    (tmp_path / "there").mkdir()
    (tmp_path / "a").write_bytes(os.urandom(6 << 20))
    (tmp_path / "b").write_bytes(os.urandom(4 << 20))
    sent, received = Log(), Log()
    real = SourceReader.read_into

    def read_into(reader: SourceReader, index: int, offset: int, buffer: memoryview) -> None:
        if index == 0 and offset >= 5 << 20:
            received.wait_for(lambda event: isinstance(event, events.Progress) and event.bytes > 3 << 20)
            grow(tmp_path / "a")
        if index == 1 and offset >= 2 << 20:
            count = len(sent.of(events.Progress))
            sent.wait_for(lambda event: len(sent.of(events.Progress)) > count)
        real(reader, index, offset, buffer)

    monkeypatch.setattr(SourceReader, "read_into", read_into)
    monkeypatch.setattr(EventPace, "ready", lambda pace, now: True)
    send_and_receive([tmp_path / "a", tmp_path / "b"], tmp_path / "there", sent=sent, received=received)
    for log in (sent, received):
        told = [event for event in log.of(events.Progress) if isinstance(event, events.Progress)]
        assert max(event.bytes for event in told[:-1]) > 3 << 20
        (after,) = [later.bytes for earlier, later in itertools.pairwise(told) if later.bytes < earlier.bytes]
        assert after < 4 << 20
        assert told[-1].bytes == told[-1].total == 4 << 20


@pytest.mark.parametrize("alone", [True, False])
def test_a_source_that_cannot_be_read_any_more_fails_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    (tmp_path / "x").write_bytes(b"x" * 1000)
    (tmp_path / "y").write_bytes(b"y" * 1000)
    (tmp_path / "there").mkdir()
    bad = (tmp_path / "x").stat().st_ino
    real = os.preadv

    def broken(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        if os.fstat(descriptor).st_ino == bad:
            raise OSError(5, "Input/output error")
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", broken)
    paths = [tmp_path / "x"] if alone else [tmp_path / "x", tmp_path / "y"]
    for outcome in send_and_receive(paths, tmp_path / "there"):
        (failed,) = outcome.files.not_stored()
        assert (failed.name, failed.outcome) == ("x", "local-io")
        assert "Input/output error" in failed.text
    assert os.listdir(tmp_path / "there") == ([] if alone else ["y"])


@pytest.mark.parametrize("change", [truncate, grow, replace, rewrite, truncate_and_extend, Path.unlink, turn_into_pipe])
def test_of_many_small_files_the_one_that_changed_fails_alone_and_by_name(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """They are looked at once, after they were read."""
    (tmp_path / "t").mkdir()
    (tmp_path / "there").mkdir()
    for number in range(100):
        (tmp_path / "t" / f"{number:03}").write_bytes(f"{number:03}".encode() * 100)  # all of them fit into one record
    source = scan([tmp_path / "t"])
    change(tmp_path / "t/050")
    (tmp_path / "t/twin").unlink(missing_ok=True)
    with channels() as (a, b):
        sender, receiver = Running(Sender(a, source, Log())), start_receiving(b, tmp_path / "there")
        for outcome in (sender.outcome(), receiver.outcome()):
            (failed,) = outcome.files.not_stored()
            assert (failed.name, failed.outcome) == ("t/050", "source-changed")
    (tmp_path / "t/050").unlink(missing_ok=True)
    received, sent = tree(tmp_path / "there"), tree(tmp_path / "t")
    assert {name.removeprefix("t/"): what for name, what in received.items() if name != "t"} == sent
