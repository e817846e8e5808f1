"""Things in the way at the receiver, a full disk, a person who says no, and two sides that stop or fall silent."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transfer_support import (
    DEADLINE,
    IMPATIENT,
    Log,
    Script,
    channels,
    send_and_receive,
    start_receiving,
    start_sending,
    tree,
)

from midair import events
from midair.errors import (
    CancelledByUserError,
    ConnectionLostError,
    DeclinedError,
    DiskFullError,
    LocalIOError,
    MidairError,
    PeerCancelledError,
    PeerFailedError,
    PeerRefusedError,
    TargetExistsError,
    UsageError,
)
from midair.transfer import Offer, Sender, disk, intake, scan, wire

MiB = 1 << 20


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / "t/sub").mkdir(parents=True)
    (here / "t/sub/x").write_bytes(os.urandom(3 * MiB))
    (here / "y").write_bytes(os.urandom(2 * MiB))
    return here, there


def both_errors(
    here: Path, there: Path, *, accept: Callable[[Offer], bool] = lambda offer: True
) -> tuple[BaseException, BaseException]:
    with channels() as (a, b):
        sender = start_sending(a, [here / "t", here / "y"])
        receiver = start_receiving(b, there, accept=accept)
        return sender.error(), receiver.error()


def note(asked: list[Offer], offer: Offer) -> bool:
    asked.append(offer)
    return True


# -- before it begins --


def test_a_no_is_told_to_the_sender_and_leaves_nothing(folders: tuple[Path, Path]) -> None:
    here, there = folders
    said, heard = both_errors(here, there, accept=lambda offer: False)
    assert isinstance(said, PeerRefusedError)
    assert isinstance(heard, DeclinedError)
    assert not any(there.iterdir())


def test_an_error_of_whoever_is_asked_ends_it_on_both_sides(folders: tuple[Path, Path]) -> None:
    def accept(offer: Offer) -> bool:
        raise UsageError("there is nobody to ask")

    said, heard = both_errors(*folders, accept=accept)
    assert isinstance(said, PeerFailedError)
    assert said.remote_reason == "usage"
    assert isinstance(heard, UsageError)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("t", "file", "t is already there, and is a file"),
        ("t", "dangling link", "t is already there, and is a symbolic link"),
        ("t/sub/x", "file", "t/sub/x is already there and differs"),
        ("y", "file", "y is already there and differs"),
        ("y", "folder", "y is already there, and is a folder"),
        ("y", "dangling link", "y is already there and differs"),
    ],
)
def test_what_is_already_there_is_not_overwritten_and_nobody_is_asked(
    folders: tuple[Path, Path], name: str, kind: str, words: str
) -> None:
    here, there = folders
    (there / name).parent.mkdir(parents=True, exist_ok=True)
    if kind == "file":
        (there / name).write_text("mine")
    elif kind == "folder":
        (there / name).mkdir()
    else:
        (there / name).symlink_to("nowhere")
    before = sorted(there.rglob("*"))
    asked: list[Offer] = []
    said, heard = both_errors(here, there, accept=lambda offer: note(asked, offer))
    assert isinstance(heard, TargetExistsError)
    assert heard.message == words
    assert isinstance(said, PeerFailedError)
    assert said.remote_reason == "target-exists"
    assert asked == []
    assert sorted(there.rglob("*")) == before


def test_a_name_that_is_taken_while_it_comes_in_is_not_overwritten_and_can_be_gone_on_with(
    folders: tuple[Path, Path],
) -> None:
    here, there = folders

    def accept(offer: Offer) -> bool:
        (there / "y").write_text("mine")
        return True

    said, heard = both_errors(here, there, accept=accept)
    assert isinstance(heard, TargetExistsError)
    assert getattr(said, "remote_reason", "") == "target-exists"
    assert (there / "y").read_text() == "mine"
    (there / "y").unlink()
    _, outcome = send_and_receive([here / "t", here / "y"], there)
    assert outcome.bytes_crossed == 0
    assert tree(there) == tree(here)


@pytest.mark.parametrize("name", ["t.part", "y.part", "t.part.journal"])
def test_a_link_where_unfinished_data_would_go_is_not_followed(folders: tuple[Path, Path], name: str) -> None:
    here, there = folders
    outside = there.parent / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    (there / name).symlink_to(outside if name == "t.part" else outside / "file")
    _, heard = both_errors(here, there)
    assert isinstance(heard, TargetExistsError | LocalIOError)
    assert name in heard.message
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_text() == "precious"


@pytest.mark.parametrize("level", ["folder", "file", "hard link"])
def test_a_link_put_into_our_unfinished_tree_is_not_followed(folders: tuple[Path, Path], level: str) -> None:
    here, there = folders
    outside = there.parent / "outside"
    outside.mkdir()
    (outside / "x").write_text("precious")

    def accept(offer: Offer) -> bool:
        # Whoever may write there waits until our folder appears.
        threading.Thread(target=swap, daemon=True).start()
        return True

    swapped = threading.Event()

    def swap() -> None:
        part = there / "t.part"
        deadline = time.monotonic() + DEADLINE
        while not part.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        if level == "folder":
            (part / "sub").symlink_to(outside)
        else:
            (part / "sub").mkdir()
            make = os.link if level == "hard link" else os.symlink
            make(outside / "x", part / "sub/x")
        swapped.set()

    with pytest.MonkeyPatch.context() as patched:

        def late_folder(folders: disk.Folders, path: list[str], *, create: bool = False) -> int:
            if path and path[0] == "t.part":
                assert swapped.wait(DEADLINE)
            return real_get(folders, path, create=create)

        real_get = disk.Folders.get
        patched.setattr(disk.Folders, "get", late_folder)
        said, heard = both_errors(here, there, accept=accept)
    assert isinstance(heard, LocalIOError)
    assert isinstance(said, PeerFailedError)
    assert (outside / "x").read_text() == "precious"
    assert [path.name for path in outside.iterdir()] == ["x"]


def test_a_folder_that_is_not_there_ends_it_on_both_sides_and_its_place_is_not_told(folders: tuple[Path, Path]) -> None:
    here, there = folders
    said, heard = both_errors(here, there / "absent")
    assert isinstance(heard, LocalIOError)
    assert isinstance(said, PeerFailedError)
    assert str(there) not in said.message


# -- the disk --


def test_no_room_is_found_out_before_anybody_is_asked(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders
    real = os.fstatvfs

    def full(descriptor: int) -> os.statvfs_result:
        fields = list(real(descriptor))
        fields[4] = 10
        return os.statvfs_result(fields)

    monkeypatch.setattr(os, "fstatvfs", full)
    asked: list[Offer] = []
    said, heard = both_errors(here, there, accept=lambda offer: note(asked, offer))
    assert isinstance(heard, DiskFullError)
    assert isinstance(said, PeerFailedError)
    assert said.remote_reason == "disk-full"
    assert asked == []
    assert not any(there.iterdir())


@pytest.mark.parametrize(
    ("number", "expected", "reason"),
    [
        (errno.ENOSPC, DiskFullError, "disk-full"),
        (errno.EDQUOT, DiskFullError, "disk-full"),
        (errno.EIO, LocalIOError, "local-io"),
        (errno.EFBIG, LocalIOError, "local-io"),
    ],
)
@pytest.mark.parametrize("call", ["write_at", "sync_data"])
def test_a_disk_that_fails_in_mid_transfer_ends_it_on_both_sides_and_what_is_durable_is_kept(
    folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    expected: type[MidairError],
    reason: str,
    call: str,
) -> None:
    here, there = folders
    monkeypatch.setattr(intake, "SYNC_BYTES", 256 << 10)
    log = Log()
    real: Callable[..., None] = getattr(disk, call)
    write_at = disk.write_at
    written = 0

    def is_part(descriptor: int) -> bool:
        # The journal is written with these calls, too.
        return os.readlink(f"/proc/self/fd/{descriptor}").endswith(("/x", ".part"))

    def waiting(descriptor: int, data: memoryview, offset: int) -> None:
        """Lets the first MiB become durable before there is more."""
        nonlocal written
        if is_part(descriptor) and written > MiB:
            log.wait_for(lambda event: isinstance(event, events.Progress))
        written += len(data)
        write_at(descriptor, data, offset)

    def failing(descriptor: int, *rest: Any) -> None:
        if is_part(descriptor) and log.of(events.Progress):
            raise OSError(number, os.strerror(number))
        (waiting if call == "write_at" else real)(descriptor, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(disk, "write_at", waiting)
        patched.setattr(disk, call, failing)
        with channels() as (a, b):
            sender = start_sending(a, [here / "t", here / "y"])
            receiver = start_receiving(b, there, log=log)
            heard, said = receiver.error(), sender.error()
    assert type(heard) is expected
    assert isinstance(said, PeerFailedError)
    assert said.remote_reason == reason
    assert not (there / "t").exists()
    again = Log()
    _, outcome = send_and_receive([here / "t", here / "y"], there, received=again)
    (resumed,) = again.of(events.Resumed)
    assert isinstance(resumed, events.Resumed)
    assert resumed.bytes + outcome.bytes_crossed == 5 * MiB
    assert tree(there) == tree(here)


def test_what_a_failed_sync_was_about_is_not_relied_on_although_the_next_sync_says_that_all_is_well(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders
    failed = threading.Event()
    sync_data, write_at = disk.sync_data, disk.write_at
    written = 0

    def failing(descriptor: int) -> None:
        if not failed.is_set() and os.readlink(f"/proc/self/fd/{descriptor}").endswith(".part"):
            failed.set()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync_data(descriptor)

    def waiting(descriptor: int, data: memoryview, offset: int) -> None:
        """The first sync comes in the middle of the file."""
        nonlocal written
        if written > MiB:
            assert failed.wait(DEADLINE)
        written += len(data)
        write_at(descriptor, data, offset)

    with monkeypatch.context() as patched:
        patched.setattr(disk, "sync_data", failing)
        patched.setattr(disk, "write_at", waiting)
        with channels() as (a, b):
            sender, receiver = start_sending(a, [here / "y"]), start_receiving(b, there)
            assert isinstance(receiver.error(), LocalIOError)
            assert isinstance(sender.error(), PeerFailedError)
    _, outcome = send_and_receive([here / "y"], there)
    assert outcome.bytes_crossed == 2 * MiB
    assert (there / "y").read_bytes() == (here / "y").read_bytes()


_ON_A_SMALL_DISK = """
import os, sys
from pathlib import Path
from midair.errors import DiskFullError, PeerFailedError
from midair.transfer import disk
from transfer_support import channels, start_receiving, start_sending, tree
here, there = Path(sys.argv[1]), Path(sys.argv[2])
real = disk.write_at
def fill(descriptor, data, offset):
    if len(data) > 10_000 and not (there / "hog").exists():
        (there / "hog").write_bytes(bytes(5 << 20))
    real(descriptor, data, offset)
