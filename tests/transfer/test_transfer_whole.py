"""Transfers that go well, from folder to folder."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from pathlib import Path

import pytest
from blake3 import blake3
from transfer_support import Log, channels, send_and_receive, start_receiving, start_sending, tree

from midair import events
from midair.errors import LocalIOError, PeerFailedError
from midair.transfer import Offer, disk, intake, scheduler
from midair.transfer.journal import Durable, Record
from midair.transfer.journal_file import JournalFile


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def test_a_file_arrives_with_its_content_time_and_mode(folders: tuple[Path, Path]) -> None:
    here, there = folders
    content = noise(5_000_001)
    (here / "a.bin").write_bytes(content)
    (here / "a.bin").chmod(0o640)
    os.utime(here / "a.bin", ns=(1_000, 1_234_567_890_123_456_789))
    sent, received = Log(), Log()
    outcomes = send_and_receive([here / "a.bin"], there, sent=sent, received=received)
    assert tree(there) == tree(here)
    for outcome in outcomes:
        assert outcome.committed
        assert (outcome.bytes_total, outcome.bytes_committed) == (len(content), len(content))
        assert (outcome.bytes_crossed, outcome.bytes_hashed) == (len(content), len(content))
        assert [(f.name, f.bytes, f.blake3, f.outcome) for f in outcome.files] == [
            ("a.bin", len(content), blake3(content).hexdigest(), "received")
        ]
    for log in (sent, received):
        names = [event.name for event in log.events]
        assert names[0] == "offer"
        assert names[-1] == "file"
        assert set(names) == {"offer", "progress", "file"}
        last = log.of(events.Progress)[-1]
        assert isinstance(last, events.Progress)
        assert (last.bytes, last.total) == (len(content), len(content))
        assert last.rate > 0
        offer = log.of(events.OfferSeen)[0]
        assert offer == events.OfferSeen(files=1, directories=0, bytes=len(content), names=("a.bin",))


def test_folders_files_and_nothing_at_all_arrive_together(folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "tree/deep/er/still").mkdir(parents=True)
    (here / "tree/empty folder").mkdir()
    (here / "tree/empty file").write_bytes(b"")
    (here / "tree/deep/er/ünïcode 日本.txt").write_text("hi")
    (here / "tree/zz").write_bytes(noise(3_000_000))
    (here / "tree/zzz last and empty").write_bytes(b"")
    (here / "b.txt").write_bytes(noise(70_000, 2))
    (here / "nothing").write_bytes(b"")
    (here / "hollow").mkdir()
    (here / "tree/deep").chmod(0o555)
    (here / "tree/zz").chmod(0o444)
    for path in sorted(here.rglob("*"), reverse=True):
        os.utime(path, ns=(0, 1_600_000_000_000_000_000 + len(str(path))))
    _, outcome = send_and_receive(sorted(here.iterdir()), there)
    assert tree(there) == tree(here)
    assert (
        [file.name for file in outcome.files[:2]]
        == [outcome.files[0].name, outcome.files[1].name]
        == ["b.txt", "nothing"]
    )
    assert {f.name: f.blake3 for f in outcome.files} == {
        name: blake3(content).hexdigest() for name, (content, _, _) in tree(here).items() if content is not None
    }


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_transfer_without_a_byte_is_one(folders: tuple[Path, Path], kind: str) -> None:
    here, there = folders
    if kind == "file":
        (here / "x").write_bytes(b"")
    else:
        (here / "x/y").mkdir(parents=True)
    sender, receiver = send_and_receive([here / "x"], there)
    assert tree(there) == tree(here)
    assert sender.committed
    assert receiver.committed
    assert sender.bytes_crossed == 0


def test_many_small_files_share_records_and_hold_few_descriptors(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders
    for i in range(3000):
        folder = here / "many" / f"{i % 30:02}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}").write_bytes(f"{i}".encode() * (i % 7))
    before = len(os.listdir("/proc/self/fd"))
    most = 0
    real = disk.write_at

    def counting(descriptor: int, data: memoryview, offset: int) -> None:
        nonlocal most
        most = max(most, len(os.listdir("/proc/self/fd")) - before)
        real(descriptor, data, offset)

    monkeypatch.setattr(disk, "write_at", counting)
    log = Log()
    send_and_receive([here / "many"], there, received=log)
    assert tree(there) == tree(here)
    assert len(log.of(events.FileFinished)) == 3000
    assert most < 64 + 2, most
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_system_without_the_newer_calls_is_served_as_well(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders
    for i in range(200):
        (here / "many").mkdir(exist_ok=True)
        (here / "many" / f"{i}").write_bytes(noise(i, i))
    monkeypatch.setattr(disk, "_syncfs", None)
    monkeypatch.setattr(disk, "_renameat2", None)
    send_and_receive([here / "many"], there)
    assert tree(there) == tree(here)


def test_a_name_as_long_as_can_be_has_room_for_its_part(folders: tuple[Path, Path]) -> None:
    here, there = folders
    name = "ü" * 127 + "x"
    (here / name).write_bytes(b"content")
    send_and_receive([here / name], there)
    assert tree(there) == tree(here)


def test_modes_come_through_the_umask_of_this_side(folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "x").write_bytes(b"1")
    (here / "x").chmod(0o4777)
    before = os.umask(0o027)
    try:
        send_and_receive([here / "x"], there)
    finally:
        os.umask(before)
    assert (there / "x").stat().st_mode & 0o7777 == 0o750


def test_the_offer_says_what_comes_before_anything_is_written(folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "a").mkdir()
    (here / "a/b").write_bytes(noise(10))
    (here / "c").write_bytes(noise(20))
    seen: list[Offer] = []

    def accept(offer: Offer) -> bool:
        seen.append(offer)
        assert not any(there.iterdir())
        assert not offer.withdrawn()
        return True

    with channels() as (a, b):
        sender = start_sending(a, [here / "a", here / "c"])
        receiver = start_receiving(b, there, accept=accept)
        sender.outcome()
        receiver.outcome()
    (offer,) = seen
    assert (offer.files, offer.directories, offer.bytes, offer.names) == (2, 1, 30, ("a", "c"))
    assert (offer.durable, len(offer.manifest_id)) == (0, 16)
    assert offer.withdrawn()


def test_several_ranges_are_asked_for_and_a_file_is_hashed_across_them(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        scheduler.Scheduler.__init__, "__kwdefaults__", {"piece": 100_000, "outstanding": 2, "window": 400_000}
    )
    here, there = folders
    content = noise(1_234_567)
    (here / "x").write_bytes(content)
    _, outcome = send_and_receive([here / "x"], there)
    assert tree(there) == tree(here)
    assert outcome.files[0].blake3 == blake3(content).hexdigest()


def test_the_journal_never_says_more_than_what_was_synced(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte a record vouches for was written, and its file synced after that, before the record was."""
    here, there = folders
    for i in range(60):
        (here / "tree").mkdir(exist_ok=True)
        (here / "tree" / f"{i:03}").write_bytes(noise(100_000 + i, i))
    monkeypatch.setattr(intake, "SYNC_BYTES", 300_000)
    monkeypatch.setattr(intake, "_MAX_WAITING", 2)
    lock = threading.Lock()
    written: dict[int, int] = {}
    synced: dict[int, int] = {}
    vouched: list[tuple[int, int]] = []
    real_write, real_sync, real_all = disk.write_at, disk.sync_data, disk.sync_file_system
    real_append = JournalFile.append

    def write_at(descriptor: int, data: memoryview, offset: int) -> None:
        end = offset + len(data)
        real_write(descriptor, data, offset)
        with lock:
            written[os.fstat(descriptor).st_ino] = end

    def sync_data(descriptor: int) -> None:
        inode = os.fstat(descriptor).st_ino
        with lock:
            reached = written.get(inode, 0)
        real_sync(descriptor)
        synced[inode] = reached

    def sync_file_system(descriptor: int) -> bool:
        with lock:
            reached = dict(written)
        real_all(descriptor)
        synced.update(reached)
        return True

    def append(journal: JournalFile, records: list[Record]) -> None:
        for record in records:
            if isinstance(record, Durable):
                for run in record.runs:
                    for file in range(run.file, run.file + run.files):
                        end = run.end if run.files == 1 else 100_000 + file - 1
                        inode = (there / "tree.part" / f"{file - 1:03}").stat().st_ino
                        assert synced.get(inode, 0) >= end, (file, end)
                        vouched.append((file, end))
        real_append(journal, records)

    monkeypatch.setattr(disk, "write_at", write_at)
    monkeypatch.setattr(disk, "sync_data", sync_data)
    monkeypatch.setattr(disk, "sync_file_system", sync_file_system)
    monkeypatch.setattr(JournalFile, "append", append)
    send_and_receive([here / "tree"], there)
    assert {f: max(end for g, end in vouched if g == f) for f, _ in vouched} == {i + 1: 100_000 + i for i in range(60)}
    assert hashlib.sha256(repr(tree(there)).encode()).digest() == hashlib.sha256(repr(tree(here)).encode()).digest()


