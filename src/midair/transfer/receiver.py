"""The receiving side of one connection: judges the offer, asks for ranges, and lets the disk half do its work.

Two threads:

    the calling one     takes in records, always, and writes content; so the sender's last word, or its going away, is
                        noticed in every phase, and nothing that comes in is ever left unread
    the worker          asks the person; then syncs, keeps the journal, asks for more, and at the end commits

Whatever ends the transfer is settled under the lock, the first to come wins, and ``run`` raises it. The worker that
fails says so to the sender; the calling thread then takes in what was on its way until the sender has closed.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from midair import events
from midair.channel import Channel, ChannelClosed, Received
from midair.errors import (
    CancelledByUserError,
    ConnectionLostError,
    DeclinedError,
    MidairError,
    PeerCancelledError,
    RemoteProtocolError,
)
from midair.transfer import wire
from midair.transfer.failures import from_os, from_peer, telling
from midair.transfer.inspection import Found, check_room, inspect
from midair.transfer.intake import SYNC_SECONDS, Intake
from midair.transfer.link import Link, LinkLimits
from midair.transfer.manifest import Manifest
from midair.transfer.names import escape
from midair.transfer.offering import OfferReader
from midair.transfer.outcome import FileOutcomes, Offer, Outcome
from midair.transfer.pace import EventPace, RateMeter
from midair.transfer.ranges import RangeSet
from midair.transfer.scheduler import Scheduler

__all__ = ["Receiver"]

_SHOWN_NAMES = 20


class Receiver:
    """Receives over ``channel``, which is in its bulk phase and is closed when ``run`` returns, into ``directory``."""

    def __init__(
        self,
        channel: Channel,
        directory: Path,
        accept: Callable[[Offer], bool],
        on_event: events.Listener,
        *,
        limits: LinkLimits | None = None,
    ) -> None:
        """``accept`` is called in a thread of its own, before anything is written, and may take its time. When the
        transfer ends meanwhile its answer is not waited for; ``offer.withdrawn()`` tells it."""
        self._directory = directory
        self._accept = accept
        self._on_event = on_event
        self._link = Link(channel, limits)
        self._lock = threading.Lock()
        self._verdict: BaseException | None = None
        self._over = False
        self._answered = False
        self._worker: threading.Thread | None = None
        self._wake = threading.Event()
        self._offer = OfferReader()
        self._manifest: Manifest | None = None
        self._folder: int | None = None
        self._intake: Intake | None = None
        self._scheduler_lock = threading.Lock()
        """Also held while requests are sent: the sender must see them in the order the scheduler knows."""
        self._scheduler: Scheduler | None = None
        self._meter: RateMeter | None = None
        self._pace = EventPace()
        self._committed: FileOutcomes | None = None
        self._bye = False

    @property
    def outcome(self) -> Outcome:
        """How far it has come; from any thread. Its ``committed`` may be true although ``run`` raises
        ConnectionLostError: then all is here, and only the sender may not know."""
        manifest, intake, files = self._manifest, self._intake, self._committed
        total = 0 if manifest is None else manifest.total
        return Outcome(
            bytes_total=total,
            bytes_committed=0 if files is None else total,
            bytes_crossed=0 if intake is None else intake.received,
            bytes_hashed=0 if intake is None else intake.bytes_hashed,
            committed=files is not None,
            files=() if files is None else files,
        )

    def run(self) -> Outcome:
        """Blocks until everything is committed and the sender knows.

        Raises: TargetExistsError, DiskFullError, LocalIOError; IntegrityError; SourceChangedError, PeerFailedError,
        PeerCancelledError, RemoteProtocolError, IncompatibleError; DeclinedError after a "no";
        CancelledByUserError after ``cancel``; ConnectionLostError when another connection may go on; what ``accept``
        raises.
        """
        self._link.start()
        self._link.expect(self._link.limits.stall)
        try:
            while not self._bye:
                received = self._link.receive()
                self._check()
                self._take(received)
        except ChannelClosed:
            self._settle(ConnectionLostError("the sender closed the connection before the end"))
        except BaseException as error:
            self._fail(error)
        self._end()
        if self._verdict is not None:
            raise self._verdict
        return self.outcome

    def cancel(self) -> None:
        """End it; ``run`` raises CancelledByUserError, the sender hears of it if that takes no more than a second.

        What has arrived is kept. From any thread; returns at once; without effect when the transfer is over.
        """
        if self._settle(CancelledByUserError("the transfer was cancelled")):
            self._link.cancel()

    # -- the calling thread --

    def _take(self, received: Received) -> None:
        if received.type == wire.DATA:
            self._take_data(received.payload)
        elif received.type == wire.MANIFEST:
            self._link.moved()
            manifest = self._offer.take_manifest(received.payload)
            if manifest is not None:
                self._consider(manifest)
        elif received.type == wire.MESSAGE:
            self._take_message(wire.decode_from_sender(received.payload))
        else:
            raise RemoteProtocolError("the sender sent a record of an unknown type")

    def _take_message(self, message: wire.FromSender) -> None:
        match message:
            case wire.Ping():
                pass
            case wire.Announce():
                self._offer.take_announce(message)
            case wire.Digests():
                self._busy_intake().match(message.digests)
            case wire.RangeEnd():
                self._take_range_end(message)
            case wire.Failed():
                self._take_failed(message)
            case wire.Cancel() if self._committed is not None:
                self._bye = True  # too late: everything stands under its name
            case wire.Cancel():
                raise _PeerHasEnded(PeerCancelledError("the sender stopped the transfer"))
            case wire.Bye():
                if self._committed is None:
                    raise RemoteProtocolError("the sender said goodbye before the end")
                self._bye = True

    def _consider(self, manifest: Manifest) -> None:
        """The offer is whole: look at the folder, then have the worker ask."""
        self._manifest = manifest
        self._link.expect(None)
        files = manifest.files
        names = tuple(escape(entry.path) for entry in manifest.top_level)
        self._on_event(
            events.OfferSeen(
                files=files, directories=len(manifest) - files, bytes=manifest.total, names=names[:_SHOWN_NAMES]
            )
        )
        try:
            self._folder = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            found = inspect(self._folder, manifest)
            intake = Intake(self._folder, manifest, found, self._wake.set)
            self._intake = intake
            check_room(self._folder, manifest, found)
        except OSError as error:
            raise from_os(error, "the folder to receive into") from error
        offer = Offer(
            manifest_id=manifest.id,
            files=files,
            directories=len(manifest) - files,
            bytes=manifest.total,
            names=names,
            durable=found.durable.total,
            withdrawn=lambda: not self._alive(),
        )
        self._worker = threading.Thread(
            target=self._work, args=(offer, manifest, found, intake), name="midair-receiver-worker", daemon=True
        )
        self._worker.start()

    def _take_data(self, payload: memoryview) -> None:
        position, data = wire.decode_data(payload)
        intake = self._busy_intake()
        assert self._scheduler is not None
        with self._scheduler_lock:
            self._scheduler.received(position, len(data))
        intake.write(position, data)
        self._link.moved()  # after it, because a slow disk is not the sender's fault

    def _take_range_end(self, message: wire.RangeEnd) -> None:
        intake = self._busy_intake()
        assert self._scheduler is not None
        with self._scheduler_lock:
            self._scheduler.ended(message.start, message.end)
            intake.end_range(message.digests)
            done = self._scheduler.done
        if done:
            self._wake.set()
        else:
            self._request_more(intake)

    def _take_failed(self, message: wire.Failed) -> None:
        entries = () if self._manifest is None else self._manifest.entries
        if message.reason == "source-changed" and message.file is not None and self._intake is not None:
            if message.file >= len(entries):
                raise RemoteProtocolError("the sender named a file that is not in its list")
            self._intake.drop(message.file)
        raise _PeerHasEnded(from_peer(message.reason, message.text, "sender"))

    def _busy_intake(self) -> Intake:
        """Only while content has been asked for."""
        if self._scheduler is None or self._intake is None:
            raise RemoteProtocolError("the sender sent content that was not asked for")
        return self._intake

    def _end(self) -> None:
        """The calling thread takes in nothing more. Leaves nothing open, and no lock held."""
        with self._lock:
            self._over = True
            worker = self._worker if self._answered else None
        self._wake.set()
        if self._verdict is None:
            # All is well, and the sender, which knows, waits for our side of the channel to close: tidy up first.
            self._join(worker)
        self._link.close()
        self._join(worker)
        if self._intake is not None:
            self._intake.close()
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None

    def _join(self, worker: threading.Thread | None) -> None:
        if worker is not None:
            worker.join()

    # -- the worker --

    def _work(self, offer: Offer, manifest: Manifest, found: Found, intake: Intake) -> None:
        try:
            accepted = self._accept(offer)
            with self._lock:
                if self._over or self._verdict is not None:
                    return
                self._answered = True
            if not accepted:
                raise DeclinedError("the offer was declined")
            self._begin(manifest, found, intake)
            if self._follow(manifest, intake):
                self._commit(manifest, intake)
        except BaseException as error:
            self._fail(error)
        if self._answered and self._scheduler is not None and self._committed is None:
            with contextlib.suppress(MidairError):
                intake.sync()
                intake.write_off()

    def _begin(self, manifest: Manifest, found: Found, intake: Intake) -> None:
        if found.leftovers:
            self._on_event(events.Status(text="removing what a transfer of other content left unfinished here"))
        intake.prepare()
        durable = intake.durable.total
        self._link.send(wire.Accept(durable=durable))
        if durable:
            self._on_event(events.Resumed(bytes=durable))
        self._meter = RateMeter(time.monotonic(), durable)
        with self._scheduler_lock:
            self._scheduler = Scheduler(RangeSet(intake.durable.missing(0, manifest.total)))
            done = self._scheduler.done
        if done:
            self._wake.set()
        self._request_more(intake)

    def _follow(self, manifest: Manifest, intake: Intake) -> bool:
        """Sync, report and ask for more, until everything is durable; False when the transfer has ended before."""
        assert self._scheduler is not None
        while True:
            self._wake.wait(SYNC_SECONDS)
            self._wake.clear()
            if not self._alive():
                return False
            with self._scheduler_lock:
                complete = self._scheduler.done
            if intake.sync() or complete:
                self._report_progress(manifest, intake, complete=complete)
            if complete:
                return True
            self._request_more(intake)

    def _request_more(self, intake: Intake) -> None:
        assert self._scheduler is not None
        with self._scheduler_lock:
            for start, end in self._scheduler.requests(intake.not_durable):
                self._link.send(wire.Request(start=start, end=end))
            self._link.expect(self._link.limits.stall if self._scheduler.waiting else None)

    def _report_progress(self, manifest: Manifest, intake: Intake, *, complete: bool) -> None:
        assert self._meter is not None
        durable = intake.durable.total
        self._link.send(wire.Progress(durable=durable))
        now = time.monotonic()
        rate = self._meter.add(now, durable)
        if self._pace.ready(now) or complete:
            self._on_event(events.Progress(bytes=durable, total=manifest.total, rate=rate))

    def _commit(self, manifest: Manifest, intake: Intake) -> None:
        if not intake.commit(self._alive):
            return
        self._committed = FileOutcomes(manifest, intake.hashes)
        for file in self._committed:
            self._on_event(
                events.FileFinished(file=file.name, bytes=file.bytes, blake3=file.blake3, outcome=file.outcome)
            )
        results = (
            wire.FileResult(index, intake.hashes.get(index))
            for index, entry in enumerate(manifest.entries)
            if entry.kind == "file"
        )
        while batch := list(islice(results, wire.MAX_RESULTS)):
            self._link.send(wire.FileResults(results=batch))
        self._link.send(wire.Finished(total=manifest.total))
        self._link.expect(self._link.limits.silence)
        while not self._over:
            self._wake.wait()
            self._wake.clear()
        if self._bye:
            intake.forget()

    # -- both --

    def _alive(self) -> bool:
        return self._verdict is None and not self._over

    def _check(self) -> None:
        if self._verdict is not None:
            raise self._verdict

    def _settle(self, error: BaseException) -> bool:
        """The first to come is what ``run`` raises; whether this is it."""
        with self._lock:
            if self._verdict is not None or self._over:
                return False
            self._verdict = error
        self._wake.set()
        return True

    def _fail(self, error: BaseException) -> None:
        """Settle it, and tell the sender unless it knows."""
        if isinstance(error, _PeerHasEnded):
            self._settle(error.error)
            return
        if isinstance(error, ConnectionLostError) and self._in_worker():
            # The calling thread may still find the sender's last word, which says more.
            self._link.end_within(self._link.limits.linger)
            return
        if not self._settle(error) or isinstance(error, ConnectionLostError):
            return
        reason, text = telling(error)
        if self._scheduler is None:
            self._link.say_last(wire.Refuse(reason=reason, text=text))
        else:
            self._link.say_last(wire.Failed(reason=reason, text=text))

    def _in_worker(self) -> bool:
        return threading.current_thread() is self._worker


class _PeerHasEnded(Exception):
    """The sender has had its last word: ``error`` is what that means here."""

    def __init__(self, error: MidairError) -> None:
        super().__init__(str(error))
        self.error = error
