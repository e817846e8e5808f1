"""Compression: where it is tried, that it is left where it brings nothing, and that nobody can make a receiver hold
more than a record."""

import os
import random
import struct
import threading
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st
from transfer_support import Log, Running, Script, channels, send_and_receive, start_receiving, start_sending, tree

from midair.errors import RemoteProtocolError
from midair.transfer import Sender, Stream, outflow, scan, wire
from midair.transfer.compression import CompressionChoice, Compressor, decompress
from midair.transfer.manifest import Entry
from midair.transfer.pace import MAX_DATA_BYTES

TEXT = b"The SYNs open the NATs, sometimes cross in mid-air. " * 20_000


def packed(content: bytes, position: int = 0) -> memoryview:
    return memoryview(Compressor().compress(position, memoryview(content)))


def unpacked(record: memoryview) -> tuple[int, bytes]:
    position, content = decompress(record)
    return position, bytes(content)


def payload(size: int, frame: bytes, position: int = 0) -> memoryview:
    return memoryview(struct.pack("!QI", position, size) + frame)


class SlowPath:
    """A path of so many bytes a second, and a core that compresses so many; content gets smaller by ``ratio``."""

    def __init__(self, *, path: float, core: float = 300e6, ratio: float = 0.5, read: float = 2e9) -> None:
        self.path, self.core, self.ratio, self.read = path, core, ratio, read
        self.now = 0.0
        self.choice = CompressionChoice(self.now)
        self.content = 0

    def run(self, seconds: float) -> float:
        """The content a second that went through."""
        began, before = self.now, self.content
        while self.now < began + seconds:
            size = 64 << 10
            on = self.choice.on
            small = on and self.ratio < 0.9
            waited = size * (self.ratio if small else 1.0) / self.path
            self.now += size / self.read + (size / self.core if small else 0.0) + waited
            self.content += size
            self.choice.sent(size, waited, self.now, packed=small)
        return (self.content - before) / (self.now - began)


@given(st.binary(min_size=1, max_size=3000), st.integers(0, 2**50))
def test_what_was_compressed_comes_out_as_it_was_at_its_place(content: bytes, position: int) -> None:
    content = content * 20
    if record := packed(content, position):
        assert unpacked(record) == (position, content)


def test_the_largest_record_of_text_is_compressed_to_a_part_of_it() -> None:
    content = TEXT[:MAX_DATA_BYTES]
    record = packed(content)
    assert 0 < len(record) < len(content) // 10
    assert unpacked(record) == (0, content)


def test_what_does_not_get_smaller_is_left_as_it_is() -> None:
    assert not packed(random.Random(1).randbytes(200_000))
    assert not packed(os.urandom(100))


def test_a_record_that_is_random_but_for_its_beginning_and_end_is_judged_by_its_middle() -> None:
    content = TEXT[:20_000] + random.Random(2).randbytes(60_000) + TEXT[:20_000]
    assert not packed(content)


@pytest.mark.parametrize(
    "record",
    [
        memoryview(b""),
        memoryview(bytes(12)),
        payload(0, zstd.compress(b"")),
        payload(MAX_DATA_BYTES + 1, zstd.compress(bytes(MAX_DATA_BYTES + 1))),
        payload(2**32 - 1, zstd.compress(b"x")),
        payload(10, zstd.compress(bytes(11))),
        payload(12, zstd.compress(bytes(11))),
        payload(11, zstd.compress(bytes(11))[:-1]),
        payload(11, zstd.compress(bytes(11)) + b"x"),
        payload(11, zstd.compress(bytes(11)) + zstd.compress(bytes(11))),
        payload(11, b"these bytes are no frame at all"),
    ],
)
def test_a_record_that_is_not_what_it_says_is_refused(record: memoryview) -> None:
    with pytest.raises(RemoteProtocolError):
        decompress(record)


def test_a_frame_that_would_become_a_gigabyte_is_refused_at_its_first_byte_too_many() -> None:
    bomb = zstd.ZstdCompressor(level=19)
    frame = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(1024)) + bomb.flush()
    assert len(frame) < 200_000
    with pytest.raises(RemoteProtocolError):
        decompress(payload(MAX_DATA_BYTES, frame))


def test_a_frame_that_wants_a_large_window_is_refused() -> None:
    options = {int(zstd.CompressionParameter.window_log): 27, int(zstd.CompressionParameter.content_size_flag): 0}
    writer = zstd.ZstdCompressor(options=options)
    frame = writer.compress(TEXT[:50_000]) + writer.flush()
    with pytest.raises(RemoteProtocolError):
        decompress(payload(50_000, frame))


