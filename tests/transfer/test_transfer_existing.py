"""What is there already: skipped when it is the same, and otherwise as somebody decides, never half."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from transfer_support import (
    DEADLINE,
    Log,
    Running,
    channels,
    crash_steps,
    send_and_receive,
    start_receiving,
    start_sending,
    tree,
)

from midair import events
from midair.channel import Received
from midair.errors import (
    CancelledByUserError,
    ConnectionLostError,
    DeclinedError,
    LocalIOError,
    PeerCancelledError,
    PeerFailedError,
    PeerRefusedError,
    TargetExistsError,
)
from midair.transfer import Clash, Offer, Resolution, disk, existing, intake
from midair.transfer.journal import Committed, Committing, Record
from midair.transfer.journal_file import JournalFile
from midair.transfer.source import SourceReader

MiB = 1 << 20
SECOND = 1_000_000_000


def put(path: Path, content: bytes, *, mtime_ns: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if mtime_ns is not None:
        os.utime(path, ns=(0, mtime_ns))
    return path


def always(resolution: Resolution, seen: list[Clash] | None = None) -> Callable[[Clash], Resolution]:
    def resolve(clash: Clash) -> Resolution:
        if seen is not None:
            seen.append(clash)
        return resolution

    return resolve


def outcomes(log: Log) -> dict[str, tuple[str, str | None]]:
    """Name to outcome and, where it differs, the name it is stored under."""
    return {e.file: (e.outcome, e.stored_as) for e in log.of(events.FileFinished) if isinstance(e, events.FileFinished)}


# -- the same --


def test_what_was_received_before_is_known_and_neither_sent_nor_hashed(folders: tuple[Path, Path]) -> None:
    here, there = folders
    put(here / "t/a", os.urandom(MiB))
    put(here / "b", os.urandom(MiB), mtime_ns=5 * SECOND)
    (here / "t/empty").write_bytes(b"")
    (here / "t/a").chmod(0o444)
    paths = [here / "t", here / "b"]
    send_and_receive(paths, there)
    before = {path: path.stat().st_ino for path in there.rglob("*")}
    sent, received = Log(), Log()
    for outcome in send_and_receive(paths, there, sent=sent, received=received):
        assert (outcome.bytes_crossed, outcome.bytes_hashed) == (0, 0)
        assert (outcome.committed, outcome.bytes_committed) == (True, 2 * MiB)
        assert not list(outcome.files.not_stored())
        assert outcome.files.counts() == {"identical": 3}
    assert outcomes(sent) == outcomes(received) == dict.fromkeys(["t/a", "t/empty", "b"], ("identical", None))
    assert {path: path.stat().st_ino for path in there.rglob("*")} == before
    assert tree(there) == tree(here)


def rewritten_here(path: Path) -> None:
    """With the time it had, as a tool may do it."""
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(0, before.st_mtime_ns))


def touched_there(path: Path) -> None:
    os.utime(path, ns=(0, 12345))


def rewritten_there(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize(
    ("change", "side", "outcome"),
    [
        (rewritten_here, "here", "received"),
        (touched_there, "there", "identical"),
        (rewritten_there, "there", "received"),
    ],
)
def test_what_was_received_before_and_changed_since_on_either_side_is_hashed(
    folders: tuple[Path, Path], change: Callable[[Path], None], side: str, outcome: str
) -> None:
    here, there = folders
    content = os.urandom(MiB)
    put(here / "x", content)
    send_and_receive([here / "x"], there)
    change((here if side == "here" else there) / "x")
    for result in send_and_receive([here / "x"], there, resolve=always(Resolution.OVERWRITE)):
        assert result.bytes_hashed == MiB * (1 + (outcome == "received"))
        assert result.files[0].outcome == outcome
    assert (there / "x").read_bytes() == (here / "x").read_bytes()


@pytest.mark.parametrize("lacking", ["the file system", "the operating system"])
def test_where_no_note_can_be_left_all_goes_as_well_and_is_hashed(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    here, there = folders

    def setxattr(descriptor: int, name: str, value: bytes) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    if lacking == "the file system":
        monkeypatch.setattr(disk, "_setxattr", setxattr)
    else:
        monkeypatch.setattr(disk, "_setxattr", None)
        monkeypatch.setattr(disk, "_getxattr", None)
    put(here / "x", os.urandom(MiB))
    send_and_receive([here / "x"], there)
    for outcome in send_and_receive([here / "x"], there):
        assert (outcome.bytes_crossed, outcome.bytes_hashed) == (0, MiB)
        assert outcome.files[0].outcome == "identical"


@pytest.mark.parametrize("times", ["equal", "different"])
def test_what_somebody_else_put_there_is_hashed_on_both_sides_and_not_sent_when_it_is_the_same(
    folders: tuple[Path, Path], times: str
) -> None:
    here, there = folders
    content = os.urandom(3 * MiB + 17)
    put(here / "x", content, mtime_ns=SECOND + 7)
    put(there / "x", content, mtime_ns=SECOND + 7 if times == "equal" else 7)
    inode = (there / "x").stat().st_ino
    for outcome in send_and_receive([here / "x"], there):
        assert (outcome.bytes_crossed, outcome.bytes_hashed) == (0, len(content))
        assert outcome.files[0].outcome == "identical"
        assert outcome.files[0].blake3 is not None
    assert (there / "x").stat().st_ino == inode
    assert os.listdir(there) == ["x"]


@pytest.mark.parametrize(
    ("ours", "theirs", "mtime_ns"),
    [(b"12345", b"12346", 3 * SECOND + 1), (b"12345", b"1234", 3 * SECOND + 1)],
    ids=["content", "size"],
)
def test_what_differs_is_not_taken_for_the_same_although_it_has_the_same_time(
    folders: tuple[Path, Path], ours: bytes, theirs: bytes, mtime_ns: int
) -> None:
    here, there = folders
    put(here / "x", theirs, mtime_ns=mtime_ns)
    put(there / "x", ours, mtime_ns=mtime_ns)
    with channels() as (a, b):
        sender, receiver = start_sending(a, [here / "x"]), start_receiving(b, there)
        assert isinstance(receiver.error(), TargetExistsError)
        said = sender.error()
    assert isinstance(said, PeerFailedError)
    assert said.remote_reason == "target-exists"
    assert (there / "x").read_bytes() == ours
    assert os.listdir(there) == ["x"]


def test_nothing_is_compared_before_the_person_has_said_yes(folders: tuple[Path, Path]) -> None:
    """Else a sender could find out what is in the folder."""
    here, there = folders
    put(here / "x", b"12345", mtime_ns=0)
    put(there / "x", b"12345", mtime_ns=SECOND)
    offers: list[Offer] = []

    def accept(offer: Offer) -> bool:
        offers.append(offer)
        return False

    with channels() as (a, b):
        sender = start_sending(a, [here / "x"])
        receiver = start_receiving(b, there, accept=accept)
        assert isinstance(receiver.error(), DeclinedError)
        assert isinstance(sender.error(), PeerRefusedError)
        assert sender.party.outcome.bytes_hashed == 0
    assert [offer.present for offer in offers] == [1]


def test_a_file_that_changes_at_the_sender_while_it_is_compared_fails_by_name_and_the_rest_goes_on(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders
    for name in ("a", "b"):
        put(here / name, name.encode() * 100, mtime_ns=SECOND)
    put(here / "c", os.urandom(6 * MiB))
    for name in ("a", "b"):
        put(there / name, name.encode() * 100, mtime_ns=2 * SECOND)
    real = SourceReader.hash

    def changing(reader: SourceReader, index: int, check: Callable[[], None]) -> bytes:
        if index == 0:
            (here / "a").write_bytes(b"changed")
        return real(reader, index, check)

    monkeypatch.setattr(SourceReader, "hash", changing)
    sent, received = Log(), Log()
    paths = [here / "a", here / "b", here / "c"]
    with channels() as (a, b):
        sender = start_sending(a, paths, log=sent, limit_rate=5 * MiB)
        receiver = start_receiving(b, there, log=received)
        for party, log in ((sender, sent), (receiver, received)):
            outcome = party.outcome()
            assert [file.outcome for file in outcome.files] == ["source-changed", "identical", "received"]
            told = [event for event in log.of(events.Progress) if isinstance(event, events.Progress)]
            assert {event.total for event in told} == {outcome.bytes_committed} == {100 + 6 * MiB}
            assert told[0].bytes < told[-1].bytes == told[-1].total
    assert (there / "a").read_bytes() == b"a" * 100


def test_a_file_here_that_cannot_be_read_counts_as_another(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders
    put(here / "x", b"12345", mtime_ns=0)
    put(there / "x", b"12345", mtime_ns=SECOND)

    def unreadable(name: str, folder: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(disk, "open_to_read", unreadable)
    seen: list[Clash] = []
    send_and_receive([here / "x"], there, resolve=always(Resolution.OVERWRITE, seen))
    assert [clash.name for clash in seen] == ["x"]


# -- what differs --


def test_a_folder_that_is_there_is_merged_and_what_else_is_in_it_stays(folders: tuple[Path, Path]) -> None:
    here, there = folders
    put(here / "t/new/deep/a", b"a")
    put(here / "t/old/b", b"b")
    put(here / "t/same", b"same", mtime_ns=9)
    (here / "t/old/hollow").mkdir()
    (here / "t/new").chmod(0o555)
    put(there / "t/old/mine", b"mine")
    put(there / "t/same", b"same", mtime_ns=9)
    (there / "t/old").chmod(0o700)
    for outcome in send_and_receive([here / "t"], there):
        assert outcome.files.counts() == {"identical": 1, "received": 2}
    found = tree(there)
    assert found.keys() == tree(here).keys() | {"t/old/mine"}
    assert found["t/new"] == tree(here)["t/new"]
    assert found["t/old"][1] == 0o700
    assert (there / "t/old/mine").read_bytes() == b"mine"


def test_overwriting_replaces_in_one_step_once_the_new_one_is_whole(folders: tuple[Path, Path]) -> None:
    here, there = folders
    content = os.urandom(2 * MiB)
    put(here / "t/x", content)
    put(there / "t/x", b"old")
    log = Log()

    def look(event: events.Event) -> None:
        log(event)
        if isinstance(event, events.Progress):
            assert (there / "t/x").read_bytes() == b"old"

    with channels() as (a, b):
        sender = start_sending(a, [here / "t"])
        receiver = start_receiving(b, there, log=look, resolve=always(Resolution.OVERWRITE))  # type: ignore[arg-type]
        assert sender.outcome().committed
        assert receiver.outcome().committed
    assert log.of(events.Progress)
    assert tree(there)["t/x"] == tree(here)["t/x"]
    assert sorted(tree(there)) == ["t", "t/x"]


def test_overwriting_a_link_replaces_the_link_and_not_what_it_points_to(folders: tuple[Path, Path]) -> None:
    here, there = folders
    put(here / "x", b"new")
    precious = put(there.parent / "precious", b"precious")
    (there / "x").symlink_to(precious)
    send_and_receive([here / "x"], there, resolve=always(Resolution.OVERWRITE))
    assert not (there / "x").is_symlink()
    assert (there / "x").read_bytes() == b"new"
    assert precious.read_bytes() == b"precious"


def test_renaming_puts_a_number_before_the_ending_and_both_sides_are_told(folders: tuple[Path, Path]) -> None:
    here, there = folders
    names = {"a.txt": "a-2.txt", "t/b.tar.gz": "t/b-1.tar.gz", "t/.hidden": "t/.hidden-1", "t/plain": "t/plain-3"}
    for taken in ("t/plain-1", "t/plain-2"):
        put(there / taken, b"mine")
    for name in names:
        put(here / name, name.encode())
        put(there / name, b"mine" * 10)
    put(here / "a-1.txt", b"of the offer itself")
    sent, received = Log(), Log()
    send_and_receive(sorted(here.iterdir()), there, sent=sent, received=received, resolve=always(Resolution.RENAME))
    for name, new in names.items():
        assert (there / name).read_bytes() == b"mine" * 10
        assert (there / new).read_bytes() == name.encode()
    told = {name: ("received", new) for name, new in names.items()} | {"a-1.txt": ("received", None)}
    assert outcomes(sent) == outcomes(received) == told
    assert not [path for path in there.rglob("*") if ".part" in path.name]


@pytest.mark.parametrize("obstacle", ["file", "link to a folder"])
def test_a_folder_whose_name_something_else_has_is_renamed_as_a_whole(
    folders: tuple[Path, Path], obstacle: str
) -> None:
    here, there = folders
    put(here / "t/sub/x", b"x")
    outside = there.parent / "outside"
    put(outside / "x", b"precious")
    (there / "t").mkdir()
    if obstacle == "file":
        put(there / "t/sub", b"mine")
    else:
        (there / "t/sub").symlink_to(outside)
    seen: list[Clash] = []
    send_and_receive([here / "t"], there, resolve=always(Resolution.RENAME, seen))
    assert [(clash.name, clash.new) for clash in seen] == [("t/sub", "folder")]
    assert (there / "t/sub-1/x").read_bytes() == b"x"
    assert tree(outside) == {"x": tree(outside)["x"]}
    assert (outside / "x").read_bytes() == b"precious"


def test_skipping_keeps_what_is_there_and_fetches_nothing_of_it(folders: tuple[Path, Path]) -> None:
    here, there = folders
    put(here / "t/x", os.urandom(MiB))
    put(here / "t/new", b"new")
    put(here / "u/deep/y", os.urandom(MiB))
    put(here / "u/z", b"z")
    (here / "u/hollow").mkdir()
    put(there / "t/x", b"mine")
    put(there / "u", b"a file")
    sent, received = Log(), Log()
    for outcome in send_and_receive(
        [here / "t", here / "u"], there, sent=sent, received=received, resolve=always(Resolution.SKIP)
    ):
        assert outcome.bytes_crossed == 3
        assert outcome.bytes_committed == 3
        assert outcome.committed
        names = ["t/x", "u", "u/deep", "u/deep/y", "u/hollow", "u/z"]
        assert sorted(file.name for file in outcome.files.not_stored()) == names
    assert (there / "t/x").read_bytes() == b"mine"
    assert (there / "u").read_bytes() == b"a file"
    assert (there / "t/new").read_bytes() == b"new"
    assert outcomes(sent) == outcomes(received)
    last = received.of(events.Progress)[-1]
    assert isinstance(last, events.Progress)
    assert (last.bytes, last.total) == (3, 3)


def test_a_folder_s_new_name_that_is_taken_at_the_last_moment_is_not_merged_into(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders
    put(here / "t/x", b"x")
    put(there / "t", b"mine")
    real = intake.Intake.commit

    def commit(self: intake.Intake, alive: Callable[[], bool]) -> bool:
        put(there / "t-1/theirs", b"theirs")
        return real(self, alive)

    monkeypatch.setattr(intake.Intake, "commit", commit)
    with channels() as (a, b):
        start_sending(a, [here / "t"])
        error = start_receiving(b, there, resolve=always(Resolution.RENAME)).error()
    assert isinstance(error, TargetExistsError)
    assert os.listdir(there / "t-1") == ["theirs"]


def test_names_in_a_folder_that_was_there_are_durable_before_the_journal_says_so(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders
    for name in ("t/old/a", "t/b", "t/new/c"):
        put(here / name, b"x")
    (there / "t/old").mkdir(parents=True)
    synced: list[int] = []
    real_fsync, real_append = os.fsync, JournalFile.append

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real_fsync(descriptor)

    def append(journal: JournalFile, records: list[Record]) -> None:
        if isinstance(records[-1], Committing):
            synced.clear()
        if isinstance(records[-1], Committed):
            assert {path.stat().st_ino for path in (there, there / "t", there / "t/old")} <= set(synced)
        real_append(journal, records)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(JournalFile, "append", append)
    send_and_receive([here / "t"], there)
    assert sorted(tree(there)) == sorted(tree(here))


def test_a_folder_is_never_overwritten(folders: tuple[Path, Path]) -> None:
    here, there = folders
    put(here / "x", b"x")
    put(there / "x/mine", b"mine")
    with channels() as (a, b):
        start_sending(a, [here / "x"])
        receiver = start_receiving(b, there, resolve=always(Resolution.OVERWRITE))
        error = receiver.error()
    assert isinstance(error, TargetExistsError)
    assert error.message == "x is already there, and is a folder"
    assert (there / "x/mine").read_bytes() == b"mine"


def test_somebody_decides_about_each_thing_that_differs_and_is_told_what_it_is(folders: tuple[Path, Path]) -> None:
    here, there = folders
    put(here / "t/a", b"12345", mtime_ns=1)
    put(here / "t/b", b"12345", mtime_ns=2)
    put(here / "t/c", b"12345", mtime_ns=3)
    put(here / "t/d", b"12345", mtime_ns=4)
    put(there / "t/a", b"1", mtime_ns=5)
    put(there / "t/b", b"12345", mtime_ns=6)
    put(there / "t/c", b"54321", mtime_ns=7)
    (there / "t/d").symlink_to("a")
    seen: list[Clash] = []
    answers = {"t/a": Resolution.OVERWRITE, "t/c": Resolution.RENAME, "t/d": Resolution.SKIP}

    def resolve(clash: Clash) -> Resolution:
        seen.append(clash)
        assert (there / "t/a").read_bytes() == b"1"
        return answers[clash.name]

    for outcome in send_and_receive([here / "t"], there, resolve=resolve):
        assert outcome.files.counts() == {"identical": 1, "kept": 1, "received": 2}
    assert [(c.name, c.there, c.there_size, c.new, c.new_size, c.replaceable) for c in seen] == [
        ("t/a", "file", 1, "file", 5, True),
        ("t/c", "file", 5, "file", 5, True),
        ("t/d", "link", 1, "file", 5, True),
    ]
    assert (seen[0].there_mtime_ns, seen[0].new_mtime_ns) == (5, 1)
    assert (there / "t/a").read_bytes() == b"12345"
    assert (there / "t/c-1").read_bytes() == b"12345"
    assert (there / "t/c").read_bytes() == b"54321"


def test_refusing_one_refuses_all_and_changes_nothing(folders: tuple[Path, Path]) -> None:
    here, there = folders
    put(here / "t/a", b"12345")
    put(here / "t/b", b"12345")
    put(there / "t/b", b"mine")
    before = tree(there)
    with channels() as (a, b):
        sender = start_sending(a, [here / "t"])
        receiver = start_receiving(b, there, resolve=always(Resolution.REFUSE))
        assert isinstance(receiver.error(), TargetExistsError)
        assert isinstance(sender.error(), PeerFailedError)
    assert tree(there) == before


def test_cancelling_while_somebody_decides_does_not_wait_for_the_answer(folders: tuple[Path, Path]) -> None:
    here, there = folders
    put(here / "x", b"12345")
    put(there / "x", b"1")
    asked, answered, done = threading.Event(), threading.Event(), threading.Event()

    def resolve(clash: Clash) -> Resolution:
        asked.set()
        answered.wait(4 * DEADLINE)
        done.set()
        return Resolution.OVERWRITE

    with channels() as (a, b):
        sender, receiver = start_sending(a, [here / "x"]), start_receiving(b, there, resolve=resolve)
        assert asked.wait(DEADLINE)
        sender.party.cancel()
        assert isinstance(sender.error(), CancelledByUserError)
        try:
            assert isinstance(receiver.error(), PeerCancelledError)
        finally:
            answered.set()
    assert done.wait(DEADLINE)
    assert (there / "x").read_bytes() == b"1"
    assert os.listdir(there) == ["x"]


def test_a_name_without_room_for_a_number_cannot_be_renamed(folders: tuple[Path, Path]) -> None:
    here, there = folders
    name = "x" * 255
    put(here / name, b"12345")
    put(there / name, b"1")
    with channels() as (a, b):
        start_sending(a, [here / name])
        assert isinstance(start_receiving(b, there, resolve=always(Resolution.RENAME)).error(), TargetExistsError)


_ON_TWO_DISKS = """
import os, sys
from pathlib import Path
from midair.errors import LocalIOError
from transfer_support import channels, start_receiving, start_sending
here, there = Path(sys.argv[1]), Path(sys.argv[2])
with channels() as (a, b):
    sender, receiver = start_sending(a, [here]), start_receiving(b, there)
    heard, said = receiver.error(), sender.error()
