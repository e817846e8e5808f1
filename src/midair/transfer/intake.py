"""The receiver's disk while content comes in: one thread writes and hashes, another syncs and keeps the journal.

The journal is never ahead of the data. A sync takes note of what has been written, under the lock; then, without it,
brings those files to the disk; and only then writes the runs down. What was written meanwhile waits for the next one.

A descriptor belongs to one thread: the writing one has the file it is at; a file it has left goes to the syncing one,
or, when too many wait there already, is closed and reached by a sync of the whole file system.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Set
from itertools import chain

from blake3 import blake3

from midair.errors import RemoteProtocolError
from midair.transfer import disk
from midair.transfer.failures import from_os
from midair.transfer.inspection import Found
from midair.transfer.journal import (
    AlikeFile,
    Committed,
    Committing,
    Exceptional,
    HollowRun,
    Stage,
    alike_records,
    dropped_records,
    durable_records,
    exceptions_records,
)
from midair.transfer.journal_file import JournalFile
from midair.transfer.manifest import Files, Manifest, Piece
from midair.transfer.matching import Matching
from midair.transfer.outcome import Results
from midair.transfer.plan import Fate, Plan
from midair.transfer.preparing import prepare
from midair.transfer.staging import Staging
from midair.transfer.vouching import files_of, spans, without
from midair.transfer.wire import MAX_PIECES, Digest

__all__ = ["MAX_NOT_DURABLE", "SYNC_BYTES", "SYNC_SECONDS", "Intake"]

SYNC_BYTES = 32 << 20
"""Written and not yet durable, before a sync is wanted at once."""
MAX_NOT_DURABLE = 64 << 20
"""Written and not yet durable, at most: what a kill may cost. Half of it can come in while the other half is synced."""
SYNC_SECONDS = 0.5
"""A sync is wanted this often anyway: a crash costs no more than what came in that time."""

_LOOK_SECONDS = 0.2
"""How often somebody who waits for a sync looks whether it still comes."""
_MAX_WAITING = 16
_EMPTY = blake3().digest()
_Work = tuple[list[int], list[range], list[Digest], list[HollowRun]]


class Intake:
    """The first methods are for the writing thread; what the syncing thread may call says so."""

    def __init__(
        self,
        folder: int,
        manifest: Manifest,
        plan: Plan,
        found: Found,
        results: Results,
        wake: Callable[[], None],
        alive: Callable[[], bool] = lambda: True,
        *,
        hashed: bool = True,
    ) -> None:
        """``folder`` stays the caller's; the journal in ``found`` is taken over. ``wake`` asks for a sync, which comes
        as long as the transfer is ``alive``."""
        self._folder = folder
        self._manifest = manifest
        self._plan = plan
        self._found = found
        self._results = results
        self._journal: JournalFile | None = found.journal
        self._wake = wake
        self._alive = alive
        self._staging = Staging(folder, manifest, plan)
        self._finishing = Staging(folder, manifest, plan)
        self.durable = found.durable
        """Virtual ranges on disk and in the journal; changed by the syncing thread only."""

        self._lock = threading.Lock()
        self._synced_more = threading.Condition(self._lock)
        self._matching = Matching(manifest, hashed=hashed)
        self._file = -1
        self._descriptor: int | None = None
        self._dropped: set[int] = set()
        # What the next sync has to bring to the disk:
        self._complete: list[Digest] = []
        self._hollow: list[HollowRun] = []
        self._left: list[int] = []
        self._closed: list[range] = []
        self.received = 0
        """Bytes of content written in this run."""
        self._synced = 0
        self._named = -1
        """The last file that was synced: its name is durable."""
        self._sync_failed = False

    # -- the writing thread --

    def write(self, position: int, data: memoryview) -> None:
        """Content for virtual offset ``position``. Raises: LocalIOError, DiskFullError, RemoteProtocolError."""
        if self.not_durable > MAX_NOT_DURABLE - len(data):
            self._wait_for_a_sync(len(data))
        for part in self._manifest.parts(position, position + len(data)):
            if isinstance(part, Files):
                size = self._write_files(part, data)
            else:
                size = part.size
                self._write_piece(part, data[:size])
                with self._lock:
                    self._note(part, data[:size])
            data = data[size:]
        if self.received - self._synced >= SYNC_BYTES:
            self._wake()

    def _write_piece(self, piece: Piece, part: memoryview) -> None:
        descriptor = self._enter_file(piece.index)
        try:
            disk.write_at(descriptor, part, piece.offset)
        except OSError as error:
            raise from_os(error, self._manifest.entries[piece.index].path) from error

    def _write_files(self, files: Files, data: memoryview) -> int:
        """Those at the beginning of ``data``; how many bytes they are."""
        sizes = self._manifest.sizes(files)
        if len(sizes) > MAX_PIECES:
            raise RemoteProtocolError("the sender sent too many files at once")
        data = data[: sum(sizes)]
        many = len(sizes) > _MAX_WAITING  # to be synced one by one
        if many:
            self._leave_file()
            self._staging.whole_files.write(files, sizes, data)
        else:
            start = 0
            for index, size in zip(range(files.first, files.end), sizes, strict=True):
                self._write_piece(Piece(index, 0, size), data[start : start + size])
                start += size
        with self._lock:
            if many:
                self._closed.append(range(files.first, files.end))
            self.received += len(data)
            digest = self._matching.feed_files(files, sizes, data)
            self._complete.append(digest)
        if digest.blake3:
            self._results.put_hashes(files.first, digest.blake3)
        return len(data)

    def _note(self, piece: Piece, part: memoryview) -> None:
        """It is written; with the lock held."""
        self.received += piece.size
        digest = self._matching.feed(piece, part)
        if digest is not None:
            self._complete.append(digest)
            if (digest.start, digest.end) == (0, self._manifest.entries[piece.index].size) and digest.blake3:
                self._results.put_hash(piece.index, digest.blake3)

    def _wait_for_a_sync(self, size: int) -> None:
        """Until there is room for ``size`` bytes that are not durable, or it does not matter any more."""
        self._wake()
        with self._synced_more:
            while self.not_durable > MAX_NOT_DURABLE - size and self._alive():
                self._synced_more.wait(_LOOK_SECONDS)

    def hole(self, file: int, start: int, end: int) -> None:
        """From offset ``start`` to ``end`` the file has no content. Raises: LocalIOError, DiskFullError."""
        with self._lock:
            digest = self._matching.cut()
            if digest is not None:
                self._complete.append(digest)
        descriptor = self._enter_file(file)
        try:
            disk.clear(descriptor, start, end)
        except OSError as error:
            raise from_os(error, self._manifest.entries[file].path) from error
        with self._lock:
            self._hollow.append(HollowRun(file, start, end))

    def match(self, theirs: list[Digest]) -> None:
        """The sender's digests. Raises: IntegrityError, RemoteProtocolError."""
        self._judge(self._matching.match(theirs))

    def end_range(self, theirs: list[Digest]) -> None:
        """A range has come to its end, with its last digests. Raises: IntegrityError, RemoteProtocolError."""
        self._judge(self._matching.end_range(theirs))

    def _judge(self, differs: int | None) -> None:
        if differs is not None:
            self.drop(differs)
            raise self._matching.doubt(differs)

    def drop(self, file: int) -> None:
        """Nothing of this file is to be relied on; the journal says so when the syncing thread comes to it."""
        with self._lock:
            self._dropped.add(file)
            self._matching.abandon(file)

    def _enter_file(self, index: int) -> int:
        if index != self._file:
            self._leave_file()
            opened = self._staging.open_file(index)
            with self._lock:
                self._file, self._descriptor = index, opened
        assert self._descriptor is not None
        return self._descriptor

    def _leave_file(self) -> None:
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
            file, self._file = self._file, -1
            if descriptor is None:
                return
            if len(self._left) < _MAX_WAITING and not self._closed:
                self._left.append(descriptor)
                return
            self._closed.append(range(file, file + 1))
        os.close(descriptor)

    # -- the syncing thread --

    def prepare(self, alike: Iterable[AlikeFile]) -> None:
        """Once it is decided what is wanted: a journal, the top-level parts, room for what is large. ``alike`` are
        files that hashes have shown to be identical. What this file system cannot bear fails in the plan.

        Raises: MidairError; then nothing of a transfer that was not begun before is left.
        """
        self._journal = prepare(
            self._folder,
            self._manifest,
            self._plan,
            self._found,
            self._staging,
            self.durable,
            alike_records(list(alike)),
        )

    def sync(self) -> bool:
        """Bring what has been written to the disk and then into the journal; whether there was anything.

        Raises: LocalIOError, DiskFullError.
        """
        assert self._journal is not None
        if self._sync_failed:
            return False
        with self._lock:
            received = self.received
            dropped = frozenset(self._dropped)
            # Else nothing is taken: what was left meanwhile is of files that are not noted yet.
            news = received != self._synced or bool(self._complete or self._hollow)
            work = self._take_work() if news else None
        if work is not None:
            self._sync(*work, dropped)
        for file in dropped:
            self.durable.subtract(*self._manifest.span(file))
        with self._synced_more:
            self._synced = received
            self._synced_more.notify_all()
        return news

    def _take_work(self) -> _Work:
        """What is to be brought to the disk; with the lock held."""
        runs, self._complete = self._complete, []
        if self._descriptor is not None and (run := self._matching.open_run()) is not None:
            runs.append(run)
        hollow, self._hollow = self._hollow, []
        left, self._left = self._left, []
        closed, self._closed = self._closed, []
        if self._descriptor is not None:
            left.append(os.dup(self._descriptor))
        return left, closed, runs, hollow

    def _sync(
        self, left: list[int], closed: list[range], runs: list[Digest], hollow: list[HollowRun], dropped: Set[int]
    ) -> None:
        assert self._journal is not None
        self._bring_to_disk(left, closed, runs, hollow)
        self._named = runs[-1].file if runs else -1
        runs = [part for run in runs for part in without(self._manifest, run, dropped)]
        hollow = [run for run in hollow if run.file not in dropped]
        if runs or hollow:
            self._journal.append(durable_records(runs, hollow))
        for start, end in spans(self._manifest, [*runs, *hollow]):
            self.durable.add(start, end)

    def _bring_to_disk(self, left: list[int], closed: list[range], runs: list[Digest], hollow: list[HollowRun]) -> None:
        # Never tried again when it fails: the system may have forgotten what it could not write, and say all is well.
        self._sync_failed = True
        try:
            if not closed or not disk.sync_file_system(self._folder):
                for descriptor in left:
                    disk.sync_data(descriptor)
                for index in chain.from_iterable(closed):
                    left.append(self._finishing.open_file(index))
                    disk.sync_data(left[-1])
                    os.close(left.pop())
                files = set(chain.from_iterable(map(files_of, runs)))
                self._finishing.sync_names((files | {hole.file for hole in hollow}) - {self._named})
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
            self._journal.append(dropped_records(dropped))

    @property
    def not_durable(self) -> int:
        """Bytes received and not yet synced."""
        return self.received - self._synced

    def commit(self, alive: Callable[[], bool]) -> bool:
        """Everything is here: dress it, sync it, give it its names. False when ``alive`` said no before the last step.

        Raises: MidairError.
        """
        assert self._journal is not None
        if self._found.stage is not Stage.COMMITTED:
            self._discard_what_gets_no_name()
            self._finishing.finish(alive, self._found.published, self._staging.whole_files)
            if not alive():
                return False
            self._journal.append([*exceptions_records(self._exceptions()), Committing()])
            self._finishing.publish()
            self._journal.append([Committed()])
        for found in re.finditer(b"e", self._manifest.letters):
            if self._plan.fate(found.start()) is not Fate.FAILED:
                self._results.put_hash(found.start(), _EMPTY)
        return True

    def _discard_what_gets_no_name(self) -> None:
        """Unfinished data of files that failed, or that an earlier run began and this one does not want."""
        for index, _ in self._plan.notable():
            if self._manifest.entries[index].kind not in ("file", "symlink") or self._plan.staged(index):
                continue
            if self._found.begun or index in self._dropped:
                self._finishing.discard(index)

    def _exceptions(self) -> list[Exceptional]:
        """What a later run could not tell by looking, and what it would read of an earlier one that holds no more."""
        exceptions = {index: Exceptional(index, "received", "") for index in self._found.exceptions}
        exceptions.update((index, Exceptional(index, *self._plan.result(index))) for index in self._plan.exceptions())
        return list(exceptions.values())

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
        return self._matching.bytes_hashed


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())
