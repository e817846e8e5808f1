"""What a transfer is asked about before it begins, and what has come of it."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Literal, overload

from midair import events
from midair.transfer.manifest import Entry

__all__ = ["STORED", "FileOutcome", "FileOutcomes", "Offer", "Outcome", "Results", "finished_events"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What the other side wants to send, for somebody to say yes or no to."""

    kind: Literal["files", "stream", "text"] = "files"
    manifest_id: bytes
    """16 bytes; the same for the same content from the same source."""
    files: int
    """Files and links; of a stream or a text, 1."""
    directories: int
    bytes: int | None
    """None when nobody knows: a stream."""
    names: tuple[str, ...]
    """All top-level names, safe to show."""
    durable: int
    """Bytes of content that are here already, from an earlier run."""
    present: int = 0
    """Files and links under whose name something stands here already, the same or not."""
    withdrawn: Callable[[], bool] = lambda: False
    """True once nobody waits for the answer any more: the sender has gone, or we were cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOutcome:
    """What became of one file or link, or of a folder that was renamed or not taken."""

    name: str
    """Its relative path, as it was offered: not safe to show unescaped."""
    bytes: int
    blake3: str | None
    """Hex; None where no single run hashed all of it."""
    outcome: str = "received"
    """``received``; ``identical``, it was there already; ``kept``, something else was there and stays; ``omitted``, the
    sender does not send such things; ``source-changed`` or ``local-io``, the sender could not read it to its end;
    ``unsupported``, the receiver's file system cannot bear it."""
    text: str = ""
    """Why not; of what is received, the path it is stored under when that is another. Not safe to show unescaped."""

    @property
    def stored(self) -> bool:
        """Whether its content stands at the receiver."""
        return self.outcome in STORED


STORED = frozenset({"received", "identical"})
_RECEIVED = ("received", "")
_SILENT, _PLAIN, _HASHED, _EXCEPTION = range(4)
_ALIKE = re.compile(b"\x01{1,1024}|\x02{1,1024}|\x03")
"""Entries one after the other of which the same is told; see ``wire.FileResult``."""
_ARE_HASHED = bytes([_SILENT, _HASHED, _HASHED, _EXCEPTION]).ljust(256)


class Results:
    """What became of the entries of a manifest, with the BLAKE3 of whole files where it is known."""

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self._entries = entries
        self._known = bytearray(len(entries))
        self._hashes = bytearray(32 * len(entries))
        self._exceptions: dict[int, tuple[str, str]] = {}

    def put_hashes(self, first: int, hashes: bytes) -> None:
        """Those of the entries from ``first`` on; each has 32 bytes."""
        count = len(hashes) // 32
        self._known[first : first + count] = b"\1" * count
        self._hashes[32 * first : 32 * (first + count)] = hashes

    def put_hash(self, index: int, digest: bytes) -> None:
        """``digest`` has 32 bytes."""
        self.put_hashes(index, digest)

    def hash(self, index: int) -> bytes | None:
        """None where it is not known."""
        return bytes(self._hashes[32 * index : 32 * index + 32]) if self._known[index] else None

    def put(self, index: int, outcome: str, text: str) -> None:
        if outcome != "received" or text:
            self._exceptions[index] = (outcome, text)

    def get(self, index: int) -> tuple[str, str]:
        """``(outcome, text)``."""
        return self._exceptions.get(index, _RECEIVED)

    def indices(self) -> array[int]:
        """The entries that have a result: all but the folders that were simply taken."""
        return array("L", compress(range(len(self._entries)), self._told()))

    def _told(self) -> bytearray:
        """Of each entry whether it has a result, and of what form."""
        told = bytearray(entry.kind != "directory" for entry in self._entries)
        for index in self._exceptions:
            told[index] = _EXCEPTION
        return told

    def alike(self) -> Iterator[tuple[int, int]]:
        """The same as ``(first, end)``, those together that are received with or without a hash; in order."""
        told = self._told()
        for found in re.finditer(b"\x01+", self._known):
            told[found.start() : found.end()] = told[found.start() : found.end()].translate(_ARE_HASHED)
        for found in _ALIKE.finditer(told):
            yield found.start(), found.end()

    def hashes(self, first: int, end: int) -> bytes | None:
        """One behind the other; None where that of the first is not known, and so none of those ``alike``."""
        return bytes(self._hashes[32 * first : 32 * end]) if self._known[first] else None

    def counts(self, total: int) -> dict[str, int]:
        """How many of ``total`` results there are of each outcome."""
        counts = Counter(outcome for outcome, _ in self._exceptions.values())
        counts["received"] += total - len(self._exceptions)
        return {outcome: count for outcome, count in sorted(counts.items()) if count}

    def not_stored(self) -> Iterator[FileOutcome]:
        """In no particular order."""
        for index, (outcome, _) in self._exceptions.items():
            if outcome not in STORED:
                yield self.of(index)

    def notable(self) -> Iterator[FileOutcome]:
        """Those that are not simply there under their own names, in order."""
        return (self.of(index) for index in sorted(self._exceptions) if self._exceptions[index][0] != "identical")

    def of(self, index: int) -> FileOutcome:
        entry, digest = self._entries[index], self.hash(index)
        outcome, text = self._exceptions.get(index, _RECEIVED)
        return FileOutcome(
            name=entry.path,
            bytes=entry.size,
            blake3=None if digest is None else digest.hex(),
            outcome=outcome,
            text=text,
        )


