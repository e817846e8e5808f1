"""Where a receiver puts what it gets. One object for all connections of a session.

Files in a folder can be gone on with by another process, so nothing of them is kept here. What goes in order (a stream,
a text, a file into a pipe) is known to this process alone: it stays here between two connections.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from midair.transfer.outlet import Outlet
from midair.transfer.sinks import StreamSink

__all__ = ["Destination", "Folder", "Ongoing", "Pipe"]


@dataclass(slots=True, kw_only=True)
class Ongoing:
    """What is being received in order."""

    id: bytes
    """Of the stream, or of the manifest with the one file."""
    sink: StreamSink
    outlet: Outlet
    finished: bool = False
    """All of it is where it belongs."""

    def close(self) -> None:
        """Nothing more will come. Idempotent."""
        self.outlet.close()
        self.sink.close()


class _Place:
    def __init__(self) -> None:
        self.ongoing: Ongoing | None = None

    def close(self) -> None:
        """At the end of a session: what could not be finished is given up. Idempotent."""
        if self.ongoing is not None:
            self.ongoing.close()
            self.ongoing = None


class Folder(_Place):
    """A folder that is there."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path


class Pipe(_Place):
    """An open descriptor to write to, such as 1 for stdout; it stays the caller's."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.descriptor = descriptor


Destination = Folder | Pipe
