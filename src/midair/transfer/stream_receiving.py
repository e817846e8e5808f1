"""A stream or a text coming in."""

from __future__ import annotations

from midair import events
from midair.errors import IntegrityError, RemoteProtocolError
from midair.transfer import wire
from midair.transfer.clashes import Resolve
from midair.transfer.destination import Destination, Ongoing, Pipe
from midair.transfer.in_order import InOrder
from midair.transfer.manifest import Entry
from midair.transfer.names import escape
from midair.transfer.outcome import FileOutcomes, Offer, Outcome, Results, finished_events
from midair.transfer.receiving import Line
from midair.transfer.sinks import FileSink, PipeSink, StreamSink, TextSink

__all__ = ["StreamReceiving"]


class StreamReceiving(InOrder):
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

    def take_data(self, position: int, data: memoryview) -> None:
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
