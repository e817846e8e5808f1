"""What is found to send, what cannot be sent, and what happens when it changes."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from transfer_support import channels, start_receiving, start_sending

from midair.errors import LocalIOError, MidairError, SourceChangedError, UsageError
from midair.transfer import scan
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


def make_link(path: Path) -> None:
    path.symlink_to("elsewhere")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("make", [make_link, make_pipe, make_socket])
def test_what_is_neither_file_nor_folder_is_refused_by_name(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "t").mkdir()
    make(tmp_path / "t/odd")
    with pytest.raises(UsageError, match="t/odd"):
        scan([tmp_path / "t"])


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


def turn_into_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("when", ["before", "during"])
@pytest.mark.parametrize("change", [truncate, grow, replace, rewrite, Path.unlink, turn_into_pipe])
def test_a_source_that_changes_ends_it_on_both_sides_and_no_half_file_is_left_under_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], when: str
) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "there").mkdir()
    victim = tmp_path / "t/big"
    victim.write_bytes(b"x" * 8_000_000)
    if when == "during" and change in (replace, Path.unlink, turn_into_pipe):
        # The open file is still the one that was scanned: a file that is replaced or removed is sent to its end.
        expected: type[MidairError] | None = None
    else:
        expected = SourceChangedError
    changed = False
    real = SourceReader.read_into

    def read_into(reader: SourceReader, index: int, offset: int, buffer: memoryview) -> None:
        nonlocal changed
        if not changed and (when == "before" or offset > 0):
            changed = True
            change(victim)
        real(reader, index, offset, buffer)

    monkeypatch.setattr(SourceReader, "read_into", read_into)
    with channels() as (a, b):
        sending, receiving = start_sending(a, [tmp_path / "t"]), start_receiving(b, tmp_path / "there")
        if expected is None:
            assert sending.outcome().committed
            assert receiving.outcome().committed
            assert (tmp_path / "there/t/big").read_bytes() == b"x" * 8_000_000
            return
        said, heard = sending.error(), receiving.error()
    assert isinstance(said, SourceChangedError)
    assert isinstance(heard, SourceChangedError)
    assert "t/big" in said.message
    assert heard.message.startswith("the sender says: t/big")
    assert not (tmp_path / "there/t").exists()


def test_a_source_that_cannot_be_read_any_more_ends_it_on_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_bytes(b"x" * 1000)
    (tmp_path / "there").mkdir()

    def broken(descriptor: int, buffers: object, offset: int) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    with channels() as (a, b):
        sending, receiving = start_sending(a, [tmp_path / "x"]), start_receiving(b, tmp_path / "there")
        assert isinstance(sending.error(), LocalIOError)
        heard = receiving.error()
    assert isinstance(heard, MidairError)
    assert heard.reason == "peer-failed"
    assert "Input/output error" in heard.message
