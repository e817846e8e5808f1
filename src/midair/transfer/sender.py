"""The sending side of one connection: offers what there is, then does what the receiver asks for.

The calling thread does the sending, see :mod:`midair.transfer.sending`. A second one takes in what the receiver says;
whatever ends the transfer is settled under a condition, the first to come wins, and the calling thread raises it.
"""

from __future__ import annotations

import contextlib
import math
import threading

from midair import events
from midair.channel import ChannelClosed, Conversation, Received
from midair.errors import (
    CancelledByUserError,
    ConnectionLostError,
    MidairError,
    PeerCancelledError,
    RemoteProtocolError,
)
from midair.transfer import wire
from midair.transfer.background import in_background
from midair.transfer.failures import from_peer, telling
from midair.transfer.file_sending import FileSending
from midair.transfer.link import Link, LinkLimits
from midair.transfer.outcome import Outcome, finished_events
from midair.transfer.pace import RateLimit
from midair.transfer.sending import Line, Sending
from midair.transfer.source import Source
from midair.transfer.stream import Stream
from midair.transfer.stream_sending import StreamSending

__all__ = ["Sender"]


class Sender:
    """Sends ``source`` over ``channel``, which is in its bulk phase and is closed when ``run`` returns."""

    def __init__(
        self,
        channel: Conversation,
        source: Source | Stream,
        on_event: events.Listener,
        *,
        limits: LinkLimits | None = None,
        limit_rate: float | None = None,
        background: bool = False,
        hashed: bool = True,
        compress: bool = True,
        each_file: bool = True,
    ) -> None:
        """``limit_rate`` is in bytes of content a second; None is as fast as it goes. In the ``background`` it gives
        way to other traffic. Files are ``hashed`` as they cross only if both sides want that. Content may be sent
        ``compress``ed where the path is what is waited for, and where it gets smaller. What became of ``each_file`` is
        told at the end, or only of those that are not simply there."""
        self._on_event = on_event
        self._each_file = each_file
        self._link = Link(channel, limits, on_quiet=self._quiet)
        self._in_background = in_background(channel) if background else contextlib.nullcontext()
        self._changed = threading.Condition()
        self._verdict: BaseException | None = None
        self._peer_said_last = False
        self._finished = False
        line = Line(
            link=self._link,
            emit=on_event,
            compress=compress,
            rate_limit=None if limit_rate is None else RateLimit(limit_rate),
            changed=self._changed,
            ended=self._ended,
            check=self._check,
        )
        self._sending: Sending = (
            StreamSending(line, source) if isinstance(source, Stream) else FileSending(line, source, hashed=hashed)
        )

    @property
    def outcome(self) -> Outcome:
        """How far it has come; from any thread."""
        with self._changed:
            return self._sending.outcome(finished=self._finished)

    def run(self) -> Outcome:
        """Blocks until the receiver has committed everything and said so. Files that were not stored are named in the
        outcome.

        Raises: PeerRefusedError, PeerFailedError (with the receiver's reason), PeerCancelledError, PeerLostError,
        RemoteProtocolError; LocalIOError; OutputClosedError; CancelledByUserError after ``cancel``;
        ConnectionLostError when another connection may go on.
        """
        self._link.start()
        self._link.expect(math.inf)
        reader = threading.Thread(target=self._read, name="midair-sender-reader", daemon=True)
        reader.start()
        broken: ConnectionLostError | None = None
        try:
            with self._in_background:
                self._sending.offer()
                self._sending.serve()
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
        for event in finished_events(outcome.files, each=self._each_file):
            self._on_event(event)
        return outcome

    def cancel(self) -> None:
        """End it; ``run`` raises CancelledByUserError, the receiver hears of it if that takes no more than a second.

        From any thread; returns at once; without effect when the transfer is over.
        """
        if self._settle(CancelledByUserError("the transfer was cancelled")):
            self._link.cancel()

    def _say_why(self, error: BaseException) -> None:
        """Unless the receiver knows already."""
        if self._peer_said_last or isinstance(error, CancelledByUserError | ConnectionLostError):
            return
        reason, text = telling(error)
        self._link.say_last(wire.Failed(reason=reason, text=text))

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
            case wire.Refuse() | wire.Failed():
                self._peer_ends(from_peer(message.reason, message.text, "receiver"))
            case wire.Cancel():
                self._peer_ends(PeerCancelledError("the receiver stopped the transfer"))
            case _:
                if self._sending.take(message):
                    self._finish()

    def _finish(self) -> None:
        with self._changed:
            # A cancellation that came first stays one: the receiver may have heard of it or not.
            self._finished = self._verdict is None
            self._changed.notify_all()

    def _peer_ends(self, error: MidairError) -> None:
        self._peer_said_last = True
        self._settle(error)

    # -- both --

    def _quiet(self, seconds: float) -> None:
        self._on_event(events.Waiting(seconds=round(seconds, 3)))

    def _ended(self) -> bool:
        return self._verdict is not None or self._finished

    def _check(self) -> None:
        """Raises what has ended the transfer, if it has failed."""
        if self._verdict is not None:
            raise self._verdict

    def _settle(self, error: BaseException) -> bool:
        """The first to come is what ``run`` raises; whether this is it."""
        with self._changed:
            if self._verdict is not None or self._finished:
                return False
            self._verdict = error
            self._changed.notify_all()
            return True