disk.write_at = fill
with channels() as (a, b):
    sender, receiver = start_sending(a, [here]), start_receiving(b, there)
    heard, said = receiver.error(), sender.error()
disk.write_at = real
assert isinstance(heard, DiskFullError), heard
assert isinstance(said, PeerFailedError) and said.remote_reason == "disk-full", said
assert sorted(os.listdir(there)) == ["hog", "y.part", "y.part.journal"], os.listdir(there)
(there / "hog").unlink()
with channels() as (a, b):
    sender, receiver = start_sending(a, [here]), start_receiving(b, there)
    outcome = receiver.outcome()
    sender.outcome()
assert 0 < outcome.bytes_crossed <= 5 << 20, outcome
assert (there / "y").read_bytes() == here.read_bytes()
"""


def test_a_really_full_file_system_is_survived(tmp_path: Path) -> None:
    """In a mount namespace of its own, on 8 MiB of memory; the user namespace allows it without being root."""
    (tmp_path / "y").write_bytes(os.urandom(5 * MiB))
    there = tmp_path / "there"
    there.mkdir()
    mount = 'mount -t tmpfs -o size=8m,mode=700 none "$3" && exec "$1" -W error -c "$0" "$2" "$3"'
    subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, _ON_A_SMALL_DISK, sys.executable, str(tmp_path / "y"), str(there)],
        check=True,
        timeout=15,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )


# -- stopping --


def held_up(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Writing stops after the first MiB, which sets the one event, until the other is set."""
    reached, go_on = threading.Event(), threading.Event()
    real = disk.write_at
    total = 0

    def write_at(descriptor: int, data: memoryview, offset: int) -> None:
        nonlocal total
        total += len(data)
        real(descriptor, data, offset)
        if total > MiB:
            reached.set()
            assert go_on.wait(DEADLINE)

    monkeypatch.setattr(disk, "write_at", write_at)
    return reached, go_on