@given(st.binary(min_size=1, max_size=400))
def test_any_bytes_are_refused_or_are_content_of_the_length_they_say(record: bytes) -> None:
    try:
        _, content = decompress(memoryview(record))
    except RemoteProtocolError:
        return
    assert len(content) == int.from_bytes(record[8:12], "big")


def test_on_a_slow_path_compression_is_tried_and_kept() -> None:
    path = SlowPath(path=12.5e6)
    path.run(1)
    assert path.choice.on
    assert path.run(10) > 1.8 * 12.5e6
    assert path.choice.on


def test_on_a_path_faster_than_the_core_compresses_it_is_not_tried() -> None:
    path = SlowPath(path=1e9)
    path.run(5)
    assert not path.choice.on


def test_where_the_disk_is_what_is_waited_for_it_is_not_tried() -> None:
    path = SlowPath(path=100e6, read=50e6)
    path.run(5)
    assert not path.choice.on


def test_where_it_makes_things_slower_it_is_left_and_hardly_costs_anything() -> None:
    path = SlowPath(path=100e6, core=40e6)
    assert path.run(120) > 0.97 * SlowPath(path=100e6, ratio=1.0).run(120)


def test_content_that_does_not_get_smaller_leaves_it_ready_for_what_does() -> None:
    path = SlowPath(path=12.5e6, ratio=1.0)
    path.run(60)
    path.ratio = 0.3
    assert path.run(5) > 2 * 12.5e6


def test_a_path_that_becomes_slow_is_measured_anew() -> None:
    path = SlowPath(path=50e6)
    path.run(10)
    path.path = 5e6
    path.run(60)
    assert path.run(60) > 1.6 * 5e6


class Always(CompressionChoice):
    """As on a slow path, from the first record on."""

    def __init__(self, now: float) -> None:
        super().__init__(now)
        self.on = True

    def sent(self, content: int, waited: float, now: float, *, packed: bool) -> None:
        pass


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outflow, "CompressionChoice", Always)


def fill(here: Path) -> int:
    """A tree with all that is special about content; its bytes."""
    (here / "tree/small").mkdir(parents=True)
    (here / "tree/text").write_bytes(TEXT)
    (here / "tree/noise").write_bytes(random.Random(3).randbytes(700_001))
    (here / "tree/nothing").write_bytes(b"")
    with (here / "tree/hollow").open("wb") as file:
        file.write(TEXT[:70_000])
        file.truncate(1 << 20)
    for number in range(300):
        (here / f"tree/small/{number}").write_bytes(TEXT[: number * 7])
    return sum(path.stat().st_size for path in here.rglob("*") if path.is_file())


@pytest.mark.usefixtures("slow")
def test_a_tree_arrives_compressed_as_it_is_and_the_sender_knows_what_that_saved(folders: tuple[Path, Path]) -> None:
    here, there = folders
    size = fill(here)
    sent, received = send_and_receive([here / "tree"], there)
    assert tree(there) == tree(here)
    assert sent.bytes_crossed == received.bytes_crossed <= size
    assert sent.bytes_hashed == received.bytes_hashed
    assert len(TEXT) < sent.bytes_saved < sent.bytes_crossed - 700_000


@pytest.mark.usefixtures("slow")
def test_a_sender_that_may_not_compress_does_not(folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "text").write_bytes(TEXT)
    with channels() as (a, b):
        sender = Running(Sender(a, scan([here / "text"]), Log(), compress=False))
        receiver = start_receiving(b, there)
        assert sender.outcome().bytes_saved == 0
        assert receiver.outcome().committed


@pytest.mark.usefixtures("slow")
def test_a_stream_arrives_compressed(folders: tuple[Path, Path]) -> None:
    _, there = folders
    read, write = os.pipe()
    feeder = threading.Thread(target=feed, args=(write,))
    feeder.start()
    with channels() as (a, b):
        sender = start_sending(a, Stream(read, "log"))
        receiver = start_receiving(b, there)
        assert sender.outcome().bytes_saved > len(TEXT) // 2
        assert receiver.outcome().committed
    feeder.join()
    os.close(read)
    assert (there / "log").read_bytes() == TEXT


def feed(descriptor: int) -> None:
    with os.fdopen(descriptor, "wb") as pipe:
        pipe.write(TEXT)


def test_compressed_content_that_was_not_asked_for_is_refused(folders: tuple[Path, Path]) -> None:
    _, there = folders
    with channels() as (a, b):
        receiver = start_receiving(b, there)
        sender = Script(a)
        sender.offer([Entry("a", "file", 10, 0, 0)])
        sender.channel.send(wire.COMPRESSED, Compressor().compress(0, memoryview(bytes(5000))))
        assert isinstance(receiver.error(), RemoteProtocolError)
    assert not (there / "a").exists()
