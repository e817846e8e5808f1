"""Very many small files: nobody waits for the list, and each is opened once on either side."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from transfer_support import channels, send_and_receive, start_receiving, start_sending, tree

from midair import events
from midair.config import ServerURL
from midair.errors import LocalIOError, UsageError
from midair.session import SendSession
from midair.transfer import Source, disk, scan, scanning, staging
from midair.transfer.journal import Durable, Record
from midair.transfer.journal_file import JournalFile
from midair.transfer.scanning import Scanning
from midair.transfer.source import SourceReader
from support import DEADLINE


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """200 files in two folders, some of them read-only."""
    for number in range(200):
        path = tmp_path / f"here/t/{number % 2}/{number:03}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{number:03}".encode() * 50)
        path.chmod(0o444 if number % 5 == 0 else 0o640)
    (tmp_path / "there").mkdir()
    return tmp_path / "here"


def test_small_files_are_opened_once_on_either_side_and_arrive_as_they_are(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = here.parent / "there"
    for path in here.rglob("*"):
        path.chmod(0o750)
    opened: list[str] = []
    real = os.open

    def watched(name: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if not flags & os.O_DIRECTORY:
            opened.append(str(name).rpartition("/")[2])
        return real(name, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", watched)
    send_and_receive([here / "t"], there)
    files = sorted(name for name in opened if name.isdigit())
    assert files == sorted(2 * [f"{number:03}" for number in range(200)])
    assert tree(there) == tree(here)


def test_small_files_that_are_there_are_known_again_without_being_read(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = here.parent / "there"
    send_and_receive([here / "t"], there)
    assert tree(there) == tree(here)
    monkeypatch.setattr(SourceReader, "read_into", None)
    for outcome in send_and_receive([here / "t"], there):
        assert outcome.bytes_crossed == outcome.bytes_hashed == 0
        assert outcome.files.counts() == {"identical": 200}


def test_a_small_file_that_somebody_takes_away_meanwhile_is_not_said_to_be_received(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = here.parent / "there"
    real = staging.Staging.finish

    def finish(self: staging.Staging, *arguments: object) -> None:
        (there / "t.part/1/001").unlink(missing_ok=True)
        real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(staging.Staging, "finish", finish)
    with channels() as (a, b):
        start_sending(a, [here / "t"])
        error = start_receiving(b, there).error()
    assert isinstance(error, LocalIOError)
    assert "t/1: its unfinished data was changed" in error.message
    assert not (there / "t").exists()
    monkeypatch.undo()
    send_and_receive([here / "t"], there)
    assert tree(there) == tree(here)


@pytest.mark.parametrize("syncfs", [True, False])
def test_small_files_are_durable_before_they_are_vouched_for_also_without_a_sync_of_everything(
    here: Path, monkeypatch: pytest.MonkeyPatch, syncfs: bool
) -> None:
    there = here.parent / "there"
    synced: set[int] = set()
    vouched: list[int] = []

    def inode(path: str) -> int:
        return (there / path).stat().st_ino

    real_sync, real_all, real_append = os.fsync, disk.sync_file_system, JournalFile.append

    def fsync(descriptor: int) -> None:
        real_sync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def sync_file_system(descriptor: int) -> bool:
        synced.update(path.stat().st_ino for path in there.rglob("*"))
        return real_all(descriptor)

    def append(journal: JournalFile, records: list[Record]) -> None:
        for record in records:
            if isinstance(record, Durable):
                files = [file for run in record.runs for file in range(run.file, run.file + run.files)]
                names = [source.manifest.entries[file].path.removeprefix("t/") for file in files]
                vouched.extend(files)
                assert {inode(f"t.part/{name}") for name in names} <= synced
                assert {inode("t.part"), *(inode(f"t.part/{name.partition('/')[0]}") for name in names)} <= synced
        real_append(journal, records)

    source = scan([here / "t"])
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "fdatasync", fsync)
    monkeypatch.setattr(disk, "sync_file_system", sync_file_system)
    if not syncfs:
        monkeypatch.setattr(disk, "sync_file_system", lambda descriptor: False)
    monkeypatch.setattr(JournalFile, "append", append)
    send_and_receive([here / "t"], there)
    assert len(vouched) == 200
    assert tree(there) == tree(here)


class Held:
    """A scan that takes as long as a test wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.goes_on = threading.Event()
        monkeypatch.setattr(scanning, "scan", self._scan)

    def _scan(self, paths: Sequence[Path]) -> Source:
        assert self.goes_on.wait(DEADLINE)
        return scan(paths)


def test_a_scan_that_takes_long_goes_on_by_itself_and_tells_when_it_is_done(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    found = Scanning([here / "t"], patience=0.01)
    done = threading.Event()
    found.when_done(done.set)
    assert not done.is_set()
    held.goes_on.set()
    assert done.wait(DEADLINE)
    assert len(found.result().manifest) == 203
    again = threading.Event()
    found.when_done(again.set)
    assert again.is_set(), "at once, when it is done already"


def test_what_cannot_be_sent_is_said_at_once_or_when_it_is_found(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LocalIOError):
        Scanning([here / "nothing"], patience=DEADLINE)
    (here / "t/1/bad\\name").touch()
    with pytest.raises(UsageError):
        Scanning([here / "t"], patience=DEADLINE)
    held = Held(monkeypatch)
    found = Scanning([here / "t"], patience=0.01)
    held.goes_on.set()
    with pytest.raises(UsageError):
        found.result()


def test_the_code_is_shown_before_everything_has_been_looked_at(
    here: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Held(monkeypatch)
    shown: list[events.Event] = []

    async def until_the_code() -> None:
        told = asyncio.Event()

        def listen(event: events.Event) -> None:
            shown.append(event)
            told.set()

        session = SendSession([here / "t"], ServerURL.parse(server), on_event=listen)
        task = asyncio.ensure_future(session.run())
        async with asyncio.timeout(DEADLINE):
            await told.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(until_the_code())
    assert isinstance(shown[0], events.CodeReady)
