"""Unfinished data against the hashes in the journal, for who does not trust the disk it lies on.

A journal is never ahead of its data, so nothing needs this after a crash. A disk that forgets, a hand in the part or
a copy of both to elsewhere is another matter. A file of which anything is not as it was is received anew as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from blake3 import blake3

from midair.transfer import disk
from midair.transfer.inspection import Found
from midair.transfer.layout import part_name
from midair.transfer.manifest import Manifest
from midair.transfer.ranges import RangeSet
from midair.transfer.vouching import apart
from midair.transfer.wire import Digest

__all__ = ["Verification"]

_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)


class Verification:
    """Of one transfer; for the worker, before anything is written."""

    def __init__(self, manifest: Manifest, alive: Callable[[], bool]) -> None:
        self._manifest = manifest
        self._alive = alive
        self._buffer = memoryview(bytearray(_CHUNK))
        self.bytes_hashed = 0

    def run(self, folder: int, found: Found) -> int:
        """Take out of ``found`` what is not as the journal says; in how many files that was. Incomplete when the
        transfer has ended meanwhile."""
        folders = disk.Folders(folder)
        before = len(found.distrusted)
        known = self._by_file(found.runs)
        relied_on = sorted({piece.index for span in found.durable for piece in self._manifest.pieces(*span)})
        try:
            for index in relied_on:
                if not self._alive():
                    break
                if not self._is_good(folders, index, list(known.get(index, {}).values()), found.durable):
                    found.durable.subtract(*self._manifest.span(index))
                    found.distrusted.append(index)
        finally:
            folders.close()
        return len(found.distrusted) - before

    def _by_file(self, runs: Iterable[Digest | int]) -> dict[int, dict[int, Digest]]:
        """The runs of each file by their starts. One that went on is longer each time it is told."""
        files: dict[int, dict[int, Digest]] = {}
        for run in runs:
            if isinstance(run, int):
                files.pop(run, None)
                continue
            for each in apart(self._manifest, run):
                files.setdefault(each.file, {})[each.start] = each
        return files

    def _is_good(self, folders: disk.Folders, index: int, runs: list[Digest], durable: RangeSet) -> bool:
        entry, base = self._manifest.entries[index], self._manifest.start(index)
        relied_on = [(start - base, end - base) for start, end in durable.overlapping(base, base + entry.size)]
        top, slash, rest = entry.path.partition("/")
        parent, _, name = (part_name(top) + slash + rest).rpartition("/")
        try:
            descriptor = disk.open_to_read(name, folders.get(parent.split("/") if parent else ()))
        except OSError:
            return False
        try:
            covered = RangeSet((run.start, run.end) for run in runs)
            holes = [hole for start, end in relied_on for hole in covered.missing(start, end)]
            return all(self._has_hash(descriptor, run) for run in runs) and all(
                self._is_zero(descriptor, start, end) for start, end in holes
            )
        except OSError:
            return False
        finally:
            os.close(descriptor)

    def _has_hash(self, descriptor: int, run: Digest) -> bool:
        hasher = blake3()
        for piece in self._read(descriptor, run.start, run.end):
            hasher.update(piece)
        self.bytes_hashed += run.end - run.start
        return hasher.digest() == run.blake3

    def _is_zero(self, descriptor: int, start: int, end: int) -> bool:
        return all(piece == _ZEROS[: len(piece)] for piece in self._read(descriptor, start, end))

    def _read(self, descriptor: int, start: int, end: int) -> Iterator[memoryview]:
        """To ``end``, or as far as there is anything."""
        while start < end and self._alive():
            count = os.preadv(descriptor, [self._buffer[: end - start]], start)
            if not count:
                return
            yield self._buffer[:count]
            start += count