assert isinstance(heard, LocalIOError) and "t/sub is on another file system" in heard.message, heard
assert os.listdir(there) == ["t"], os.listdir(there)
"""


def test_a_folder_on_another_file_system_is_not_merged_into(folders: tuple[Path, Path]) -> None:
    here, there = folders
    put(here / "t/sub/x", b"x")
    (there / "t/sub").mkdir(parents=True)
    mount = 'mount -t tmpfs none "$3/t/sub" && exec "$1" -W error -c "$0" "$2" "$3"'
    subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, _ON_TWO_DISKS, sys.executable, str(here / "t"), str(there)],
        check=True,
        timeout=15,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )


_AS_AN_ORDINARY_USER = """
import os, sys
from pathlib import Path
from midair.errors import LocalIOError
from transfer_support import channels, send_and_receive, start_receiving, start_sending, tree
here, there = Path(sys.argv[1]), Path(sys.argv[2])
os.umask(0o022)
(here / "t/closed").mkdir(parents=True)
(here / "t/closed/x").write_text("x")
(there / "t").mkdir()
(here / "t/closed").chmod(0o555)
send_and_receive([here / "t"], there)
assert tree(there)["t/closed"][1:] == tree(here)["t/closed"][1:], tree(there)
(here / "t/closed").chmod(0o755)
(here / "t/closed/y").write_text("y")
with channels() as (a, b):
    sender, receiver = start_sending(a, [here / "t"]), start_receiving(b, there)
    heard, said = receiver.error(), sender.error()
