"""What comes in order and has no length: into a pipe, into a file, and text that is shown."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from transfer_support import (
    DEADLINE,
    IMPATIENT,
    Log,
    Running,
    Script,
    channels,
    start_receiving,
    start_sending,
    unhurried,
)

from midair import events
from midair.channel import Channel, Received
from midair.errors import (
    CancelledByUserError,
    ConnectionLostError,
    DeclinedError,
    IntegrityError,
    LocalIOError,
    MidairError,
    OutputClosedError,
    PeerCancelledError,
    PeerFailedError,
    PeerLostError,
    PeerRefusedError,
    RemoteProtocolError,
    TargetExistsError,
    UsageError,
)
from midair.transfer import Clash, Folder, Offer, Outcome, Pipe, Resolution, Stream, disk, wire
from midair.transfer.journal_file import JournalFile
from midair.transfer.manifest import Entry
from midair.transfer.ring import Ring
from midair.transfer.sinks import FileSink

MiB = 1 << 20


class Producer:
    """Writes into a pipe, as a program before ours would; ``read`` is our end of it."""

    def __init__(self, *content: bytes, end: bool = True) -> None:
        self.read, self._write = os.pipe()
        self.written = 0
        self._content = content
        self._end = end
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            for piece in self._content:
                self.add(piece)
        if self._end:
            os.close(self._write)

    def add(self, piece: bytes) -> None:
        view = memoryview(piece)
        while view:
            count = os.write(self._write, view)
            self.written += count
            view = view[count:]

    def close(self) -> None:
        os.close(self.read)
        self.thread.join(DEADLINE)
        if not self._end:
            os.close(self._write)


class Consumer:
    """Reads from a pipe, as a program behind ours would; ``write`` is our end of it."""

    def __init__(self, *, begin: bool = True) -> None:
        self._read, self.write = os.pipe()
        self.content = bytearray()
        self.begin = threading.Event()
        self._closed = False
        if begin:
            self.begin.set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.begin.wait(DEADLINE)
        while piece := os.read(self._read, 1 << 16):
            self.content += piece

    def all(self) -> bytes:
        """Everything, once our end is closed."""
        self.begin.set()
        if not self._closed:
            self._closed = True
            os.close(self.write)
            self._thread.join(DEADLINE)
            os.close(self._read)
        return bytes(self.content)


@pytest.fixture
def consumer() -> Iterator[Consumer]:
    one = Consumer()
    yield one
    one.all()


@contextlib.contextmanager
def producing(*content: bytes, end: bool = True, name: str = "stdin", window: int = MiB) -> Iterator[Stream]:
    producer = Producer(*content, end=end)
    stream = Stream(producer.read, name, window=window)
    stream.producer = producer  # type: ignore[attr-defined]
    try:
        yield stream
    finally:
        stream.close()
        producer.close()


@contextlib.contextmanager
def folder_at(path: Path) -> Iterator[Folder]:
    path.mkdir(exist_ok=True)
    folder = Folder(path)
    try:
        yield folder
    finally:
        folder.close()


def run(
    stream: Stream,
    destination: Folder | Pipe,
    *,
    sent: Log | None = None,
    received: Log | None = None,
    resolve: Callable[[Clash], Resolution] | None = None,
) -> tuple[Outcome, Outcome]:
    with channels() as (a, b):
        sender = start_sending(a, stream, log=sent)
        receiver = start_receiving(b, destination, log=received, resolve=resolve)
        return sender.outcome(), receiver.outcome()


# -- into a pipe --


@pytest.mark.parametrize("size", [0, 1, 70_000, 5 * MiB + 17])
def test_a_stream_arrives_in_order_and_both_sides_know_its_hash(consumer: Consumer, size: int) -> None:
    content = os.urandom(size)
    sent, received = Log(), Log()
    with producing(content) as stream:
        outcomes = run(stream, Pipe(consumer.write), sent=sent, received=received)
    assert consumer.all() == content
    for outcome, log in zip(outcomes, (sent, received), strict=True):
        assert (outcome.committed, outcome.bytes_committed, outcome.bytes_total) == (True, size, size)
        assert outcome.bytes_crossed == outcome.bytes_hashed == size
        (file,) = outcome.files
        assert (file.name, file.bytes, file.blake3) == ("stdin", size, blake3(content).hexdigest())
        offer = log.of(events.OfferSeen)[0]
        assert offer == events.OfferSeen(kind="stream", files=1, directories=0, bytes=None, names=("stdin",))
        if size:
            last = log.of(events.Progress)[-1]
            assert isinstance(last, events.Progress)
            assert last.bytes == size
            assert last.total in ((size,) if log is received else (size, None))


def test_what_is_written_arrives_before_there_is_more(consumer: Consumer) -> None:
    with producing(end=False) as stream, channels() as (a, b):
        sender, receiver = start_sending(a, stream), start_receiving(b, Pipe(consumer.write))
        for number in range(5):
            stream.producer.add(b"%d" % number)  # type: ignore[attr-defined]
            deadline = threading.Event()
            for _ in range(1000):
                if len(consumer.content) > number:
                    break
                deadline.wait(0.01)
            assert bytes(consumer.content) == b"01234"[: number + 1]
        sender.party.cancel()
        sender.error()
        receiver.error()


def test_what_has_been_handed_on_is_told_although_nothing_follows(consumer: Consumer) -> None:
    """However soon after the event before it."""
    sent, received = Log(), Log()
    with producing(end=False) as stream, channels() as (a, b):
        sender = start_sending(a, stream, log=sent)
        receiver = start_receiving(b, Pipe(consumer.write), log=received)
        for count in range(1, 6):
            stream.producer.add(b"x")  # type: ignore[attr-defined]
            for log in (sent, received):
                log.wait_for(lambda event: isinstance(event, events.Progress) and event.bytes == count)  # noqa: B023
        sender.party.cancel()
        sender.error()
        receiver.error()


def test_a_consumer_that_stops_is_waited_for_and_no_more_is_read_than_fits() -> None:
    consumer = Consumer(begin=False)
    content = os.urandom(20 * MiB)
    with producing(content, window=2 * MiB) as stream, channels() as (a, b):
        sender = start_sending(a, stream, limits=IMPATIENT)
        receiver = start_receiving(b, Pipe(consumer.write), limits=IMPATIENT)
        assert not threading.Event().wait(3 * IMPATIENT.silence)
        producer: Producer = stream.producer  # type: ignore[attr-defined]
        # What is held, and what fits into the two pipes.
        assert producer.written <= 2 * MiB + (1 << 16) + MiB
        assert sender.alive
        consumer.begin.set()
        assert sender.outcome().committed
        assert receiver.outcome().committed
    assert consumer.all() == content


def test_a_producer_that_says_nothing_for_long_is_waited_for(consumer: Consumer) -> None:
    with producing(end=False) as stream, channels() as (a, b):
        sender = start_sending(a, stream, limits=IMPATIENT)
        receiver = start_receiving(b, Pipe(consumer.write), limits=IMPATIENT)
        assert not threading.Event().wait(3 * IMPATIENT.silence)
        assert sender.alive
        assert receiver.alive
        receiver.party.cancel()
        assert isinstance(receiver.error(), CancelledByUserError)
        assert isinstance(sender.error(), PeerCancelledError)


@pytest.mark.parametrize("busy", [True, False])
def test_a_consumer_that_closes_early_ends_both_sides_with_one_word(busy: bool) -> None:
    """Also while there is nothing to write that would tell."""
    read, write = os.pipe()
    try:
        with producing(*([bytes(MiB)] * 40 if busy else [b"x"]), end=busy) as stream, channels() as (a, b):
            sender, receiver = start_sending(a, stream), start_receiving(b, Pipe(write))
            assert os.read(read, 1) in (b"x", b"\0")
            os.close(read)
            heard, said = receiver.error(), sender.error()
    finally:
        os.close(write)
    assert isinstance(heard, OutputClosedError)
    assert isinstance(said, OutputClosedError)
    assert heard.exit_code == said.exit_code == 20


def test_a_terminal_is_not_written_to() -> None:
    ours, theirs = pty.openpty()
    try:
        with producing(b"\x1b[2J") as stream, channels() as (a, b):
            sender, receiver = start_sending(a, stream), start_receiving(b, Pipe(theirs))
            assert isinstance(receiver.error(), UsageError)
            assert isinstance(sender.error(), PeerFailedError)
    finally:
        os.close(ours)
        os.close(theirs)


def test_an_input_that_cannot_be_read_ends_both_sides(consumer: Consumer, tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with channels() as (a, b):
            sender, receiver = start_sending(a, Stream(descriptor, "x")), start_receiving(b, Pipe(consumer.write))
            assert isinstance(sender.error(), LocalIOError)
            heard = receiver.error()
            assert isinstance(heard, PeerFailedError)
            assert "Is a directory" in heard.message
    finally:
        os.close(descriptor)


def test_a_stream_keeps_to_the_rate(consumer: Consumer) -> None:
    with producing(bytes(300_000)) as stream, channels() as (a, b):
        began = time.monotonic()
        sender = start_sending(a, stream, limit_rate=200_000)
        receiver = start_receiving(b, Pipe(consumer.write))
        assert sender.outcome().committed
        assert receiver.outcome().committed
        assert time.monotonic() - began > 1.2


def test_a_stream_can_be_cancelled_while_it_keeps_to_the_rate(consumer: Consumer) -> None:
    with producing(bytes(4 * MiB)) as stream, channels() as (a, b):
        log = Log()
        sender = start_sending(a, stream, log=log, limit_rate=100_000)
        receiver = start_receiving(b, Pipe(consumer.write))
        log.wait_for(lambda event: isinstance(event, events.Progress) and event.bytes > 0)
        sender.party.cancel()
        assert isinstance(sender.error(), CancelledByUserError)
        assert isinstance(receiver.error(), PeerCancelledError)
        assert 0 < sender.party.outcome.bytes_crossed < MiB


def test_no_is_said_before_anything_is_read_and_leaves_nothing_open(tmp_path: Path) -> None:
    def opened() -> list[str]:
        links = []
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(f"/proc/self/fd/{number}"))
        return [link for link in links if str(tmp_path) in link]

    with folder_at(tmp_path / "there") as folder, producing(b"x") as stream:
        with channels() as (a, b):
            sender = start_sending(a, stream)
            receiver = start_receiving(b, folder, accept=lambda offer: False)
            assert isinstance(receiver.error(), DeclinedError)
            assert isinstance(sender.error(), PeerRefusedError)
            assert stream.held == (0, 0)
        assert opened() == []
    assert os.listdir(tmp_path / "there") == []


# -- over several connections --


def cut_at(channel: Channel, condition: Callable[[], bool]) -> None:
    """The connection breaks at the first record after ``condition`` holds."""
    real = channel.receive

    def receive() -> Received:
        received = real()
        if condition():
            channel.abort()
            return real()
        return received

    channel.receive = receive  # type: ignore[method-assign]


def broken(stream: Stream, destination: Folder | Pipe, condition: Callable[[], bool], who: str = "receiver") -> Running:
    """One connection that breaks; the receiver, at its end."""
    with channels() as (a, b):
        cut_at(b if who == "receiver" else a, condition)
        sender, receiver = start_sending(a, stream), start_receiving(b, destination)
        assert isinstance(receiver.error(), ConnectionLostError)
        if not receiver.party.outcome.committed:
            assert isinstance(sender.error(), ConnectionLostError)
        return receiver


@pytest.mark.parametrize("seed", range(4))
def test_a_connection_that_breaks_costs_nothing_of_the_stream(consumer: Consumer, seed: int) -> None:
    dice = random.Random(seed)
    content = dice.randbytes(12 * MiB)
    crossed = 0
    pipe = Pipe(consumer.write)
    with producing(content, window=2 * MiB) as stream:
        for _ in range(4):
            goal = min(len(consumer.content) + dice.randrange(MiB), 11 * MiB)
            who = dice.choice(["sender", "receiver"])
            receiver = broken(stream, pipe, lambda goal=goal: len(consumer.content) > goal, who)  # type: ignore[misc]
            crossed += receiver.party.outcome.bytes_crossed
        sent, received = Log(), Log()
        for outcome in run(stream, pipe, sent=sent, received=received):
            assert outcome.committed, f"seed {seed}"
            assert outcome.files[0].blake3 == blake3(content).hexdigest()
        assert crossed + outcome.bytes_crossed == len(content), "nothing was sent twice"
        for log in (sent, received):
            (resumed,) = log.of(events.Resumed)
            assert resumed == events.Resumed(bytes=crossed)
    pipe.close()
    assert consumer.all() == content, f"seed {seed}"


def test_a_receiver_started_anew_is_told_that_the_beginning_is_gone(consumer: Consumer) -> None:
    first, log = Consumer(), Log()
    with producing(b"begun", end=False) as stream:
        with channels() as (a, b):
            sender, receiver = start_sending(a, stream, log=log), start_receiving(b, Pipe(first.write))
            log.wait_for(lambda event: isinstance(event, events.Progress) and event.bytes == 5)
            a.abort()
            assert isinstance(receiver.error(), ConnectionLostError)
            assert isinstance(sender.error(), ConnectionLostError)
        with channels() as (a, b):
            sender, again = start_sending(a, stream), start_receiving(b, Pipe(consumer.write))
            for party in (sender, again):
                error = party.error()
                assert isinstance(error, PeerLostError)
                assert "started anew" in error.message
    assert first.all() == b"begun"
    assert consumer.all() == b""


def test_a_receiver_started_anew_gets_it_all_while_all_is_held(consumer: Consumer) -> None:
    """The first one had its person think about it."""
    with producing(b"content") as stream:
        with channels() as (a, b):
            asked = threading.Event()

            def accept(offer: Offer) -> bool:
                a.abort()
                return asked.wait(DEADLINE)

            sender, receiver = start_sending(a, stream), start_receiving(b, Pipe(consumer.write), accept=accept)
            assert isinstance(receiver.error(), ConnectionLostError)
            assert isinstance(sender.error(), ConnectionLostError)
            asked.set()
        for outcome in run(stream, Pipe(consumer.write)):
            assert outcome.committed
    assert consumer.all() == b"content"


def test_a_sender_started_anew_cannot_go_on(consumer: Consumer) -> None:
    pipe = Pipe(consumer.write)
    with producing(bytes(8 * MiB)) as stream:
        broken(stream, pipe, lambda: len(consumer.content) > MiB)
    before = len(consumer.content)
    with producing(b"other") as stream, channels() as (a, b):
        sender, receiver = start_sending(a, stream), start_receiving(b, pipe)
        for party in (receiver, sender):
            assert isinstance(party.error(), PeerLostError)
    assert b"other" not in bytes(consumer.content)[before:]
    pipe.close()


@pytest.mark.parametrize("what", ["pipe", "folder", "text"])
def test_when_the_sender_did_not_hear_of_the_end_it_is_told_again_and_nothing_happens_twice(
    consumer: Consumer, tmp_path: Path, what: str
) -> None:
    log = Log()
    with (
        folder_at(tmp_path / "there") as folder,
        producing(b"content") if what != "text" else contextlib.nullcontext(Stream.of_text("content")) as stream,
    ):
        destination = Pipe(consumer.write) if what == "pipe" else folder
        with channels() as (a, b):
            # The receiver's last words are lost.
            real = b.send

            def send(record_type: int, payload: bytes, flags: int = 0) -> None:
                if b"results" in payload:
                    b.abort()
                real(record_type, payload, flags)

            b.send = send  # type: ignore[method-assign]
            sender, receiver = start_sending(a, stream), start_receiving(b, destination, log=log)
            assert isinstance(receiver.error(), ConnectionLostError)
            assert isinstance(sender.error(), ConnectionLostError)
            assert receiver.party.outcome.committed
        for outcome in run(stream, destination, received=log):
            assert (outcome.committed, outcome.bytes_committed, outcome.bytes_crossed) == (True, 7, 0)
        if what == "pipe":
            destination.close()
            assert consumer.all() == b"content"
        elif what == "folder":
            assert (tmp_path / "there/stdin").read_bytes() == b"content"
        assert log.of(events.TextReceived) == ([events.TextReceived(text="content")] if what == "text" else [])
    assert os.listdir(tmp_path / "there") == (["stdin"] if what == "folder" else [])


# -- into a file --


def test_into_a_folder_it_becomes_a_file_under_the_name_the_sender_gave(tmp_path: Path) -> None:
    content = os.urandom(3 * MiB)
    log = Log()
    before = os.umask(0o027)
    try:
        with folder_at(tmp_path / "there") as folder, producing(content, name="backup.tar") as stream:

            def look(event: events.Event) -> None:
                log(event)
                if isinstance(event, events.Progress) and event.total is None:
                    assert sorted(os.listdir(folder.path)) == ["backup.tar.part", "backup.tar.part.journal"]

            for outcome in run(stream, folder, received=look):  # type: ignore[arg-type]
                assert outcome.files.counts() == {"received": 1}
    finally:
        os.umask(before)
    assert os.listdir(tmp_path / "there") == ["backup.tar"]
    assert (tmp_path / "there/backup.tar").read_bytes() == content
    assert (tmp_path / "there/backup.tar").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("resolution", "there"),
    [
        (None, {"x": b"mine"}),
        (Resolution.REFUSE, {"x": b"mine"}),
        (Resolution.SKIP, {"x": b"mine"}),
        (Resolution.OVERWRITE, {"x": b"new"}),
        (Resolution.RENAME, {"x": b"mine", "x-1": b"new"}),
    ],
)
def test_what_has_the_name_already_is_decided_about_before_anything_is_read(
    tmp_path: Path, resolution: Resolution | None, there: dict[str, bytes]
) -> None:
    seen: list[Clash] = []

    def resolve(clash: Clash) -> Resolution:
        assert resolution is not None
        seen.append(clash)
        return resolution

    with folder_at(tmp_path / "there") as folder, producing(b"new", name="x") as stream, channels() as (a, b):
        (folder.path / "x").write_bytes(b"mine")
        sender = start_sending(a, stream)
        receiver = start_receiving(b, folder, resolve=None if resolution is None else resolve)
        if len(there) == 1 and there["x"] == b"mine":
            assert isinstance(receiver.error(), TargetExistsError)
            assert isinstance(sender.error(), PeerFailedError)
            assert stream.held == (0, 0)
        else:
            for party in (sender, receiver):
                (file,) = party.outcome().files
                assert (file.outcome, file.text) == ("received", "x-1" if resolution is Resolution.RENAME else "")
    assert [(clash.name, clash.new_size) for clash in seen] == ([] if resolution is None else [("x", None)])
    assert {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()} == there


def test_an_empty_file_of_that_name_is_in_the_way_like_any_other(tmp_path: Path) -> None:
    with folder_at(tmp_path / "there") as folder, producing(name="x") as stream, channels() as (a, b):
        (folder.path / "x").write_bytes(b"")
        start_sending(a, stream)
        assert isinstance(start_receiving(b, folder).error(), TargetExistsError)


def test_of_a_stream_that_ends_early_nothing_is_left(tmp_path: Path) -> None:
    with folder_at(tmp_path / "there") as folder, producing(b"begun", end=False, name="x") as stream:
        part = folder.path / "x.part"
        with channels() as (a, b):
            log = Log()
            sender, receiver = start_sending(a, stream, log=log), start_receiving(b, folder)
            log.wait_for(lambda event: isinstance(event, events.Progress))
            assert part.read_bytes() == b"begun"
            sender.party.cancel()
            receiver.error()
            sender.error()
    assert os.listdir(tmp_path / "there") == []


def test_a_folder_is_not_given_up_while_something_is_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptor may be another file's in that moment."""
    writing, go_on = threading.Event(), threading.Event()
    real = disk.write_at

    def slow(descriptor: int, data: memoryview, offset: int) -> None:
        if bytes(data) == b"content":
            writing.set()
            assert go_on.wait(DEADLINE)
        real(descriptor, data, offset)

    monkeypatch.setattr(disk, "write_at", slow)
    with folder_at(tmp_path / "there") as folder, producing(b"content", end=False) as stream, channels() as (a, b):
        sender, receiver = start_sending(a, stream), start_receiving(b, folder)
        assert writing.wait(DEADLINE)
        sender.party.cancel()
        sender.error()
        receiver.error()
        closing = threading.Thread(target=folder.close)
        closing.start()
        closing.join(0.3)
        assert closing.is_alive()
        go_on.set()
        closing.join(DEADLINE)
    assert os.listdir(tmp_path / "there") == []


