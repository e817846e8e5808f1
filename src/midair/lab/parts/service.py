"""A program that serves, started inside a lab's namespace and ended with it.

Nothing of it is left: configuration and output are in memory (memfd), not in files, and the process dies with the
lab's, even when that is killed.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

from midair.lab.namespace import end_processes
from midair.lab.programs import find_program

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from midair.lab.namespace import Namespace

__all__ = ["Service", "ServiceUnavailable", "program"]

_START_SECONDS = 10.0
_LOG_LINES = 10
"""Of a program that failed, shown in the error."""
_TCP_LISTEN = "0A"  # linux/tcp_states.h


class ServiceUnavailable(Exception):
    """The program is missing, or did not start; the text says which and what to do."""


def program(name: str, package: str) -> str:
    """The path of a program.

    Raises: ServiceUnavailable when it is not there; ``package`` is the Debian package that has it.
    """
    path = find_program(name)
    if path is None:
        raise ServiceUnavailable(f"{name} is not installed (on Debian: apt-get install {package})")
    return path


class Service:
    """A running program; a context manager. Starting it waits until it listens.

    ``listens`` has ``("tcp", 3478)`` for each port by which one knows that it serves. Two words in ``argv`` become
    names of files in memory: ``{configuration}`` has the text ``configuration``, ``{scratch}`` is empty and may be
    written to. Nobody can remove those, which matters where a program run by root removes its pid file.

    Raises: ServiceUnavailable when it ends instead, or does not listen within ten seconds.
    """

    def __init__(
        self, place: Namespace, argv: Sequence[str], *, listens: Sequence[tuple[str, int]], configuration: str = ""
    ) -> None:
        self.place = place
        self._log = os.memfd_create(f"{place.name}-log")
        settings, scratch = (os.memfd_create(f"{place.name}-{name}") for name in ("configuration", "scratch"))
        self._process: subprocess.Popen[Any] | None = None
        try:
            os.write(settings, configuration.encode())
            files = {"{configuration}": f"/proc/self/fd/{settings}", "{scratch}": f"/proc/self/fd/{scratch}"}
            self._process = place.popen(
                [files.get(word, word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                pass_fds=[settings, scratch],
            )
            self._wait_until_it_listens(argv[0], listens)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(settings)
            os.close(scratch)

    @property
    def log(self) -> str:
        """What it has said so far."""
        size = os.fstat(self._log).st_size
        return os.pread(self._log, size, 0).decode(errors="replace")

    @property
    def running(self) -> bool:
        """Whether it has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        """Ends it, within two seconds. Idempotent; the log stays readable until the object goes."""
        if self._process is not None:
            end_processes([self._process])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if (log := getattr(self, "_log", None)) is not None:
            os.close(log)

    def _wait_until_it_listens(self, name: str, listens: Sequence[tuple[str, int]]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not set(listens) <= _listening(self.place):
            if not self.running:
                raise ServiceUnavailable(f"{name} ended at its start in {self.place.name}:\n{self._end_of_log()}")
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"{name} does not listen in {self.place.name}:\n{self._end_of_log()}")
            time.sleep(0.005)

    def _end_of_log(self) -> str:
        return "\n".join(self.log.splitlines()[-_LOG_LINES:])


def _listening(place: Namespace) -> set[tuple[str, int]]:
    """The protocol and port of each TCP listener and each bound UDP socket of a namespace."""
    found = set()
    with place.entered():
        for table in ("tcp", "tcp6", "udp", "udp6"):
            try:
                with open(f"/proc/thread-self/net/{table}", encoding="ascii") as file:
                    rows = [line.split() for line in file.readlines()[1:]]
            except FileNotFoundError:  # a kernel without IPv6
                continue
            protocol = table.rstrip("6")
            for row in rows:
                if protocol == "udp" or row[3] == _TCP_LISTEN:
                    found.add((protocol, int(row[1].rpartition(":")[2], 16)))
    return found
