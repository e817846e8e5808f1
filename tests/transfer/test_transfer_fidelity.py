"""Links, holes, names and sizes: what arrives is what was sent, or is refused by name before it can do harm."""

from __future__ import annotations

import errno
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3
from transfer_support import Log, channels, send_and_receive, start_receiving, start_sending, tree

from midair import events
from midair.channel import Received
from midair.errors import ConnectionLostError, DiskFullError, PeerFailedError
from midair.transfer import Offer, Resolution, disk, file_system, intake, scan, wire
from midair.transfer.file_receiving import FileReceiving
from midair.transfer.journal_file import JournalFile
from midair.transfer.source import SourceReader

MiB = 1 << 20
BLOCK = wire.MIN_HOLE_BYTES


def links(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): os.readlink(path) for path in root.rglob("*") if path.is_symlink()}


def stored(log: Log) -> dict[str, str]:
    return {e.file: e.outcome for e in log.of(events.FileFinished) if isinstance(e, events.FileFinished)}


# -- links --


def test_links_that_stay_in_the_folder_arrive_as_links(folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "t/sub").mkdir(parents=True)
    (here / "t/x").write_text("x")
    good = {"t/l": "x", "t/sub/up": "../x", "t/sub/top": "..", "t/dangling": "sub/nothing/there", "t/dir": "./sub/"}
    for name, target in good.items():
        (here / name).symlink_to(target)
    os.utime(here / "t/l", ns=(0, 1_234_567_890_123_456_789), follow_symlinks=False)
    sent, received = Log(), Log()
    for outcome in send_and_receive([here / "t"], there, sent=sent, received=received):
        assert not list(outcome.files.not_stored())
    assert links(there) == links(here) == good
    assert (there / "t/l").lstat().st_mtime_ns == 1_234_567_890_123_456_789
    assert stored(sent) == stored(received) == dict.fromkeys([*good, "t/x"], "received")
    # Once more: they are there, and are the same.
    for outcome in send_and_receive([here / "t"], there, received=Log()):
        assert outcome.files.counts()["identical"] >= 5


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "..", "../x", "../../x", "sub/../../../x", "sub/../x", "a\x1b[2Jb", "a\\b", "../t/x"]
)
def test_a_link_that_leads_elsewhere_is_omitted_by_name_and_where_it_leads_is_not_told(
    folders: tuple[Path, Path], target: str
) -> None:
    here, there = folders
    (here / "t").mkdir()
    (here / "t/x").write_text("x")
    (here / "t/l").symlink_to(target)
    (entry,) = [entry for entry in scan([here / "t"]).manifest.entries if entry.path == "t/l"]
    assert entry.kind == "omitted"
    assert target == ".." or target not in entry.detail
    sent, received = Log(), Log()
    for outcome in send_and_receive([here / "t"], there, sent=sent, received=received):
        assert outcome.committed
        (missing,) = outcome.files.not_stored()
        assert (missing.name, missing.outcome) == ("t/l", "omitted")
        assert missing.text.startswith("it is a link that points ")
    assert stored(sent) == stored(received) == {"t/l": "omitted", "t/x": "received"}
    assert sorted(tree(there)) == ["t", "t/x"]


