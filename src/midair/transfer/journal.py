"""What a receiver writes down, so that a later run knows what it can rely on. Bytes and values only.

    file      "midair journal 2\\n", then records
    record    payload length, 32 bits | check, 8 bytes | payload (msgpack)

A check is BLAKE3 over the check before it and the payload. So a record counts only where it was written, after the
records it was written after; reading ends at the first that does not fit, which is how a crash leaves the last one.

    Begun        whose content it is; the first record
    Parts        names we have created on the top level; only these are ever written to or removed
    Durable      runs of files whose bytes had reached the disk before the record was written
    Hollow       the same of holes: there is nothing to hash in them
    Dropped      nothing of this file can be relied on
    Alike        files that stood there already, found by their hash to be what the sender has; as they were then
    Exceptions   what became of entries that are not, or not as they are called, among what is to be renamed
    Committing   everything is durable, verified and dressed; only the renaming is left
    Committed    everything has its final name
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import Annotated

import msgspec
from blake3 import blake3
from msgspec import Meta

from midair.transfer.manifest import ID_BYTES, Manifest
from midair.transfer.names import MAX_COMPONENT_BYTES
from midair.transfer.ranges import RangeSet
from midair.transfer.wire import Digest

__all__ = [
    "MAGIC",
    "Alike",
    "AlikeFile",
    "Begun",
    "Committed",
    "Committing",
    "Dropped",
    "Durable",
    "Exceptional",
    "Exceptions",
    "Hollow",
    "HollowRun",
    "JournalReader",
    "JournalWriter",
    "Parts",
    "Record",
    "Stage",
    "alike_records",
    "dropped_records",
    "durable_records",
    "exceptions_records",
    "parts_records",
]

MAGIC = b"midair journal 2\n"
MAX_RECORD_BYTES = 1 << 20
_BATCH = 2048
_TEXT_BATCH = 64
"""Exceptions carry a path or an explanation of up to 4 KiB each."""
_CHECK_BYTES = 8
_HEADER = struct.Struct(f"!I{_CHECK_BYTES}s")


class _Record(msgspec.Struct, frozen=True, array_like=True):
    """The root of the records."""


class Begun(_Record, frozen=True, tag=1):
    manifest_id: Annotated[bytes, Meta(min_length=ID_BYTES, max_length=ID_BYTES)]


class Parts(_Record, frozen=True, tag=2):
    names: list[Annotated[str, Meta(max_length=MAX_COMPONENT_BYTES)]]


class Durable(_Record, frozen=True, tag=3):
    runs: list[Digest]
    """Of one file each, or of several that are whole."""


class Dropped(_Record, frozen=True, tag=4):
    file: int


class Committing(_Record, frozen=True, tag=5):
    pass


class Committed(_Record, frozen=True, tag=6):
    pass


class HollowRun(msgspec.Struct, frozen=True, array_like=True, gc=False):
    file: int
    start: int
    end: int


class Hollow(_Record, frozen=True, tag=7):
    runs: list[HollowRun]


class AlikeFile(msgspec.Struct, frozen=True, array_like=True, gc=False):
    file: int
    mtime_ns: int
    inode: int


class Alike(_Record, frozen=True, tag=8):
    files: list[AlikeFile]


class Exceptional(msgspec.Struct, frozen=True, array_like=True, gc=False):
    file: int
    outcome: str
    text: str


class Exceptions(_Record, frozen=True, tag=9):
    entries: list[Exceptional]


Record = Begun | Parts | Durable | Hollow | Dropped | Alike | Exceptions | Committing | Committed


class Stage(IntEnum):
    """How far a transfer has come; it never goes back."""

    RECEIVING = 0
    COMMITTING = 1
    COMMITTED = 2


def durable_records(runs: list[Digest], hollow: list[HollowRun]) -> list[Record]:
    """What the next sync has made durable, in records of bounded size."""
    return [
        *map(Durable, _batches(runs)),
        *(Hollow(hollow[i : i + _BATCH]) for i in range(0, len(hollow), _BATCH)),
    ]


def _batches(runs: list[Digest]) -> Iterator[list[Digest]]:
    batch: list[Digest] = []
    files = 0
    for run in runs:
        batch.append(run)
        files += run.files
        if files >= _BATCH:
            yield batch
            batch, files = [], 0
    if batch:
        yield batch


def dropped_records(files: Iterable[int]) -> list[Record]:
    """One for each of ``files``."""
    return [Dropped(file) for file in files]


def parts_records(names: list[str]) -> list[Record]:
    """``names`` in records of bounded size."""
    return [Parts(names[i : i + _BATCH]) for i in range(0, len(names), _BATCH)]


def alike_records(files: list[AlikeFile]) -> list[Record]:
    """``files`` in records of bounded size."""
    return [Alike(files[i : i + _BATCH]) for i in range(0, len(files), _BATCH)]


def exceptions_records(entries: list[Exceptional]) -> list[Record]:
    """``entries`` in records of bounded size."""
    return [Exceptions(entries[i : i + _TEXT_BATCH]) for i in range(0, len(entries), _TEXT_BATCH)]


class JournalWriter:
    """Turns records into bytes to append. ``check`` is the last one in the file, empty for a new file."""

    def __init__(self, check: bytes = b"") -> None:
        self.check = check
        self._encoder = msgspec.msgpack.Encoder()

    def encode(self, records: Iterable[Record]) -> bytes:
        """What to append; a new file's begins with MAGIC."""
        parts = [] if self.check else [MAGIC]
        for record in records:
            payload = self._encoder.encode(record)
            assert len(payload) <= MAX_RECORD_BYTES
            self.check = _check(self.check, payload)
            parts.append(_HEADER.pack(len(payload), self.check) + payload)
        return b"".join(parts)