assert isinstance(heard, LocalIOError) and "t/closed" in heard.message, heard
assert sender.party.outcome.bytes_crossed == 0
# It appears only when ours is complete, and dressed with its mode.
from midair.transfer import inspection
(here / "u/closed").mkdir(parents=True)
(here / "u/closed/x").write_text("x")
(here / "u/closed").chmod(0o555)
(there / "u").mkdir()
real = inspection.survey
def survey(*arguments, **options):
    found = real(*arguments, **options)
    (there / "u/closed").mkdir(exist_ok=True)
    return found
inspection.survey = survey
send_and_receive([here / "u"], there)
assert (there / "u/closed/x").read_text() == "x"
assert sorted(os.listdir(there)) == ["t", "u"], os.listdir(there)
"""


def test_a_folder_that_is_closed_to_writing_can_be_moved_and_is_not_merged_into(tmp_path: Path) -> None:
    """Its mode would forbid the former to everybody but root."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    without_privileges = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    subprocess.run(
        [*without_privileges, sys.executable, "-W", "error", "-c", _AS_AN_ORDINARY_USER, str(here), str(there)],
        check=True,
        timeout=15,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )


# -- again --


def cut_when(receiver_channel: object, condition: Callable[[], bool]) -> None:
    """The connection breaks at the first record after ``condition`` holds."""
    channel = receiver_channel
    real = channel.receive  # type: ignore[attr-defined]

    def receive() -> Received:
        received: Received = real()
        if condition():
            channel.abort()  # type: ignore[attr-defined]
            received = real()
        return received

    channel.receive = receive  # type: ignore[attr-defined]


