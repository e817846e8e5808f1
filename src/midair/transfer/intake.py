"""The receiver's disk while content comes in: one thread writes and hashes, another syncs and keeps the journal.

The journal is never ahead of the data. A sync takes note of what has been written, under the lock; then, without it,
brings those files to the disk; and only then writes the runs down. What was written meanwhile waits for the next one.

A descriptor belongs to one thread: the writing one has the file it is at; a file it has left goes to the syncing one,
or, when too many wait there already, is closed and reached by a sync of the whole file system.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

from blake3 import blake3

from midair.errors import IntegrityError, LocalIOError, RemoteProtocolError
from midair.transfer import disk
from midair.transfer.failures import from_os
from midair.transfer.inspection import Found
from midair.transfer.journal import Committed, Committing, Dropped, Stage, durable_records, parts_records
from midair.transfer.journal_file import JournalFile
from midair.transfer.layout import journal_name, part_name
from midair.transfer.manifest import Manifest
from midair.transfer.names import escape
from midair.transfer.outcome import FileHashes
from midair.transfer.runs import Runs
from midair.transfer.staging import Staging, remove_parts
from midair.transfer.wire import MAX_DIGESTS, Digest

__all__ = ["SYNC_BYTES", "SYNC_SECONDS", "Intake"]

SYNC_BYTES = 64 << 20
"""Written and not yet durable, before a sync is wanted at once."""
SYNC_SECONDS = 0.5
"""A sync is wanted this often anyway: a crash costs no more than what came in that time."""

_MAX_WAITING = 16
_EMPTY = blake3().digest()


class Intake:
    """``write``, ``end_range`` and ``match`` are for the writing thread; what the syncing thread may call says so."""

    def __init__(self, folder: int, manifest: Manifest, found: Found, wake: Callable[[], None]) -> None:
        """``folder`` stays the caller's; the journal in ``found`` is taken over. ``wake`` asks for a sync."""
        self._folder = folder
        self._manifest = manifest
        self._found = found
        self._journal: JournalFile | None = found.journal
        self._wake = wake
        self._staging = Staging(folder, manifest)
        self._finishing = Staging(folder, manifest)
        self.durable = found.durable
        """Virtual ranges on disk and in the journal; changed by the syncing thread only."""

        self._lock = threading.Lock()
        self._runs = Runs()
        self._file = -1
        self._descriptor: int | None = None
        self._unmatched: deque[Digest] = deque()
        self.hashes = FileHashes(len(manifest))
        """Of the files that this run has received whole."""
        self._dropped: set[int] = set()
        # What the next sync has to bring to the disk:
        self._complete: list[Digest] = []
        self._left: list[int] = []
        self._closed: list[int] = []
        self.received = 0
        """Bytes of content written in this run."""
        self._synced = 0
        self._sync_failed = False

    # -- the writing thread --

    def write(self, position: int, data: memoryview) -> None:
        """Content for virtual offset ``position``. Raises: LocalIOError, DiskFullError, RemoteProtocolError."""
        for piece in self._manifest.pieces(position, position + len(data)):
            part, data = data[: piece.size], data[piece.size :]
            entry = self._manifest.entries[piece.index]
            if piece.index != self._file:
                self._leave_file()
                opened = self._staging.open_file(piece.index)
                with self._lock:
                    self._file, self._descriptor = piece.index, opened
            assert self._descriptor is not None
            try:
                disk.write_at(self._descriptor, part, piece.offset)
            except OSError as error:
                raise from_os(error, entry.path) from error
            with self._lock:
                digest = self._runs.feed(piece.index, piece.offset, part, entry.size)
                self.received += piece.size
                if digest is not None:
                    self._complete.append(digest)
                    if digest.start == 0:
                        self.hashes.put(piece.index, digest.blake3)
            if digest is not None:
                self._unmatched.append(digest)
        if len(self._unmatched) > MAX_DIGESTS:
            raise RemoteProtocolError("the sender keeps its digests back")
        if self.received - self._synced >= SYNC_BYTES:
            self._wake()

    def match(self, theirs: list[Digest]) -> None:
        """The sender's digests. Raises: IntegrityError, RemoteProtocolError."""
        for digest in theirs:
            if not self._unmatched:
                raise RemoteProtocolError("the sender sent a digest of what it has not sent")
            ours = self._unmatched.popleft()
            if (ours.file, ours.start, ours.end) != (digest.file, digest.start, digest.end):
                raise RemoteProtocolError("the sender sent a digest of something else")
            if ours.blake3 != digest.blake3:
                self.drop(ours.file)
                name = self._manifest.entries[ours.file].path
                raise IntegrityError(
                    f"{escape(name)} did not arrive as it was read",
                    hint="Run the same command again: what is in doubt is fetched anew.",
                )

    def end_range(self, theirs: list[Digest]) -> None:
        """A range has come to its end, with its last digests. Raises: IntegrityError, RemoteProtocolError."""
        if (digest := self._runs.open_run()) is not None:
            self._unmatched.append(digest)
        self.match(theirs)
        if self._unmatched:
            raise RemoteProtocolError("the sender left out a digest")

    def drop(self, file: int) -> None:
        """Nothing of this file is to be relied on; the journal says so when the syncing thread comes to it."""
        with self._lock:
            self._dropped.add(file)

    def _leave_file(self) -> None:
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
            file, self._file = self._file, -1
            if descriptor is None:
                return
            if len(self._left) < _MAX_WAITING and not self._closed:
                self._left.append(descriptor)
                return
            self._closed.append(file)
        os.close(descriptor)

    # -- the syncing thread --

    def prepare(self) -> None:
        """Once the offer is accepted: a journal, and the top-level parts. Raises: MidairError."""
        journal = self._journal
        if journal is None:
            journal = self._journal = JournalFile.create(self._folder, journal_name(self._manifest.entries[0].path))
            self._refuse_twins(journal)
        if not self._found.begun:
            remove_parts(self._folder, self._found.leftovers)
            journal.begin(self._manifest.id)
        if self._found.stage is Stage.RECEIVING:
            self._staging.create(self._found.present)
            names = (part_name(entry.path) for entry in self._manifest.top_level)
            unrecorded = [name for name in names if name not in self._found.parts]
            if unrecorded:
                # Before anything is in them: a part that no journal names is only taken for ours while it is empty.
                journal.append(parts_records(unrecorded))
                self._staging.sync_folder()

    def _refuse_twins(self, journal: JournalFile) -> None:
        """Where the file system would put two files into one. Raises: LocalIOError."""
        twins = self._manifest.twins
        if twins is not None and disk.folds_case(journal_name(self._manifest.entries[0].path), self._folder):
            journal.remove()
            raise LocalIOError(
                f"{escape(twins[0])} and {escape(twins[1])} would be the same file in the folder to receive into",
                hint="Receive into a folder whose file system tells upper from lower case.",
            )

    def sync(self) -> bool:
        """Bring what has been written to the disk and then into the journal; whether there was anything.

        Raises: LocalIOError, DiskFullError.
        """
        assert self._journal is not None
        if self._sync_failed:
            return False
        with self._lock:
            runs, self._complete = self._complete, []
            if self._descriptor is not None and (run := self._runs.open_run()) is not None:
                runs.append(run)
            left, self._left = self._left, []
            closed, self._closed = self._closed, []
            current = os.dup(self._descriptor) if self._descriptor is not None else None
            received = self.received
            dropped = frozenset(self._dropped)
        if current is not None:
            left.append(current)
        if received != self._synced:
            self._bring_to_disk(left, closed)
        else:
            _close(left)
        news = received != self._synced
        runs = [run for run in runs if run.file not in dropped]
        if news and runs:
            self._journal.append(durable_records(runs))
            for run in runs:
                base = self._manifest.start(run.file)
                self.durable.add(base + run.start, base + run.end)
        self._synced = received
        return news

    def _bring_to_disk(self, left: list[int], closed: list[int]) -> None:
        # Never tried again when it fails: the system may have forgotten what it could not write, and say all is well.
        self._sync_failed = True
        try:
            if not closed or not disk.sync_file_system(self._folder):
                for descriptor in left:
                    disk.sync_data(descriptor)
                for index in closed:
                    left.append(self._finishing.open_file(index))
                    disk.sync_data(left[-1])
                    os.close(left.pop())
        except OSError as error:
            raise from_os(error, "the folder") from error
        finally:
            _close(left)
        self._sync_failed = False

    def write_off(self) -> None:
        """Put into the journal that dropped files are not to be relied on. Raises: LocalIOError, DiskFullError."""
        assert self._journal is not None
        with self._lock:
            dropped = sorted(self._dropped)
        if dropped:
            self._journal.append([Dropped(file) for file in dropped])

    @property
    def not_durable(self) -> int:
        """Bytes received and not yet synced."""
        return self.received - self._synced

    def commit(self, alive: Callable[[], bool]) -> bool:
        """Everything is here: dress it, sync it, give it its names. False when ``alive`` said no before the last step.

        Raises: MidairError.
        """
        assert self._journal is not None
        if self._found.stage is Stage.RECEIVING:
            self._finishing.finish(alive)
            if not alive():
                return False
            self._journal.append([Committing()])
        if self._found.stage is not Stage.COMMITTED:
            self._finishing.publish()
            self._journal.append([Committed()])
        for index, entry in enumerate(self._manifest.entries):
            if entry.kind == "file" and not entry.size:
                self.hashes.put(index, _EMPTY)
        return True

    def forget(self) -> None:
        """The sender knows that all is committed: the journal has done its work. Raises: LocalIOError."""
        if self._journal is not None:
            self._journal.remove()

    # -- either, when the other one has ended --

    def close(self) -> None:
        """Give up the lock and every descriptor. Idempotent."""
        self._leave_file()
        _close(self._left)
        self._staging.close()
        self._finishing.close()
        if self._journal is not None:
            self._journal.close()

    @property
    def bytes_hashed(self) -> int:
        """In this run."""
        return self._runs.bytes_hashed


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())
