"""Files that are not hashed as they cross: as safe on their way, with the same journal, and no hash to be shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from transfer_support import (
    Log,
    Running,
    Script,
    channels,
    say_yes,
    start_receiving,
    tree,
)

from midair import events
from midair.channel import Received
from midair.errors import ConnectionLostError, RemoteProtocolError
from midair.transfer import Folder, Outcome, Pipe, Receiver, Sender, scan, wire
from midair.transfer.link import LinkLimits

MiB = 1 << 20
BRIEF = LinkLimits(linger=0.1)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / "large").write_bytes(os.urandom(3 * MiB + 17))
    (here / "small").write_bytes(b"small")
    with (here / "holes").open("wb") as file:
        file.write(os.urandom(70_000))
        file.truncate(MiB)
    return here, there


def transfer(here: Path, there: Path, *, sender: bool, receiver: bool, log: Log | None = None) -> list[Outcome]:
    """Who of both wants hashes; what both say of it."""
    with channels() as (a, b):
        sending = Running(Sender(a, scan(sorted(here.iterdir())), Log(), hashed=sender))
        receiving = Running(Receiver(b, Folder(there), say_yes, log or Log(), hashed=receiver))
        return [sending.outcome(), receiving.outcome()]


@pytest.mark.parametrize(("sender", "receiver"), [(False, True), (True, False), (False, False)])
def test_either_side_may_do_without_hashes(folders: tuple[Path, Path], sender: bool, receiver: bool) -> None:
    here, there = folders
    for outcome in transfer(here, there, sender=sender, receiver=receiver):
        assert outcome.bytes_hashed == 0
        assert [(file.name, file.blake3, file.outcome) for file in outcome.files] == [
            ("holes", None, "received"),
            ("large", None, "received"),
            ("small", None, "received"),
        ]
    assert tree(there) == tree(here)


def test_what_was_durable_is_not_sent_again_though_it_was_not_hashed(folders: tuple[Path, Path]) -> None:
    here, there = folders
    with channels() as (a, b):
        real, records = b.receive, 4

        def receive() -> Received:
            nonlocal records
            records -= 1
            if not records:
                b.abort()
            return real()

        b.receive = receive  # type: ignore[method-assign]
        sending = Running(Sender(a, scan(sorted(here.iterdir())), Log(), hashed=False))
        receiving = start_receiving(b, there)
        assert isinstance(receiving.error(), ConnectionLostError)
        assert isinstance(sending.error(), ConnectionLostError)
        crossed = receiving.party.outcome.bytes_crossed
    assert crossed
    log = Log()
    _, received = transfer(here, there, sender=True, receiver=True, log=log)
    assert [event.bytes for event in log.of(events.Resumed) if isinstance(event, events.Resumed)] == [crossed]
    assert received.bytes_hashed == received.bytes_crossed
    assert tree(there) == tree(here)


def test_one_file_in_a_pipe_may_do_without_as_well(folders: tuple[Path, Path]) -> None:
    here, _ = folders
    read, write = os.pipe()
    with channels() as (a, b), open(read, "rb") as out:
        sending = Running(Sender(a, scan([here / "small"]), Log(), hashed=False))
        receiving = start_receiving(b, Pipe(write))
        outcomes = [sending.outcome(), receiving.outcome()]
        os.close(write)
        assert out.read() == b"small"
    assert [(outcome.bytes_hashed, outcome.files[0].blake3) for outcome in outcomes] == [(0, None)] * 2


def test_a_receiver_cannot_have_hashes_that_were_not_offered(folders: tuple[Path, Path]) -> None:
    here, _ = folders
    with channels() as (a, b):
        sending = Running(Sender(a, scan([here / "small"]), Log(), limits=BRIEF, hashed=False))
        script = Script(b)
        announced = script.hear()
        assert isinstance(announced, wire.Announce)
        assert not announced.hashed
        b.receive()  # the manifest
        script.say(wire.Accept(durable=0, hashed=True))
        assert isinstance(sending.error(), RemoteProtocolError)


@pytest.mark.parametrize("hashed", [False, True])
def test_digests_are_as_was_agreed_or_the_file_is_not_relied_on(folders: tuple[Path, Path], hashed: bool) -> None:
    here, there = folders
    source = scan([here / "small"])
    with channels() as (a, b):
        receiving = Running(Receiver(b, Folder(there), say_yes, Log(), limits=BRIEF, hashed=hashed))
        script = Script(a)
        script.offer(source.manifest.entries)
        answers = (script.hear(), script.hear())
        assert [type(answer) for answer in answers] == [wire.Accept, wire.Request]
        script.data(0, b"small")
        digest = wire.Digest(0, 0, 5, None if hashed else bytes(32))
        script.say(wire.RangeEnd(start=0, end=5, digests=[digest]))
        assert "did not arrive as it was read" in str(receiving.error())
    assert not (there / "small").exists()
