"""The journal as a file: locked, never a link, appended to and synced."""

from __future__ import annotations

import fcntl
import os
import stat

from midair.errors import LocalIOError, TargetExistsError
from midair.transfer import disk
from midair.transfer.failures import from_os
from midair.transfer.journal import Begun, JournalReader, JournalWriter, Record
from midair.transfer.manifest import Manifest
from midair.transfer.names import escape

__all__ = ["JournalFile"]

_CHUNK = 1 << 20
_TRIES = 5


class JournalFile:
    """One journal, locked for as long as it is open: two receivers never write the same parts."""

    def __init__(self, folder: int, name: str, descriptor: int) -> None:
        """Use ``open`` or ``create``."""
        self._folder = folder
        self._name = name
        self._descriptor: int | None = descriptor
        self._writer = JournalWriter()
        self._end = 0

    @classmethod
    def open(
        cls, folder: int, name: str, manifest: Manifest, *, keep_runs: bool = False
    ) -> tuple[JournalFile, JournalReader] | None:
        """The journal that is there and what it says; None when there is none. ``folder`` is held by the caller.

        Raises: LocalIOError when another receiver uses it; TargetExistsError when it is not a journal of ours.
        """
        for _ in range(_TRIES):
            try:
                found = cls._open_locked(folder, name, os.O_RDWR | os.O_NONBLOCK)
            except FileNotFoundError:
                return None
            if found is not None:
                reader = JournalReader(manifest, keep_runs=keep_runs)
                try:
                    found._read(reader)
                except BaseException:
                    found.close()
                    raise
                return found, reader
        raise _in_use(name)

    @classmethod
    def create(cls, folder: int, name: str) -> JournalFile:
        """A new one. Raises: LocalIOError, also when another receiver was faster."""
        try:
            made = cls._open_locked(folder, name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            raise _in_use(name) from None
        if made is None:
            raise _in_use(name)
        return made

    @classmethod
    def _open_locked(cls, folder: int, name: str, flags: int) -> JournalFile | None:
        """None when it was removed or replaced before the lock was ours."""
        try:
            descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        except (FileNotFoundError, FileExistsError):
            raise
        except OSError as error:
            raise from_os(error, name) from error
        try:
            held = os.fstat(descriptor)
            if not stat.S_ISREG(held.st_mode) or held.st_nlink > 1 or not disk.is_ours(held, folder):
                raise _foreign(name)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _in_use(name) from None
            named = disk.lstat(name, folder)
            if named is None or (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino):
                os.close(descriptor)
                return None
        except OSError as error:
            os.close(descriptor)
            raise from_os(error, name) from error
        except BaseException:
            os.close(descriptor)
            raise
        return cls(folder, name, descriptor)

    def _read(self, reader: JournalReader) -> None:
        assert self._descriptor is not None
        try:
            while chunk := os.read(self._descriptor, _CHUNK):
                reader.feed(chunk)
        except OSError as error:
            raise from_os(error, self._name) from error
        if reader.foreign:
            raise _foreign(self._name)
        self._end = reader.valid_bytes
        self._writer = JournalWriter(reader.check)

    def begin(self, manifest_id: bytes) -> None:
        """Start it anew for this content. Raises: LocalIOError, DiskFullError."""
        self._end = 0
        self._writer = JournalWriter()
        self.append([Begun(manifest_id)])

    def holds(self, size: int) -> bool:
        """Whether the file system takes files of ``size`` bytes at all."""
        assert self._descriptor is not None
        return disk.holds(self._descriptor, size)

    def append(self, records: list[Record]) -> None:
        """They are durable when this returns. Raises: LocalIOError, DiskFullError."""
        assert self._descriptor is not None
        check = self._writer.check
        data = self._writer.encode(records)
        try:
            # What a crash left behind the last good record goes first: it must not come to stand behind a new one.
            os.ftruncate(self._descriptor, self._end)
            disk.write_at(self._descriptor, memoryview(data), self._end)
            disk.sync_data(self._descriptor)
        except OSError as error:
            self._writer = JournalWriter(check)
            raise from_os(error, self._name) from error
        self._end += len(data)

    def remove(self) -> None:
        """Take it away and give up the lock. Raises: LocalIOError."""
        try:
            os.unlink(self._name, dir_fd=self._folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise from_os(error, self._name) from error
        finally:
            self.close()

    def close(self) -> None:
        """Give up the lock; what is written stays. Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _in_use(name: str) -> LocalIOError:
    return LocalIOError(
        "another midair is receiving this here", hint=f"{escape(name)} is locked. Let the other one finish, or stop it."
    )


def _foreign(name: str) -> TargetExistsError:
    return TargetExistsError(f"{escape(name)} is in the way: it is not a journal of ours")
