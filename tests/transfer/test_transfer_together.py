"""Many small files are told, judged and written down together, and what becomes of each is as exact as ever."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from transfer_support import (
    IMPATIENT,
    Log,
    Running,
    Script,
    channels,
    send_and_receive,
    start_receiving,
    start_sending,
    tree,
    unhurried,
)

from midair import events
from midair.errors import IntegrityError, MidairError, RemoteProtocolError, SourceChangedError
from midair.transfer import Folder, Receiver, Sender, disk, intake, scan, wire
from midair.transfer.intake import Intake
from midair.transfer.journal import (
    Begun,
    Committed,
    Durable,
    JournalReader,
    JournalWriter,
    Record,
    durable_records,
)
from midair.transfer.journal_file import JournalFile
from midair.transfer.manifest import Entry, Files, Kind, Manifest, ManifestBuilder, decode_entries, encode_records
from midair.transfer.matching import Matching
from midair.transfer.names import NameRules, UnacceptableName
from midair.transfer.outcome import Results
from midair.transfer.runs import Runs
from midair.transfer.source import SourceReader
from midair.transfer.vouching import spans, without

COUNT = 60


def entry(number: int, size: int = 10, kind: Kind = "file", holes: int = 0) -> Entry:
    return Entry(f"{number:04}", kind, size if kind == "file" else 0, 0, 0o644, b"x", holes)


def manifest_of(entries: Sequence[Entry]) -> Manifest:
    builder = ManifestBuilder()
    builder.add_all(entries)
    return builder.finish()


def hashes_of(*contents: bytes) -> bytes:
    return b"".join(blake3(content).digest() for content in contents)


# -- the list --

components = st.sampled_from(
    [
        "a",
        "A",
        "b",
        "ä",
        "Ä",
        "con",
        "Com1.x",
        "icon",
        "x.",
        "x ",
        "..",
        "",
        "a:b",
        "a\\b",
        "n\nl",
        "x" * 255,
        "y" * 256,
    ]
)
plain = st.sampled_from(["a/b", "a/B", "a/b/c", "a/e", "A/x"])
paths = st.one_of(plain, st.lists(components, min_size=1, max_size=3).map("/".join))
names = st.one_of(*(st.lists(st.tuples(path, st.booleans()), min_size=1, max_size=8) for path in (plain, paths)))


@unhurried
@given(names, st.booleans())
def test_names_that_are_judged_together_are_judged_as_one_by_one(names: list[tuple[str, bool]], windows: bool) -> None:
    together, single = NameRules(windows=windows), NameRules(windows=windows)
    for rules in (together, single):
        rules.add("a", directory=True)
        rules.add("A", directory=True)
    refused: list[str] = []
    try:
        for path, directory in names:
            single.add(path, directory=directory)
    except UnacceptableName as error:
        refused.append(str(error))
    try:
        together.add_all([path for path, _ in names], [directory for _, directory in names])
    except UnacceptableName as error:
        refused.append(str(error))
    else:
        assert not refused
    assert len(set(refused)) <= 1
    assert (together.twins, together.for_windows) == (single.twins, single.for_windows)
    if not refused:
        for path, _ in names:
            with pytest.raises(UnacceptableName):
                together.add(path, directory=False)


def test_a_path_that_is_too_long_or_too_deep_is_found_among_good_ones() -> None:
    deep = ["/".join(["d"] * depth) for depth in range(1, 129)]
    rules = NameRules(windows=False)
    rules.add_all(deep, [True] * 128)
    with pytest.raises(UnacceptableName, match="deeper"):
        rules.add_all([deep[-1] + "/e", deep[-1] + "/f"], [False, False])
    long = ["/".join(["x" * 250] * depth) for depth in range(1, 17)]
    rules.add_all(long, [True] * 16)
    with pytest.raises(UnacceptableName, match="longer"):
        rules.add_all([long[-1] + "/" + "x" * 250, long[-1] + "/y"], [False, False])


@pytest.mark.parametrize("count", [1, 15, 16, 17, 511, 512, 513, 1500])
def test_a_list_is_the_same_content_however_its_entries_came(count: int) -> None:
    entries = [entry(i, i, holes=i // 2 if i % 3 == 0 else 0) for i in range(count)]
    single = ManifestBuilder()
    for each in entries:
        single.add(each)
    assert manifest_of(entries).id == single.finish().id
    assert [e for record in encode_records(entries) for e in decode_entries(record)] == entries


kinds = st.sampled_from(["file", "file", "file", "empty", "hollow", "directory", "symlink"])


@unhurried
@given(st.lists(kinds, min_size=1, max_size=12), st.data())
def test_the_parts_of_a_range_are_its_pieces_and_whole_files_together(what: list[str], data: st.DataObject) -> None:
    entries = [
        Entry(f"d/{i}", "symlink", 0, 0, 0o777, detail=f"{i}")
        if word == "symlink"
        else entry(i, 0 if word == "empty" else 3, "directory" if word == "directory" else "file", word == "hollow")
        for i, word in enumerate(what)
    ]
    manifest = manifest_of([Entry("d", "directory", 0, 0, 0o755), *entries])
    start = data.draw(st.integers(0, manifest.total))
    end = data.draw(st.integers(start, manifest.total))
    found: list[tuple[int, int, int]] = []
    before: int | None = None
    for part in manifest.parts(start, end):
        if isinstance(part, Files):
            sizes = manifest.sizes(part)
            assert part.first != before, "two that follow each other are one"
            assert set(sizes) == {3}
            assert not any(manifest.entries[index].holes for index in range(part.first, part.end))
            found += [(index, 0, 3) for index in range(part.first, part.end)]
            before = part.end
        else:
            assert part.size < 3 or manifest.entries[part.index].holes, "a whole one is never by itself"
            found.append((part.index, part.offset, part.size))
            before = None
    assert found == [(piece.index, piece.offset, piece.size) for piece in manifest.pieces(start, end)]


# -- hashes --


def test_files_that_are_hashed_together_have_the_hashes_they_have_alone() -> None:
    content = os.urandom(60)
    digest = Runs().feed_files(4, [10, 20, 30], memoryview(content))
    assert digest == wire.Digest(4, 0, 60, hashes_of(content[:10], content[10:30], content[30:]), 3)
    without = Runs()
    without.hashing = False
    assert without.feed_files(4, [10, 20, 30], memoryview(content)) == wire.Digest(4, 0, 60, None, 3)
    assert without.bytes_hashed == 0


@pytest.mark.parametrize("wrong", range(3))
def test_of_files_hashed_together_the_one_that_differs_is_found(wrong: int) -> None:
    manifest = manifest_of([entry(i) for i in range(3)])
    matching = Matching(manifest)
    contents = [os.urandom(10) for _ in range(3)]
    matching.feed_files(Files(0, 3), [10] * 3, memoryview(b"".join(contents)))
    contents[wrong] = bytes(10)
    assert matching.match([wire.Digest(0, 0, 30, hashes_of(*contents), 3)]) == wrong


@pytest.mark.parametrize(
    "theirs",
    [
        wire.Digest(0, 0, 20, hashes_of(bytes(10), bytes(10)), 2),
        wire.Digest(1, 0, 30, hashes_of(*[bytes(10)] * 3), 3),
        wire.Digest(0, 0, 10, hashes_of(bytes(10))),
    ],
)
def test_digests_of_other_files_than_came_are_refused(theirs: wire.Digest) -> None:
    matching = Matching(manifest_of([entry(i) for i in range(4)]))
    matching.feed_files(Files(0, 3), [10] * 3, memoryview(bytes(30)))
    with pytest.raises(RemoteProtocolError):
        matching.match([theirs])


def test_digests_that_are_kept_back_are_counted_by_their_files() -> None:
    count = wire.MAX_PIECES
    matching = Matching(manifest_of([entry(i, 1) for i in range(3 * count)]))
    for first in (0, count):
        matching.feed_files(Files(first, first + count), [1] * count, memoryview(bytes(count)))
    with pytest.raises(RemoteProtocolError, match="keeps its digests back"):
        matching.feed_files(Files(2 * count, 3 * count), [1] * count, memoryview(bytes(count)))


@pytest.mark.parametrize("cls", [wire.Digest, wire.FileResult])
def test_there_is_one_hash_for_each_file_or_the_message_is_not_understood(cls: type) -> None:
    def message(hashes: bytes, files: int) -> bytes:
        if cls is wire.Digest:
            return msgspec.msgpack.encode({"m": "digests", "digests": [[0, 0, 9, hashes, files]]})
        return msgspec.msgpack.encode({"m": "results", "results": [[0, hashes, "received", "", files]]})

    decode = wire.decode_from_sender if cls is wire.Digest else wire.decode_from_receiver
    decode(message(bytes(64), 2))
    for hashes, files in ((bytes(32), 2), (bytes(64), 1), (bytes(33), 1), (bytes(32), 0), (bytes(32), -1)):
        with pytest.raises(RemoteProtocolError):
            decode(message(hashes, files))


# -- the journal --


def journal(manifest: Manifest, *records: Record) -> JournalReader:
    reader = JournalReader(manifest)
    reader.feed(JournalWriter().encode([Begun(manifest.id), *records]))
    return reader


def test_a_journal_vouches_for_files_together() -> None:
    manifest = manifest_of([entry(i) for i in range(5)])
    reader = journal(manifest, Durable([wire.Digest(1, 0, 30, bytes(96), 3)]), Committed())
    assert list(reader.durable) == [(10, 40)]


@pytest.mark.parametrize(
    "run",
    [
        wire.Digest(1, 0, 20, bytes(96), 3),
        wire.Digest(1, 0, 31, bytes(96), 3),
        wire.Digest(1, 5, 30, bytes(96), 3),
        wire.Digest(3, 0, 30, bytes(96), 3),
    ],
)
def test_what_a_journal_says_of_files_together_that_cannot_be_is_not_believed(run: wire.Digest) -> None:
    reader = journal(manifest_of([entry(i) for i in range(5)]), Durable([run]))
    assert not reader.durable


def test_records_of_many_files_stay_small() -> None:
    runs = [wire.Digest(i * 1000, 0, 1000, bytes(32_000), 1000) for i in range(100)]
    records = durable_records(runs, [])
    assert [run for record in records if isinstance(record, Durable) for run in record.runs] == runs
    assert JournalWriter().encode(records)


def test_of_files_together_without_the_dropped_ones_the_others_are_left() -> None:
    manifest = manifest_of([entry(i) for i in range(6)])
    run = wire.Digest(1, 0, 30, b"a" * 32 + b"b" * 32 + b"c" * 32, 3)
    assert list(without(manifest, run, {0, 4})) == [run]
    left = list(without(manifest, run, {2}))
    assert left == [wire.Digest(1, 0, 10, b"a" * 32), wire.Digest(3, 0, 10, b"c" * 32)]
    assert list(without(manifest, wire.Digest(1, 3, 7, b"a" * 32), {1})) == []
    assert [span for span in spans(manifest, left) if span[0] < span[1]] == [(10, 20), (30, 40)]
    assert [span for span in spans(manifest, [run, wire.Digest(4, 0, 5, None)]) if span[1]] == [(10, 45)]


# -- results --


@unhurried
@given(st.lists(st.sampled_from("f.hdk"), min_size=1, max_size=40))
def test_results_told_together_are_those_of_each(what: list[str]) -> None:
    """A file with or without a hash, an empty one, a folder, one that is kept."""
    entries = [entry(i, kind="directory" if word == "d" else "file") for i, word in enumerate(what)]
    results = Results(entries)
    for i, word in enumerate(what):
        if word == "h":
            results.put_hash(i, bytes([i]) * 32)
        if word == "k":
            results.put(i, "kept", "")
    told: dict[int, tuple[str, bytes | None]] = {}
    for first, end in results.alike():
        hashes = results.hashes(first, end)
        for place, index in enumerate(range(first, end)):
            told[index] = (results.get(first)[0], hashes and hashes[32 * place : 32 * place + 32])
    assert told == {i: (results.get(i)[0], results.hash(i)) for i in results.indices()}
    assert set(results.indices()) == {i for i, word in enumerate(what) if word != "d"}


def test_many_results_come_in_few_and_bounded_ones() -> None:
    results = Results([entry(i) for i in range(5000)])
    ranges = list(results.alike())
    assert len(ranges) == -(-5000 // wire.MAX_PIECES)
    assert max(end - first for first, end in ranges) == wire.MAX_PIECES


ACCEPT = wire.Accept(durable=0)


@pytest.mark.parametrize(
    "results",
    [
        [wire.FileResult(0, None, files=5)],
        [wire.FileResult(1, None, files=5)],
        [wire.FileResult(1, None, files=2), wire.FileResult(2, None, files=2)],
        [wire.FileResult(4, None), wire.FileResult(2, None, files=3)],
    ],
)
def test_results_of_files_together_that_cannot_be_are_refused(tmp_path: Path, results: list[wire.FileResult]) -> None:
    (tmp_path / "t").mkdir()
    for name in "abcd":
        (tmp_path / "t" / name).write_bytes(b"12345")
    with channels() as (a, b):
        script, log = Script(b), Log()
        sender = start_sending(a, [tmp_path / "t"], log=log, limits=IMPATIENT)
        script.say(ACCEPT, wire.FileResults(results=results), wire.Finished(total=20))
        assert isinstance(sender.error(), RemoteProtocolError)
        assert not log.of(events.FileFinished)


# -- whole transfers --


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """60 files in a folder, and one in the middle of them that is in a folder of its own."""
    (tmp_path / "there").mkdir()
    (tmp_path / "here/t/030x").mkdir(parents=True)
    (tmp_path / "here/t/030x/inside").write_bytes(b"inside")
    for number in range(COUNT):
        (tmp_path / f"here/t/{number:03}").write_bytes(os.urandom(500 + number))
    return tmp_path / "here"


def test_one_that_did_not_arrive_as_it_was_read_is_fetched_anew_and_the_others_are_not(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = here.parent / "there"
    real = Runs.feed_files

    def feed_files(runs: Runs, first: int, sizes: Sequence[int], data: memoryview) -> wire.Digest:
        digest = real(runs, first, sizes, data)
        if first <= 8 < first + digest.files and threading.current_thread().name != "receiver":
            place = 32 * (8 - first)
            assert digest.blake3 is not None
            lie = digest.blake3[:place] + bytes(32) + digest.blake3[place + 32 :]
            return wire.Digest(digest.file, digest.start, digest.end, lie, digest.files)
        return digest

    real_run = Receiver.run

    def run(receiver: Receiver) -> object:
        threading.current_thread().name = "receiver"
        return real_run(receiver)

    with monkeypatch.context() as patched:
        patched.setattr(Runs, "feed_files", feed_files)
        patched.setattr(Receiver, "run", run)
        with channels() as (a, b):
            sender = start_sending(a, [here / "t"])
            error = start_receiving(b, there).error()
            assert isinstance(error, IntegrityError)
            assert error.message.startswith("t/007 ")
            assert getattr(sender.error(), "remote_reason", None) == "integrity"
    _, outcome = send_and_receive([here / "t"], there)
    assert outcome.bytes_crossed == 507
    assert tree(there) == tree(here)


@pytest.mark.parametrize("gone", [0, 20, 59])
def test_one_that_goes_away_while_its_neighbours_are_read_fails_alone(
    here: Path, gone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = here.parent / "there"
    source = scan([here / "t"])
    (here / f"t/{gone:03}").unlink()
    with channels() as (a, b):
        sender, receiver = Running(Sender(a, source, Log())), start_receiving(b, there)
        for outcome in (sender.outcome(), receiver.outcome()):
            missing = [file for file in outcome.files if not file.stored]
            assert [(file.name, file.outcome) for file in missing] == [(f"t/{gone:03}", SourceChangedError.reason)]
            for file in outcome.files:
                if file.stored:
                    assert file.blake3 == blake3((here / file.name).read_bytes()).hexdigest()
    del tree(there)["t"]
    assert {name: what[0] for name, what in tree(there).items()} == {name: what[0] for name, what in tree(here).items()}


def test_who_does_not_ask_is_only_told_of_what_is_not_simply_there(here: Path) -> None:
    (here.parent / "there/t").mkdir()
    (here.parent / "there/t/005").write_bytes((here / "t/005").read_bytes())
    (here / "t/fifo").symlink_to("/nowhere")
    logs = Log(), Log()
    with channels() as (a, b):
        sender = Running(Sender(a, scan([here / "t"]), logs[0], each_file=False))
        receiver = Running(Receiver(b, Folder(here.parent / "there"), lambda offer: True, logs[1], each_file=False))
        for outcome, log in zip((sender.outcome(), receiver.outcome()), logs, strict=True):
            (event,) = log.of(events.FileFinished)
            assert isinstance(event, events.FileFinished)
            assert (event.file, event.outcome) == ("t/fifo", "omitted")
            assert outcome.files.counts() == {"received": COUNT, "identical": 1, "omitted": 1}


def test_no_file_is_divided_between_two_records(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is read in one piece, although their sizes fit no record."""
    for number in range(COUNT):
        (here / f"t/{number:03}").write_bytes(os.urandom(20_000 + number))
    monkeypatch.setattr(SourceReader, "read_into", None)
    send_and_receive([here / "t"], here.parent / "there")
    assert tree(here.parent / "there") == tree(here)


