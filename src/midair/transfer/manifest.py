"""What is sent, as a list: files, folders and links, their sizes and times, in an order that both sides share.

The files are one virtual run of bytes in manifest order: file 1 begins where file 0 ends. Offsets in it are called
virtual; a position inside of one file is called an offset of that file. What is no file takes no room in it.

    entry      [path, kind, size, mtime_ns, mode, identity, holes, detail]   msgpack; a MANIFEST record holds a list
    id         BLAKE3, 16 bytes, over the entries encoded one by one, as if none had holes

The identity is an opaque token for *this very file on the sender*: a journal knows by it that the source it began with
is the source now offered, where size and time alone could lie. Holes are left out of the id because a file system may
find more or fewer of them in the same file from one day to the next.

What is ``omitted`` stands at the sender and is not sent: a link that leads elsewhere, a pipe, a socket. It is in the
list so that both sides can name it.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Annotated, Literal

import msgspec
from blake3 import blake3
from msgspec import Meta

from midair.transfer.layout import check_layout
from midair.transfer.names import MAX_PATH_BYTES, NameRules, UnacceptableName, escape, link_fault

__all__ = [
    "ID_BYTES",
    "MANIFEST_RECORD_BYTES",
    "MAX_ENTRIES",
    "MAX_PATHS_BYTES",
    "MAX_TOTAL",
    "Entry",
    "Files",
    "Kind",
    "Manifest",
    "ManifestBuilder",
    "Piece",
    "decode_entries",
    "encode_records",
]

MAX_ENTRIES = 1_000_000
"""Files and folders of one transfer; each costs about 300 bytes of memory on either side."""
MAX_PATHS_BYTES = 128 << 20
"""All paths together, encoded."""
MAX_TOTAL = (1 << 63) - 1
"""Bytes of content: what an offset can be (off_t)."""
MANIFEST_RECORD_BYTES = 256 << 10
"""One MANIFEST record, at most; a single entry is well below."""
ID_BYTES = 16
_TOGETHER = 512
"""Entries that are encoded at once."""

Kind = Literal["file", "directory", "symlink", "omitted"]


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One file or folder. Decoding checks the types and bounds; the names are judged by :class:`ManifestBuilder`."""

    path: Annotated[str, Meta(max_length=4096)]
    """Relative, with ``/`` between the components."""
    kind: Kind
    size: Annotated[int, Meta(ge=0, le=MAX_TOTAL)]
    """Bytes; 0 for what is no file."""
    mtime_ns: Annotated[int, Meta(ge=-(1 << 62), le=(1 << 62))]
    """Since 1970, as stat gives it."""
    mode: Annotated[int, Meta(ge=0, le=0o777)]
    """Permission bits only."""
    identity: Annotated[bytes, Meta(max_length=16)] = b""
    holes: Annotated[int, Meta(ge=0, le=MAX_TOTAL)] = 0
    """Bytes of ``size`` that lie in holes, as far as the sender's file system tells; they need no room on a disk."""
    detail: Annotated[str, Meta(max_length=MAX_PATH_BYTES)] = ""
    """Of a symbolic link, where it points; of what is omitted, why, in words."""


class Piece(msgspec.Struct, frozen=True, gc=False):
    """Part of one file: ``size`` bytes at ``offset`` of entry ``index``."""

    index: int
    offset: int
    size: int


class Files(msgspec.Struct, frozen=True, gc=False):
    """The entries from ``first`` up to ``end``, all of them whole files with content and without holes."""

    first: int
    end: int


_LETTERS: dict[Kind, int] = {"file": ord("f"), "directory": ord("d"), "symlink": ord("l"), "omitted": ord("o")}
_EMPTY, _HOLLOW = ord("e"), ord("h")
_FILES = re.compile(rb"f*")