def test_what_a_killed_receiver_left_of_a_stream_is_known_as_ours_and_goes(tmp_path: Path) -> None:
    with folder_at(tmp_path / "there") as folder:
        sink = FileSink(folder.path, "x", os.urandom(16))
        sink.prepare(None)
        sink.begin(None)
        sink.write(memoryview(b"half"))
        # As a kill does it: the lock goes, everything else stays.
        assert isinstance(sink._journal, JournalFile)
        sink._journal.close()
        assert sorted(os.listdir(folder.path)) == ["x.part", "x.part.journal"]
        with producing(b"whole", name="x") as stream:
            run(stream, folder)
        assert (folder.path / "x").read_bytes() == b"whole"
        assert os.listdir(folder.path) == ["x"]
        sink._journal = None
        sink.close()


def test_somebody_elses_file_where_the_unfinished_stream_would_go_stays(tmp_path: Path) -> None:
    with folder_at(tmp_path / "there") as folder, producing(b"x", name="x") as stream, channels() as (a, b):
        (folder.path / "x.part").write_bytes(b"mine")
        start_sending(a, stream)
        assert isinstance(start_receiving(b, folder).error(), TargetExistsError)
        assert (folder.path / "x.part").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["", "a/b", "..", "/x", "a\x1b[2J", "x" * 256])
