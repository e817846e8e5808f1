"""What a stream can be written to: a pipe, a new file, or memory, for text that is shown."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Protocol

from midair.errors import (
    LocalIOError,
    MidairError,
    OutputClosedError,
    RemoteProtocolError,
    TargetExistsError,
    UsageError,
)
from midair.transfer import disk
from midair.transfer.clashes import Resolve, resolve_clashes
from midair.transfer.failures import from_os
from midair.transfer.inspection import Found, inspect
from midair.transfer.journal import Committing, Exceptional, exceptions_records, parts_records
from midair.transfer.journal_file import JournalFile
from midair.transfer.layout import journal_name, part_name
from midair.transfer.manifest import MAX_TOTAL, Entry, Manifest, ManifestBuilder
from midair.transfer.names import escape
from midair.transfer.outlet import Sink
from midair.transfer.plan import Fate, Plan
from midair.transfer.staging import Staging, remove_parts

__all__ = ["FileSink", "PipeSink", "StreamSink", "TextSink"]

_SET_PIPE_SIZE = getattr(fcntl, "F_SETPIPE_SZ", None)
_PIPE_BYTES = 1 << 20


class StreamSink(Sink, Protocol):
    """``prepare`` before it is accepted, ``begin`` after that, ``finish`` when all is written."""

    def prepare(self, resolve: Resolve | None) -> None:
        """Look, and change nothing. Raises: MidairError when it cannot be written there."""
        ...

    def begin(self, resolve: Resolve | None) -> None:
        """Raises: MidairError."""
        ...

    def finish(self, total: int, alive: Callable[[], bool]) -> bool:
        """All is written. False when ``alive`` said no before the last step. Raises: MidairError."""
        ...

    def result(self) -> tuple[str, str]:
        """``(outcome, text)`` for the sender."""
        ...

    def close(self) -> None:
        """Leave nothing open, and nothing unfinished. Idempotent."""
        ...


class PipeSink:
    """Into an open descriptor, our stdout as a rule, which stays open."""

    may_wait: ClassVar[bool] = True

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()

    def prepare(self, resolve: Resolve | None) -> None:
        """Raises: UsageError for a terminal: what comes would be obeyed by it."""
        if os.isatty(self._descriptor):
            raise UsageError(
                "what comes is not written to a terminal", hint="Give it to a program, with |, or to a file, with >."
            )

    def begin(self, resolve: Resolve | None) -> None:
        # Where nobody reads any more a pipe reports an error, whether it is asked for or not.
        self._poll.register(self._descriptor, 0)
        if _SET_PIPE_SIZE is not None:
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._descriptor, _SET_PIPE_SIZE, _PIPE_BYTES)

    def write(self, data: memoryview) -> None:
        """Raises: OutputClosedError, LocalIOError."""
        try:
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:  # somebody else has made it non-blocking
                    select.select([], [self._descriptor], [])
        except BrokenPipeError as error:
            raise _output_closed() from error
        except OSError as error:
            raise from_os(error, "the output") from error

    def look(self) -> None:
        """Raises: OutputClosedError."""
        for _, happened in self._poll.poll(0):
            if happened & select.POLLERR:
                raise _output_closed()

    def finish(self, total: int, alive: Callable[[], bool]) -> bool:
        return True

    def result(self) -> tuple[str, str]:
        return "received", ""

    def close(self) -> None:
        pass


def _output_closed() -> OutputClosedError:
    return OutputClosedError("whoever read the output has closed it before the end")


class TextSink:
    """Into memory, as much as the offer said; ``show`` gets it when it is whole."""

    may_wait: ClassVar[bool] = False

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._content = bytearray()

    def prepare(self, resolve: Resolve | None) -> None:
        pass

    def begin(self, resolve: Resolve | None) -> None:
        pass

    def write(self, data: memoryview) -> None:
        self._content += data

    def look(self) -> None:
        pass

    def finish(self, total: int, alive: Callable[[], bool]) -> bool:
        """Raises: RemoteProtocolError."""
        try:
            text = self._content.decode()
        except UnicodeDecodeError as error:
            raise RemoteProtocolError("the sender's text is not valid Unicode") from error
        self._show(text)
        return True

    def result(self) -> tuple[str, str]:
        return "received", ""

    def close(self) -> None:
        pass


class FileSink:
    """Into a new file, as other files are received: NAME.part beside it, then synced, then renamed.

    The journal is there for the lock, and for a later run to know whose the part is. Nothing of a stream can be gone on
    with by another process, so both go at the end, whatever it is.
    """

    may_wait: ClassVar[bool] = False

    def __init__(self, directory: Path, name: str, stream_id: bytes) -> None:
        self._directory = directory
        self._identity = stream_id
        self._name = name
        # Larger than any file, so that nothing that is there can be taken for it.
        self._manifest = _manifest_of(name, MAX_TOTAL, 0, stream_id)
        self._plan = Plan(self._manifest)
        self._folder: int | None = None
        self._found = Found()
        self._journal: JournalFile | None = None
        self._staging: Staging | None = None
        self._descriptor: int | None = None
        self._written = 0
        self._begun = False

    def prepare(self, resolve: Resolve | None) -> None:
        """Raises: TargetExistsError, LocalIOError."""
        try:
            self._folder = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._found = inspect(self._folder, self._manifest, self._plan)
            if not os.access(".", os.W_OK | os.X_OK, dir_fd=self._folder):
                raise LocalIOError("the folder to receive into may not be written to")
        except OSError as error:
            raise from_os(error, "the folder to receive into") from error
        self._journal = self._found.journal
        if resolve is None:
            resolve_clashes(self._folder, self._manifest, self._plan, self._found.survey.clashes, None)

    def begin(self, resolve: Resolve | None) -> None:
        """Raises: TargetExistsError, LocalIOError, DiskFullError; UsageError when it is not wanted."""
        assert self._folder is not None
        resolve_clashes(self._folder, self._manifest, self._plan, self._found.survey.clashes, resolve)
        if self._plan.fate(0) is Fate.KEPT:
            raise TargetExistsError(f"{escape(self._name)} is already there, and stays")
        if self._journal is None:
            self._journal = JournalFile.create(self._folder, journal_name(self._name))
        self._staging = Staging(self._folder, self._manifest, self._plan)
        if self._found.leftovers:
            remove_parts(self._folder, self._found.leftovers)
            self._staging.sync_folder()  # only as long as a journal names them are they ours
        self._begun = True
        self._journal.begin(self._manifest.id)
        self._staging.sync_folder()
        self._staging.create(set(), [])
        self._journal.append(parts_records([part_name(self._name)]))
        self._descriptor = self._staging.open_file(0)

    def write(self, data: memoryview) -> None:
        """Raises: LocalIOError, DiskFullError."""
        assert self._descriptor is not None
        try:
            disk.write_at(self._descriptor, data, self._written)
        except OSError as error:
            raise from_os(error, self._name) from error
        self._written += len(data)

    def look(self) -> None:
        pass

    def finish(self, total: int, alive: Callable[[], bool]) -> bool:
        """Raises: TargetExistsError, LocalIOError, DiskFullError."""
        assert self._folder is not None
        assert self._journal is not None
        assert total == self._written
        self._close_file()
        manifest = _manifest_of(self._name, total, time.time_ns(), self._identity)
        staging = Staging(self._folder, manifest, self._plan)
        try:
            staging.finish(alive, ())
            if not alive():
                return False
            self._journal.append([*exceptions_records([Exceptional(0, *self._plan.result(0))]), Committing()])
            staging.publish()
        finally:
            staging.close()
        return True

    def result(self) -> tuple[str, str]:
        return self._plan.result(0)

    def close(self) -> None:
        self._close_file()
        if self._staging is not None:
            self._staging.close()
        if self._journal is not None and self._folder is not None:
            with contextlib.suppress(MidairError):
                if self._begun and self._staging is not None:
                    remove_parts(self._folder, [part_name(self._name)])
                    self._staging.sync_folder()
                    self._journal.remove()
            self._journal.close()
            self._journal = None
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None

    def _close_file(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _manifest_of(name: str, size: int, mtime_ns: int, stream_id: bytes) -> Manifest:
    builder = ManifestBuilder()
    builder.add(Entry(name, "file", size, mtime_ns, 0o666, stream_id))
    return builder.finish()
