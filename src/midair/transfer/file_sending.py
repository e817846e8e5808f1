"""Files and folders going out: what the receiver asks for is read, hashed and sent, in the order it was asked for.

A file that cannot be read to its end as it was scanned fails alone. The bytes of it that were asked for are left out
from then on, and so are those of a hole once it was told; the receiver knows both and does not wait for them.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from itertools import islice

from midair import events
from midair.errors import ConnectionLostError, MidairError
from midair.transfer import wire
from midair.transfer.failures import telling
from midair.transfer.manifest import Files, encode_records
from midair.transfer.names import escape
from midair.transfer.outcome import STORED, FileOutcomes, Outcome, Results
from midair.transfer.outflow import Outflow
from midair.transfer.pace import EventPace, RateMeter
from midair.transfer.ranges import Range, RangeSet
from midair.transfer.runs import Runs
from midair.transfer.sending import Line, demand
from midair.transfer.source import Source, SourceReader

__all__ = ["FileSending"]

_MAX_REQUESTS = 16
"""Requests a receiver may have waiting; ours has two."""
_PATIENCE = 600.0
"""Seconds a receiver that still pings may take for its next step: a slow disk has to sync what it was sent."""
_SHOWN_NAMES = 20
_KEPT_WHOLE = 64 << 10
"""Files up to this size are not divided between two records: in one piece they cost half as much on both sides."""
_FLUSH_HASHED = 64 << 20
"""Bytes hashed before their hashes are told."""


class FileSending:
    """See :class:`midair.transfer.sending.Sending`."""

    def __init__(self, line: Line, source: Source, *, hashed: bool = True) -> None:
        self._line = line
        self._hashing = hashed
        self._link = line.link
        self._source = source
        self._manifest = source.manifest
        self._accepted = False
        self._jobs: deque[Range | wire.Compare] = deque()
        self._compared = bytearray(len(source.manifest))
        """Of each entry, whether the receiver has asked for its hash."""
        self._given_up: int | None = None
        """Bytes of files that were given up since it was accepted; None when there are none."""
        self._void = RangeSet()
        """Virtual bytes that the receiver knows it will not get."""
        self._holes = True
        self._total = 0
        self._durable = 0
        self._results = Results(source.manifest.entries)
        self._reported = bytearray(len(source.manifest))
        self._due = len(source.manifest) - source.manifest.count("directory")
        self._stored_bytes = 0
        self._outflow = Outflow(line)
        self._hashed = 0
        self._runs = Runs()
        self._meter: RateMeter | None = None
        self._pace = EventPace()

    def outcome(self, *, finished: bool) -> Outcome:
        return Outcome(
            bytes_total=self._manifest.total,
            bytes_committed=self._stored_bytes if finished else 0,
            bytes_crossed=self._outflow.crossed,
            bytes_saved=self._outflow.saved,
            bytes_hashed=self._runs.bytes_hashed + self._hashed,
            committed=finished,
            files=FileOutcomes(self._results) if finished else FileOutcomes(),
        )

    # -- the sending thread --

    def offer(self) -> None:
        manifest = self._manifest
        directories = manifest.count("directory")
        self._line.emit(
            events.OfferSeen(
                files=len(manifest) - directories,
                directories=directories,
                bytes=manifest.total,
                names=tuple(escape(entry.path) for entry in islice(manifest.top_level, _SHOWN_NAMES)),
            )
        )
        self._link.send(
            wire.Announce(
                version=wire.VERSION,
                entries=len(manifest),
                total=manifest.total,
                manifest_id=manifest.id,
                hashed=self._hashing,
            )
        )
        for payload in encode_records(manifest.entries):
            self._line.check()
            self._link.send_manifest(payload)

    def serve(self) -> None:
        reader = self._source.reader()
        try:
            while (job := self._next_job()) is not None:
                if isinstance(job, wire.Compare):
                    self._compare(reader, job.files)
                else:
                    self._send_range(reader, *job)
        finally:
            reader.close()
        with contextlib.suppress(ConnectionLostError):
            self._link.send(wire.Bye())

    def _next_job(self) -> Range | wire.Compare | None:
        """Waits for it; None when the receiver has finished."""
        line = self._line
        with line.changed:
            line.changed.wait_for(lambda: line.ended() or self._jobs)
            line.check()
            return self._jobs.popleft() if self._jobs else None

    def _compare(self, reader: SourceReader, files: list[int]) -> None:
        hashes: list[wire.FileHash] = []
        unsaid = 0
        for index in files:
            try:
                digest = reader.hash(index, self._line.check)
            except MidairError as error:
                self._line.check()
                self._link.send(wire.Compared(hashes=hashes))
                hashes, unsaid = [], 0
                self._give_up(index, error)
                continue
            hashes.append(wire.FileHash(index, digest))
            unsaid += self._manifest.entries[index].size
            self._hashed += self._manifest.entries[index].size
            if unsaid >= _FLUSH_HASHED:
                self._link.send(wire.Compared(hashes=hashes))
                hashes, unsaid = [], 0
        if hashes:
            self._link.send(wire.Compared(hashes=hashes))

    def _give_up(self, index: int, error: MidairError) -> None:
        reason, text = telling(error)
        self._runs.abandon(index)
        self._void.add(*self._manifest.span(index))
        if self._accepted:
            self._given_up = (self._given_up or 0) + self._manifest.entries[index].size
        self._link.send(wire.FileFailed(file=index, reason=reason, text=text))

    def _send_range(self, reader: SourceReader, start: int, end: int) -> None:
        digests: list[wire.Digest] = []
        position = start
        while (position := next(self._void.missing(position, end), (end, end))[0]) < end:
            self._line.check()
            try:
                count = self._fill(reader, position, min(end, position + self._outflow.size), digests)
                if not count:
                    self._tell_hole(reader, position, digests)
            except _FileGone as gone:
                count = gone.filled
                failure: _FileGone | None = gone
            else:
                failure = None
            if count:
                self._outflow.send(position, count)
                position += count
            if failure is not None:
                self._give_up(failure.file, failure.error)
            if sum(digest.files for digest in digests) >= wire.MAX_PIECES:
                self._link.send(wire.Digests(digests=digests))
                digests = []
        if (digest := self._runs.open_run()) is not None:
            digests.append(digest)
        self._link.send(wire.RangeEnd(start=start, end=end, digests=digests))
        self._void.subtract(0, end)  # what the receiver has got past it does not ask for again

    def _fill(self, reader: SourceReader, start: int, end: int, digests: list[wire.Digest]) -> int:
        """Content from virtual offset ``start`` on, up to ``end``, a hole, what is void, or as many files as a record
        may touch. How many bytes; 0 when there is a hole.

        Raises: _FileGone.
        """
        end = min(end, next(self._void.overlapping(start, end), (end, end))[0])
        end = min(end, self._manifest.end_of_entries(start, wire.MAX_PIECES))
        filled = 0
        for piece in self._manifest.parts(start, end):
            if isinstance(piece, Files):
                filled += self._fill_files(reader, piece, filled, digests)
                continue
            size = piece.size
            if filled and size < self._manifest.entries[piece.index].size <= _KEPT_WHOLE and not piece.offset:
                break  # the next record has all of it
            try:
                if self._holes and self._manifest.entries[piece.index].holes:
                    size = min(size, reader.data_size(piece.index, piece.offset))
                view = self._outflow.content[filled : filled + size]
                if size:
                    reader.read_into(piece.index, piece.offset, view)
            except MidairError as error:
                raise _FileGone(piece.index, error, filled) from error
            if size:
                entry_size = self._manifest.entries[piece.index].size
                digest = self._runs.feed(piece.index, piece.offset, view, entry_size)
                if digest is not None:
                    digests.append(digest)
            filled += size
            if size < piece.size:
                break
        return filled

    def _fill_files(self, reader: SourceReader, files: Files, filled: int, digests: list[wire.Digest]) -> int:
        """Behind what is ``filled``; how many bytes. Raises: _FileGone."""
        sizes = self._manifest.sizes(files)
        count, error = reader.read_files(files, sizes, self._outflow.content[filled:])
        size = sum(sizes[:count])
        if count:
            digests.append(
                self._runs.feed_files(files.first, sizes[:count], self._outflow.content[filled : filled + size])
            )
        if error is not None:
            raise _FileGone(files.first + count, error, filled + size) from error
        return size

    def _tell_hole(self, reader: SourceReader, position: int, digests: list[wire.Digest]) -> None:
        """Raises: _FileGone."""
        index, offset = self._manifest.locate(position)
        try:
            end = position - offset + reader.hole_end(index, offset)
        except MidairError as error:
            raise _FileGone(index, error, 0) from error
        if (digest := self._runs.cut()) is not None:
            digests.append(digest)
        self._void.add(position, end)
        self._link.send(wire.Hole(start=position, end=end))

    # -- the thread that reads --

    def take(self, message: wire.FromReceiver) -> bool:
        match message:
            case wire.Compare():
                self._take_compare(message)
            case wire.Accept():
                self._take_accept(message)
            case wire.Request():
                self._take_request(message)
            case wire.Progress():
                self._take_progress(message.durable)
            case wire.FileResults():
                self._take_results(message.results)
            case wire.Finished():
                fits = message.total == self._stored_bytes and not self._due
                demand(self._accepted and fits and not self._jobs, "that it has finished, and it has not")
                return True
            case _:
                demand(False, "what does not belong here")
        return False

    def _take_compare(self, message: wire.Compare) -> None:
        demand(not self._accepted and not self._jobs, "a Compare at the wrong time")
        entries = self._manifest.entries
        for index in message.files:
            known = index < len(entries) and entries[index].kind == "file"
            demand(known and not self._compared[index], "a Compare that cannot be")
            self._compared[index] = 1
        self._add_job(message)

    def _take_accept(self, message: wire.Accept) -> None:
        total = self._manifest.total
        fits = message.identical <= message.durable <= total - message.excluded and message.hashed <= self._hashing
        demand(not self._accepted and not self._jobs and fits, "an Accept that cannot be")
        self._link.expect(_PATIENCE)
        self._accepted = True
        self._holes = message.holes
        self._runs.hashing = message.hashed
        # Not what it has taken already: a pipe may still be handing that on, and reports only what it has handed on.
        self._durable = 0
        self._total = total - message.excluded
        self._meter = RateMeter(time.monotonic(), message.durable)
        if message.durable > message.identical:
            self._line.emit(events.Resumed(bytes=message.durable - message.identical))

    def _take_request(self, message: wire.Request) -> None:
        fits = message.start < message.end <= self._manifest.total
        small = message.end - message.start <= wire.MAX_REQUEST_BYTES
        demand(self._accepted and fits and small and len(self._jobs) < _MAX_REQUESTS, "a Request that cannot be")
        self._add_job((message.start, message.end))

    def _add_job(self, job: Range | wire.Compare) -> None:
        with self._line.changed:
            self._jobs.append(job)
            self._line.changed.notify_all()

    def _take_progress(self, durable: int) -> None:
        # It goes back only when a file was given up, of which some had arrived.
        given_up = self._given_up
        possible = durable <= self._total and (durable >= self._durable or given_up is not None)
        demand(self._meter is not None and possible, "progress that is none")
        assert self._meter is not None
        self._durable = durable
        now = time.monotonic()
        rate = self._meter.add(now, durable)
        total = max(durable, self._total - (given_up or 0))
        if self._pace.ready(now) or durable == total:
            self._line.emit(events.Progress(bytes=durable, total=total, rate=rate))

    def _take_results(self, results: list[wire.FileResult]) -> None:
        manifest = self._manifest
        for result in results:
            first, end = result.file, result.file + result.files
            folders = manifest.letters.count(b"d", first, end)
            # Of a folder that was simply taken there is nothing to say.
            fits = not folders or result.outcome not in STORED or bool(result.text)
            new = end <= len(manifest) and not any(self._reported[first:end])
            demand(self._accepted and fits and new, "a result that cannot be")
            self._reported[first:end] = b"\1" * result.files
            self._due -= result.files - folders
            for index in range(first, end) if result.outcome != "received" or result.text else ():
                self._results.put(index, result.outcome, result.text)
            if result.outcome in STORED:
                self._stored_bytes += manifest.start(end) - manifest.start(first)
            if result.blake3 is not None:
                self._results.put_hashes(first, result.blake3)


class _FileGone(Exception):
    """A file cannot be sent any more; ``filled`` bytes before it can."""

    def __init__(self, file: int, error: MidairError, filled: int) -> None:
        super().__init__(str(error))
        self.file = file
        self.error = error
        self.filled = filled
