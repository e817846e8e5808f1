"""Files and folders coming in: what is there already, what is to be asked for, and the disk half at its work.

The worker first finds out, with the sender's help where hashes have to tell, what of the offer stands there already,
and has somebody decide about what is in the way. Only then is the offer accepted and anything written.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator

from midair import events
from midair.errors import MidairError, RemoteProtocolError
from midair.transfer import wire
from midair.transfer.clashes import Resolve, resolve_clashes
from midair.transfer.comparison import Comparison
from midair.transfer.destination import Folder
from midair.transfer.failures import from_os
from midair.transfer.inspection import Found, check_room, inspect
from midair.transfer.intake import SYNC_SECONDS, Intake
from midair.transfer.journal import AlikeFile
from midair.transfer.manifest import Manifest
from midair.transfer.names import escape
from midair.transfer.outcome import FileOutcomes, Offer, Outcome, Results, finished_events
from midair.transfer.pace import EventPace, RateMeter
from midair.transfer.plan import Fate, Plan
from midair.transfer.ranges import RangeSet
from midair.transfer.receiving import Line
from midair.transfer.scheduler import Scheduler
from midair.transfer.verification import Verification

__all__ = ["FileReceiving"]

SHOWN_NAMES = 20
_RESULTS_BYTES = 256 << 10


class FileReceiving:
    """See :class:`midair.transfer.receiving.Receiving`."""

    def __init__(
        self,
        line: Line,
        destination: Folder,
        manifest: Manifest,
        resolve: Resolve | None,
        *,
        hashed: bool = True,
        verify: bool = False,
    ) -> None:
        self._line = line
        self._hashed = hashed
        self._verify = verify
        self._verification = Verification(manifest, line.alive)
        self._link = line.link
        self._destination = destination
        self._manifest = manifest
        self._resolve = resolve
        self._plan = Plan(manifest)
        self._results = Results(manifest.entries)
        self._files = FileOutcomes()
        self.begun = False
        self.committed = False
        self._folder: int | None = None
        self._found: Found | None = None
        self._intake: Intake | None = None
        self._comparison = Comparison(line, manifest, self._plan, self._results)
        self._scheduler_lock = threading.Lock()
        """Also held while requests are sent: the sender must see them in the order the scheduler knows."""
        self._scheduler: Scheduler | None = None
        self._total = 0
        self._meter: RateMeter | None = None
        self._pace = EventPace()

    @property
    def outcome(self) -> Outcome:
        intake = self._intake
        return Outcome(
            bytes_total=self._manifest.total,
            bytes_committed=self._plan.stored_bytes if self.committed else 0,
            bytes_crossed=0 if intake is None else intake.received,
            bytes_hashed=self._verification.bytes_hashed
            + self._comparison.bytes_hashed
            + (0 if intake is None else intake.bytes_hashed),
            committed=self.committed,
            files=self._files,
        )

    # -- the thread that takes in records --

    def look(self) -> Offer:
        manifest = self._manifest
        names = tuple(escape(entry.path) for entry in manifest.top_level)
        files, directories = len(manifest) - manifest.count("directory"), manifest.count("directory")
        self._line.emit(
            events.OfferSeen(files=files, directories=directories, bytes=manifest.total, names=names[:SHOWN_NAMES])
        )
        try:
            self._folder = os.open(self._destination.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            found = self._found = inspect(self._folder, manifest, self._plan, verify=self._verify)
            self._intake = Intake(
                self._folder,
                manifest,
                self._plan,
                found,
                self._results,
                self._line.wake.set,
                self._line.alive,
                hashed=self._hashed,
            )
            undecided = {*found.survey.clashes, *found.survey.unsure}
            if self._resolve is None:
                resolve_clashes(self._folder, manifest, self._plan, found.survey.clashes, None)
            check_room(self._folder, manifest, self._plan, found, undecided=undecided)
        except OSError as error:
            raise from_os(error, "the folder to receive into") from error
        return Offer(
            manifest_id=manifest.id,
            files=files,
            directories=directories,
            bytes=manifest.total,
            names=names,
            durable=found.durable.total,
            present=found.survey.present,
            withdrawn=lambda: not self._line.alive(),
        )

    def take_data(self, position: int, data: memoryview) -> None:
        scheduler, intake = self._at_work()
        with self._scheduler_lock:
            scheduler.received(position, len(data))
        intake.write(position, data)
        self._link.moved()  # after it, because a slow disk is not the sender's fault

    def take(self, message: wire.FromSender) -> None:
        match message:
            case wire.Digests():
                _, intake = self._at_work()
                intake.match(message.digests)
            case wire.Hole():
                self._take_hole(message)
            case wire.RangeEnd():
                self._take_range_end(message)
            case wire.FileFailed():
                self._take_file_failed(message)
            case wire.Compared():
                self._comparison.take(message.hashes)
            case _:
                raise RemoteProtocolError("the sender sent what does not belong to files")

    def _take_hole(self, message: wire.Hole) -> None:
        scheduler, intake = self._at_work()
        manifest = self._manifest
        if not message.start < message.end <= manifest.total:
            raise RemoteProtocolError("the sender sent a hole that cannot be")
        file, offset = manifest.locate(message.start)
        end = offset + message.end - message.start
        if end > manifest.entries[file].size or end - offset < wire.MIN_HOLE_BYTES:
            raise RemoteProtocolError("the sender sent a hole that cannot be")
        with self._scheduler_lock:
            scheduler.hole(message.start, message.end)
        intake.hole(file, offset, end)
        self._link.moved()

    def _take_range_end(self, message: wire.RangeEnd) -> None:
        scheduler, intake = self._at_work()
        with self._scheduler_lock:
            scheduler.ended(message.start, message.end)
            intake.end_range(message.digests)
            done = scheduler.done
        if done:
            self._line.wake.set()
        else:
            self._request_more(intake)

    def _take_file_failed(self, message: wire.FileFailed) -> None:
        manifest = self._manifest
        if message.file >= len(manifest) or manifest.entries[message.file].kind != "file":
            raise RemoteProtocolError("the sender named a file that is not in its list")
        self._link.moved()
        if self._comparison.take_failed(message):
            return
        scheduler, intake = self._at_work()
        if not self._plan.staged(message.file):
            raise RemoteProtocolError("the sender gave up a file that was not asked for")
        with self._scheduler_lock:
            scheduler.give_up(*manifest.span(message.file))
            self._plan.fail(message.file, message.reason, message.text)
            self._total -= manifest.entries[message.file].size
            intake.drop(message.file)

    def _at_work(self) -> tuple[Scheduler, Intake]:
        """Only while content has been asked for."""
        if self._scheduler is None or self._intake is None:
            raise RemoteProtocolError("the sender sent content that was not asked for")
        return self._scheduler, self._intake

    # -- the worker --

    def carry_out(self) -> bool:
        assert self._found is not None
        assert self._intake is not None
        assert self._folder is not None
        alike, differing = self._comparison.run(self._folder, self._found.survey.unsure)
        if not self._line.alive():
            return False
        self._found.survey.clashes += differing
        self._decide()
        if self._verify and not self._verify_what_is_there(self._found):
            return False
        self._begin(self._found, self._intake, alike)
        return self._follow(self._intake) and self._commit(self._intake)

    def _verify_what_is_there(self, found: Found) -> bool:
        """False when the transfer has ended meanwhile."""
        assert self._folder is not None
        if found.runs:
            size = found.durable.total
            self._line.emit(events.Status(text=f"Verifying {size} bytes that were received before..."))
            wrong = self._verification.run(self._folder, found)
            if wrong:
                files = f"{wrong} file{'' if wrong == 1 else 's'}"
                self._line.emit(events.Status(text=f"{files} not as received before; to be received anew"))
        return self._line.alive()

    def _decide(self) -> None:
        assert self._folder is not None
        assert self._found is not None
        self._found.survey.clashes.sort()
        resolve_clashes(self._folder, self._manifest, self._plan, self._found.survey.clashes, self._resolve)
        try:
            check_room(self._folder, self._manifest, self._plan, self._found)
        except OSError as error:
            raise from_os(error, "the folder to receive into") from error

    def _begin(self, found: Found, intake: Intake, alike: list[AlikeFile]) -> None:
        if found.leftovers:
            self._line.emit(events.Status(text="removing what a transfer of other content left unfinished here"))
        intake.prepare(alike)
        plan, manifest = self._plan, self._manifest
        wanted = plan.wanted()
        identical = plan.bytes_with(Fate.IDENTICAL)
        excluded = plan.bytes_with(Fate.KEPT, Fate.FAILED)
        missing = RangeSet(gap for start, end in wanted for gap in intake.durable.missing(start, end))
        resumed = wanted.total - missing.total
        self._total = manifest.total - excluded
        self.begun = True
        durable = identical + resumed
        self._link.send(wire.Accept(durable=durable, identical=identical, excluded=excluded, hashed=self._hashed))
        # What is counted as durable from here on is what stands there, whether this transfer brought it or not.
        for index, fate in plan.notable():
            if fate is Fate.IDENTICAL:
                intake.durable.add(*manifest.span(index))
            elif not plan.staged(index):
                intake.durable.subtract(*manifest.span(index))
        if resumed:
            self._line.emit(events.Resumed(bytes=resumed))
        self._meter = RateMeter(time.monotonic(), intake.durable.total)
        with self._scheduler_lock:
            self._scheduler = Scheduler(missing)
            done = self._scheduler.done
        if done:
            self._line.wake.set()
        self._request_more(intake)

    def _follow(self, intake: Intake) -> bool:
        """Sync, report and ask for more, until everything is durable; False when the transfer has ended before."""
        assert self._scheduler is not None
        while True:
            self._line.wake.wait(SYNC_SECONDS)
            self._line.wake.clear()
            if not self._line.alive():
                return False
            with self._scheduler_lock:
                complete = self._scheduler.done
            if intake.sync() or complete:
                self._report_progress(intake, complete=complete)
            if complete:
                return True
            self._request_more(intake)

    def _request_more(self, intake: Intake) -> None:
        assert self._scheduler is not None
        with self._scheduler_lock:
            for start, end in self._scheduler.requests(intake.not_durable):
                self._link.send(wire.Request(start=start, end=end))
            self._link.expect(self._link.limits.stall if self._scheduler.waiting else None)

    def _report_progress(self, intake: Intake, *, complete: bool) -> None:
        assert self._meter is not None
        durable = min(intake.durable.total, self._total)
        self._link.send(wire.Progress(durable=durable))
        now = time.monotonic()
        rate = self._meter.add(now, durable)
        if self._pace.ready(now) or complete:
            self._line.emit(events.Progress(bytes=durable, total=self._total, rate=rate))

    def _commit(self, intake: Intake) -> bool:
        if not intake.commit(self._line.alive):
            return False
        for index, _ in self._plan.notable():
            self._results.put(index, *self._plan.result(index))
        self._files = FileOutcomes(self._results)
        self.committed = True
        for event in finished_events(self._files, each=self._line.each_file):
            self._line.emit(event)
        for batch in _batches(self._file_results()):
            self._link.send(wire.FileResults(results=batch))
        self._link.send(wire.Finished(total=self._plan.stored_bytes))
        return True

    def _file_results(self) -> Iterator[wire.FileResult]:
        for first, end in self._results.alike():
            outcome, text = self._results.get(first)
            hashes = self._results.hashes(first, end)
            yield wire.FileResult(first, hashes, outcome, text[: wire.MAX_TEXT], end - first)

    def salvage(self) -> None:
        if self._intake is not None:
            self._intake.sync()
            self._intake.write_off()

    def forget(self) -> None:
        if self._intake is not None:
            self._intake.forget()

    def close(self) -> None:
        if self._intake is not None:
            if self.begun and not self.committed:
                # The worker may have found the connection broken first, and what was on its way came after that.
                with contextlib.suppress(MidairError):
                    self._intake.sync()
            self._intake.close()
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None


def _batches(results: Iterator[wire.FileResult]) -> Iterator[list[wire.FileResult]]:
    """In messages of bounded size."""
    batch: list[wire.FileResult] = []
    size = 0
    for result in results:
        batch.append(result)
        size += 64 + 4 * len(result.text) + 32 * result.files
        if len(batch) == wire.MAX_RESULTS or size >= _RESULTS_BYTES:
            yield batch
            batch, size = [], 0
    yield from filter(None, [batch])