def test_a_name_that_no_receiver_would_take_is_refused_at_once(name: str) -> None:
    with pytest.raises(UsageError):
        Stream(0, name)


# -- text --


@pytest.mark.parametrize("text", ["", "hello", "Grüße\n\x1b[31m日本", "x" * MiB])
def test_a_text_is_handed_over_whole_and_written_nowhere(tmp_path: Path, text: str) -> None:
    sent, received = Log(), Log()
    offers: list[Offer] = []

    def accept(offer: Offer) -> bool:
        offers.append(offer)
        assert not received.of(events.TextReceived)
        return True

    size = len(text.encode())
    with folder_at(tmp_path / "there") as folder, channels() as (a, b):
        sender = start_sending(a, Stream.of_text(text), log=sent)
        receiver = start_receiving(b, folder, accept=accept, log=received)
        for party in (sender, receiver):
            outcome = party.outcome()
            assert (outcome.committed, outcome.bytes_committed, len(outcome.files)) == (True, size, 0)
    assert received.of(events.TextReceived) == [events.TextReceived(text=text)]
    assert (offers[0].kind, offers[0].bytes) == ("text", size)
    assert os.listdir(tmp_path / "there") == []


def test_a_text_that_is_too_long_or_no_text_is_refused_at_once() -> None:
    for text in ("x" * (MiB + 1), "\udcff"):
        with pytest.raises(UsageError):
            Stream.of_text(text)


