"""The sending side of one connection: offers what there is, then does what the receiver asks for.

The calling thread reads, hashes and sends. A second one takes in what the receiver says and hands it over under a
condition; whatever ends the transfer is settled there too, the first to come wins, and the calling thread raises it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from itertools import islice

from midair import events
from midair.channel import Channel, ChannelClosed, Frame, Received
from midair.errors import (
    CancelledByUserError,
    ConnectionLostError,
    MidairError,
    PeerCancelledError,
    RemoteProtocolError,
)
from midair.transfer import wire
from midair.transfer.failures import from_peer, telling
from midair.transfer.link import Link, LinkLimits
from midair.transfer.manifest import encode_records
from midair.transfer.names import escape
from midair.transfer.outcome import FileHashes, FileOutcomes, Outcome
from midair.transfer.pace import EventPace, FrameSizer, RateLimit, RateMeter
from midair.transfer.ranges import Range
from midair.transfer.runs import Runs
from midair.transfer.source import Source, SourceReader

__all__ = ["Sender"]

_MAX_REQUESTS = 16
"""Requests a receiver may have waiting; ours has two."""
_PATIENCE = 600.0
"""Seconds a receiver that still pings may take for its next step: a slow disk has to sync what it was sent."""
_SHOWN_NAMES = 20


class Sender:
    """Sends ``source`` over ``channel``, which is in its bulk phase and is closed when ``run`` returns."""

    def __init__(
        self,
        channel: Channel,
        source: Source,
        on_event: events.Listener,
        *,
        limits: LinkLimits | None = None,
        limit_rate: float | None = None,
    ) -> None:
        """``limit_rate`` is in bytes of content a second; None is as fast as it goes."""
        self._source = source
        self._manifest = source.manifest
        self._on_event = on_event
        self._link = Link(channel, limits)
        self._changed = threading.Condition()
        self._verdict: BaseException | None = None
        self._peer_said_last = False
        self._failed_file: int | None = None
        self._accepted = False
        self._finished = False
        self._requests: deque[Range] = deque()
        self._durable = 0
        self._hashes = FileHashes(len(source.manifest))
        self._reported = bytearray(len(source.manifest))
        self._results_due = source.manifest.files
        self._crossed = 0
        self._runs = Runs()
        self._sizer = FrameSizer()
        self._rate_limit = None if limit_rate is None else RateLimit(limit_rate)
        self._meter: RateMeter | None = None
        self._pace = EventPace()

    @property
    def outcome(self) -> Outcome:
        """How far it has come; from any thread."""
        with self._changed:
            return self._outcome()

    def run(self) -> Outcome:
        """Blocks until the receiver has committed everything and said so.

        Raises: PeerRefusedError, PeerFailedError (with the receiver's reason), PeerCancelledError,
        RemoteProtocolError; SourceChangedError, LocalIOError; CancelledByUserError after ``cancel``;
        ConnectionLostError when another connection may go on.
        """
        self._link.start()
        reader = threading.Thread(target=self._read, name="midair-sender-reader", daemon=True)
        reader.start()
        broken: ConnectionLostError | None = None
        try:
            self._offer()
            self._serve()
        except ConnectionLostError as error:
            # The receiver's last word may still be on its way to the other thread, and says more.
            broken = error
        except BaseException as error:
            self._settle(error)
            self._say_why(error)
        self._link.end_within(self._link.limits.linger + self._link.limits.cancel)
        reader.join()
        self._link.close()
        if not self._finished:
            self._settle(broken or ConnectionLostError("the connection ended early"))
            assert self._verdict is not None
            raise self._verdict
        outcome = self.outcome
        for file in outcome.files:
            self._on_event(
                events.FileFinished(file=file.name, bytes=file.bytes, blake3=file.blake3, outcome=file.outcome)
            )
        return outcome

    def cancel(self) -> None:
        """End it; ``run`` raises CancelledByUserError, the receiver hears of it if that takes no more than a second.

        From any thread; returns at once; without effect when the transfer is over.
        """
        if self._settle(CancelledByUserError("the transfer was cancelled")):
            self._link.cancel()

    # -- the calling thread --

    def _offer(self) -> None:
        manifest = self._manifest
        files = manifest.files
        self._on_event(
            events.OfferSeen(
                files=files,
                directories=len(manifest) - files,
                bytes=manifest.total,
                names=tuple(escape(entry.path) for entry in islice(manifest.top_level, _SHOWN_NAMES)),
            )
        )
        self._link.send(
            wire.Announce(version=wire.VERSION, entries=len(manifest), total=manifest.total, manifest_id=manifest.id)
        )
        for payload in encode_records(manifest.entries):
            self._check()
            self._link.send_manifest(payload)

    def _serve(self) -> None:
        frame = self._link.new_frame()
        reader = self._source.reader()
        try:
            while (wanted := self._next_request()) is not None:
                self._send_range(frame, reader, *wanted)
        finally:
            reader.close()
        with contextlib.suppress(ConnectionLostError):
            self._link.send(wire.Bye())

    def _next_request(self) -> Range | None:
        """Waits for it; None when the receiver has finished."""
        with self._changed:
            self._changed.wait_for(lambda: self._verdict is not None or self._finished or self._requests)
            self._check()
            return self._requests.popleft() if self._requests else None

    def _send_range(self, frame: Frame, reader: SourceReader, start: int, end: int) -> None:
        digests: list[wire.Digest] = []
        position = start
        while position < end:
            self._check()
            size = self._sizer.size if self._rate_limit is None else min(self._sizer.size, self._rate_limit.piece)
            count, completed = self._fill(frame, reader, position, min(end, position + size))
            began = time.monotonic()
            self._link.send_data(frame, wire.DATA_HEADER_BYTES + count)
            self._sizer.sent(count, time.monotonic() - began)
            position += count
            self._crossed += count
            if self._rate_limit is not None:
                self._pause(self._rate_limit.spend(count, time.monotonic()))
            digests += completed
            if len(digests) >= wire.MAX_PIECES:
                self._link.send(wire.Digests(digests=digests))
                digests = []
        if (digest := self._runs.open_run()) is not None:
            digests.append(digest)
        self._link.send(wire.RangeEnd(start=start, end=end, digests=digests))

    def _fill(self, frame: Frame, reader: SourceReader, start: int, end: int) -> tuple[int, list[wire.Digest]]:
        """Content from virtual offset ``start`` on, up to ``end`` or as many files as a record may touch."""
        wire.encode_data_header_into(frame.payload, start)
        completed: list[wire.Digest] = []
        filled = 0
        for piece in islice(self._manifest.pieces(start, end), wire.MAX_PIECES):
            place = wire.DATA_HEADER_BYTES + filled
            view = frame.payload[place : place + piece.size]
            try:
                reader.read_into(piece.index, piece.offset, view)
            except MidairError:
                self._failed_file = piece.index
                raise
            digest = self._runs.feed(piece.index, piece.offset, view, self._manifest.entries[piece.index].size)
            if digest is not None:
                completed.append(digest)
            filled += piece.size
        return filled, completed

    def _pause(self, seconds: float) -> None:
        """Unless something ends the transfer meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._verdict is not None, timeout=seconds)

    def _check(self) -> None:
        """Raises what has ended the transfer, if anything has."""
        if self._verdict is not None:
            raise self._verdict

    def _say_why(self, error: BaseException) -> None:
        """Unless the receiver knows already."""
        if self._peer_said_last or isinstance(error, CancelledByUserError | ConnectionLostError):
            return
        reason, text = telling(error)
        self._link.say_last(wire.Failed(reason=reason, text=text, file=self._failed_file))

    # -- the thread that reads --

    def _read(self) -> None:
        try:
            while not self._finished and not self._peer_said_last:
                self._take(self._link.receive())
        except ChannelClosed:
            self._settle(ConnectionLostError("the receiver closed the connection before the end"))
        except BaseException as error:
            self._settle(error)
        # Whatever the other thread is blocked in ends soon, too.
        self._link.end_within(self._link.limits.linger + self._link.limits.cancel)

    def _take(self, received: Received) -> None:
        if received.type != wire.MESSAGE:
            raise RemoteProtocolError("the receiver sent a record that only a sender sends")
        message = wire.decode_from_receiver(received.payload)
        if not isinstance(message, wire.Ping):
            self._link.moved()
        match message:
            case wire.Ping():
                pass
            case wire.Accept():
                self._take_accept(message)
            case wire.Request():
                self._take_request(message)
            case wire.Progress():
                self._take_progress(message.durable)
            case wire.FileResults():
                self._take_results(message.results)
            case wire.Finished():
                self._take_finished(message)
            case wire.Refuse() | wire.Failed():
                self._peer_ends(from_peer(message.reason, message.text, "receiver"))
            case wire.Cancel():
                self._peer_ends(PeerCancelledError("the receiver stopped the transfer"))

    def _take_accept(self, message: wire.Accept) -> None:
        _demand(not self._accepted and message.durable <= self._manifest.total, "an Accept that cannot be")
        self._link.expect(_PATIENCE)
        self._accepted = True
        self._durable = message.durable
        self._meter = RateMeter(time.monotonic(), message.durable)
        if message.durable:
            self._on_event(events.Resumed(bytes=message.durable))

    def _take_request(self, message: wire.Request) -> None:
        fits = message.start < message.end <= self._manifest.total
        small = message.end - message.start <= wire.MAX_REQUEST_BYTES
        _demand(self._accepted and fits and small and len(self._requests) < _MAX_REQUESTS, "a Request that cannot be")
        with self._changed:
            self._requests.append((message.start, message.end))
            self._changed.notify_all()

    def _take_progress(self, durable: int) -> None:
        _demand(self._meter is not None and self._durable <= durable <= self._manifest.total, "progress that is none")
        assert self._meter is not None
        self._durable = durable
        now = time.monotonic()
        rate = self._meter.add(now, durable)
        if self._pace.ready(now) or durable == self._manifest.total:
            self._on_event(events.Progress(bytes=durable, total=self._manifest.total, rate=rate))

    def _take_results(self, results: list[wire.FileResult]) -> None:
        entries = self._manifest.entries
        for result in results:
            known = result.file < len(entries) and entries[result.file].kind == "file"
            _demand(self._accepted and known and not self._reported[result.file], "a result that cannot be")
            self._reported[result.file] = 1
            self._results_due -= 1
            if result.blake3 is not None:
                self._hashes.put(result.file, result.blake3)

    def _take_finished(self, message: wire.Finished) -> None:
        complete = message.total == self._manifest.total and not self._results_due
        _demand(self._accepted and complete and not self._requests, "that it has finished, and it has not")
        with self._changed:
            # A cancellation that came first stays one: the receiver may have heard of it or not.
            self._finished = self._verdict is None
            self._changed.notify_all()

    def _peer_ends(self, error: MidairError) -> None:
        self._peer_said_last = True
        self._settle(error)

    # -- both --

    def _settle(self, error: BaseException) -> bool:
        """The first to come is what ``run`` raises; whether this is it."""
        with self._changed:
            if self._verdict is not None or self._finished:
                return False
            self._verdict = error
            self._changed.notify_all()
            return True

    def _outcome(self) -> Outcome:
        return Outcome(
            bytes_total=self._manifest.total,
            bytes_committed=self._manifest.total if self._finished else 0,
            bytes_crossed=self._crossed,
            bytes_hashed=self._runs.bytes_hashed,
            committed=self._finished,
            files=FileOutcomes(self._manifest, self._hashes) if self._finished else (),
        )


def _demand(good: bool, what: str) -> None:
    if not good:
        raise RemoteProtocolError(f"the receiver sent {what}")