def broken(
    paths: list[Path], there: Path, resolve: Callable[[Clash], Resolution], condition: Callable[[], bool]
) -> Running:
    """A run that is cut off when ``condition`` holds; the receiver, at its end."""
    with channels() as (a, b):
        cut_when(b, condition)
        sender, receiver = start_sending(a, paths), start_receiving(b, there, resolve=resolve)
        assert isinstance(receiver.error(), ConnectionLostError)
        if not receiver.party.outcome.committed:
            assert isinstance(sender.error(), ConnectionLostError)
        return receiver


@pytest.mark.parametrize("resolution", [Resolution.OVERWRITE, Resolution.RENAME])
def test_an_interrupted_transfer_goes_on_whatever_was_in_the_way(
    folders: tuple[Path, Path], resolution: Resolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders
    monkeypatch.setattr(intake, "SYNC_BYTES", 256 << 10)
    put(here / "t/a", os.urandom(4 * MiB), mtime_ns=SECOND)
    put(here / "t/same", b"same" * 1000, mtime_ns=SECOND)
    put(here / "y", os.urandom(4 * MiB), mtime_ns=SECOND)
    put(there / "t/a", b"old")
    put(there / "t/same", b"same" * 1000, mtime_ns=2 * SECOND)
    put(there / "y", b"old")
    paths = [here / "t", here / "y"]
    part = there / "t.part/a"
    first = broken(paths, there, always(resolution), lambda: part.exists() and part.stat().st_size > 2 * MiB)
    done = first.party.outcome.bytes_crossed
    assert 0 < done < 8 * MiB
    assert (there / "t/a").read_bytes() == (there / "y").read_bytes() == b"old"
    for outcome in send_and_receive(paths, there, resolve=always(resolution)):
        assert outcome.bytes_crossed == 8 * MiB - done
    assert outcome.bytes_hashed == outcome.bytes_crossed, "what was compared before is not compared again"
    suffix = "" if resolution is Resolution.OVERWRITE else "-1"
    assert (there / f"t/a{suffix}").read_bytes() == (here / "t/a").read_bytes()
    assert (there / f"y{suffix}").read_bytes() == (here / "y").read_bytes()
    assert not [path for path in there.rglob("*") if ".part" in path.name]


def test_another_decision_after_an_interruption_counts(folders: tuple[Path, Path]) -> None:
    """Nothing that an earlier run fetched for a file that is now to be kept gets a name."""
    here, there = folders
    put(here / "t/a", os.urandom(2 * MiB))
    put(here / "t/b", os.urandom(2 * MiB))
    put(there / "t/a", b"old")
    part = there / "t.part/b"
    broken([here / "t"], there, always(Resolution.RENAME), part.exists)
    for outcome in send_and_receive([here / "t"], there, resolve=always(Resolution.SKIP)):
        assert outcome.files.counts() == {"kept": 1, "received": 1}
    assert sorted(tree(there)) == ["t", "t/a", "t/b"]
    assert (there / "t/a").read_bytes() == b"old"
    assert (there / "t/b").read_bytes() == (here / "t/b").read_bytes()


def test_when_the_sender_did_not_hear_of_the_end_it_is_told_the_same_again_and_nobody_is_asked(
    folders: tuple[Path, Path],
) -> None:
    here, there = folders
    put(here / "t/kept", b"12345")
    put(here / "t/renamed.txt", b"12345")
    put(here / "t/new", os.urandom(MiB))
    put(here / "t/replaced", b"12345")
    put(here / "t/same", b"12345", mtime_ns=1)
    for name in ("kept", "renamed.txt", "replaced"):
        put(there / "t" / name, b"old")
    put(there / "t/same", b"12345", mtime_ns=1)
    answers = {"t/kept": Resolution.SKIP, "t/renamed.txt": Resolution.RENAME, "t/replaced": Resolution.OVERWRITE}
    seen: list[Clash] = []
    # The sender's goodbye is lost.
    first = broken([here / "t"], there, lambda clash: answers[clash.name], (there / "t/new").exists)
    assert first.party.outcome.committed
    before = {path: path.stat().st_ino for path in there.rglob("*") if path.name != "t.part.journal"}
    sent = Log()
    for outcome in send_and_receive([here / "t"], there, sent=sent, resolve=always(Resolution.REFUSE, seen)):
        assert (outcome.bytes_crossed, outcome.bytes_hashed, outcome.committed) == (0, 0, True)
        assert [file.name for file in outcome.files.not_stored()] == ["t/kept"]
    assert outcomes(sent)["t/kept"] == ("kept", None)
    assert outcomes(sent)["t/renamed.txt"] == ("received", "t/renamed-1.txt")
    assert seen == []
    assert {path: path.stat().st_ino for path in there.rglob("*")} == before


def test_a_name_that_is_taken_at_the_last_moment_is_decided_about_by_the_next_run(folders: tuple[Path, Path]) -> None:
    here, there = folders
    put(here / "t/a", os.urandom(MiB))
    put(here / "t/b", os.urandom(MiB))
    put(here / "y", os.urandom(MiB))
    (there / "t").mkdir()
    paths = [here / "t", here / "y"]

    def accept(offer: Offer) -> bool:
        put(there / "t/b", b"mine")
        return True

    real = existing.survey
    with pytest.MonkeyPatch.context() as patched:
        # What came after the look.
        patched.setattr("midair.transfer.inspection.survey", lambda *a, **k: [real(*a, **k), accept(None)][0])  # type: ignore[arg-type]
        with channels() as (a, b):
            sender, receiver = start_sending(a, paths), start_receiving(b, there)
            error = receiver.error()
            assert isinstance(error, TargetExistsError)
            assert "t/b" in error.message
            sender.error()
    assert (there / "t/b").read_bytes() == b"mine"
    assert (there / "t/a").exists()
    seen: list[Clash] = []
    for outcome in send_and_receive(paths, there, resolve=always(Resolution.RENAME, seen)):
        assert (outcome.bytes_crossed, outcome.bytes_committed) == (0, 3 * MiB)
    assert [clash.name for clash in seen] == ["t/b"]
    assert (there / "t/b").read_bytes() == b"mine"
    assert (there / "t/b-1").read_bytes() == (here / "t/b").read_bytes()
    assert (there / "y").read_bytes() == (here / "y").read_bytes()
    assert not [path for path in there.rglob("*") if ".part" in path.name]


@pytest.mark.parametrize("first", [1, 2, 3])
def test_a_kill_between_any_two_steps_of_a_merge_is_repaired_by_the_next_run(
    folders: tuple[Path, Path], first: int
) -> None:
    assert crash_steps("merge", *folders, first) > 25


def test_where_renaming_is_link_and_unlink_a_merge_is_the_same(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_renameat2", None)
    monkeypatch.setattr(disk, "_syncfs", None)
    test_a_folder_that_is_there_is_merged_and_what_else_is_in_it_stays(folders)


def test_a_folder_of_the_receiver_that_turns_into_a_link_meanwhile_is_not_followed(folders: tuple[Path, Path]) -> None:
    here, there = folders
    put(here / "t/sub/x", b"x")
    (there / "t/sub").mkdir(parents=True)
    outside = there.parent / "outside"
    outside.mkdir()
    real = disk.write_at

    def swapping(descriptor: int, data: memoryview, offset: int) -> None:
        real(descriptor, data, offset)
        if (there / "t.part/sub/x").exists() and not (there / "t/sub").is_symlink():
            (there / "t/sub").rmdir()
            (there / "t/sub").symlink_to(outside)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(disk, "write_at", swapping)
        with channels() as (a, b):
            sender, receiver = start_sending(a, [here / "t"]), start_receiving(b, there)
            assert isinstance(receiver.error(), LocalIOError | TargetExistsError)
            sender.error()
    assert not any(outside.iterdir())
