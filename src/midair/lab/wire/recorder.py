"""A capture that the wire process writes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from midair.lab.capture.pcapng import CaptureWriter

if TYPE_CHECKING:
    from midair.lab.network import Direction
    from midair.lab.packet import Packet

__all__ = ["Recorder"]


class Recorder:
    """Writes what it observes to a file, which it makes. Raises: OSError."""

    def __init__(self, path: str, nodes: tuple[str, ...] | None) -> None:
        self._file = open(path, "wb")  # noqa: SIM115 - closed by close()
        self._writer = CaptureWriter(self._file)
        self._nodes = nodes
        self._since_1970 = time.time_ns() - time.monotonic_ns()
        self._failure: OSError | None = None

    def observe(self, node: str, port: int, packet: Packet, now: float, direction: Direction) -> None:
        """As the observer of a network. After a failure, of a disk that is full say, it records nothing more."""
        if self._failure is None and (self._nodes is None or node in self._nodes):
            try:
                self._writer.write(round(now * 1e9) + self._since_1970, node, port, direction, packet)
            except OSError as error:
                self._failure = error

    def close(self) -> None:
        """The file is complete then. Raises: OSError, also when recording has failed before."""
        self._file.close()
        if self._failure is not None:
            raise self._failure
