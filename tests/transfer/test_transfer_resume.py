"""Going on where an earlier run stopped: what is durable is not sent or hashed again, and nothing else is believed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from blake3 import blake3
from transfer_support import (
    DEADLINE,
    IMPATIENT,
    Log,
    Running,
    channels,
    crash_steps,
    cut_after,
    send_and_receive,
    start_receiving,
    start_sending,
    tree,
)

from midair import events
from midair.channel import Received
from midair.errors import ConnectionLostError, IntegrityError, LocalIOError, TargetExistsError
from midair.transfer import Outcome, Sender, intake, scan
from midair.transfer.file_receiving import FileReceiving
from midair.transfer.journal import MAGIC, Begun, Committed, Committing, JournalReader, JournalWriter, Parts, Record
from midair.transfer.journal_file import JournalFile
from midair.transfer.runs import Runs
from midair.transfer.wire import Digest

MiB = 1 << 20


def broken_run(paths: list[Path], there: Path, records: int) -> tuple[Outcome, Outcome] | None:
    """One that is cut off; what both sides say of it. None when it was over before."""
    with channels() as (a, b):
        cut_after(b, records)
        sender, receiver = start_sending(a, paths), start_receiving(b, there)
        try:
            receiver.outcome()
        except ConnectionLostError:
            assert isinstance(sender.error(), ConnectionLostError) or sender.party.outcome.committed
            return sender.party.outcome, receiver.party.outcome
        sender.outcome()
        return None


@pytest.mark.parametrize("seed", range(4))
def test_however_often_it_breaks_nothing_durable_is_sent_twice(
    folders: tuple[Path, Path], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders
    dice = random.Random(seed)
    (here / "t/sub").mkdir(parents=True)
    for i in range(6):
        (here / "t/sub" / f"{i}").write_bytes(dice.randbytes(dice.choice([0, 10, 3 * MiB, 700_000])))
    (here / "z").write_bytes(dice.randbytes(8 * MiB))
    paths = [here / "t", here / "z"]
    total = scan(paths).manifest.total
    monkeypatch.setattr(intake, "SYNC_BYTES", 512 << 10)
    crossed, durable, breaks = 0, 0, 0
    while True:
        log = Log()
        with channels() as (a, b):
            if breaks < 6:
                cut_after(b, dice.randrange(2, 16))
            sender, receiver = start_sending(a, paths), start_receiving(b, there, log=log)
            try:
                last = receiver.outcome()
            except ConnectionLostError:
                breaks += 1
            else:
                sender.outcome()
                assert last.bytes_crossed + durable == total, "a byte that was durable was sent again"
                assert last.bytes_hashed == last.bytes_crossed
                break
            finally:
                outcome = receiver.party.outcome
                resumed = sum(event.bytes for event in log.of(events.Resumed) if isinstance(event, events.Resumed))
                assert resumed in (0, durable)
            assert not (there / "t").exists() or outcome.committed, f"seed {seed}"
        crossed += outcome.bytes_crossed
        # What was received before the break is durable after it: the last sync came after the last record.
        durable += outcome.bytes_crossed
    assert crossed <= total
    assert tree(there) == tree(here)


def test_a_file_begun_in_another_run_has_no_hash_of_its_own_and_a_whole_one_has(folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "a").write_bytes(os.urandom(6 * MiB))
    (here / "b").write_bytes(os.urandom(6 * MiB))
    broken = broken_run([here / "a", here / "b"], there, 6)
    assert broken is not None
    assert 0 < broken[1].bytes_crossed < 6 * MiB
    for outcome in send_and_receive([here / "a", here / "b"], there):
        assert [(f.name, f.blake3) for f in outcome.files] == [
            ("a", None),
            ("b", blake3((here / "b").read_bytes()).hexdigest()),
        ]
    assert tree(there) == tree(here)


def test_a_killed_receiver_leaves_what_the_next_one_goes_on_with(folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "x").write_bytes(os.urandom(24 * MiB))
    script = Path(__file__).with_name("crash_steps.py")
    subprocess.run([sys.executable, "-W", "error", str(script), "kill", str(here), str(there)], check=True, timeout=18)
    assert sorted(os.listdir(there)) == ["x.part", "x.part.journal"]
    log = Log()
    _, outcome = send_and_receive([here / "x"], there, received=log)
    (resumed,) = log.of(events.Resumed)
    assert isinstance(resumed, events.Resumed)
    assert resumed.bytes > 0
    assert outcome.bytes_crossed + resumed.bytes == 24 * MiB
    assert tree(there) == tree(here)


@pytest.mark.parametrize("first", [1, 2, 3])
def test_a_kill_between_any_two_steps_is_repaired_by_the_next_run(folders: tuple[Path, Path], first: int) -> None:
    """The script dies before every third change to the disk, and looks each time."""
    assert crash_steps("steps", *folders, first) > 25


def test_what_is_committed_is_only_reported_when_the_sender_did_not_hear(folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "t").mkdir()
    (here / "t/x").write_bytes(os.urandom(MiB))
    (here / "y").write_bytes(b"y")
    paths = [here / "t", here / "y"]
    with channels() as (a, b):
        sender, receiver = start_sending(a, paths), start_receiving(b, there)
        # The sender's goodbye is lost.
        real = b.receive

        def receive() -> Received:
            received = real()
            if (there / "y").exists():
                b.abort()
                return real()
            return received

        b.receive = receive  # type: ignore[method-assign]
        assert isinstance(receiver.error(), ConnectionLostError)
        assert receiver.party.outcome.committed
        assert sender.outcome().committed
    assert tree(there).keys() - tree(here).keys() == {"t.part.journal"}
    first, second = send_and_receive(paths, there)
    assert (first.bytes_crossed, second.bytes_crossed) == (0, 0)
    assert first.committed
    assert second.committed
    assert tree(there) == tree(here)


def test_a_committed_file_that_was_taken_away_since_is_fetched_anew(folders: tuple[Path, Path]) -> None:
    test_what_is_committed_is_only_reported_when_the_sender_did_not_hear(folders)
    here, there = folders
    records: list[Record] = [Begun(scan([here / "t", here / "y"]).manifest.id), Committing(), Committed()]
    (there / "t.part.journal").write_bytes(JournalWriter().encode(records))
    (there / "y").unlink()
    _, outcome = send_and_receive([here / "t", here / "y"], there)
    assert tree(there) == tree(here)
    assert outcome.bytes_crossed == 1, "the other file is there, and is known by its time"


@pytest.mark.parametrize("change", ["content", "replaced"])
def test_a_source_that_changed_since_starts_over_and_our_old_part_goes(folders: tuple[Path, Path], change: str) -> None:
    here, there = folders
    (here / "x").write_bytes(os.urandom(8 * MiB))
    assert broken_run([here / "x"], there, 7) is not None
    assert (there / "x.part").stat().st_size > 0
    if change == "content":
        (here / "x").write_bytes(os.urandom(8 * MiB))
    else:
        found = (here / "x").stat()
        (here / "twin").write_bytes(bytes(8 * MiB))
        (here / "twin").rename(here / "x")
        os.utime(here / "x", ns=(found.st_atime_ns, found.st_mtime_ns))
    log = Log()
    _, outcome = send_and_receive([here / "x"], there, received=log)
    assert outcome.bytes_crossed == 8 * MiB
    assert len(log.of(events.Status)) == 1
    assert not log.of(events.Resumed)
    assert tree(there) == tree(here)


def test_what_comes_in_after_the_connection_was_found_broken_is_kept_as_well(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes to a dead sender learns of it first; whoever reads still finds what it had sent."""
    here, there = folders
    (here / "x").write_bytes(os.urandom(4 * MiB))
    synced = threading.Event()
    real = intake.Intake.write

    def broken(receiving: FileReceiving, *arguments: object) -> None:
        synced.set()
        raise ConnectionLostError("broken")

    def write(self: intake.Intake, position: int, data: memoryview) -> None:
        real(self, position, data)
        assert synced.wait(DEADLINE)

    with monkeypatch.context() as patched, channels() as (a, b):
        patched.setattr(FileReceiving, "salvage", broken)
        patched.setattr(FileReceiving, "_follow", broken)
        patched.setattr(intake.Intake, "write", write)
        start_sending(a, [here / "x"])
        receiver = start_receiving(b, there, limits=IMPATIENT)
        assert isinstance(receiver.error(), ConnectionLostError)
        received = receiver.party.outcome.bytes_crossed
    assert received > 0
    _, outcome = send_and_receive([here / "x"], there)
    assert outcome.bytes_crossed == 4 * MiB - received
    assert tree(there) == tree(here)