class FileOutcomes(Sequence[FileOutcome]):
    """The outcome of every entry that has one, made when it is looked at: there may be a million."""

    def __init__(self, results: Results | None = None) -> None:
        self._results = results = results or Results()
        self._indices = results.indices()

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, place: int) -> FileOutcome: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[FileOutcome]: ...

    def __getitem__(self, place: int | slice) -> FileOutcome | Sequence[FileOutcome]:
        if isinstance(place, slice):
            return tuple(map(self._results.of, self._indices[place]))
        return self._results.of(self._indices[place])

    def __iter__(self) -> Iterator[FileOutcome]:
        return map(self._results.of, self._indices)

    def counts(self) -> dict[str, int]:
        """How many there are of each outcome."""
        return self._results.counts(len(self))

    def not_stored(self) -> Iterator[FileOutcome]:
        """Those whose content does not stand at the receiver, in no particular order."""
        return self._results.not_stored()

    def notable(self) -> Iterator[FileOutcome]:
        """Those that are not simply there under their own names, in order."""
        return self._results.notable()

    def __repr__(self) -> str:
        return f"<{len(self)} file outcomes>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How far it has come: the end result from ``run``, or the state at the moment from ``outcome``."""

    bytes_total: int = 0
    """Bytes of content offered."""
    bytes_committed: int = 0
    """Bytes of content under their final names at the receiver, those of earlier runs among them."""
    bytes_crossed: int = 0
    """Bytes of content that this side has sent, or received, in this run."""
    bytes_saved: int = 0
    """So many bytes fewer went out for those that crossed, because they were compressed; known to the sender."""
    bytes_hashed: int = 0
    """Bytes of content that this side has hashed in this run."""
    committed: bool = False
    """What could be stored is, under its final name; ``files`` says what could not."""
    files: FileOutcomes = field(default_factory=FileOutcomes)
    """In manifest order, once committed."""


def finished_events(files: FileOutcomes, *, each: bool = True) -> Iterator[events.FileFinished]:
    """The events that tell what became of each file; or only of those that are not simply there."""
    for file in files if each else files.notable():
        renamed = file.text if file.outcome == "received" else ""
        yield events.FileFinished(
            file=file.name,
            bytes=file.bytes,
            blake3=file.blake3,
            outcome=file.outcome,
            stored_as=renamed or None,
            detail=None if renamed else file.text or None,
        )
