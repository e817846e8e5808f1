"""The receiving side of one connection: judges the offer, and lets what fits its kind do the work.

Two threads:

    the calling one     takes in records, always; so the sender's last word, or its going away, is noticed in every
                        phase, and nothing that comes in is ever left unread
    the worker          asks the person; then carries out what was offered, see :mod:`midair.transfer.receiving`

Whatever ends the transfer is settled under the lock, the first to come wins, and ``run`` raises it. The worker that
fails says so to the sender; the calling thread then takes in what was on its way until the sender has closed.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from midair import events
from midair.channel import ChannelClosed, Conversation, Received
from midair.errors import (
    CancelledByUserError,
    ConnectionLostError,
    DeclinedError,
    MidairError,
    PeerCancelledError,
    RemoteProtocolError,
)
from midair.transfer import wire
from midair.transfer.clashes import Clash, Resolution, Resolve
from midair.transfer.compression import decompress
from midair.transfer.destination import Destination, Pipe
from midair.transfer.failures import from_peer, telling
from midair.transfer.file_receiving import FileReceiving
from midair.transfer.link import Link, LinkLimits
from midair.transfer.manifest import Manifest
from midair.transfer.offering import OfferReader
from midair.transfer.outcome import Offer, Outcome
from midair.transfer.pipe_receiving import PipeReceiving
from midair.transfer.receiving import Line, Receiving
from midair.transfer.stream_receiving import StreamReceiving

__all__ = ["Receiver"]


class Receiver:
    """Receives over ``channel``, which is in its bulk phase, into ``destination``. ``run`` closes the channel."""

    def __init__(
        self,
        channel: Conversation,
        destination: Destination,
        accept: Callable[[Offer], bool],
        on_event: events.Listener,
        *,
        resolve: Resolve | None = None,
        limits: LinkLimits | None = None,
        hashed: bool = True,
        verify: bool = False,
        each_file: bool = True,
    ) -> None:
        """``accept`` is called in a thread of its own, before anything is written, and may take its time; so is
        ``resolve``, for each thing of another kind or content that has a name of the offer. With None for it such an
        offer is refused. When the transfer ends meanwhile the answer is not waited for; ``offer.withdrawn()`` tells it.

        Files are ``hashed`` as they cross only if both sides want that. To ``verify`` is to hash also what an earlier
        run has received, and what stands there and is said to be the same. What became of ``each_file`` is told at the
        end, or only of those that are not simply there.
        """
        self._destination = destination
        self._hashed = hashed
        self._verify = verify
        self._accept = accept
        self._resolve = resolve
        self._resolve_in_turn = None if resolve is None else self._resolve_one
        self._on_event = on_event
        self._link = Link(channel, limits, on_quiet=self._quiet)
        self._lock = threading.Lock()
        self._verdict: BaseException | None = None
        self._over = False
        self._answered = False
        self._worker: threading.Thread | None = None
        self._wake = threading.Event()
        self._line = Line(link=self._link, emit=on_event, wake=self._wake, alive=self._alive, each_file=each_file)
        self._offer = OfferReader()
        self._receiving: Receiving | None = None
        self._bye = False

    @property
    def outcome(self) -> Outcome:
        """How far it has come; from any thread. Its ``committed`` may be true although ``run`` raises
        ConnectionLostError: then all is here, and only the sender may not know."""
        return Outcome() if self._receiving is None else self._receiving.outcome

    @property
    def verified(self) -> bool:
        """What was there has been verified, and what was not right is written off."""
        return self._verify and self._receiving is not None and self._receiving.begun

    def run(self) -> Outcome:
        """Blocks until everything is committed and the sender knows. Files that could not be are named in the outcome.

        Raises: TargetExistsError, DiskFullError, LocalIOError; IntegrityError; PeerFailedError, PeerCancelledError,
        PeerLostError, RemoteProtocolError, IncompatibleError; OutputClosedError; DeclinedError after a "no";
        CancelledByUserError after ``cancel``; ConnectionLostError when another connection may go on; what ``accept``
        and ``resolve`` raise.
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
            self._at_work().take_data(*wire.decode_data(received.payload))
        elif received.type == wire.COMPRESSED:
            self._at_work().take_data(*decompress(received.payload))
        elif received.type == wire.MANIFEST:
            self._link.moved()
            manifest = self._offer.take_manifest(received.payload)
            if manifest is not None:
                self._consider(self._receiving_of(manifest))
        elif received.type == wire.MESSAGE:
            self._take_message(wire.decode_from_sender(received.payload))
        else:
            raise RemoteProtocolError("the sender sent a record of an unknown type")

    def _take_message(self, message: wire.FromSender) -> None:
        match message:
            case wire.Ping():
                pass
            case wire.Announce():
                stream = self._offer.take_announce(message)
                if stream is not None:
                    self._consider(
                        StreamReceiving(self._line, self._destination, message, stream, self._resolve_in_turn)
                    )
            case wire.Failed():
                raise _PeerHasEnded(from_peer(message.reason, message.text, "sender"))
            case wire.Cancel() if self._committed:
                self._bye = True  # too late: everything stands under its name
            case wire.Cancel():
                raise _PeerHasEnded(PeerCancelledError("the sender stopped the transfer"))
            case wire.Bye():
                if not self._committed:
                    raise RemoteProtocolError("the sender said goodbye before the end")
                self._bye = True
            case _:
                self._at_work().take(message)

    def _receiving_of(self, manifest: Manifest) -> Receiving:
        hashed = self._hashed and self._offer.hashed
        if isinstance(self._destination, Pipe):
            return PipeReceiving(self._line, self._destination, manifest, hashed=hashed)
        return FileReceiving(
            self._line, self._destination, manifest, self._resolve_in_turn, hashed=hashed, verify=self._verify
        )

    def _consider(self, receiving: Receiving) -> None:
        """The offer is whole: look at what is there, then have the worker ask."""
        self._receiving = receiving
        self._link.expect(None)
        offer = receiving.look()
        self._worker = threading.Thread(
            target=self._work, args=(offer, receiving), name="midair-receiver-worker", daemon=True
        )
        self._worker.start()

    def _at_work(self) -> Receiving:
        if self._receiving is None:
            raise RemoteProtocolError("the sender sent content that was not asked for")
        return self._receiving

    @property
    def _committed(self) -> bool:
        return self._receiving is not None and self._receiving.committed

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
        if self._receiving is not None:
            self._receiving.close()

    def _join(self, worker: threading.Thread | None) -> None:
        if worker is not None:
            worker.join()

    # -- the worker --

    def _work(self, offer: Offer, receiving: Receiving) -> None:
        try:
            accepted = self._accept(offer)
            with self._lock:
                if self._over or self._verdict is not None:
                    return
                self._answered = True
            if not accepted:
                raise DeclinedError("the offer was declined")
            if receiving.carry_out():
                self._wait_for_the_goodbye(receiving)
        except BaseException as error:
            self._fail(error)
        if receiving.begun and not receiving.committed:
            with contextlib.suppress(MidairError):
                receiving.salvage()

    def _resolve_one(self, clash: Clash) -> Resolution:
        """While the person is asked, the end of the transfer does not wait for the worker."""
        assert self._resolve is not None
        with self._lock:
            self._answered = False
        try:
            return self._resolve(clash)
        finally:
            with self._lock:
                if self._over or self._verdict is not None:
                    raise ConnectionLostError("the transfer has ended")
                self._answered = True

    def _wait_for_the_goodbye(self, receiving: Receiving) -> None:
        self._link.expect(self._link.limits.silence)
        while not self._over:
            self._wake.wait()
            self._wake.clear()
        if self._bye:
            receiving.forget()

    # -- both --

    def _quiet(self, seconds: float) -> None:
        self._on_event(events.Waiting(seconds=round(seconds, 3)))

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
        if self._receiving is None or not self._receiving.begun:
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
