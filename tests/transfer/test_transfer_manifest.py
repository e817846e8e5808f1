"""The list of what is sent."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfer_support import unhurried

from midair.transfer import manifest as module
from midair.transfer.manifest import (
    MANIFEST_RECORD_BYTES,
    MAX_TOTAL,
    Entry,
    Manifest,
    ManifestBuilder,
    decode_entries,
    encode_records,
)
from midair.transfer.names import UnacceptableName

sizes = st.lists(st.integers(0, 5), min_size=1, max_size=20)


def build(entries: list[Entry]) -> Manifest:
    builder = ManifestBuilder()
    for entry in entries:
        builder.add(entry)
    return builder.finish()


def files(numbers: list[int]) -> Manifest:
    return build([Entry(f"f{i}", "file", size, 0, 0o644) for i, size in enumerate(numbers)])


@unhurried
@given(sizes)
def test_every_byte_of_the_run_belongs_to_the_file_that_counting_says(numbers: list[int]) -> None:
    manifest = files(numbers)
    counted = [(i, offset) for i, size in enumerate(numbers) for offset in range(size)]
    assert manifest.total == len(counted)
    assert [manifest.locate(position) for position in range(manifest.total)] == counted


@unhurried
@given(sizes, st.data())
def test_pieces_cover_a_range_in_order_and_without_gaps(numbers: list[int], data: st.DataObject) -> None:
    manifest = files(numbers)
    start = data.draw(st.integers(0, manifest.total))
    end = data.draw(st.integers(start, manifest.total))
    covered = [
        manifest.start(piece.index) + piece.offset + i
        for piece in manifest.pieces(start, end)
        for i in range(piece.size)
    ]
    assert covered == list(range(start, end))
    assert all(piece.size for piece in manifest.pieces(start, end))


def test_the_id_is_about_everything_that_makes_the_content_this_content() -> None:
    first = Entry("a", "file", 1, 2, 0o644, b"x")
    others = [
        Entry("b", "file", 1, 2, 0o644, b"x"),
        Entry("a", "file", 9, 2, 0o644, b"x"),
        Entry("a", "file", 1, 9, 0o644, b"x"),
        Entry("a", "file", 1, 2, 0o600, b"x"),
        Entry("a", "file", 1, 2, 0o644, b"y"),
    ]
    assert build([first]).id == build([first]).id
    assert len({build([entry]).id for entry in [first, *others]}) == 6


def test_records_are_bounded_and_carry_every_entry() -> None:
    entries = [Entry(f"{'long' * 30}{i}", "file", i, i, 0o600, b"0" * 16) for i in range(5000)]
    records = list(encode_records(entries))
    assert len(records) > 1
    assert max(map(len, records)) <= MANIFEST_RECORD_BYTES
    assert [entry for record in records for entry in decode_entries(record)] == entries


@unhurried
@given(st.binary(max_size=200))
def test_noise_is_refused_or_is_entries(payload: bytes) -> None:
    try:
        entries = decode_entries(payload)
    except ValueError:
        return
    assert all(isinstance(entry, Entry) for entry in entries)


@pytest.mark.parametrize(
    "raw",
    [
        ["a", "file", -1, 0, 0o644, b""],
        ["a", "file", 1 << 63, 0, 0o644, b""],
        ["a", "file", 1, 0, 0o4755, b""],
        ["a", "device", 1, 0, 0o644, b""],
        ["a", "file", 1, 0, 0o644, b"", -1],
        ["a", "symlink", 0, 0, 0o644, b"", 0, "x" * 5000],
        ["a", "file", 1, 0, 0o644, b"x" * 17],
        ["a", "file", 1.5, 0, 0o644, b""],
        ["a" * 5000, "file", 1, 0, 0o644, b""],
        ["a", "file", 1],
        "a",
    ],
)
def test_an_entry_out_of_bounds_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="cannot be understood"):
        decode_entries(msgspec.msgpack.encode([raw]))


def test_deep_nesting_is_refused_and_not_a_crash() -> None:
    with pytest.raises(ValueError, match="cannot be understood"):
        decode_entries(b"\x91" * 100_000)


def test_sizes_that_add_up_beyond_an_offset_are_refused() -> None:
    with pytest.raises(UnacceptableName):
        build([Entry("a", "file", MAX_TOTAL, 0, 0), Entry("b", "file", 1, 0, 0)])


def test_a_folder_with_a_size_is_refused() -> None:
    with pytest.raises(UnacceptableName):
        build([Entry("a", "directory", 1, 0, 0)])


def test_nothing_is_no_transfer() -> None:
    with pytest.raises(UnacceptableName):
        build([])


def test_the_number_of_entries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    with pytest.raises(UnacceptableName):
        files([0, 0, 0, 0])
