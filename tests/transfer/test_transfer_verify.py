"""``verify``: what an earlier run has received is hashed again, and what is not right is received anew."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from transfer_support import Log, Running, channels, cut_after, say_yes, start_receiving, start_sending, tree

from midair.errors import ConnectionLostError
from midair.transfer import Folder, Outcome, Receiver

MIB = 1 << 20
SIZE = 24 * MIB


def begin(here: Path, there: Path) -> int:
    """A transfer of ``here/files`` that breaks; the bytes that are there then."""
    with channels() as (a, b):
        cut_after(b, 12)
        sender = start_sending(a, [here / "files"])
        receiver = start_receiving(b, there)
        assert isinstance(receiver.error(), ConnectionLostError)
        assert isinstance(sender.error(), ConnectionLostError)
    durable = sum(path.stat().st_blocks * 512 for path in there.rglob("*") if path.is_file())
    assert durable
    return durable


def finish(here: Path, there: Path, *, verify: bool) -> tuple[Outcome, Outcome, Log]:
    log = Log()
    with channels() as (a, b):
        sender = start_sending(a, [here / "files"])
        receiver = Running(Receiver(b, Folder(there), say_yes, log, verify=verify))
        return sender.outcome(), receiver.outcome(), log


def fill(here: Path) -> None:
    (here / "files/few").mkdir(parents=True)
    for number in range(100):
        (here / f"files/few/{number}").write_bytes(random.Random(number).randbytes(1000 + number))
    with (here / "files/hollow").open("wb") as file:
        file.write(random.Random(7).randbytes(MIB))
        file.seek(4 * MIB)
        file.write(random.Random(8).randbytes(MIB))
    (here / "files/large").write_bytes(random.Random(9).randbytes(SIZE))


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        before = file.read(1)
        file.seek(offset)
        file.write(bytes([before[0] ^ 1]))


@pytest.fixture
def begun(folders: tuple[Path, Path]) -> tuple[Path, Path]:
    here, there = folders
    fill(here)
    begin(here, there)
    return folders


def test_what_is_right_is_hashed_and_not_sent_again(begun: tuple[Path, Path]) -> None:
    here, there = begun
    sent, received, log = finish(here, there, verify=True)
    assert tree(there) == tree(here)
    total = received.bytes_total
    assert sent.bytes_crossed < total
    assert received.bytes_hashed > received.bytes_crossed
    assert "Verifying" in str(log.events)
    assert "received anew" not in str(log.events)


def test_without_it_nothing_of_that_is_hashed(begun: tuple[Path, Path]) -> None:
    here, there = begun
    _, received, log = finish(here, there, verify=False)
    assert received.bytes_hashed <= received.bytes_crossed
    assert "Verifying" not in str(log.events)


def in_a_large_file(part: Path) -> None:
    flip(part / "large", 100_000)


def in_a_small_file(part: Path) -> None:
    flip(part / "few/3", 0)


def in_a_hole(part: Path) -> None:
    flip(part / "hollow", 2 * MIB)


def at_the_end_of_a_file(part: Path) -> None:
    flip(part / "hollow", 5 * MIB - 1)


@pytest.mark.parametrize("spoil", [in_a_large_file, in_a_small_file, in_a_hole, at_the_end_of_a_file])
def test_a_file_that_was_changed_meanwhile_is_received_anew(
    begun: tuple[Path, Path], spoil: Callable[[Path], None]
) -> None:
    here, there = begun
    (part,) = (path for path in there.iterdir() if path.is_dir())
    spoil(part)
    _, _, log = finish(here, there, verify=True)
    assert tree(there) == tree(here)
    assert "1 file not as received before" in str(log.events)


def test_what_is_not_right_is_not_vouched_for_when_the_transfer_breaks_again(begun: tuple[Path, Path]) -> None:
    here, there = begun
    (part,) = (path for path in there.iterdir() if path.is_dir())
    in_a_small_file(part)
    with channels() as (a, b):
        cut_after(b, 6)
        sender = start_sending(a, [here / "files"])
        receiver = Running(Receiver(b, Folder(there), say_yes, Log(), verify=True))
        assert isinstance(receiver.error(), ConnectionLostError)
        assert isinstance(sender.error(), ConnectionLostError)
    finish(here, there, verify=False)
    assert tree(there) == tree(here)


def test_a_file_that_stands_there_is_believed_by_its_hash_only(folders: tuple[Path, Path]) -> None:
    here, there = folders
    fill(here)
    finish(here, there, verify=False)
    path = there / "files/few/42"
    before = path.stat()
    flip(path, 10)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with channels() as (a, b):
        start_sending(a, [here / "files"])
        receiver = Running(Receiver(b, Folder(there), say_yes, Log(), verify=True))
        assert "42" in str(receiver.error())