def test_pipes_and_sockets_are_omitted_by_name_and_the_rest_goes_on(folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "t").mkdir()
    (here / "t/x").write_text("x")
    os.mkfifo(here / "t/pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(here / "t/socket"))
    for outcome in send_and_receive([here / "t"], there):
        assert outcome.files.counts() == {"omitted": 2, "received": 1}
    assert sorted(tree(there)) == ["t", "t/x"]


def test_a_link_that_is_already_there_is_replaced_or_kept_like_a_file(folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "t").mkdir()
    (here / "t/l").symlink_to("new")
    (there / "t").mkdir()
    (there / "t/l").symlink_to("old")
    answers = [Resolution.OVERWRITE, Resolution.SKIP]
    for target in ("old", "new"):
        send_and_receive([here / "t"], there, resolve=lambda clash: answers.pop())
        assert links(there) == {"t/l": target}


def test_where_there_are_no_links_each_fails_by_name(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders
    (here / "t").mkdir()
    (here / "t/x").write_text("x")
    (here / "t/l").symlink_to("x")

    def symlink(source: str, target: str, *, dir_fd: int) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", symlink)
    for outcome in send_and_receive([here / "t"], there):
        assert [(file.name, file.outcome) for file in outcome.files.not_stored()] == [("t/l", "unsupported")]
    assert sorted(tree(there)) == ["t", "t/x"]


# -- holes --


def sparse(path: Path, size: int, *data: tuple[int, bytes]) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, content in data:
            file.seek(offset)
            file.write(content)
    return path


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def extents(path: Path) -> list[tuple[int, int]]:
    """Where there is data."""
    size, position = path.stat().st_size, 0
    found = []
    with path.open("rb") as file:
        while position < size:
            try:
                start = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:
                break
            position = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            found.append((start, position))
    return found


def test_holes_are_neither_read_nor_sent_and_are_holes_again(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders
    one, two = os.urandom(MiB), os.urandom(2 * MiB)
    sparse(here / "x", 3 << 30, (0, one), (1 << 30, two), (2 << 30, one))
    sparse(here / "y", 5 << 30)
    sparse(here / "z", 1 << 30, ((1 << 30) - MiB, one))
    (here / "full").write_bytes(one)
    read = 0
    real = os.preadv

    def counting(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        nonlocal read
        count = real(descriptor, buffers, offset)
        read += count
        return count

    monkeypatch.setattr(os, "preadv", counting)
    log = Log()
    for outcome in send_and_receive(sorted(here.iterdir()), there, received=log):
        assert outcome.committed
        assert outcome.bytes_crossed == outcome.bytes_hashed == 6 * MiB
        assert outcome.bytes_committed == (9 << 30) + MiB
        assert {file.name: file.blake3 is None for file in outcome.files} == {
            "full": False,
            "x": True,
            "y": True,
            "z": True,
        }
    assert read == 6 * MiB
    for name in ("x", "y", "z", "full"):
        assert (there / name).stat().st_size == (here / name).stat().st_size
        assert extents(there / name) == extents(here / name)
        assert allocated(there / name) <= allocated(here / name)
        for start, end in extents(here / name):
            with (here / name).open("rb") as ours, (there / name).open("rb") as theirs:
                assert os.pread(ours.fileno(), end - start, start) == os.pread(theirs.fileno(), end - start, start)
    last = log.of(events.Progress)[-1]
    assert isinstance(last, events.Progress)
    assert last.bytes == last.total == (9 << 30) + MiB


@pytest.mark.parametrize("seed", range(6))
def test_any_pattern_of_holes_arrives_as_it_was(
    folders: tuple[Path, Path], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small ones are filled with the zeros they read as; and pieces and records end anywhere."""
    dice = random.Random(seed)
    here, there = folders
    monkeypatch.setattr(
        "midair.transfer.scheduler.Scheduler.__init__.__kwdefaults__",
        {"piece": dice.randrange(50_000, 900_000), "outstanding": 2, "window": 4 * MiB},
    )
    paths = []
    for number in range(3):
        size = dice.randrange(1, 6 * MiB)
        data = []
        position = dice.choice([0, 4096, 60_000, 100_000])
        while position < size:
            length = min(dice.choice([1, 4096, 5000, 70_000, 300_000]), size - position)
            data.append((position, dice.randbytes(length)))
            position += length + dice.choice([4096, 60_000, BLOCK, 100_000, MiB])
        paths.append(sparse(here / f"f{number}", size, *data))
    for outcome in send_and_receive(paths, there):
        assert outcome.bytes_crossed <= outcome.bytes_total, f"seed {seed}"
    assert tree(there) == tree(here), f"seed {seed}"
    for path in paths:
        assert allocated(there / path.name) <= allocated(path) + 20 * BLOCK, f"seed {seed}"


def test_a_sparse_file_goes_on_after_a_break_and_keeps_its_holes(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders
    monkeypatch.setattr(intake, "SYNC_BYTES", 256 << 10)
    one, two = os.urandom(3 * MiB), os.urandom(3 * MiB)
    sparse(here / "x", 1 << 30, (MiB, one), (500 * MiB, two))
    crossed = 0
    with channels() as (a, b):
        part = there / "x.part"
        real = b.receive

        def receive() -> Received:
            received = real()
            if part.exists() and part.stat().st_size > 500 * MiB + MiB:
                b.abort()
                return real()
            return received

        b.receive = receive  # type: ignore[method-assign]
        sender, receiver = start_sending(a, [here / "x"]), start_receiving(b, there)
        assert isinstance(receiver.error(), ConnectionLostError)
        assert isinstance(sender.error(), ConnectionLostError)
        crossed = receiver.party.outcome.bytes_crossed
    assert 3 * MiB < crossed < 6 * MiB
    log = Log()
    _, outcome = send_and_receive([here / "x"], there, received=log)
    assert outcome.bytes_crossed == 6 * MiB - crossed
    (resumed,) = log.of(events.Resumed)
    assert isinstance(resumed, events.Resumed)
    assert resumed.bytes > 499 * MiB, "holes count as what is there"
    assert extents(there / "x") == extents(here / "x")
    with (there / "x").open("rb") as file:
        assert os.pread(file.fileno(), 3 * MiB, MiB) == one
        assert os.pread(file.fileno(), 3 * MiB, 500 * MiB) == two


def test_what_an_earlier_run_left_where_a_hole_belongs_is_cleared(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x" * 300_000)
    with path.open("r+b") as file:
        disk.clear(file.fileno(), 100_000, 200_000)
        disk.clear(file.fileno(), 250_000, 500_000)
    assert path.read_bytes() == b"x" * 100_000 + bytes(100_000) + b"x" * 50_000 + bytes(250_000)
    assert allocated(path) < (220_000 if disk._fallocate else 400_000)


def test_so_it_is_where_holes_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_fallocate", None)
    test_what_an_earlier_run_left_where_a_hole_belongs_is_cleared(tmp_path)


@pytest.mark.parametrize("when", ["data", "hole"])
def test_a_sparse_source_that_becomes_shorter_is_not_taken_for_one_with_a_hole_at_its_end(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    here, there = folders
    sparse(here / "x", 64 * MiB, (0, os.urandom(MiB)), (32 * MiB, os.urandom(MiB)))
    real = SourceReader.data_size
    calls = 0

    def truncating(reader: SourceReader, index: int, offset: int) -> int:
        nonlocal calls
        if offset >= (32 * MiB if when == "data" else 1) and not calls:
            calls += 1
            os.truncate(here / "x", MiB)
        return real(reader, index, offset)

    monkeypatch.setattr(SourceReader, "data_size", truncating)
    for outcome in send_and_receive([here / "x"], there):
        assert [file.outcome for file in outcome.files] == ["source-changed"]
    assert os.listdir(there) == []


def test_a_receiver_that_does_not_want_holes_gets_zeros(folders: tuple[Path, Path]) -> None:
    here, there = folders
    sparse(here / "x", 3 * MiB, (MiB, b"x"))
    real = wire.encode

    def wants_zeros(message: wire.Message) -> bytes:
        if isinstance(message, wire.Accept):
            message = wire.Accept(durable=message.durable, holes=False)
        return real(message)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(wire, "encode", wants_zeros)
        for outcome in send_and_receive([here / "x"], there):
            assert outcome.bytes_crossed == 3 * MiB
            assert outcome.files[0].blake3 == blake3((here / "x").read_bytes()).hexdigest()


def test_a_sparse_file_needs_no_more_room_than_it_takes(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders
    sparse(here / "x", 1 << 40, (0, b"x" * MiB))
    real = os.fstatvfs

    def small(descriptor: int) -> os.statvfs_result:
        fields = list(real(descriptor))
        fields[4] = 16 * MiB // fields[1]
        return os.statvfs_result(fields)

    monkeypatch.setattr(os, "fstatvfs", small)
    for outcome in send_and_receive([here / "x"], there):
        assert outcome.committed
    sparse(here / "y", 1 << 40, (0, b"x" * 20 * MiB))
    with channels() as (a, b):
        start_sending(a, [here / "y"])
        assert isinstance(start_receiving(b, there).error(), DiskFullError)


# -- room --


def test_a_large_file_has_its_room_before_it_is_asked_for(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders
    monkeypatch.setattr(file_system, "RESERVE_BYTES", 4 * MiB)
    (here / "t").mkdir()
    (here / "t/large").write_bytes(os.urandom(8 * MiB))
    sparse(here / "t/sparse", 8 * MiB, (MiB, b"x"))
    (here / "t/small").write_bytes(os.urandom(MiB))
    reserved: dict[str, int] = {}
    real = FileReceiving._request_more

    def looking(self: FileReceiving, intake: intake.Intake) -> None:
        if not reserved:
            for path in (there / "t.part").rglob("*"):
                assert path.stat().st_size == 0, "how far it has come must still be seen"
                reserved[path.name] = allocated(path)
        real(self, intake)

    monkeypatch.setattr(FileReceiving, "_request_more", looking)
    send_and_receive([here / "t"], there)
    assert reserved == {"large": 8 * MiB}
    assert tree(there) == tree(here)
    assert allocated(there / "t/sparse") < MiB


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_where_there_is_none_nothing_is_sent_and_nothing_is_left(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A quota, say, that the free space of the file system does not show."""
    here, there = folders
    monkeypatch.setattr(file_system, "RESERVE_BYTES", MiB)
    (here / "t").mkdir()
    (here / "t/large").write_bytes(os.urandom(8 * MiB))
    real = disk._allocate

    def full(descriptor: int, mode: int, start: int, size: int) -> int:
        return number if size == 8 * MiB else real(descriptor, mode, start, size)

    monkeypatch.setattr(disk, "_allocate", full)
    with channels() as (a, b):
        sender, receiver = start_sending(a, [here / "t"]), start_receiving(b, there)
        heard, said = receiver.error(), sender.error()
    assert isinstance(heard, DiskFullError)
    assert "t/large" in heard.message
    assert isinstance(said, PeerFailedError)
    assert sender.party.outcome.bytes_crossed == 0
    assert os.listdir(there) == []


def test_a_file_system_that_cannot_keep_room_is_written_to_all_the_same(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders
    monkeypatch.setattr(file_system, "RESERVE_BYTES", MiB)
    monkeypatch.setattr(disk, "_allocate", lambda *arguments: errno.EOPNOTSUPP)
    (here / "x").write_bytes(os.urandom(2 * MiB))
    send_and_receive([here / "x"], there)
    assert tree(there) == tree(here)


# -- limits of the receiver's file system --


def test_the_largest_file_a_file_system_can_hold_is_known_without_writing_one(tmp_path: Path) -> None:
    """Whatever it is: the system says the same when it is tried."""
    with (tmp_path / "x").open("wb") as file:
        for exponent in (31, 32, 43, 45, 62):
            try:
                os.ftruncate(file.fileno(), 1 << exponent)
            except OSError:
                possible = False
            else:
                possible = True
                os.ftruncate(file.fileno(), 0)
            assert disk.holds(file.fileno(), 1 << exponent) is possible


def test_a_file_too_large_for_the_file_system_fails_by_name_before_anything_is_sent(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on FAT, with 4 GiB less a byte."""
    here, there = folders
    (here / "t").mkdir()
    sparse(here / "t/huge", 1 << 32)
    sparse(here / "t/fits", (1 << 32) - 1)
    (here / "t/small").write_bytes(b"small")
    monkeypatch.setattr(JournalFile, "holds", lambda journal, size: size < 1 << 32)
    for outcome in send_and_receive([here / "t"], there):
        assert [(f.name, f.outcome) for f in outcome.files.not_stored()] == [("t/huge", "unsupported")]
        assert "no file so large" in next(outcome.files.not_stored()).text
        assert outcome.bytes_committed == (1 << 32) - 1 + 5
    assert sorted(tree_names(there)) == ["t", "t/fits", "t/small"]


def tree_names(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in root.rglob("*")]


def windows_only(real: Callable[..., int]) -> Callable[..., int]:
    """``os.open`` on a file system with the rules of Windows."""

    def opening(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT and (":" in str(path) or str(path)[-1] in ". "):
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, flags, mode, dir_fd=dir_fd)

    return opening


def test_names_that_the_file_system_does_not_take_fail_by_name_and_the_rest_goes_on(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders
    for name in ("t/fine", "t/12:30", "t/dot./x", "t/aux.txt"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("x")
    monkeypatch.setattr(os, "open", windows_only(os.open))
    for outcome in send_and_receive([here / "t"], there):
        failed = ["t/12:30", "t/aux.txt", "t/dot.", "t/dot./x"]
        assert sorted(f.name for f in outcome.files.not_stored()) == failed
        assert outcome.bytes_crossed == 1
    assert sorted(tree(there)) == ["t", "t/fine"]


def test_where_any_name_can_be_given_nothing_is_left_of_trying(folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "12:30").write_text("x")
    seen: list[list[str]] = []

    def accept(offer: Offer) -> bool:
        seen.append(os.listdir(there))
        return True

    with channels() as (a, b):
        sender, receiver = start_sending(a, [here / "12:30"]), start_receiving(b, there, accept=accept)
        sender.outcome()
        receiver.outcome()
    assert seen == [[]]
    assert os.listdir(there) == ["12:30"]


def test_unicode_arrives_as_it_is(folders: tuple[Path, Path]) -> None:
    here, there = folders
    names = ["é", "e\u0301x", "日本", "☂", "\u0641\u200c\u0627", "a b", "~", "-rf", "$HOME", "Ω", "\u2126x"]
    for name in names:
        (here / name).write_text(name)
    send_and_receive(sorted(here.iterdir()), there)
    assert sorted(os.listdir(there)) == sorted(names)