@pytest.mark.parametrize("who", ["sender", "receiver"])
@pytest.mark.parametrize("size", [24 * MiB, 40 * MiB])
def test_cancelling_in_mid_transfer_is_told_to_the_other_side(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, who: str, size: int
) -> None:
    """The sender stands in the middle of a record that the buffers cannot take."""
    here, there = folders
    (here / "big").write_bytes(os.urandom(size))
    reached, go_on = held_up(monkeypatch)
    with channels() as (a, b):
        sender, receiver = start_sending(a, [here / "big"]), start_receiving(b, there)
        assert reached.wait(DEADLINE)
        party, other = (sender, receiver) if who == "sender" else (receiver, sender)
        began = time.monotonic()
        party.party.cancel()
        party.party.cancel()
        assert time.monotonic() - began < 0.2, "it does not block"
        go_on.set()
        assert isinstance(party.error(), CancelledByUserError)
        assert isinstance(other.error(), PeerCancelledError)
        assert time.monotonic() - began < 3.0
        party.party.cancel()
    _, outcome = send_and_receive([here / "big"], there)
    assert outcome.bytes_crossed < size
    assert (there / "big").read_bytes() == (here / "big").read_bytes()


@pytest.mark.parametrize("who", ["sender", "receiver"])
def test_cancelling_while_the_person_is_asked_withdraws_the_question(folders: tuple[Path, Path], who: str) -> None:
    here, there = folders
    asked, answered = threading.Event(), threading.Event()
    offers: list[Offer] = []

    def accept(offer: Offer) -> bool:
        offers.append(offer)
        asked.set()
        answered.wait(DEADLINE)
        return True

    with channels() as (a, b):
        sender, receiver = start_sending(a, [here / "y"]), start_receiving(b, there, accept=accept)
        assert asked.wait(DEADLINE)
        party, other = (sender, receiver) if who == "sender" else (receiver, sender)
        party.party.cancel()
        assert isinstance(party.error(), CancelledByUserError)
        assert isinstance(other.error(), PeerCancelledError)
    assert offers[0].withdrawn()
    # Another transfer is not in the way of the one whose question still stands, nor does its answer do anything.
    send_and_receive([here / "y"], there)
    answered.set()
    assert sorted(os.listdir(there)) == ["y"]