class JournalReader:
    """Takes a journal's bytes in any pieces and keeps what they amount to.

    ``manifest`` is what is offered now; runs are only looked at when the journal is about the same.
    """

    def __init__(self, manifest: Manifest, *, keep_runs: bool = False) -> None:
        self._manifest = manifest
        self._keep_runs = keep_runs
        self._pending = bytearray()
        self._ended = False
        self._blank = False
        self._decoder = msgspec.msgpack.Decoder(Record)
        self.valid_bytes = 0
        """Bytes up to the end of the last record that counts; a writer goes on there."""
        self.check = b""
        """The check of that record, for a JournalWriter."""
        self.foreign = False
        """It does not begin as our journals do."""
        self.manifest_id: bytes | None = None
        """None: there is not even a first record."""
        self.parts: set[str] = set()
        self.durable = RangeSet()
        """Virtual ranges that can be relied on, as far as the journal knows."""
        self.runs: list[Digest | int] = []
        """If they were to be kept: the runs with their hashes, and the files that were dropped, as they came."""
        self.stage = Stage.RECEIVING
        self.alike: dict[int, AlikeFile] = {}
        self.exceptions: dict[int, tuple[str, str]] = {}
        """``(outcome, text)`` of entries."""

    @property
    def same_content(self) -> bool:
        """Whether it is about what is offered now."""
        return self.manifest_id == self._manifest.id

    def feed(self, data: bytes) -> None:
        """The next bytes of the file. Never raises: what cannot be read is not there."""
        if self._ended:
            return
        self._pending += data
        if self.valid_bytes == 0:
            if not any(self._pending):
                # The size had reached the disk when the power went, and the first record had not.
                self._blank = self._blank or bool(data)
                self._pending.clear()
                return
            if self._blank or not MAGIC.startswith(self._pending[: len(MAGIC)]):
                self.foreign = self._ended = True
                return
            if len(self._pending) < len(MAGIC):
                return
            self._consume(len(MAGIC))
        while self._take_record():
            pass

    def _take_record(self) -> bool:
        """False when there is none that is whole, or none that counts."""
        if len(self._pending) < _HEADER.size:
            return False
        length, check = _HEADER.unpack_from(self._pending)
        if length <= MAX_RECORD_BYTES:
            if len(self._pending) < _HEADER.size + length:
                return False
            payload = bytes(self._pending[_HEADER.size : _HEADER.size + length])
            if check == _check(self.check, payload) and self._apply(payload):
                self.check = check
                self._consume(_HEADER.size + length)
                return True
        self._ended = True
        self._pending.clear()
        return False

    def _consume(self, count: int) -> None:
        del self._pending[:count]
        self.valid_bytes += count

    def _apply(self, payload: bytes) -> bool:
        try:
            record = self._decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False
        if self.manifest_id is None:
            if not isinstance(record, Begun):
                return False
            self.manifest_id = record.manifest_id
            return True
        match record:
            case Begun():
                return False
            case Parts(names):
                self.parts.update(names)
            case Durable(runs) | Hollow(runs):
                return not self.same_content or self._add(runs)
            case Dropped(file):
                return not self.same_content or self._drop(file)
            case Alike(files):
                self.alike.update((file.file, file) for file in files)
            case Exceptions(entries):
                self.exceptions.update((entry.file, (entry.outcome, entry.text)) for entry in entries)
            case Committing():
                self.stage = Stage.COMMITTING
            case Committed():
                self.stage = Stage.COMMITTED
        return True

    def _add(self, runs: Sequence[Digest | HollowRun]) -> bool:
        manifest = self._manifest
        for run in runs:
            files = run.files if isinstance(run, Digest) else 1
            last = run.file + files
            if not 0 <= run.file < last <= len(manifest) or not 0 <= run.start < run.end:
                return False
            size = manifest.start(last) - manifest.start(run.file)
            if run.end > size or (files > 1 and (run.start, run.end) != (0, size)):
                return False
        for run in runs:
            base = self._manifest.start(run.file)
            self.durable.add(base + run.start, base + run.end)
            if self._keep_runs and isinstance(run, Digest):
                self.runs.append(run)
        return True

    def _drop(self, file: int) -> bool:
        if not 0 <= file < len(self._manifest):
            return False
        base = self._manifest.start(file)
        self.durable.subtract(base, base + self._manifest.entries[file].size)
        if self._keep_runs:
            self.runs.append(file)
        return True


def _check(before: bytes, payload: bytes) -> bytes:
    return blake3(before + payload).digest(_CHECK_BYTES)
