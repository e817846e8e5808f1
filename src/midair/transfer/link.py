"""A channel while a transfer runs over it: nobody waits for ever, and last words arrive.

Three things threads with blocking sockets do not have by themselves:

* *Signs of life.* A side that has sent nothing for a second sends a Ping; one from which nothing comes for longer is
  given up, and both meet again. Only the time spent waiting in ``receive`` counts: a side that is busy with its own
  disk has not heard, but not because nothing was said. A piece of a record is a sign of life, too. Where our own
  address has gone, the silence will not end.
* *Deadlines.* A thread blocked in a socket is woken by ``Channel.abort``, from the one thread here that itself never
  blocks on the network.
* *Last words.* Failed, Refuse or Cancel are the last record of their side. Closing right after it would send a RST over
  bytes that are still coming in, and that can overtake the word. So somebody goes on taking in what comes, for a
  bounded time, until the other side, having read the word, has closed: a thread in ``receive``, then ``Channel.close``.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from midair.errors import ConnectionLostError, MidairError
from midair.port import allow_unsent, is_own_address, seconds_since_heard
from midair.transfer import wire

if TYPE_CHECKING:
    from midair.channel import Conversation, Frame, Received

__all__ = ["Link", "LinkLimits"]

Action = Callable[[], None]

_log = logging.getLogger("midair.transfer")
_TICK = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLimits:
    """All in seconds."""

    ping: float = 1.0
    """Send a Ping after so long without a record."""
    silence: float = 6.0
    """Give up after so long without a byte from the other side: six lost pings. TCP repeats what was lost in an outage
    of three seconds within six (RFC 6298 5.5 doubles the pause each time)."""
    silence_of_records: float = 30.0
    """The same where the system does not tell when the last byte came: a record of 64 KiB takes that on 17 kbit/s."""
    suspicion: float = 1.5
    """After so long without a byte, look whether our own address is still there."""
    stall: float = 120.0
    """Give up when one record cannot be sent in this time. Records shrink on a slow path, see the sender."""
    quiet: float = 3.0
    """Say that the other side is being waited for after so long without anything from it that brings us forward."""
    linger: float = 2.0
    """How long the end may take."""
    cancel: float = 1.0
    """How long it may take to tell the other side of a cancellation."""


class Link:
    """``start`` first, ``close`` last, from one thread; ``receive`` from one thread; everything else from any."""

    def __init__(
        self,
        channel: Conversation,
        limits: LinkLimits | None = None,
        *,
        on_quiet: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """``on_quiet`` is told, from another thread, when something is expected and nothing has come for so long."""
        self._channel = channel
        self.limits = limits or LinkLimits()
        self._on_quiet = on_quiet
        self._said_quiet = False
        self._sending = threading.Lock()
        self._last_sent = time.monotonic()
        self._send_began: float | None = None
        self._receive_began: float | None = None
        self._address = channel.local.address
        self._address_known = is_own_address(self._address)
        self._deadline: float | None = None
        self._patience: float | None = None
        self._moved = time.monotonic()
        self._said_last = False
        self._given_up: str | None = None
        self._stop = threading.Event()
        self._ticker = threading.Thread(target=self._tick_until_stopped, name="midair-ticker", daemon=True)
        self._canceller: threading.Thread | None = None
        self._cancelling = threading.Lock()
        """Held until the canceller runs: until then nobody can wait for its end."""

    def start(self) -> None:
        """From here on the other side gets its signs of life."""
        self._ticker.start()

    def new_frame(self) -> Frame:
        """A buffer for ``send_data``."""
        return self._channel.new_frame()

    def send(self, message: wire.Message) -> None:
        """Raises: ConnectionLostError, also after the last word."""
        self._send(lambda: self._channel.send(wire.MESSAGE, wire.encode(message)))

    def send_manifest(self, payload: bytes) -> None:
        """Raises: ConnectionLostError, also after the last word."""
        self._send(lambda: self._channel.send(wire.MANIFEST, payload))

    def send_data(self, frame: Frame, length: int) -> None:
        """Raises: ConnectionLostError, also after the last word."""
        self._send(lambda: self._channel.send_frame(wire.DATA, frame, length))

    def send_compressed(self, payload: bytes) -> None:
        """Raises: ConnectionLostError, also after the last word."""
        self._send(lambda: self._channel.send(wire.COMPRESSED, payload))

    def allow_unsent(self, count: int) -> None:
        """How many bytes the system may hold that it has not sent yet, on the connection there is now."""
        allow_unsent(self._channel.sock, count)

    def say_last(self, message: wire.Failed | wire.Refuse) -> None:
        """Send the last word of this side and give the other one ``linger`` seconds to close. Never raises."""
        with contextlib.suppress(MidairError), self._sending:
            if not self._said_last:
                self._said_last = True
                self._send_now(lambda: self._channel.send(wire.MESSAGE, wire.encode(message)))
        self.end_within(self.limits.linger)

    def cancel(self) -> None:
        """Say Cancel as soon as the record being sent is out, then end. Returns at once; never raises."""
        with self._cancelling:
            self._canceller = threading.Thread(target=self._say_cancel, name="midair-cancel", daemon=True)
            self._canceller.start()

    def receive(self) -> Received:
        """The next record. Raises: ConnectionLostError, RemoteProtocolError; ChannelClosed."""
        self._receive_began = time.monotonic()
        try:
            return self._channel.receive()
        except ConnectionLostError:
            if self._given_up is not None:
                raise ConnectionLostError(self._given_up) from None
            raise
        finally:
            self._receive_began = None

    def expect(self, seconds: float | None) -> None:
        """From now on ``moved`` must be called at least every so many seconds of waiting in ``receive``; None: nothing
        is expected. Infinity: whenever it may be.

        Saying the same again is not a new start.
        """
        if seconds != self._patience:
            self.moved()
            self._patience = seconds

    def moved(self) -> None:
        """Something has come that brings the transfer forward."""
        self._moved = time.monotonic()
        self._said_quiet = False

    def end_within(self, seconds: float) -> None:
        """Whatever blocks then is woken with ConnectionLostError."""
        deadline = time.monotonic() + seconds
        self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)

    def abort(self) -> None:
        """End it now. Never raises."""
        self._channel.abort()

    def close(self) -> None:
        """In good order, from the thread that received last, or after it has ended. Bounded; never raises."""
        with self._cancelling:
            canceller = self._canceller
        if canceller is not None:
            canceller.join()
        self._channel.close(linger=self.limits.linger)
        self._stop.set()
        if self._ticker.is_alive():
            self._ticker.join()

    def _send(self, action: Action) -> None:
        with self._sending:
            if self._said_last:
                raise ConnectionLostError("the transfer has ended")
            self._send_now(action)

    def _send_now(self, action: Action) -> None:
        self._send_began = time.monotonic()
        try:
            action()
        except ConnectionLostError:
            if self._given_up is not None:
                raise ConnectionLostError(self._given_up) from None
            raise
        finally:
            self._send_began = None
            self._last_sent = time.monotonic()

    def _say_cancel(self) -> None:
        limit = self.limits.cancel
        # A record is never left half sent: the other side could not read what comes after it.
        if not self._sending.acquire(timeout=limit):
            self._channel.abort()
            return
        try:
            if not self._said_last:
                self._said_last = True
                if self._writable(limit):
                    with contextlib.suppress(MidairError):
                        self._send_now(lambda: self._channel.send(wire.MESSAGE, wire.encode(wire.Cancel())))
        finally:
            self._sending.release()
            self.end_within(limit)

    def _writable(self, seconds: float) -> bool:
        """Whether a small record can be sent without waiting for the other side to read."""
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._channel.sock, selectors.EVENT_WRITE)
                return bool(selector.select(seconds))
        except (OSError, ValueError):  # closed meanwhile
            return False

    def _tick_until_stopped(self) -> None:
        while not self._stop.wait(min(_TICK, self.limits.ping, self.limits.silence / 4)):
            now = time.monotonic()
            if (why := self._judge(now)) is not None:
                self._given_up = self._given_up or why
                self._channel.abort()
                continue
            self._tell_quiet(now)
            if now - self._last_sent >= self.limits.ping:
                self._ping()

    def _tell_quiet(self, now: float) -> None:
        waiting = self._receive_began is not None and self._patience is not None and self._deadline is None
        if waiting and not self._said_quiet and now - self._moved >= self.limits.quiet:
            self._said_quiet = True
            self._on_quiet(now - self._moved)

    def _judge(self, now: float) -> str | None:
        """Why this has taken too long, if it has."""
        limits = self.limits
        if self._deadline is not None and now >= self._deadline:
            return "the transfer has ended"
        began = self._receive_began
        if began is not None and (why := self._judge_silence(now - began)) is not None:
            return why
        if began is not None and self._patience is not None and now - self._moved >= self._patience:
            return f"the other side did not go on for {self._patience:g} s"
        began = self._send_began
        if began is not None and now - began >= limits.stall:
            return f"the other side took nothing for {limits.stall:g} s"
        return None

    def _judge_silence(self, waited: float) -> str | None:
        """Why the other side will not be heard again, if so; ``waited`` is seconds."""
        limits = self.limits
        if waited < min(limits.suspicion, limits.silence):
            return None
        heard = seconds_since_heard(self._channel.incoming)
        if heard is None:
            return _nothing_came(limits.silence_of_records) if waited >= limits.silence_of_records else None
        silent = min(waited, heard)
        if silent >= limits.silence:
            return _nothing_came(limits.silence)
        if silent >= limits.suspicion and self._address_has_gone():
            return "the address of this computer has changed"
        return None

    def _address_has_gone(self) -> bool:
        address = self._channel.local.address
        if address != self._address:
            self._address, self._address_known = address, is_own_address(address)
        return self._address_known and not is_own_address(address)

    def _ping(self) -> None:
        if not self._sending.acquire(blocking=False):
            return
        try:
            if not self._said_last and self._writable(0):
                with contextlib.suppress(MidairError):
                    self._send_now(lambda: self._channel.send(wire.MESSAGE, wire.encode(wire.Ping())))
        finally:
            self._sending.release()


def _nothing_came(seconds: float) -> str:
    return f"nothing came from the other side for {seconds:g} s"