class Manifest:
    """A list of entries that has been found good."""

    def __init__(
        self, entries: Sequence[Entry], starts: array[int], letters: bytes, manifest_id: bytes, rules: NameRules
    ) -> None:
        """Use :class:`ManifestBuilder`."""
        self.entries = entries
        self.letters = letters
        """Of each entry what it is, to be searched quickly: ``f`` a file, but ``e`` an empty one and ``h`` one with
        holes; ``d`` a folder, ``l`` a link, ``o`` what is omitted."""
        self.id = manifest_id
        self.tops = [index for index, entry in enumerate(entries) if "/" not in entry.path]
        """The entries that stand directly in the receiver's folder."""
        self.twins = rules.twins
        """Two names that differ only in case or accents, if there are any."""
        self.for_windows = rules.for_windows
        """Whether the names are also good where the rules of Windows hold, as on FAT."""
        self._starts = starts
        self.total: int = starts[-1]
        """Bytes of content in all."""

    def __len__(self) -> int:
        return len(self.entries)

    def count(self, kind: Kind) -> int:
        """How many entries are of this kind."""
        letters = b"feh" if kind == "file" else bytes([_LETTERS[kind]])
        return sum(map(self.letters.count, letters))

    @property
    def top_level(self) -> Iterator[Entry]:
        """See ``tops``."""
        return (self.entries[index] for index in self.tops)

    @property
    def largest(self) -> int:
        """Bytes in the largest file."""
        return max(map(int.__sub__, self._starts[1:], self._starts[:-1]))

    def start(self, index: int) -> int:
        """The virtual offset at which entry ``index`` begins."""
        return self._starts[index]

    def span(self, index: int) -> tuple[int, int]:
        """Where entry ``index`` begins and ends, in virtual offsets."""
        return self._starts[index], self._starts[index + 1]

    def locate(self, position: int) -> tuple[int, int]:
        """``(index, offset)`` of the byte at virtual offset ``position``, which is below ``total``."""
        assert 0 <= position < self.total
        # Of the entries that begin at the same place only the last one can hold bytes.
        index = bisect_right(self._starts, position, 0, len(self.entries)) - 1
        return index, position - self._starts[index]

    def pieces(self, start: int, end: int) -> Iterator[Piece]:
        """The parts of files that make up the virtual range, in order; none of them is empty."""
        if start >= end:
            return
        index, offset = self.locate(start)
        while start < end:
            size = min(self.entries[index].size - offset, end - start)
            if size:
                yield Piece(index, offset, size)
            start += size
            index, offset = index + 1, 0

    def parts(self, start: int, end: int) -> Iterator[Piece | Files]:
        """The same, but files of which all is in it, and that follow each other in the list, together."""
        while start < end:
            index, offset = self.locate(start)
            last = index
            if not offset:
                # The first of the entries that do not end within the range.
                last = bisect_right(self._starts, end, index, len(self.entries) + 1) - 1
                last = self._files_end(index, last)
            if last > index:
                yield Files(index, last)
                start = self._starts[last]
            else:
                size = min(self._starts[index + 1] - start, end - start)
                yield Piece(index, offset, size)
                start += size

    def end_of_entries(self, position: int, count: int) -> int:
        """Where the last of ``count`` entries ends, of which the first holds the byte at ``position``."""
        return self._starts[min(self.locate(position)[0] + count, len(self.entries))]

    def _files_end(self, index: int, end: int) -> int:
        found = _FILES.match(self.letters, index, end)
        return index if found is None else found.end()

    def sizes(self, files: Files) -> list[int]:
        """Of each of them, in bytes."""
        starts = self._starts[files.first : files.end + 1]
        return [end - start for start, end in pairwise(starts)]


