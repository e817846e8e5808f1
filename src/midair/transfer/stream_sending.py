"""A stream or a text going out: in order, never more than a window ahead of what the receiver has handed on."""

from __future__ import annotations

import contextlib
import time

from midair import events
from midair.errors import ConnectionLostError, PeerLostError
from midair.transfer import wire
from midair.transfer.manifest import Entry
from midair.transfer.names import escape
from midair.transfer.outcome import FileOutcomes, Outcome, Results
from midair.transfer.outflow import Outflow
from midair.transfer.pace import EventPace, RateMeter
from midair.transfer.sending import Line, demand
from midair.transfer.stream import Stream

__all__ = ["StreamSending"]


class StreamSending:
    """See :class:`midair.transfer.sending.Sending`."""

    def __init__(self, line: Line, stream: Stream) -> None:
        self._line = line
        self._link = line.link
        self._stream = stream
        self._begun_at: int | None = None
        """Where the receiver wants to go on; None as long as it has not accepted."""
        self._said_end = False
        self._result: wire.FileResult | None = None
        self._outflow = Outflow(line)
        self._hashed_before = stream.bytes_hashed
        self._meter: RateMeter | None = None
        self._pace = EventPace()

    def outcome(self, *, finished: bool) -> Outcome:
        _, end = self._stream.held
        return Outcome(
            bytes_total=end,
            bytes_committed=end if finished else 0,
            bytes_crossed=self._outflow.crossed,
            bytes_saved=self._outflow.saved,
            bytes_hashed=end - self._hashed_before,
            committed=finished,
            files=self._files(end) if finished else FileOutcomes(),
        )

    def _files(self, size: int) -> FileOutcomes:
        if self._stream.kind == "text" or self._result is None:
            return FileOutcomes()
        results = Results([Entry(self._stream.name, "file", size, 0, 0)])
        results.put(0, self._result.outcome, self._result.text)
        if self._result.blake3 is not None:
            results.put_hash(0, self._result.blake3)
        return FileOutcomes(results)

    # -- the sending thread --

    def offer(self) -> None:
        stream = self._stream
        self._line.emit(
            events.OfferSeen(kind=stream.kind, files=1, directories=0, bytes=stream.size, names=(escape(stream.name),))
        )
        offered = wire.StreamOffer(kind=stream.kind, name=stream.name)
        self._link.send(
            wire.Announce(
                version=wire.VERSION,
                entries=1,
                total=(stream.size or 0) if stream.kind == "text" else 0,
                manifest_id=stream.id,
                stream=offered,
            )
        )

    def serve(self) -> None:
        self._wait(lambda: self._begun_at is not None)
        if self._begun_at is not None:
            self._send_all(self._begun_at)
        self._wait(lambda: False)
        with contextlib.suppress(ConnectionLostError):
            self._link.send(wire.Bye())

    def _wait(self, until: object) -> None:
        """Until ``until()``, or the receiver has finished. Raises what has ended the transfer."""
        assert callable(until)
        with self._line.changed:
            self._line.changed.wait_for(lambda: self._line.ended() or until())
            self._line.check()

    def _send_all(self, position: int) -> None:
        stream, outflow = self._stream, self._outflow
        stream.start(self._notify)
        while True:
            self._wait(lambda: stream.held[1] > position or stream.over)  # noqa: B023 (called at once)
            over = stream.over
            count = stream.copy_into(outflow.content[: outflow.size], position)
            if not count:
                if over:
                    break
                continue
            outflow.send(position, count)
            position += count
        self._said_end = True
        self._link.send(wire.StreamEnd(total=position, blake3=stream.blake3))

    def _notify(self) -> None:
        with self._line.changed:
            self._line.changed.notify_all()

    # -- the thread that reads --

    def take(self, message: wire.FromReceiver) -> bool:
        match message:
            case wire.Accept():
                self._take_accept(message)
            case wire.Progress():
                self._take_progress(message.durable)
            case wire.FileResults():
                demand(self._said_end and self._result is None and len(message.results) == 1, "results too early")
                (self._result,) = message.results
                demand(self._result.file == 0 and self._result.outcome == "received", "a result that cannot be")
            case wire.Finished():
                demand(self._said_end and self._result is not None, "that it has finished, and it has not")
                demand(message.total == self._stream.held[1], "that it has finished, and it has not")
                return True
            case _:
                demand(False, "what does not belong to a stream")
        return False

    def _take_accept(self, message: wire.Accept) -> None:
        base, end = self._stream.held
        demand(self._begun_at is None and message.durable <= end, "an Accept that cannot be")
        if message.durable < base:
            raise PeerLostError(
                "the receiver was started anew, and the beginning of the stream cannot be read again",
                hint="Run both commands again.",
            )
        if message.durable:
            self._line.emit(events.Resumed(bytes=message.durable))
        self._meter = RateMeter(time.monotonic(), base)
        with self._line.changed:
            self._begun_at = message.durable
            self._line.changed.notify_all()

    def _take_progress(self, handed: int) -> None:
        base, end = self._stream.held
        demand(self._meter is not None and base <= handed <= end, "progress that is none")
        assert self._meter is not None
        self._stream.release(handed)
        now = time.monotonic()
        rate = self._meter.add(now, handed)
        total = self._stream.size
        # When the receiver has caught up, nobody knows when the next event will be.
        if self._pace.ready(now) or handed == end:
            self._line.emit(events.Progress(bytes=handed, total=total, rate=rate))
