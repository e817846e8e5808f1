"""What comes in order coming in: a stream or a text, or a file into a pipe, which is asked for in order.

The outlet, with all that has been taken and not yet handed on, outlives the connection; a new one goes on behind it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from midair import events
from midair.errors import IntegrityError, PeerLostError, RemoteProtocolError, UsageError
from midair.transfer import wire
from midair.transfer.clashes import Resolve
from midair.transfer.destination import Destination, Ongoing, Pipe
from midair.transfer.manifest import Entry, Manifest
from midair.transfer.matching import Matching
from midair.transfer.names import escape
from midair.transfer.outcome import FileOutcomes, Offer, Outcome, Results, finished_events
from midair.transfer.outlet import Outlet
from midair.transfer.pace import EventPace, RateMeter
from midair.transfer.ranges import RangeSet
from midair.transfer.receiving import Line
from midair.transfer.scheduler import Scheduler
from midair.transfer.sinks import FileSink, PipeSink, StreamSink, TextSink

__all__ = ["PipedFileReceiving", "StreamReceiving"]

_ACK_BYTES = wire.STREAM_WINDOW // 8
_ACK_SECONDS = 0.05
_LOOK_SECONDS = 0.5
_PIECE_BYTES = wire.STREAM_WINDOW // 4


class _InOrder:
    """What both have in common."""

    def __init__(self, line: Line, destination: Destination, content_id: bytes, resolve: Resolve | None) -> None:
        self._line = line
        self._link = line.link
        self._destination = destination
        self._id = content_id
        self._resolve = resolve
        self.begun = False
        self.committed = False
        self._ongoing: Ongoing | None = None
        self._taken_before = 0
        self._told = 0
        self._told_at = -math.inf
        self._meter: RateMeter | None = None
        self._pace = EventPace()

    def _find(self, make_sink: Callable[[], StreamSink]) -> int:
        """What goes on, or something new; how much of it is there. Raises: MidairError."""
        ongoing = self._destination.ongoing
        if ongoing is None:
            sink = make_sink()
            self._ongoing = Ongoing(id=self._id, sink=sink, outlet=Outlet(sink))
            sink.prepare(self._resolve)
            return 0
        if ongoing.id != self._id:
            raise PeerLostError(
                "the sender was started anew, and what was begun cannot be gone on with",
                hint="Run both commands again.",
            )
        self._ongoing = ongoing
        return ongoing.outlet.taken

    def _begin(self, *, holes: bool) -> Ongoing:
        ongoing = self._ongoing
        assert ongoing is not None
        if self._destination.ongoing is None:
            ongoing.sink.begin(self._resolve)
            self._destination.ongoing = ongoing
        outlet = ongoing.outlet
        self._taken_before = outlet.taken
        # Not what has been handed on: between two connections nobody could tell the sender of it.
        self._told = 0
        self._meter = RateMeter(time.monotonic(), outlet.handed)
        self._link.expect(math.inf)
        self.begun = True
        self._link.send(wire.Accept(durable=self._taken_before, holes=holes))
        if self._taken_before:
            self._line.emit(events.Resumed(bytes=self._taken_before))
        outlet.start(self._line.wake.set)
        return ongoing

    def _tell(self, handed: int, total: int | None, *, last: bool) -> None:
        """Progress for the sender, which makes room there, and for the person here; in bounded numbers."""
        assert self._meter is not None
        assert self._ongoing is not None
        now = time.monotonic()
        due = handed - self._told >= _ACK_BYTES or now - self._told_at >= _ACK_SECONDS
        if handed != self._told and (due or last):
            self._told, self._told_at = handed, now
            self._link.send(wire.Progress(durable=handed))
        elif not last:
            return
        rate = self._meter.add(now, handed)
        # When nothing more is there to be handed on, nobody knows when the next event will be.
        if self._pace.ready(now) or last or handed == self._ongoing.outlet.taken:
            self._line.emit(events.Progress(bytes=handed, total=total, rate=rate))

    def _wait(self) -> None:
        """For more to do; not long when there is something that has not been told."""
        assert self._ongoing is not None
        untold = self._ongoing.outlet.handed > self._told
        self._line.wake.wait(_ACK_SECONDS if untold else _LOOK_SECONDS)
        self._line.wake.clear()

    def _crossed(self) -> int:
        return self._ongoing.outlet.taken - self._taken_before if self._ongoing is not None and self.begun else 0

    def salvage(self) -> None:
        pass

    def forget(self) -> None:
        self._destination.close()

    def close(self) -> None:
        if self._ongoing is not None and self._ongoing is not self._destination.ongoing:
            self._ongoing.close()  # it was never begun


class StreamReceiving(_InOrder):
    """See :class:`midair.transfer.receiving.Receiving`."""

    def __init__(
        self,
        line: Line,
        destination: Destination,
        announce: wire.Announce,
        stream: wire.StreamOffer,
        resolve: Resolve | None,
    ) -> None:
        super().__init__(line, destination, announce.manifest_id, resolve)
        self._stream = stream
        self._size = announce.total if stream.kind == "text" else None
        self._end: wire.StreamEnd | None = None
        self._files = FileOutcomes()

    @property
    def outcome(self) -> Outcome:
        crossed = self._crossed()
        total = self._taken_before + crossed
        return Outcome(
            bytes_total=total,
            bytes_committed=total if self.committed else 0,
            bytes_crossed=crossed,
            bytes_hashed=crossed,
            committed=self.committed,
            files=self._files,
        )

    def look(self) -> Offer:
        name = escape(self._stream.name)
        self._line.emit(
            events.OfferSeen(kind=self._stream.kind, files=1, directories=0, bytes=self._size, names=(name,))
        )
        taken = self._find(self._make_sink)
        return Offer(
            kind=self._stream.kind,
            manifest_id=self._id,
            files=1,
            directories=0,
            bytes=self._size,
            names=(name,),
            durable=taken,
            withdrawn=lambda: not self._line.alive(),
        )

    def _make_sink(self) -> StreamSink:
        if self._stream.kind == "text":
            return TextSink(lambda text: self._line.emit(events.TextReceived(text=text)))
        if isinstance(self._destination, Pipe):
            return PipeSink(self._destination.descriptor)
        return FileSink(self._destination.path, self._stream.name, self._id)

    def take_data(self, payload: memoryview) -> None:
        position, data = wire.decode_data(payload)
        if not self.begun or self._end is not None or self._ongoing is None:
            raise RemoteProtocolError("the sender sent content that was not asked for")
        if position != self._ongoing.outlet.taken:
            raise RemoteProtocolError("the sender sent other bytes than it was asked for")
        if self._size is not None and position + len(data) > self._size:
            raise RemoteProtocolError("the sender's text is longer than it said")
        self._ongoing.outlet.put(data)
        self._link.moved()

    def take(self, message: wire.FromSender) -> None:
        if not isinstance(message, wire.StreamEnd) or not self.begun or self._end is not None or self._ongoing is None:
            raise RemoteProtocolError("the sender sent what does not belong to a stream")
        if message.total != self._ongoing.outlet.taken:
            raise RemoteProtocolError("the sender ended a stream that is not complete")
        self._link.moved()
        self._end = message
        self._line.wake.set()

    def carry_out(self) -> bool:
        ongoing = self._begin(holes=True)
        while self._line.alive():
            end = self._end
            handed = ongoing.outlet.handed
            if end is not None and handed == end.total:
                self._tell(handed, handed, last=True)
                return self._finish(ongoing, end)
            self._tell(handed, self._size, last=False)
            self._wait()
        return False

    def _finish(self, ongoing: Ongoing, end: wire.StreamEnd) -> bool:
        if ongoing.outlet.blake3 != end.blake3:
            raise IntegrityError(f"{escape(self._stream.name)} did not arrive as it was read")
        if not ongoing.finished:
            if not ongoing.sink.finish(end.total, self._line.alive):
                return False
            ongoing.finished = True
        outcome, text = ongoing.sink.result()
        if self._stream.kind == "stream":
            results = Results([Entry(self._stream.name, "file", end.total, 0, 0)])
            results.put_hash(0, end.blake3)
            results.put(0, outcome, text)
            self._files = FileOutcomes(results)
        self.committed = True
        for event in finished_events(self._files):
            self._line.emit(event)
        self._link.send(wire.FileResults(results=[wire.FileResult(0, end.blake3, outcome, text)]))
        self._link.send(wire.Finished(total=end.total))
        return True


class PipedFileReceiving(_InOrder):
    """One file into a pipe. See :class:`midair.transfer.receiving.Receiving`."""

    def __init__(self, line: Line, destination: Pipe, manifest: Manifest) -> None:
        super().__init__(line, destination, manifest.id, None)
        self._manifest = manifest
        self._descriptor = destination.descriptor
        self._matching = Matching(manifest)
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

    def take_data(self, payload: memoryview) -> None:
        position, data = wire.decode_data(payload)
        scheduler, ongoing = self._at_work()
        with self._lock:
            scheduler.received(position, len(data))
        for piece in self._manifest.pieces(position, position + len(data)):
            digest = self._matching.feed(piece, data)
            if digest is not None and (digest.start, digest.end) == (0, self._manifest.total):
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
        ongoing = self._begin(holes=False)
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