class ManifestBuilder:
    """Collects entries and refuses the first that breaks a rule, so that a hostile list is never stored whole."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._starts = array("Q", [0])
        self._letters = bytearray()
        self._rules = NameRules()
        self._hasher = blake3()
        self._encoder = msgspec.msgpack.Encoder()
        self._paths_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        """Raises: as ``add_all``."""
        self.add_all((entry,))

    def add_all(self, entries: Sequence[Entry]) -> None:
        """Some at once, which is quicker than one by one.

        Raises: UnacceptableName, also for a size or a number of entries beyond the limits.
        """
        if len(self._entries) + len(entries) > MAX_ENTRIES:
            raise UnacceptableName(f"there are more than {MAX_ENTRIES} files and folders")
        self._rules.add_all([entry.path for entry in entries], [entry.kind == "directory" for entry in entries])
        letters = bytes(map(_letter, entries))
        for start in range(0, len(entries), _TOGETHER):
            encoded = _encode_one_by_one(self._encoder, entries[start : start + _TOGETHER])
            self._paths_bytes += len(encoded)
            self._hasher.update(encoded)
        ends = list(accumulate((entry.size for entry in entries), initial=self._starts[-1]))
        if ends[-1] > MAX_TOTAL or self._paths_bytes > MAX_PATHS_BYTES:
            raise UnacceptableName("it is too large in all")
        self._entries += entries
        self._letters += letters
        self._starts.extend(ends[1:])

    def finish(self) -> Manifest:
        """What has been collected.

        Raises: UnacceptableName when the names on top would clash with those of their parts, or there are none.
        """
        if not self._entries:
            raise UnacceptableName("there is nothing in it")
        manifest = Manifest(
            self._entries, self._starts, bytes(self._letters), self._hasher.digest(ID_BYTES), self._rules
        )
        check_layout([entry.path for entry in manifest.top_level])
        return manifest


def _letter(entry: Entry) -> int:
    """See ``Manifest.letters``. Raises: UnacceptableName for what cannot be."""
    if entry.kind != "file" or entry.holes or entry.detail:
        if (fault := _fault(entry)) is not None:
            raise UnacceptableName(f"{escape(entry.path)} {fault}")
        return _HOLLOW if entry.holes else _LETTERS[entry.kind]
    return _LETTERS["file"] if entry.size else _EMPTY


def _encode_one_by_one(encoder: msgspec.msgpack.Encoder, entries: Sequence[Entry]) -> memoryview:
    """What encoding each by itself gives: that of a list without what stands in front of it."""
    as_they_count = [msgspec.structs.replace(entry, holes=0) if entry.holes else entry for entry in entries]
    header = 1 if len(entries) < 16 else 3  # fixarray, or array 16
    assert len(entries) < 1 << 16
    return memoryview(encoder.encode(as_they_count))[header:]


def _fault(entry: Entry) -> str | None:
    if entry.kind == "file":
        if entry.holes > entry.size:
            return "has more holes than bytes"
        return "is a file with a detail" if entry.detail else None
    if entry.size or entry.holes:
        return "has a size and is no file"
    match entry.kind:
        case "directory":
            return "is a folder with a detail" if entry.detail else None
        case "symlink":
            return link_fault(entry.path, entry.detail)
        case "omitted":
            return None


_decoder = msgspec.msgpack.Decoder(Annotated[list[Entry], Meta(max_length=MANIFEST_RECORD_BYTES)])


def decode_entries(payload: bytes | memoryview) -> list[Entry]:
    """The entries of one MANIFEST record.

    Raises: ValueError.
    """
    if len(payload) > MANIFEST_RECORD_BYTES:
        raise ValueError("a MANIFEST record is too large")
    try:
        entries: list[Entry] = _decoder.decode(payload)
        return entries
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("a MANIFEST record cannot be understood") from error


def encode_records(entries: Sequence[Entry]) -> Iterator[bytes]:
    """The payloads of the MANIFEST records for ``entries``."""
    encoder = msgspec.msgpack.Encoder()
    for start in range(0, len(entries), _TOGETHER):
        yield from _encode_within(encoder, entries[start : start + _TOGETHER])


def _encode_within(encoder: msgspec.msgpack.Encoder, entries: Sequence[Entry]) -> Iterator[bytes]:
    payload = encoder.encode(entries)
    if len(payload) <= MANIFEST_RECORD_BYTES:
        yield payload
        return
    half = len(entries) // 2  # one alone is never too large
    yield from _encode_within(encoder, entries[:half])
    yield from _encode_within(encoder, entries[half:])