@pytest.mark.parametrize("damage", ["shorter", "gone"])
def test_what_was_not_there_is_not_vouched_for_when_something_new_stands_there(
    folders: tuple[Path, Path], damage: str
) -> None:
    """Else a power cut in the second run could leave a file that is as long as the journal says, and full of zeros."""
    here, there = folders
    (here / "x").write_bytes(os.urandom(8 * MiB))
    first = broken_run([here / "x"], there, 7)
    assert first is not None
    assert first[1].bytes_crossed > 100_000
    if damage == "gone":
        (there / "x.part").unlink()
    else:
        os.truncate(there / "x.part", 100_000)
    assert broken_run([here / "x"], there, 5) is not None
    reader = JournalReader(scan([here / "x"]).manifest)
    reader.feed((there / "x.part.journal").read_bytes())
    assert 0 < reader.durable.total < first[1].bytes_crossed
    for start, end in reader.durable:
        assert (there / "x.part").read_bytes()[start:end] == (here / "x").read_bytes()[start:end]
    send_and_receive([here / "x"], there)
    assert tree(there) == tree(here)


def test_an_empty_file_that_a_kill_left_beside_the_journal_is_not_in_the_way_of_other_content(
    folders: tuple[Path, Path],
) -> None:
    """It was made, and the journal did not say so yet."""
    here, there = folders
    (here / "x").write_bytes(b"x" * 1000)
    (there / "x.part.journal").write_bytes(JournalWriter().encode([Begun(bytes(16))]))
    (there / "x.part").touch()
    send_and_receive([here / "x"], there)
    assert tree(there) == tree(here)


