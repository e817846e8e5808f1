"""The receiver's hashes against the sender's. Pure; one for each connection."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from midair.errors import IntegrityError, RemoteProtocolError
from midair.transfer.manifest import Files, Manifest, Piece
from midair.transfer.names import escape
from midair.transfer.runs import Runs
from midair.transfer.wire import MAX_DIGESTS, Digest

__all__ = ["Matching"]


class Matching:
    """``feed``, ``cut`` and ``abandon`` in the order of the content; ``match`` and ``end_range`` as the sender says."""

    def __init__(self, manifest: Manifest, *, hashed: bool = True) -> None:
        """``hashed``: see :class:`midair.transfer.wire.Accept`."""
        self._manifest = manifest
        self._runs = Runs()
        self._runs.hashing = hashed
        self._unmatched: deque[Digest] = deque()
        self._unmatched_files = 0

    @property
    def bytes_hashed(self) -> int:
        return self._runs.bytes_hashed

    def feed(self, piece: Piece, data: memoryview) -> Digest | None:
        """The digest of the run that the piece completes, if it does. Raises: RemoteProtocolError."""
        digest = self._runs.feed(piece.index, piece.offset, data, self._manifest.entries[piece.index].size)
        return self._expect(digest)

    def feed_files(self, files: Files, sizes: Sequence[int], data: memoryview) -> Digest:
        """The digest of files that ``data`` brings whole. Raises: RemoteProtocolError."""
        digest = self._runs.feed_files(files.first, sizes, data)
        self._expect(digest)
        return digest

    def cut(self) -> Digest | None:
        """The run is over although its file goes on: here is a hole. Raises: RemoteProtocolError."""
        return self._expect(self._runs.cut())

    def open_run(self) -> Digest | None:
        """The digest so far of a file that is not complete."""
        return self._runs.open_run()

    def abandon(self, file: int) -> None:
        """Nothing more comes of this file, and no digest for the run it was in."""
        self._runs.abandon(file)

    def _expect(self, digest: Digest | None) -> Digest | None:
        if digest is not None:
            self._unmatched.append(digest)
            self._unmatched_files += digest.files
            if self._unmatched_files > MAX_DIGESTS:
                raise RemoteProtocolError("the sender keeps its digests back")
        return digest

    def match(self, theirs: list[Digest]) -> int | None:
        """The sender's digests; the file in which the two differ, if there is one. Raises: RemoteProtocolError."""
        for digest in theirs:
            if not self._unmatched:
                raise RemoteProtocolError("the sender sent a digest of what it has not sent")
            ours = self._unmatched.popleft()
            self._unmatched_files -= ours.files
            if ours == digest:
                continue
            if (ours.file, ours.start, ours.end, ours.files) != (digest.file, digest.start, digest.end, digest.files):
                raise RemoteProtocolError("the sender sent a digest of something else")
            return ours.file + _first_difference(ours.blake3 or b"", digest.blake3 or b"")
        return None

    def end_range(self, theirs: list[Digest]) -> int | None:
        """A range has come to its end, with its last digests; as ``match``. Raises: RemoteProtocolError."""
        if (digest := self._runs.open_run()) is not None:
            self._unmatched.append(digest)
            self._unmatched_files += digest.files
        differs = self.match(theirs)
        if differs is None and self._unmatched:
            raise RemoteProtocolError("the sender left out a digest")
        return differs

    def doubt(self, file: int) -> IntegrityError:
        """What to raise when the two differ in ``file``."""
        return IntegrityError(
            f"{escape(self._manifest.entries[file].path)} did not arrive as it was read",
            hint="Run the same command again: what is in doubt is fetched anew.",
        )


def _first_difference(ours: bytes, theirs: bytes) -> int:
    """How many whole hashes of 32 bytes are the same in front of the first that is not."""
    places = range(0, len(ours), 32)
    return next((at // 32 for at in places if ours[at : at + 32] != theirs[at : at + 32]), 0)
