"""Peers that lie, write by write: refused before it can do anything, and told why, and nothing hangs."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from transfer_support import (
    DEADLINE,
    IMPATIENT,
    Log,
    Running,
    Script,
    announce,
    channels,
    send_and_receive,
    start_receiving,
    start_sending,
    tree,
)

from midair import events
from midair.errors import (
    ConnectionLostError,
    IncompatibleError,
    IntegrityError,
    MidairError,
    PeerFailedError,
    PeerRefusedError,
    RemoteProtocolError,
    TargetExistsError,
)
from midair.transfer import Offer, manifest, scan, wire
from midair.transfer.manifest import MANIFEST_RECORD_BYTES, Entry
from midair.transfer.wire import Digest

FILE = Entry("x", "file", 100, 0, 0o644)


def folder(path: str) -> Entry:
    return Entry(path, "directory", 0, 0, 0o755)


def file(path: str, size: int = 0) -> Entry:
    return Entry(path, "file", size, 0, 0o644)


class Attack:
    """A real receiver, and a sender made by the test."""

    def __init__(self, script: Script, receiver: Running, directory: Path, asked: list[Offer]) -> None:
        self.script = script
        self.receiver = receiver
        self.directory = directory
        self.asked = asked

    def begin(self, *entries: Entry) -> list[wire.Request]:
        """An offer that is accepted; the first requests."""
        self.script.offer(entries)
        assert isinstance(self.script.hear(), wire.Accept)
        requests = [self.script.hear()]
        assert isinstance(requests[0], wire.Request)
        return [request for request in requests if isinstance(request, wire.Request)]

    def is_refused(self, expected: type[MidairError] = RemoteProtocolError) -> MidairError:
        last = [m for m in self.script.hear_all() if isinstance(m, wire.Failed | wire.Refuse)]
        self.script.channel.close(linger=0.1)
        error = self.receiver.error()
        assert type(error) is expected, error
        assert [m.reason for m in last] == [error.reason]
        assert error.message.isprintable()
        assert not [path for path in self.directory.iterdir() if ".part" not in path.name]
        return error


@pytest.fixture
def attack(tmp_path: Path) -> Iterator[Attack]:
    asked: list[Offer] = []
    directory = tmp_path / "there"
    directory.mkdir()

    def accept(offer: Offer) -> bool:
        asked.append(offer)
        return True

    with channels() as (a, b):
        yield Attack(Script(a), start_receiving(b, directory, accept=accept, limits=IMPATIENT), directory, asked)


# -- offers --


@pytest.mark.parametrize(
    "entries",
    [
        [file("../x")],
        [file("/etc/x")],
        [file("a/../../x")],
        [file("~/x"), file("..")],
        [folder("a"), file("a/..")],
        [file("a"), file("a/b")],
        [file("a/b")],
        [folder("a"), folder("a/b"), file("A/b/c")],
        [file("a"), folder("A")],
        [file("é"), file("e\u0301")],
        [file("a"), file("a")],
        [file("a"), file("a.part")],
        [file("\x1b]0;owned\x07")],
        [file("\u202egpj.exe")],
        [file("C:\\x")],
        [Entry("a", "directory", 5, 0, 0o755)],
        [file("a", (1 << 63) - 1), file("b", (1 << 63) - 1)],
    ],
)
def test_a_hostile_list_is_refused_before_anybody_is_asked(attack: Attack, entries: list[Entry]) -> None:
    attack.script.say(
        wire.Announce(
            version=wire.VERSION,
            entries=len(entries),
            total=min(sum(e.size for e in entries), 1000),
            manifest_id=announce(entries).manifest_id,
        )
    )
    for payload in manifest.encode_records(entries):
        attack.script.channel.send(wire.MANIFEST, payload)
    attack.is_refused()
    assert attack.asked == []


@pytest.mark.parametrize(
    "lie",
    [
        {"entries": 1},
        {"total": 101},
        {"total": 0},
        {"manifest_id": bytes(16)},
    ],
)
def test_a_list_other_than_announced_is_refused(attack: Attack, lie: dict[str, int | bytes]) -> None:
    entries = [FILE, file("y", 50)]
    said = announce(entries)
    fields = {"version": wire.VERSION, "entries": 2, "total": 150, "manifest_id": said.manifest_id} | lie
    attack.script.say(wire.Announce(**fields))  # type: ignore[arg-type]
    for payload in manifest.encode_records(entries):
        attack.script.channel.send(wire.MANIFEST, payload)
    attack.is_refused()
    assert attack.asked == []


def test_a_version_that_is_not_ours_is_refused_politely(attack: Attack) -> None:
    attack.script.say(wire.Announce(version=99, entries=1, total=0, manifest_id=bytes(16)))
    attack.is_refused(IncompatibleError)


def out_of_order(script: Script) -> None:
    script.channel.send(wire.MANIFEST, b"\x90")


def oversized(script: Script) -> None:
    script.say(announce([FILE]))
    script.channel.send(wire.MANIFEST, bytes(MANIFEST_RECORD_BYTES + 1))


def garbage(script: Script) -> None:
    script.say(announce([FILE]))
    script.channel.send(wire.MANIFEST, b"\x91" * 1000)


def two_offers(script: Script) -> None:
    script.say(announce([FILE]), announce([FILE]))


def receivers_words(script: Script) -> None:
    script.say(wire.Accept(durable=0))


def unknown_record(script: Script) -> None:
    script.channel.send(200, b"?")


def early_data(script: Script) -> None:
    script.data(0, b"x")


def early_range_end(script: Script) -> None:
    script.say(wire.RangeEnd(start=0, end=1, digests=[]))


def early_goodbye(script: Script) -> None:
    script.say(wire.Bye())


@pytest.mark.parametrize(
    "do",
    [
        out_of_order,
        oversized,
        garbage,
        two_offers,
        receivers_words,
        unknown_record,
        early_data,
        early_range_end,
        early_goodbye,
    ],
)
def test_records_at_the_wrong_time_or_of_the_wrong_kind_are_refused(
    attack: Attack, do: Callable[[Script], None]
) -> None:
    do(attack.script)
    attack.is_refused()
    assert attack.asked == []


def ping_until_it_ends(attack: Attack) -> None:
    deadline = time.monotonic() + DEADLINE
    with contextlib.suppress(ConnectionLostError):
        while attack.receiver.alive and time.monotonic() < deadline:
            attack.script.say(wire.Ping())
            time.sleep(0.01)
    error = attack.receiver.error()
    assert isinstance(error, ConnectionLostError)
    assert "did not go on" in error.message


def test_an_offer_that_never_comes_is_given_up_although_the_sender_pings(attack: Attack) -> None:
    ping_until_it_ends(attack)


# -- content --


def test_what_was_asked_for_is_taken(attack: Attack) -> None:
    """The scripted sender does it right: the attacks below differ from this in one thing each."""
    content = os.urandom(100)
    assert attack.begin(FILE) == [wire.Request(start=0, end=100)]
    attack.script.data(0, content[:60])
    attack.script.data(60, content[60:])
    attack.script.say(wire.RangeEnd(start=0, end=100, digests=[Digest(0, 0, 100, blake3(content).digest())]))
    while not isinstance(attack.script.hear(), wire.Finished):
        pass
    attack.script.say(wire.Bye())
    assert attack.receiver.outcome().committed
    assert (attack.directory / "x").read_bytes() == content


@pytest.mark.parametrize(
    ("position", "size"), [(1, 10), (100, 1), (0, 101), (1 << 62, 1), ((1 << 64) - 1, 10), (99, 2)]
)
def test_bytes_other_than_those_asked_for_are_refused(attack: Attack, position: int, size: int) -> None:
    attack.begin(FILE)
    attack.script.data(position, bytes(size))
    attack.is_refused()
    assert (attack.directory / "x.part").stat().st_size == 0


def test_bytes_after_the_last_of_the_range_are_refused(attack: Attack) -> None:
    attack.begin(FILE)
    attack.script.data(0, bytes(100))
    attack.script.data(100, b"more")
    attack.is_refused()


def test_the_same_bytes_twice_are_refused(attack: Attack) -> None:
    attack.begin(FILE)
    attack.script.data(0, bytes(50))
    attack.script.data(0, bytes(50))
    attack.is_refused()


def test_a_range_that_ends_early_is_refused(attack: Attack) -> None:
    attack.begin(FILE)
    attack.script.data(0, bytes(50))
    attack.script.say(wire.RangeEnd(start=0, end=100, digests=[]))
    attack.is_refused()


def test_a_record_without_data_is_refused(attack: Attack) -> None:
    attack.begin(FILE)
    attack.script.data(0, b"")
    attack.is_refused()


@pytest.mark.parametrize(
    "digests",
    [
        [],
        [Digest(0, 0, 99, bytes(32))],
        [Digest(1, 0, 100, bytes(32))],
        [Digest(0, 0, 100, blake3(bytes(100)).digest())] * 2,
    ],
)
def test_digests_of_something_else_are_refused(attack: Attack, digests: list[Digest]) -> None:
    attack.begin(FILE)
    attack.script.data(0, bytes(100))
    attack.script.say(wire.RangeEnd(start=0, end=100, digests=digests))
    attack.is_refused()


def test_a_digest_that_differs_means_that_the_content_is_in_doubt(attack: Attack) -> None:
    attack.begin(FILE)
    attack.script.data(0, bytes(100))
    attack.script.say(wire.RangeEnd(start=0, end=100, digests=[Digest(0, 0, 100, bytes(32))]))
    attack.is_refused(IntegrityError)


def test_digests_cannot_be_kept_back_until_memory_is_full(attack: Attack) -> None:
    count = wire.MAX_DIGESTS + 10
    attack.begin(folder("x"), *(file(f"x/{i}", 1) for i in range(count)))
    attack.script.data(0, bytes(count))
    attack.is_refused()


def test_a_goodbye_in_mid_transfer_is_refused(attack: Attack) -> None:
    attack.begin(FILE)
    attack.script.say(wire.Bye())
    attack.is_refused()


def test_content_that_never_comes_is_given_up_although_the_sender_pings(attack: Attack) -> None:
    attack.begin(FILE)
    ping_until_it_ends(attack)


GIVEN_UP = wire.FileFailed(file=0, reason="source-changed", text="x changed")


@pytest.mark.parametrize(
    "words",
    [
        [wire.FileFailed(file=999_999, reason="source-changed", text="x")],
        [wire.FileFailed(file=1, reason="source-changed", text="a folder")],
        [GIVEN_UP, GIVEN_UP],
    ],
)
def test_giving_up_what_cannot_be_given_up_is_refused(attack: Attack, words: list[wire.Message]) -> None:
    attack.begin(FILE, folder("y"))
    attack.script.say(*words)
    attack.is_refused()


def test_a_file_that_has_come_whole_cannot_be_given_up_when_nothing_is_waited_for(attack: Attack) -> None:
    attack.begin(FILE)
    attack.script.data(0, bytes(100))
    digest = Digest(0, 0, 100, blake3(bytes(100)).digest())
    attack.script.say(wire.RangeEnd(start=0, end=100, digests=[digest]), GIVEN_UP)
    attack.script.hear_all()
    assert isinstance(attack.receiver.error(), RemoteProtocolError)


def test_bytes_of_a_file_that_was_given_up_are_refused(attack: Attack) -> None:
    attack.begin(FILE, file("y", 100))
    attack.script.data(0, bytes(50))
    attack.script.say(GIVEN_UP)
    attack.script.data(50, bytes(50))
    attack.is_refused()


def test_nothing_of_a_file_that_was_given_up_is_relied_on(attack: Attack) -> None:
    """Nor is anything of it left, and the other file is stored; the sender is told of both."""
    content = os.urandom(60)
    attack.begin(FILE, file("z", 60))
    attack.script.data(0, bytes(50))
    attack.script.say(GIVEN_UP)
    attack.script.data(100, content)
    attack.script.say(wire.RangeEnd(start=0, end=160, digests=[Digest(1, 0, 60, blake3(content).digest())]))
    heard = [attack.script.hear()]
    while not isinstance(heard[-1], wire.Finished):
        heard.append(attack.script.hear())
    assert heard[-1] == wire.Finished(total=60)
    (results,) = [message.results for message in heard if isinstance(message, wire.FileResults)]
    assert [(result.file, result.outcome) for result in results] == [(0, "source-changed"), (1, "received")]
    attack.script.say(wire.Bye())
    outcome = attack.receiver.outcome()
    assert (outcome.committed, outcome.bytes_committed) == (True, 60)
    assert [file.name for file in outcome.files.not_stored()] == ["x"]
    assert sorted(os.listdir(attack.directory)) == ["z"]


HOLLOW = file("h", 1 << 20)
MIN = wire.MIN_HOLE_BYTES


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (1, MIN + 1),
        (0, 0),
        (0, MIN - 1),
        (0, (1 << 20) + 1),
        (MIN, 2 * MIN),
        (1 << 20, (1 << 20) + 10),
        ((1 << 63) - 2, (1 << 63) - 1),
    ],
)
def test_a_hole_that_cannot_be_is_refused(attack: Attack, start: int, end: int) -> None:
    """Elsewhere than at the next byte, empty, too small, longer than the file, or out of it."""
    attack.begin(HOLLOW, file("z", 10))
    attack.script.say(wire.Hole(start=start, end=end))
    attack.is_refused()


def test_a_hole_that_was_not_asked_for_is_refused(attack: Attack) -> None:
    attack.script.say(announce([HOLLOW]), wire.Hole(start=0, end=1 << 20))
    attack.is_refused()


def test_bytes_in_a_hole_are_refused(attack: Attack) -> None:
    attack.begin(HOLLOW)
    attack.script.say(wire.Hole(start=0, end=MIN))
    attack.script.data(MIN - 10, bytes(20))
    attack.is_refused()


@pytest.mark.parametrize("when", ["unasked", "twice"])
def test_hashes_that_were_not_asked_for_are_refused(attack: Attack, when: str) -> None:
    (attack.directory / "x.part.txt").write_bytes(bytes(100))
    attack.script.offer([file("x.part.txt", 100)])
    answer = wire.Compared(hashes=[wire.FileHash(0, blake3(b"other").digest())])
    if when == "unasked":
        answer = wire.Compared(hashes=[wire.FileHash(1, bytes(32))])
    assert attack.script.hear() == wire.Compare(files=[0])
    attack.script.say(answer, answer)
    attack.script.hear_all()
    assert isinstance(attack.receiver.error(), RemoteProtocolError | TargetExistsError)
    assert (attack.directory / "x.part.txt").read_bytes() == bytes(100)


@pytest.mark.parametrize(
    "entry",
    [
        Entry("t/l", "symlink", 0, 0, 0o777, detail="/etc/passwd"),
        Entry("t/l", "symlink", 0, 0, 0o777, detail="../x"),
        Entry("t/l", "symlink", 0, 0, 0o777, detail="a/../../x"),
        Entry("t/l", "symlink", 0, 0, 0o777, detail=""),
        Entry("t/l", "symlink", 0, 0, 0o777, detail="\x1b[2J"),
        Entry("t/l", "symlink", 5, 0, 0o777, detail="a"),
        Entry("l", "symlink", 0, 0, 0o777, detail="a"),
        Entry("t/f", "file", 5, 0, 0o644, holes=6),
        Entry("t/f", "file", 5, 0, 0o644, detail="a"),
        Entry("t/f", "directory", 0, 0, 0o644, holes=1),
        Entry("t/f", "omitted", 1, 0, 0o644),
    ],
)
def test_an_entry_that_lies_about_itself_is_refused_with_the_whole_list(attack: Attack, entry: Entry) -> None:
    test_a_hostile_list_is_refused_before_anybody_is_asked(attack, [folder("t"), entry])


def test_nothing_can_lie_in_a_link(attack: Attack) -> None:
    link = Entry("t/l", "symlink", 0, 0, 0o777, detail="a")
    test_a_hostile_list_is_refused_before_anybody_is_asked(attack, [folder("t"), link, file("t/l/x")])


def test_what_a_sender_says_last_is_shown_escaped(attack: Attack) -> None:
    attack.begin(FILE)
    attack.script.say(wire.Failed(reason="local-io", text="\x1b[2J\u202e" + "x" * 900))
    error = attack.receiver.error()
    assert isinstance(error, PeerFailedError)
    assert error.remote_reason == "local-io"
    assert error.message.isprintable()


# -- receivers --


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[tuple[Script, Running, Log]]:
    """A receiver made by the test, and a real sender of 200,000 bytes in one file and a folder."""
    (tmp_path / "t").mkdir()
    (tmp_path / "t/x").write_bytes(bytes(200_000))
    log = Log()
    with channels() as (a, b):
        yield Script(b), start_sending(a, [tmp_path / "t"], log=log, limits=IMPATIENT), log


def test_a_receiver_may_still_be_handing_on_what_it_had_taken_when_it_accepted(
    victim: tuple[Script, Running, Log],
) -> None:
    """As a pipe does after a break: the first progress can be less than what need not be sent again."""
    script, sender, _ = victim
    script.say(wire.Accept(durable=100_000), wire.Progress(durable=50_000), wire.Request(start=100_000, end=200_000))
    while True:
        received = script.channel.receive()
        if received.type == wire.MESSAGE:
            message = wire.decode_from_sender(received.payload)
            assert not isinstance(message, wire.Failed), message
            if isinstance(message, wire.RangeEnd):
                break
    script.channel.abort()
    sender.error()


ACCEPT = wire.Accept(durable=0)


@pytest.mark.parametrize(
    "words",
    [
        [wire.Accept(durable=200_001)],
        [ACCEPT, ACCEPT],
        [wire.Request(start=0, end=10)],
        [ACCEPT, wire.Request(start=0, end=200_001)],
        [ACCEPT, wire.Request(start=10, end=10)],
        [ACCEPT, wire.Request(start=10, end=5)],
        [ACCEPT, wire.Request(start=1 << 62, end=(1 << 62) + 1)],
        [wire.Progress(durable=0)],
        [ACCEPT, wire.Progress(durable=200_001)],
        [ACCEPT, wire.Progress(durable=10), wire.Progress(durable=5)],
        [wire.Accept(durable=20), wire.Progress(durable=10), wire.Progress(durable=5)],
        [ACCEPT, wire.FileResults(results=[wire.FileResult(0, None)])],
        [ACCEPT, wire.FileResults(results=[wire.FileResult(2, None)])],
        [ACCEPT, wire.FileResults(results=[wire.FileResult(1, None)] * 2)],
        [ACCEPT, wire.Finished(total=200_000)],
        [ACCEPT, wire.FileResults(results=[wire.FileResult(1, None)]), wire.Finished(total=1)],
        [wire.Finished(total=200_000)],
        [wire.Bye()],
        [wire.Accept(durable=10, identical=11)],
        [wire.Accept(durable=10, excluded=199_991)],
        [ACCEPT, wire.Compare(files=[1])],
        [wire.Compare(files=[0])],
        [wire.Compare(files=[2])],
        [wire.Compare(files=[1, 1])],
        [wire.Compare(files=[1]), wire.Compare(files=[1])],
        [wire.Accept(durable=0, excluded=200_000), wire.Finished(total=0)],
        [ACCEPT, wire.FileResults(results=[wire.FileResult(1, None, "kept")]), wire.Finished(total=200_000)],
        [wire.FileResults(results=[wire.FileResult(1, None, "kept")])],
    ],
)
def test_a_receiver_that_says_what_cannot_be_is_refused(
    victim: tuple[Script, Running, Log], words: list[wire.Message]
) -> None:
    script, sender, log = victim
    script.say(*words)
    assert isinstance(sender.error(), RemoteProtocolError)
    assert not log.of(events.FileFinished)
    assert not sender.party.outcome.committed


def hear_last(script: Script) -> str:
    """What the sender says last, past its offer and its data."""
    while True:
        received = script.channel.receive()
        if received.type == wire.MESSAGE:
            message = wire.decode_from_sender(received.payload)
            if isinstance(message, wire.Failed):
                return message.reason


def test_a_receiver_cannot_have_many_requests_wait(victim: tuple[Script, Running, Log]) -> None:
    script, sender, _ = victim
    script.say(ACCEPT, *[wire.Request(start=0, end=200_000)] * 500)
    assert hear_last(script) == "protocol"
    script.channel.close(linger=0.1)
    assert isinstance(sender.error(), RemoteProtocolError)


@pytest.mark.parametrize("kind", [wire.MANIFEST, wire.DATA, 99])
def test_a_receiver_cannot_send_content(victim: tuple[Script, Running, Log], kind: int) -> None:
    script, sender, _ = victim
    script.channel.send(kind, b"12345678x")
    assert isinstance(sender.error(), RemoteProtocolError)


def test_a_refusal_is_shown_escaped(victim: tuple[Script, Running, Log]) -> None:
    script, sender, _ = victim
    script.say(wire.Refuse(reason="refused", text="\x07no"))
    error = sender.error()
    assert isinstance(error, PeerRefusedError)
    assert error.message == "the receiver says: \\x07no"


def test_a_connection_closed_in_good_order_but_early_is_a_lost_one(victim: tuple[Script, Running, Log]) -> None:
    script, sender, _ = victim
    script.say(ACCEPT)
    script.channel.close()
    assert isinstance(sender.error(), ConnectionLostError)


def test_nothing_is_left_of_a_file_that_was_attacked_but_its_part(tmp_path: Path) -> None:
    """And an honest transfer of the same name goes well afterwards, the part being ours."""
    directory = tmp_path / "there"
    directory.mkdir()
    with channels() as (a, b):
        attack = Attack(Script(a), start_receiving(b, directory, limits=IMPATIENT), directory, [])
        attack.begin(FILE)
        attack.script.data(0, bytes(50))
        attack.script.data(0, bytes(50))
        attack.is_refused()
    (tmp_path / "here").mkdir()
    (tmp_path / "here/x").write_bytes(os.urandom(1000))
    send_and_receive([tmp_path / "here/x"], directory)
    assert tree(directory) == tree(tmp_path / "here")
    assert scan([directory / "x"]).manifest.total == 1000