def test_no_more_than_a_bound_is_written_that_is_not_durable(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders
    (here / "x").write_bytes(os.urandom(12 * MiB))
    monkeypatch.setattr(intake, "SYNC_BYTES", 1 * MiB)
    monkeypatch.setattr(intake, "MAX_NOT_DURABLE", 2 * MiB)
    most = 0
    sync = intake.Intake.sync
    write = intake.Intake.write

    def slow(self: intake.Intake) -> bool:
        """The disk comes to it only when nothing more is written, or everything is here."""
        deadline = time.monotonic() + 0.3
        while (before := self.received) < 12 * MiB and time.monotonic() < deadline:
            time.sleep(0.02)
            if self.received == before:
                break
        return sync(self)

    def watched(self: intake.Intake, position: int, data: memoryview) -> None:
        nonlocal most
        write(self, position, data)
        most = max(most, self.not_durable)

    monkeypatch.setattr(intake.Intake, "sync", slow)
    monkeypatch.setattr(intake.Intake, "write", watched)
    send_and_receive([here / "x"], there)
    assert MiB < most <= 2 * MiB
    assert tree(there) == tree(here)


@pytest.mark.parametrize("damage", ["shorter", "gone", "journal torn"])
def test_a_part_that_is_not_what_the_journal_says_is_fetched_anew(folders: tuple[Path, Path], damage: str) -> None:
    here, there = folders
    (here / "t").mkdir()
    for name in "ab":
        (here / "t" / name).write_bytes(os.urandom(3 * MiB))
    assert broken_run([here / "t"], there, 9) is not None
    if damage == "shorter":
        os.truncate(there / "t.part/a", 1000)
    elif damage == "gone":
        (there / "t.part/a").unlink()
    else:
        journal = there / "t.part.journal"
        os.truncate(journal, journal.stat().st_size - 1)
    _, outcome = send_and_receive([here / "t"], there)
    assert tree(there) == tree(here)
    assert outcome.bytes_crossed > 2 * MiB


def test_a_full_size_part_without_a_journal_is_not_taken_for_ours(folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "x").write_bytes(os.urandom(1000))
    (there / "x.part").write_bytes(bytes(1000))
    with channels() as (a, b):
        start_sending(a, [here / "x"])
        error = start_receiving(b, there).error()
    assert isinstance(error, TargetExistsError)
    assert "x.part" in error.message
    assert tree(there).keys() == {"x.part"}
    assert (there / "x.part").read_bytes() == bytes(1000)


def test_a_part_beside_a_journal_that_does_not_name_it_is_left_alone(folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "x").write_bytes(b"1")
    (here / "y").write_bytes(b"2")
    paths = [here / "x", here / "y"]
    journal = JournalWriter().encode([Begun(scan(paths).manifest.id), Parts(["x.part"])])
    (there / "x.part.journal").write_bytes(journal)
    (there / "y.part").write_bytes(b"mine")
    with channels() as (a, b):
        start_sending(a, paths)
        assert isinstance(start_receiving(b, there).error(), TargetExistsError)
    assert (there / "y.part").read_bytes() == b"mine"
    # An empty one is what a crash between making it and writing it down leaves.
    (there / "y.part").write_bytes(b"")
    send_and_receive(paths, there)
    assert tree(there) == tree(here)


def test_a_file_that_only_looks_like_a_journal_is_left_alone(folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "x").write_bytes(b"1")
    (there / "x.part.journal").write_bytes(b"not " + MAGIC)
    with channels() as (a, b):
        start_sending(a, [here / "x"])
        assert isinstance(start_receiving(b, there).error(), TargetExistsError)
    assert (there / "x.part.journal").read_bytes() == b"not " + MAGIC


def test_two_receivers_cannot_receive_the_same_into_one_folder(folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "x").write_bytes(os.urandom(100))
    descriptor = os.open(there, os.O_RDONLY)
    journal = JournalFile.create(descriptor, "x.part.journal")
    try:
        with channels() as (a, b):
            sender = start_sending(a, [here / "x"])
            error = start_receiving(b, there).error()
            assert isinstance(error, LocalIOError)
            assert "another midair is receiving this here" in error.message
            refused = sender.error()
            assert "another midair" in str(refused)
    finally:
        journal.close()
        os.close(descriptor)


def test_bytes_that_differ_are_found_and_fetched_anew(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders
    (here / "a").write_bytes(os.urandom(2 * MiB))
    (here / "b").write_bytes(os.urandom(2 * MiB))
    paths = [here / "a", here / "b"]
    lied = False
    real = Runs.feed

    def feed(runs: Runs, file: int, offset: int, data: memoryview, file_size: int) -> Digest | None:
        nonlocal lied
        digest = real(runs, file, offset, data, file_size)
        if digest is not None and file == 1 and not lied:
            lied = True
            return Digest(digest.file, digest.start, digest.end, bytes(32))
        return digest

    with monkeypatch.context() as patched:
        patched.setattr(Runs, "feed", feed)
        with channels() as (a, b):
            sender = start_sending(a, paths)
            error = start_receiving(b, there).error()
            assert isinstance(error, IntegrityError)
            assert error.message.startswith("b ")
            assert getattr(sender.error(), "remote_reason", None) == "integrity"
    _, outcome = send_and_receive(paths, there)
    assert outcome.bytes_crossed == 2 * MiB, "only the file in doubt is fetched anew"
    assert tree(there) == tree(here)


def test_a_sender_may_go_on_with_the_same_source_over_a_new_connection(folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "x").write_bytes(os.urandom(6 * MiB))
    source = scan([here / "x"])
    with channels() as (a, b):
        cut_after(b, 6)
        sender, receiver = Running(Sender(a, source, Log())), start_receiving(b, there)
        assert isinstance(receiver.error(), ConnectionLostError)
        assert isinstance(sender.error(), ConnectionLostError)
    log = Log()
    with channels() as (a, b):
        sender, receiver = Running(Sender(a, source, log)), start_receiving(b, there)
        assert receiver.outcome().bytes_crossed < 6 * MiB
        assert sender.outcome().committed
    assert len(log.of(events.Resumed)) == 1
    assert tree(there) == tree(here)
