"""What is received in order, from the outlet's point of view: a stream or a text, or one file into a pipe.

The outlet, with all that has been taken and not yet handed on, outlives the connection; a new one goes on behind it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from midair import events
from midair.errors import PeerLostError
from midair.transfer import wire
from midair.transfer.clashes import Resolve
from midair.transfer.destination import Destination, Ongoing
from midair.transfer.outlet import Outlet
from midair.transfer.pace import EventPace, RateMeter
from midair.transfer.receiving import Line
from midair.transfer.sinks import StreamSink

__all__ = ["InOrder"]

_ACK_BYTES = wire.STREAM_WINDOW // 8
_ACK_SECONDS = 0.05
_LOOK_SECONDS = 0.5


class InOrder:
    """A base: each kind says what it offers, what it takes in and when it is complete."""

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

    def _begin(self, *, holes: bool, hashed: bool = True) -> Ongoing:
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
        self._link.send(wire.Accept(durable=self._taken_before, holes=holes, hashed=hashed))
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
