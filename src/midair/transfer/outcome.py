"""What a transfer is asked about before it begins, and what has come of it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from midair.transfer.manifest import Manifest

__all__ = ["FileHashes", "FileOutcome", "FileOutcomes", "Offer", "Outcome"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What the other side wants to send, for somebody to say yes or no to."""

    manifest_id: bytes
    """16 bytes; the same for the same content from the same source."""
    files: int
    directories: int
    bytes: int
    names: tuple[str, ...]
    """All top-level names, safe to show."""
    durable: int
    """Bytes of content that are here already, from an earlier run."""
    withdrawn: Callable[[], bool] = lambda: False
    """True once nobody waits for the answer any more: the sender has gone, or we were cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOutcome:
    """One file that the receiver has committed."""

    name: str
    """Its relative path, as it came: not safe to show unescaped."""
    bytes: int
    blake3: str | None
    """Hex; None where no single run hashed all of it."""
    outcome: str = "received"


class FileHashes:
    """BLAKE3 of whole files, where they are known, in 33 bytes for each entry of a manifest."""

    def __init__(self, entries: int) -> None:
        self._known = bytearray(entries)
        self._hashes = bytearray(32 * entries)

    def put(self, index: int, digest: bytes) -> None:
        """``digest`` has 32 bytes."""
        self._known[index] = 1
        self._hashes[32 * index : 32 * index + 32] = digest

    def get(self, index: int) -> bytes | None:
        """None where it is not known."""
        return bytes(self._hashes[32 * index : 32 * index + 32]) if self._known[index] else None


class FileOutcomes(Sequence[FileOutcome]):
    """The outcome of every file of a manifest, made when it is looked at: there may be a million."""

    def __init__(self, manifest: Manifest, hashes: FileHashes) -> None:
        self._entries = manifest.entries
        self._hashes = hashes
        self._indices = array("L", (i for i, entry in enumerate(manifest.entries) if entry.kind == "file"))

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, place: int) -> FileOutcome: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[FileOutcome]: ...

    def __getitem__(self, place: int | slice) -> FileOutcome | Sequence[FileOutcome]:
        if isinstance(place, slice):
            return tuple(map(self._outcome, self._indices[place]))
        return self._outcome(self._indices[place])

    def __iter__(self) -> Iterator[FileOutcome]:
        return map(self._outcome, self._indices)

    def _outcome(self, index: int) -> FileOutcome:
        entry, digest = self._entries[index], self._hashes.get(index)
        return FileOutcome(name=entry.path, bytes=entry.size, blake3=None if digest is None else digest.hex())

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
    bytes_hashed: int = 0
    """Bytes of content that this side has hashed in this run."""
    committed: bool = False
    """Every file, and be it without a byte, stands under its final name at the receiver."""
    files: Sequence[FileOutcome] = ()
    """In manifest order, once committed."""