def test_a_file_that_was_left_and_not_noted_when_a_sync_came_is_synced_before_it_is_vouched_for(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = here.parent / "there"
    for number in range(5, COUNT):
        (here / f"t/{number:03}").unlink()
    (here / "t/030x/inside").unlink()
    synced: set[int] = set()
    intakes: list[Intake] = []
    real_write, real_sync, real_append = disk.write_at, disk.sync_data, JournalFile.append
    real_take_over = Intake.prepare

    def prepare(self: Intake, alike: object) -> None:
        intakes.append(self)
        real_take_over(self, alike)  # type: ignore[arg-type]

    def write_at(descriptor: int, data: memoryview, offset: int) -> None:
        real_write(descriptor, data, offset)
        if intakes and os.fstat(descriptor).st_size in range(500, 505):
            thread = threading.Thread(target=intakes[0].sync)
            thread.start()
            thread.join()

    def sync_data(descriptor: int) -> None:
        real_sync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def append(journal_file: JournalFile, records: list[Record]) -> None:
        for record in records:
            for run in record.runs if isinstance(record, Durable) else ():
                for index in range(run.file, run.file + run.files):
                    assert (there / f"t.part/{index - 1:03}").stat().st_ino in synced
        real_append(journal_file, records)

    monkeypatch.setattr(intake, "SYNC_SECONDS", 60)
    monkeypatch.setattr(Intake, "prepare", prepare)
    monkeypatch.setattr(disk, "write_at", write_at)
    monkeypatch.setattr(disk, "sync_data", sync_data)
    monkeypatch.setattr(JournalFile, "append", append)
    send_and_receive([here / "t"], there)
    assert len(synced) >= 5
    assert tree(there) == tree(here)


def begin(script: Script, entries: Sequence[Entry]) -> None:
    script.offer(entries)
    while not isinstance(script.hear(), wire.Request):
        pass


def until_finished(script: Script) -> list[wire.FileResult]:
    results: list[wire.FileResult] = []
    while not isinstance(heard := script.hear(), wire.Finished):
        assert not isinstance(heard, wire.Failed), heard
        if isinstance(heard, wire.FileResults):
            results += heard.results
    return results


def test_files_of_several_folders_in_any_order_come_to_stand_where_they_belong(tmp_path: Path) -> None:
    """Also where one of them must not be written to once it is dressed, and so is dressed later."""
    names = [*(f"t/p/{i:02}" for i in range(20)), "t/q/read-only", *(f"t/p/{i:02}" for i in range(20, 40)), "t/q/last"]
    entries = [Entry(path, "directory", 0, 0, 0o755) for path in ("t", "t/p", "t/q")]
    entries += [Entry(path, "file", 10, 0, 0o444 if "only" in path else 0o644) for path in names]
    content = os.urandom(10 * len(names))
    with channels() as (a, b):
        script, receiver = Script(a), start_receiving(b, tmp_path)
        begin(script, entries)
        script.data(0, content)
        digest = Runs().feed_files(3, [10] * len(names), memoryview(content))
        script.say(wire.RangeEnd(start=0, end=len(content), digests=[digest]))
        assert [result.files for result in until_finished(script)] == [len(names)]
        script.say(wire.Bye())
        assert receiver.outcome().committed
    found = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {name: content[10 * place : 10 * place + 10] for place, name in enumerate(names)}


def test_one_that_is_given_up_after_it_has_come_with_others_is_not_stored_and_they_are(tmp_path: Path) -> None:
    entries = [Entry("t", "directory", 0, 0, 0o755), *(Entry(f"t/{i:02}", "file", 10, 0, 0o644) for i in range(21))]
    content = os.urandom(210)
    with channels() as (a, b):
        script, receiver = Script(a), start_receiving(b, tmp_path)
        begin(script, entries)
        runs = Runs()
        script.data(0, content[:200])
        script.say(wire.FileFailed(file=4, reason="source-changed", text="x"))
        script.data(200, content[200:])
        digests = [
            runs.feed_files(1, [10] * 20, memoryview(content[:200])),
            runs.feed_files(21, [10], memoryview(content[200:])),
        ]
        script.say(wire.RangeEnd(start=0, end=210, digests=digests))
        results = until_finished(script)
        script.say(wire.Bye())
        assert receiver.outcome().committed
    assert [(result.file, result.files, result.outcome) for result in results] == [
        (1, 3, "received"),
        (4, 1, "source-changed"),
        (5, 17, "received"),
    ]
    assert sorted(os.listdir(tmp_path / "t")) == [f"{i:02}" for i in range(21) if i != 3]


def test_more_files_in_one_record_than_there_may_be_are_refused(tmp_path: Path) -> None:
    entries = [entry(i, 1) for i in range(wire.MAX_PIECES + 1)]
    with channels() as (a, b):
        script = Script(a)
        receiver = start_receiving(b, tmp_path)
        script.offer(entries)
        while not isinstance(script.hear(), wire.Request):
            pass
        script.data(0, bytes(len(entries)))
        script.hear_all()
        script.channel.close(linger=0.1)
        error = receiver.error()
        assert isinstance(error, MidairError)
        assert "too many files" in error.message