# -- a file into a pipe --


def send_file(path: Path, destination: Pipe, *, received: Log | None = None) -> tuple[Outcome, Outcome]:
    with channels() as (a, b):
        sender, receiver = start_sending(a, [path]), start_receiving(b, destination, log=received)
        return sender.outcome(), receiver.outcome()


@pytest.mark.parametrize("size", [0, 10, 20 * MiB + 3])
def test_one_file_can_go_into_a_pipe(consumer: Consumer, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "x").write_bytes(content)
    log = Log()
    for outcome in send_file(tmp_path / "x", Pipe(consumer.write), received=log):
        assert (outcome.bytes_crossed, outcome.bytes_hashed, outcome.bytes_committed) == (size, size, size)
        if size:
            assert outcome.files[0].blake3 == blake3(content).hexdigest()
    assert consumer.all() == content


def test_so_can_one_with_holes_as_the_zeros_they_read_as(consumer: Consumer, tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate(5 * MiB)
        file.seek(2 * MiB)
        file.write(b"data")
    send_file(tmp_path / "x", Pipe(consumer.write))
    assert consumer.all() == (tmp_path / "x").read_bytes()


def test_a_file_in_a_pipe_goes_on_after_a_break(consumer: Consumer, tmp_path: Path) -> None:
    content = os.urandom(30 * MiB)
    (tmp_path / "x").write_bytes(content)
    pipe = Pipe(consumer.write)
    with channels() as (a, b):
        cut_at(b, lambda: len(consumer.content) > 9 * MiB)
        sender, receiver = start_sending(a, [tmp_path / "x"]), start_receiving(b, pipe)
        assert isinstance(receiver.error(), ConnectionLostError)
        sender.error()
        crossed = receiver.party.outcome.bytes_crossed
    for outcome in send_file(tmp_path / "x", pipe):
        assert outcome.bytes_crossed == len(content) - crossed
        assert outcome.committed
    pipe.close()
    assert consumer.all() == content


@pytest.mark.parametrize("when", ["in between", "at the end"])
def test_a_file_in_a_pipe_that_differs_from_what_was_read_is_said_so(consumer: Consumer, when: str) -> None:
    with channels() as (a, b):
        attack = Attack(Script(a), start_receiving(b, Pipe(consumer.write), limits=IMPATIENT))
        attack.script.offer([Entry("x", "file", 5, 0, 0o644)])
        assert attack.script.hear() == wire.Accept(durable=0, holes=False)
        assert attack.script.hear() == wire.Request(start=0, end=5)
        attack.script.data(0, b"12345")
        digest = wire.Digest(0, 0, 5, bytes(32))
        if when == "in between":
            attack.script.say(wire.Digests(digests=[digest]))
        else:
            attack.script.say(wire.RangeEnd(start=0, end=5, digests=[digest]))
        attack.is_refused(IntegrityError)


def test_several_files_or_a_folder_cannot_go_into_a_pipe(consumer: Consumer, tmp_path: Path) -> None:
    for name in ("x", "y", "t/z"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    for paths in ([tmp_path / "x", tmp_path / "y"], [tmp_path / "t"]):
        with channels() as (a, b):
            sender, receiver = start_sending(a, paths), start_receiving(b, Pipe(consumer.write))
            assert isinstance(receiver.error(), UsageError)
            assert isinstance(sender.error(), PeerFailedError)
    assert consumer.all() == b""


def test_a_file_that_changes_on_its_way_into_a_pipe_fails_by_name(consumer: Consumer, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(os.urandom(8 * MiB))
    with channels() as (a, b):
        sender = start_sending(a, [tmp_path / "x"], limit_rate=16 * MiB)
        log = Log()
        receiver = start_receiving(b, Pipe(consumer.write), log=log)
        log.wait_for(lambda event: isinstance(event, events.Progress))
        os.truncate(tmp_path / "x", 10)
        for party in (sender, receiver):
            outcome = party.outcome()
            assert outcome.bytes_committed == 0
            assert [file.outcome for file in outcome.files] == ["source-changed"]


def test_a_consumer_of_a_file_that_closes_early_ends_both_sides(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(40 * MiB))
    read, write = os.pipe()
    try:
        with channels() as (a, b):
            sender, receiver = start_sending(a, [tmp_path / "x"]), start_receiving(b, Pipe(write))
            os.read(read, 1)
            os.close(read)
            assert isinstance(receiver.error(), OutputClosedError)
            assert isinstance(sender.error(), OutputClosedError)
    finally:
        os.close(write)


# -- waiting --


def test_waiting_for_the_other_side_is_told_once_each_time(consumer: Consumer) -> None:
    sent, received = Log(), Log()
    with producing(end=False) as stream, channels() as (a, b):
        sender = start_sending(a, stream, log=sent, limits=IMPATIENT)
        receiver = start_receiving(b, Pipe(consumer.write), log=received, limits=IMPATIENT)
        for count in (1, 2):
            for log in (sent, received):
                log.wait_for(lambda event, log=log: len(log.of(events.Waiting)) == count)  # type: ignore[misc] # noqa: B023
            (*_, event) = received.of(events.Waiting)
            assert isinstance(event, events.Waiting)
            assert event.seconds >= IMPATIENT.quiet
            stream.producer.add(b"x")  # type: ignore[attr-defined]
            received.wait_for(lambda event: isinstance(event, events.Progress) and event.bytes == count)  # noqa: B023
        sender.party.cancel()
        sender.error()
        receiver.error()


def test_while_the_receiver_s_person_thinks_the_sender_is_told_that_it_waits(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    sent, received, answered = Log(), Log(), threading.Event()

    def accept(offer: Offer) -> bool:
        return answered.wait(DEADLINE)

    (tmp_path / "there").mkdir()
    with channels() as (a, b):
        sender = start_sending(a, [tmp_path / "x"], log=sent, limits=IMPATIENT)
        receiver = start_receiving(b, tmp_path / "there", accept=accept, log=received, limits=IMPATIENT)
        sent.wait_for(lambda event: isinstance(event, events.Waiting))
        answered.set()
        assert sender.outcome().committed
        assert receiver.outcome().committed
    assert not received.of(events.Waiting), "the receiver does not wait for anybody but its own person"


# -- peers that lie --


class Attack:
    def __init__(self, script: Script, receiver: Running) -> None:
        self.script = script
        self.receiver = receiver

    def is_refused(self, expected: type[MidairError] = RemoteProtocolError) -> None:
        heard = self.script.hear_all()
        self.script.channel.close(linger=0.1)
        error = self.receiver.error()
        assert type(error) is expected, error
        assert [m.reason for m in heard if isinstance(m, wire.Failed | wire.Refuse)] == [error.reason]
        assert not any(isinstance(message, wire.Finished) for message in heard)


@pytest.fixture
def attack(consumer: Consumer) -> Iterator[Attack]:
    with channels() as (a, b):
        yield Attack(Script(a), start_receiving(b, Pipe(consumer.write), limits=IMPATIENT))


END = wire.StreamEnd(total=5, blake3=blake3(b"12345").digest())


def test_a_stream_as_it_should_be_is_taken(attack: Attack) -> None:
    """The attacks below differ from this in one thing each."""
    attack.script.offer_stream()
    assert attack.script.hear() == wire.Accept(durable=0)
    attack.script.data(0, b"123")
    attack.script.data(3, b"45")
    attack.script.say(END)
    while not isinstance(attack.script.hear(), wire.Finished):
        pass
    attack.script.say(wire.Bye())
    assert attack.receiver.outcome().committed


@pytest.mark.parametrize(
    "offer",
    [
        {"name": "../x"},
        {"name": "a/b"},
        {"name": ""},
        {"name": "\x1b[2J"},
        {"total": 1},
        {"kind": "text", "total": MiB + 1},
    ],
)
def test_a_stream_that_cannot_be_is_refused(attack: Attack, offer: dict[str, str | int]) -> None:
    attack.script.offer_stream(**offer)  # type: ignore[arg-type]
    attack.is_refused()


@pytest.mark.parametrize(
    ("position", "data"), [(1, b"x"), (1 << 62, b"x"), (0, b"")], ids=["gap", "far away", "nothing"]
)
def test_other_bytes_than_the_next_are_refused(attack: Attack, position: int, data: bytes) -> None:
    attack.script.offer_stream()
    attack.script.hear()
    attack.script.data(position, data)
    attack.is_refused()


@pytest.mark.parametrize(
    "words",
    [
        [wire.StreamEnd(total=4, blake3=END.blake3)],
        [wire.StreamEnd(total=6, blake3=END.blake3)],
        [wire.RangeEnd(start=0, end=5, digests=[])],
        [wire.Hole(start=5, end=MiB)],
        [wire.Bye()],
        [wire.Announce(version=wire.VERSION, entries=1, total=0, manifest_id=bytes(16))],
    ],
)
def test_words_that_do_not_belong_there_are_refused(attack: Attack, words: list[wire.Message]) -> None:
    attack.script.offer_stream()
    attack.script.hear()
    attack.script.data(0, b"12345")
    attack.script.say(*words)
    attack.is_refused()


def test_nothing_comes_after_the_end(attack: Attack) -> None:
    attack.script.offer_stream()
    attack.script.hear()
    attack.script.data(0, b"12345")
    attack.script.say(END)
    attack.script.data(5, b"6")
    attack.script.hear_all()
    assert isinstance(attack.receiver.error(), RemoteProtocolError)


def test_a_hash_that_differs_means_that_the_content_is_in_doubt(attack: Attack) -> None:
    attack.script.offer_stream()
    attack.script.hear()
    attack.script.data(0, b"12346")
    attack.script.say(END)
    attack.is_refused(IntegrityError)


def test_content_before_it_is_accepted_is_refused(consumer: Consumer) -> None:
    with channels() as (a, b):
        asked = threading.Event()
        receiver = start_receiving(b, Pipe(consumer.write), accept=lambda offer: asked.wait(DEADLINE), limits=IMPATIENT)
        script = Script(a)
        script.offer_stream()
        script.data(0, b"x")
        script.hear_all()
        assert isinstance(receiver.error(), RemoteProtocolError)
        asked.set()


def test_more_than_the_window_is_refused() -> None:
    """A consumer that does not read, and a sender that does not mind."""
    consumer = Consumer(begin=False)
    with channels() as (a, b):
        attack = Attack(Script(a), start_receiving(b, Pipe(consumer.write), limits=IMPATIENT))
        attack.script.offer_stream()
        attack.script.hear()
        with contextlib.suppress(ConnectionLostError):
            for position in range(0, wire.STREAM_WINDOW + 4 * MiB, MiB // 2):
                attack.script.data(position, bytes(MiB // 2))
        attack.is_refused()
        assert attack.receiver.party.outcome.bytes_crossed <= wire.STREAM_WINDOW + MiB
    consumer.all()


@pytest.mark.parametrize("content", [b"\xff", b"x" * 11])
def test_a_text_that_is_none_or_longer_than_it_said_is_refused(tmp_path: Path, content: bytes) -> None:
    log = Log()
    with folder_at(tmp_path / "there") as folder, channels() as (a, b):
        attack = Attack(Script(a), start_receiving(b, folder, log=log, limits=IMPATIENT))
        attack.script.offer_stream("text", total=10)
        attack.script.hear()
        attack.script.data(0, content)
        attack.script.say(wire.StreamEnd(total=len(content), blake3=blake3(content).digest()))
        attack.is_refused()
    assert not log.of(events.TextReceived)


@pytest.mark.parametrize(
    "words",
    [
        [wire.Accept(durable=1)],
        [wire.Accept(durable=0), wire.Accept(durable=0)],
        [wire.Progress(durable=0)],
        [wire.Accept(durable=0), wire.Progress(durable=1 << 40)],
        [wire.Accept(durable=0), wire.Request(start=0, end=1)],
        [wire.Compare(files=[0])],
        [wire.Accept(durable=0), wire.FileResults(results=[wire.FileResult(0, None)])],
        [wire.Accept(durable=0), wire.Finished(total=0)],
        [wire.Finished(total=0)],
    ],
)
def test_a_receiver_that_says_what_cannot_be_is_refused(words: list[wire.Message]) -> None:
    with producing(end=False) as stream, channels() as (a, b):
        sender, script = start_sending(a, stream, limits=IMPATIENT), Script(b)
        script.say(*words)
        assert isinstance(sender.error(), RemoteProtocolError)
        assert not sender.party.outcome.committed


# -- the ring --


@unhurried
@given(st.integers(1, 40), st.lists(st.tuples(st.sampled_from(["put", "release"]), st.integers(0, 50)), max_size=60))
def test_a_ring_holds_what_was_put_in_and_not_released(size: int, steps: list[tuple[str, int]]) -> None:
    ring, model, base = Ring(size), bytearray(), 0
    for number, (what, count) in enumerate(steps):
        if what == "put":
            count = min(count, size - (len(model) - base))
            piece = bytes([number % 256]) * count
            ring.put(memoryview(piece))
            model += piece
        else:
            base = min(base + count, len(model))
            ring.release(base)
        assert (ring.base, ring.end) == (base, len(model))
        assert len(ring.space()) <= size - (len(model) - base)
        assert bool(ring.space()) == (len(model) - base < size)
        position, found = base, b""
        while position < ring.end:
            found += (piece := bytes(ring.held(position, 7)))
            assert 0 < len(piece) <= 7
            position += len(piece)
        assert found == model[base:]