def twins(root: Path) -> None:
    """Two names that differ only in case, as a Linux kernel's tree has them."""
    root.mkdir()
    (root / "xt_DSCP.h").write_text("upper")
    (root / "xt_dscp.h").write_text("lower")


def test_names_that_differ_only_in_case_are_two_files_where_the_file_system_says_so(
    folders: tuple[Path, Path],
) -> None:
    here, there = folders
    twins(here / "linux")
    send_and_receive([here / "linux"], there)
    assert tree(there) == tree(here)


def test_where_they_would_be_one_file_they_are_refused_before_anything_is_written(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file system that folds case can be mounted here; how one is told is tested with a link."""
    here, there = folders
    twins(here / "linux")
    monkeypatch.setattr(disk, "folds_case", lambda name, folder: (there / name).exists())
    with channels() as (a, b):
        sender, receiver = start_sending(a, [here / "linux"]), start_receiving(b, there)
        refused, told = receiver.error(), sender.error()
    assert isinstance(refused, LocalIOError)
    assert "xt_DSCP.h" in refused.message
    assert isinstance(told, PeerFailedError)
    assert not any(there.iterdir())


def test_a_file_system_that_folds_case_finds_the_same_file_under_the_other_case(tmp_path: Path) -> None:
    (tmp_path / "a.part").touch()
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        assert not disk.folds_case("a.part", folder)
        (tmp_path / "A.PART").touch()
        assert not disk.folds_case("a.part", folder)
        (tmp_path / "A.PART").unlink()
        (tmp_path / "A.PART").hardlink_to(tmp_path / "a.part")
        assert disk.folds_case("a.part", folder)
    finally:
        os.close(folder)
