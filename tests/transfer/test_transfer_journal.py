"""What a receiver writes down, and what a later one believes of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transfer_support import unhurried

from midair.errors import DiskFullError, LocalIOError, TargetExistsError
from midair.transfer import disk
from midair.transfer.journal import (
    MAGIC,
    Begun,
    Committed,
    Committing,
    Dropped,
    Durable,
    JournalReader,
    JournalWriter,
    Parts,
    Record,
    Stage,
)
from midair.transfer.journal_file import JournalFile
from midair.transfer.manifest import Entry, Manifest, ManifestBuilder
from midair.transfer.ranges import RangeSet
from midair.transfer.wire import Digest

SIZE = 20
NAME = "f0.part.journal"


def manifest_of(files: int = 3) -> Manifest:
    builder = ManifestBuilder()
    for i in range(files):
        builder.add(Entry(f"f{i}", "file", SIZE, 0, 0o644))
    return builder.finish()


MANIFEST = manifest_of()


def run_of(file: int, start: int, end: int) -> Digest:
    return Digest(file, start, end, bytes(32))


def read(data: bytes, manifest: Manifest = MANIFEST, chunk: int = 1 << 20) -> JournalReader:
    reader = JournalReader(manifest)
    for at in range(0, len(data), chunk):
        reader.feed(data[at : at + chunk])
    return reader


starts = st.integers(0, SIZE - 1)
runs = st.builds(lambda f, a, b: run_of(f, min(a, b), max(a, b) + 1), st.integers(0, 2), starts, starts)
records = st.lists(st.lists(runs, min_size=1, max_size=4).map(Durable), max_size=6)


@given(records, st.integers(1, 50))
@settings(max_examples=40, deadline=None)
def test_cut_anywhere_a_journal_vouches_for_a_prefix_of_what_was_written_down(
    written: list[Durable], chunk: int
) -> None:
    writer = JournalWriter()
    data = writer.encode([Begun(MANIFEST.id)])
    vouched = [(len(data), RangeSet())]
    for record in written:
        data += writer.encode([record])
        held = RangeSet(vouched[-1][1])
        for run in record.runs:
            held.add(MANIFEST.start(run.file) + run.start, MANIFEST.start(run.file) + run.end)
        vouched.append((len(data), held))
    for cut in range(len(data) + 1):
        reader = read(data[:cut], chunk=chunk)
        ends = [(end, held) for end, held in vouched if end <= cut]
        assert not reader.foreign
        if not ends:
            assert reader.manifest_id is None
            assert not reader.durable
            continue
        end, held = ends[-1]
        assert reader.same_content
        assert reader.durable == held
        assert reader.valid_bytes == end


@given(records, st.data())
@settings(max_examples=60, deadline=None)
def test_a_changed_byte_ends_what_is_believed(written: list[Durable], data: st.DataObject) -> None:
    good = JournalWriter().encode([Begun(MANIFEST.id), *written])
    place = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[place] ^= data.draw(st.integers(1, 255))
    reader = read(bytes(bad))
    assert reader.valid_bytes <= place
    whole = read(good).durable
    assert all(whole.covers(start, end) for start, end in reader.durable)


@unhurried
@given(st.binary(max_size=200))
def test_noise_is_never_a_journal(noise: bytes) -> None:
    reader = read(MAGIC + noise)
    assert reader.manifest_id is None
    assert not reader.durable
    assert not reader.parts


def test_a_record_from_another_journal_does_not_count_where_it_was_not_written() -> None:
    first = JournalWriter().encode([Begun(MANIFEST.id)])
    other = JournalWriter()
    begun = other.encode([Begun(MANIFEST.id), Parts(["x"])])
    later = other.encode([Durable([run_of(0, 0, 5)])])
    assert read(begun + later).durable == RangeSet([(0, 5)])
    assert read(first + later).durable == RangeSet()


def test_a_dropped_file_counts_for_nothing_until_it_comes_again() -> None:
    writer = JournalWriter()
    data = writer.encode([Begun(MANIFEST.id), Durable([run_of(0, 0, 20), run_of(1, 0, 20)]), Dropped(0)])
    assert read(data).durable == RangeSet([(20, 40)])
    data += writer.encode([Durable([run_of(0, 3, 5)])])
    assert read(data).durable == RangeSet([(3, 5), (20, 40)])


def test_stages_and_parts_are_remembered_also_for_other_content() -> None:
    data = JournalWriter().encode([Begun(b"another content!"), Parts(["a.part"]), Parts(["b.part"]), Committing()])
    reader = read(data)
    assert not reader.same_content
    assert (reader.parts, reader.stage) == ({"a.part", "b.part"}, Stage.COMMITTING)
    assert read(JournalWriter().encode([Begun(MANIFEST.id), Committing(), Committed()])).stage is Stage.COMMITTED


@pytest.mark.parametrize(
    "record",
    [Durable([run_of(3, 0, 1)]), Durable([run_of(0, 0, 21)]), Durable([run_of(0, 5, 5)]), Dropped(3), Dropped(-1)],
)
def test_what_cannot_be_true_ends_what_is_believed(record: Record) -> None:
    data = JournalWriter().encode([Begun(MANIFEST.id), Durable([run_of(0, 0, 5)]), record, Durable([run_of(1, 0, 5)])])
    assert read(data).durable == RangeSet([(0, 5)])


# -- as a file --


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_a_journal_is_gone_on_with_behind_its_last_good_record(folder: int, tmp_path: Path) -> None:
    journal = JournalFile.create(folder, NAME)
    journal.begin(MANIFEST.id)
    journal.append([Durable([run_of(0, 0, 5)])])
    journal.close()
    with (tmp_path / NAME).open("ab") as torn:
        torn.write(bytes(range(100)))
    for end in (10, 15):
        opened = JournalFile.open(folder, NAME, MANIFEST)
        assert opened is not None
        journal, reader = opened
        assert reader.durable.total == end - 5
        journal.append([Durable([run_of(0, 0, end)])])
        journal.close()


def test_a_journal_that_could_not_be_written_to_goes_on_when_it_can(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = JournalFile.create(folder, NAME)
    journal.begin(MANIFEST.id)

    def full(descriptor: int, data: memoryview, offset: int) -> None:
        os.pwrite(descriptor, data[:7], offset)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(disk, "write_at", full)
        with pytest.raises(DiskFullError):
            journal.append([Durable([run_of(0, 0, 20)])])
    journal.append([Durable([run_of(1, 0, 20)])])
    journal.close()
    assert read((tmp_path / NAME).read_bytes()).durable == RangeSet([(20, 40)])


def test_only_one_receiver_has_a_journal(folder: int) -> None:
    journal = JournalFile.create(folder, NAME)
    for attempt in (lambda: JournalFile.open(folder, NAME, MANIFEST), lambda: JournalFile.create(folder, NAME)):
        with pytest.raises(LocalIOError, match="another midair"):
            attempt()
    journal.close()
    opened = JournalFile.open(folder, NAME, MANIFEST)
    assert opened is not None
    opened[0].remove()
    assert JournalFile.open(folder, NAME, MANIFEST) is None


def test_a_journal_that_was_removed_while_we_waited_for_its_lock_is_not_used(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    JournalFile.create(folder, NAME).close()
    real = disk.lstat

    def removed_meanwhile(name: str, at: int) -> os.stat_result | None:
        (tmp_path / NAME).unlink(missing_ok=True)
        return real(name, at)

    monkeypatch.setattr(disk, "lstat", removed_meanwhile)
    assert JournalFile.open(folder, NAME, MANIFEST) is None


def test_a_link_in_place_of_the_journal_is_not_followed(folder: int, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    (tmp_path / NAME).symlink_to(victim)
    with pytest.raises(LocalIOError, match="symbolic"):
        JournalFile.open(folder, NAME, MANIFEST)
    with pytest.raises(LocalIOError):
        JournalFile.create(folder, NAME)
    assert victim.read_bytes() == b""


def test_a_hard_link_or_a_pipe_or_a_file_of_other_content_in_its_place_is_left_alone(
    folder: int, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(MAGIC)
    os.link(victim, tmp_path / NAME)
    with pytest.raises(TargetExistsError):
        JournalFile.open(folder, NAME, MANIFEST)
    (tmp_path / NAME).unlink()
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(TargetExistsError):
        JournalFile.open(folder, NAME, MANIFEST)
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).write_bytes(b"my diary\n" * 10)
    with pytest.raises(TargetExistsError):
        JournalFile.open(folder, NAME, MANIFEST)
    assert (tmp_path / NAME).read_bytes() == b"my diary\n" * 10
    assert victim.read_bytes() == MAGIC


# -- files and folders by descriptor --


@pytest.mark.parametrize("rename", [disk.rename_new, disk._rename_new_portably])
def test_renaming_never_replaces(folder: int, tmp_path: Path, rename: object) -> None:
    assert callable(rename)
    (tmp_path / "old").write_text("old")
    (tmp_path / "new").write_text("new")
    with pytest.raises(FileExistsError):
        rename("old", "new", folder, folder)
    assert (tmp_path / "new").read_text() == "new"
    (tmp_path / "new").unlink()
    rename("old", "new", folder, folder)
    assert sorted(os.listdir(tmp_path)) == ["new"]
    (tmp_path / "olddir").mkdir()
    (tmp_path / "newdir").mkdir()
    with pytest.raises(FileExistsError):
        rename("olddir", "newdir", folder, folder)
    (tmp_path / "newdir").rmdir()
    rename("olddir", "newdir", folder, folder)
    assert sorted(os.listdir(tmp_path)) == ["new", "newdir"]
    with pytest.raises(FileNotFoundError):
        rename("gone", "x", folder, folder)


def test_two_renames_to_one_name_at_once_have_one_winner(folder: int, tmp_path: Path) -> None:
    for i in range(8):
        (tmp_path / f"old{i}").write_text(str(i))
    won: list[int] = []
    barrier = threading.Barrier(8)

    def rename(number: int) -> None:
        barrier.wait()
        try:
            disk.rename_new(f"old{number}", "new", folder, folder)
            won.append(number)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=rename, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert (tmp_path / "new").read_text() == str(won[0])


def test_folders_are_entered_one_by_one_and_links_are_not(folder: int, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    folders = disk.Folders(folder)
    os.close(os.dup(folders.get(["a", "b", "c"], create=True)))
    assert (tmp_path / "a/b/c").is_dir()
    assert os.fstat(folders.get(["a"])).st_ino == (tmp_path / "a").stat().st_ino
    assert os.fstat(folders.get(["a", "b"])).st_ino == (tmp_path / "a/b").stat().st_ino
    assert folders.get([]) == folder
    with pytest.raises(FileNotFoundError):
        folders.get(["a", "x"])
    (tmp_path / "a/link").symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        folders.get(["a", "link", "deeper"], create=True)
    assert not any(outside.iterdir())
    folders.close()


def test_the_umask_is_read_without_setting_it() -> None:
    before = os.umask(0o027)
    try:
        assert disk.umask() == 0o027
    finally:
        os.umask(before)


def test_a_sync_of_a_file_system_reports_what_the_system_says(folder: int) -> None:
    assert disk.sync_file_system(folder)
    with pytest.raises(OSError, match="Bad file descriptor"):
        disk.sync_file_system(-1)
