"""One file coming in for a pipe: asked for in order, as much at a time as the outlet has room for."""

from __future__ import annotations

import threading

from midair import events
from midair.errors import RemoteProtocolError, UsageError
from midair.transfer import wire
from midair.transfer.destination import Ongoing, Pipe
from midair.transfer.in_order import InOrder
from midair.transfer.manifest import Manifest
from midair.transfer.matching import Matching
from midair.transfer.names import escape
from midair.transfer.outcome import FileOutcomes, Offer, Outcome, Results, finished_events
from midair.transfer.ranges import RangeSet
from midair.transfer.receiving import Line
from midair.transfer.scheduler import Scheduler
from midair.transfer.sinks import PipeSink

__all__ = ["PipeReceiving"]

_PIECE_BYTES = wire.STREAM_WINDOW // 4


class PipeReceiving(InOrder):
    """See :class:`midair.transfer.receiving.Receiving`."""

    def __init__(self, line: Line, destination: Pipe, manifest: Manifest, *, hashed: bool = True) -> None:
        super().__init__(line, destination, manifest.id, None)
        self._hashed = hashed
        self._manifest = manifest
        self._descriptor = destination.descriptor
        self._matching = Matching(manifest, hashed=hashed)
        self._results = Results(manifest.entries)
        self._files = FileOutcomes()
        self._lock = threading.Lock()
        """Also held while requests are sent: the sender must see them in the order the scheduler knows."""
        self._scheduler: Scheduler | None = None
        self._failure: tuple[str, str] | None = None
        """Why the sender cannot go on."""

    @property
    def outcome(self) -> Outcome:
        total = self._manifest.total
        return Outcome(
            bytes_total=total,
            bytes_committed=total if self.committed and self._failure is None else 0,
            bytes_crossed=self._crossed(),
            bytes_hashed=self._matching.bytes_hashed,
            committed=self.committed,
            files=self._files,
        )

    def look(self) -> Offer:
        entries = self._manifest.entries
        name = escape(entries[0].path)
        total = self._manifest.total
        self._line.emit(events.OfferSeen(files=len(entries), directories=0, bytes=total, names=(name,)))
        if len(entries) != 1 or entries[0].kind != "file":
            raise UsageError(
                "what is offered is more than one file, and only one can be written to a pipe",
                hint="Name a folder with -o; or have the sender pack it, as in: tar c DIR | midair send -",
            )
        taken = self._find(lambda: PipeSink(self._descriptor))
        return Offer(
            manifest_id=self._id,
            files=1,
            directories=0,
            bytes=total,
            names=(name,),
            durable=taken,
            withdrawn=lambda: not self._line.alive(),
        )

    def take_data(self, position: int, data: memoryview) -> None:
        scheduler, ongoing = self._at_work()
        with self._lock:
            scheduler.received(position, len(data))
        for piece in self._manifest.pieces(position, position + len(data)):
            digest = self._matching.feed(piece, data)
            whole = digest is not None and (digest.start, digest.end) == (0, self._manifest.total)
            if whole and digest is not None and digest.blake3 is not None:
                self._results.put_hash(0, digest.blake3)
        ongoing.outlet.put(data)
        self._link.moved()

    def take(self, message: wire.FromSender) -> None:
        scheduler, _ = self._at_work()
        self._link.moved()
        with self._lock:
            match message:
                case wire.Digests():
                    self._judge(self._matching.match(message.digests))
                case wire.RangeEnd():
                    scheduler.ended(message.start, message.end)
                    self._judge(self._matching.end_range(message.digests))
                case wire.FileFailed(file=0):
                    scheduler.give_up(0, self._manifest.total)
                    self._matching.abandon(0)
                    self._failure = (message.reason, message.text)
                case _:
                    raise RemoteProtocolError("the sender sent what does not belong to a file in a pipe")
        self._line.wake.set()

    def _judge(self, differs: int | None) -> None:
        if differs is not None:
            raise self._matching.doubt(differs)

    def _at_work(self) -> tuple[Scheduler, Ongoing]:
        if self._scheduler is None or self._ongoing is None:
            raise RemoteProtocolError("the sender sent content that was not asked for")
        return self._scheduler, self._ongoing

    def carry_out(self) -> bool:
        total = self._manifest.total
        ongoing = self._begin(holes=False, hashed=self._hashed)
        missing = RangeSet([(self._taken_before, total)] if self._taken_before < total else [])
        scheduler = self._scheduler = Scheduler(missing, piece=_PIECE_BYTES, window=wire.STREAM_WINDOW)
        while self._line.alive():
            handed = ongoing.outlet.handed
            with self._lock:
                for start, end in scheduler.requests(ongoing.outlet.taken - handed):
                    self._link.send(wire.Request(start=start, end=end))
                done = scheduler.done and handed == ongoing.outlet.taken
            self._tell(handed, total, last=done)
            if done:
                self._finish()
                return True
            self._wait()
        return False

    def _finish(self) -> None:
        outcome, text = self._failure or ("received", "")
        self._results.put(0, outcome, text)
        self._files = FileOutcomes(self._results)
        self.committed = True
        for event in finished_events(self._files):
            self._line.emit(event)
        result = wire.FileResult(0, self._results.hash(0), outcome, text)
        self._link.send(wire.FileResults(results=[result]))
        self._link.send(wire.Finished(total=0 if self._failure else self._manifest.total))
