"""BLAKE3 over contiguous runs of files, the same way on both sides.

A run begins at the first byte that a connection carries of a file and grows as long as the next byte of that file
follows; a hole ends it. Both sides see the same bytes in the same order, so they cut the same runs, and each digest of
the sender meets exactly one of the receiver. A run that covers the whole file gives the file's ordinary BLAKE3.

Where both sides have agreed not to hash there are the same runs, and their digests are empty.
"""

from __future__ import annotations

from collections.abc import Iterable

from blake3 import blake3

from midair.transfer.wire import Digest

__all__ = ["Runs"]


class Runs:
    """One side of one connection."""

    def __init__(self) -> None:
        self.hashing = True
        """To be changed only before the first byte."""
        self._file = -1
        self._start = 0
        self._position = 0
        self._hasher = blake3()
        self.bytes_hashed = 0

    def feed(self, file: int, offset: int, data: memoryview, file_size: int) -> Digest | None:
        """Hash the next bytes; the digest when they complete the file."""
        if len(data) == file_size:
            return self._whole(file, data)
        if file != self._file or offset != self._position:
            self._file, self._start, self._position = file, offset, offset
            self._hasher = blake3()
        self._position += len(data)
        if self.hashing:
            self._hasher.update(data)
            self.bytes_hashed += len(data)
        if self._position < file_size:
            return None
        digest = self.open_run()
        self._file = -1
        return digest

    def _whole(self, file: int, data: memoryview) -> Digest:
        """Of very many small files each comes in one piece."""
        self._file = -1
        if not self.hashing:
            return Digest(file, 0, len(data), None)
        self.bytes_hashed += len(data)
        return Digest(file, 0, len(data), blake3(data).digest())

    def feed_files(self, first: int, sizes: Iterable[int], data: memoryview) -> Digest:
        """Several files at once, one entry after the other from ``first`` on, each of which is whole in ``data``."""
        self._file = -1
        hashes: list[bytes] = []
        start = end = files = 0
        for files, size in enumerate(sizes, 1):  # noqa: B007 (how many there were)
            if self.hashing:
                end = start + size
                hashes.append(blake3(data[start:end]).digest())
                start = end
        self.bytes_hashed += end
        return Digest(first, 0, len(data), b"".join(hashes) if self.hashing else None, files)

    def open_run(self) -> Digest | None:
        """The digest so far of a file that is not complete; the run goes on."""
        if self._file < 0:
            return None
        digest = self._hasher.digest() if self.hashing else None
        return Digest(self._file, self._start, self._position, digest)

    def cut(self) -> Digest | None:
        """As ``open_run``, and the run ends here."""
        digest = self.open_run()
        self._file = -1
        return digest

    def abandon(self, file: int) -> None:
        """The run ends here and has no digest, if it is one of ``file``."""
        if self._file == file:
            self._file = -1