def test_both_may_cancel_at_once(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = folders
    reached, go_on = held_up(monkeypatch)
    with channels() as (a, b):
        sender, receiver = start_sending(a, [here / "t"]), start_receiving(b, there)
        assert reached.wait(DEADLINE)
        sender.party.cancel()
        receiver.party.cancel()
        go_on.set()
        for party in (sender, receiver):
            assert isinstance(party.error(), CancelledByUserError)


def test_a_cancellation_before_the_start_counts(folders: tuple[Path, Path]) -> None:
    here, there = folders
    with channels() as (a, b):
        party = Sender(a, scan([here / "y"]), Log())
        party.cancel()
        receiver = start_receiving(b, there)
        with pytest.raises(CancelledByUserError):
            party.run()
        assert isinstance(receiver.error(), PeerCancelledError)


def test_a_cancellation_when_all_is_over_does_nothing(folders: tuple[Path, Path]) -> None:
    here, there = folders
    with channels() as (a, b):
        sender, receiver = start_sending(a, [here / "y"]), start_receiving(b, there)
        for party in (sender, receiver):
            party.outcome()
            party.party.cancel()
            assert party.party.outcome.committed


# -- silence --


def test_a_question_may_take_longer_than_the_silence_limit(folders: tuple[Path, Path]) -> None:
    here, there = folders

    def accept(offer: Offer) -> bool:
        return not threading.Event().wait(3 * IMPATIENT.silence)

    with channels() as (a, b):
        sender = start_sending(a, [here / "y"], limits=IMPATIENT)
        receiver = start_receiving(b, there, accept=accept, limits=IMPATIENT)
        assert sender.outcome().committed
        assert receiver.outcome().committed


def test_a_slow_disk_is_not_taken_for_silence(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = folders
    reached, go_on = held_up(monkeypatch)
    with channels() as (a, b):
        sender = start_sending(a, [here / "t"], limits=IMPATIENT)
        receiver = start_receiving(b, there, limits=IMPATIENT)
        assert reached.wait(DEADLINE)
        assert not threading.Event().wait(1.5 * IMPATIENT.silence)
        go_on.set()
        assert sender.outcome().committed
        assert receiver.outcome().committed


def test_a_peer_that_falls_silent_is_given_up_by_either_side(folders: tuple[Path, Path]) -> None:
    here, there = folders
    with channels() as (a, b):
        sender = start_sending(a, [here / "y"], limits=IMPATIENT)
        receiver = start_receiving(b, there, limits=IMPATIENT)
        sender.outcome()
        receiver.outcome()
    for side in ("sender", "receiver"):
        with channels() as (a, _b):
            began = time.monotonic()
            silent = (
                start_sending(a, [here / "y"], limits=IMPATIENT)
                if side == "sender"
                else start_receiving(a, there, limits=IMPATIENT)
            )
            error = silent.error()
            assert isinstance(error, ConnectionLostError)
            assert "nothing came" in error.message
            assert time.monotonic() - began < 5 * IMPATIENT.silence


def test_a_peer_that_reads_nothing_and_a_full_path_do_not_hold_a_sender_for_ever(folders: tuple[Path, Path]) -> None:
    here, _ = folders
    (here / "big").write_bytes(bytes(60 * MiB))
    with channels() as (a, b):
        sender = start_sending(a, [here / "big"], limits=IMPATIENT)
        script = Script(b)
        script.say(wire.Accept(durable=0), wire.Request(start=0, end=60 * MiB))
        deadline = time.monotonic() + DEADLINE
        while sender.alive and time.monotonic() < deadline:
            try:
                script.say(wire.Ping())
            except ConnectionLostError:
                break
            threading.Event().wait(0.05)
        error = sender.error()
        assert isinstance(error, ConnectionLostError)
        assert "took nothing" in error.message


def test_a_connection_that_breaks_is_told_as_such_on_both_sides(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders
    reached, go_on = held_up(monkeypatch)
    with channels() as (a, b):
        sender, receiver = start_sending(a, [here / "t"]), start_receiving(b, there)
        assert reached.wait(DEADLINE)
        a.sock.shutdown(2)
        go_on.set()
        assert isinstance(sender.error(), ConnectionLostError)
        assert isinstance(receiver.error(), ConnectionLostError)
        assert isinstance(receiver.error(), MidairError)
