"""The parts of a transfer on disk: made, written to, dressed with times and modes, and given their final names."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterable

from midair.errors import LocalIOError, TargetExistsError
from midair.transfer import disk
from midair.transfer.failures import from_os
from midair.transfer.layout import part_name
from midair.transfer.manifest import Entry, Manifest
from midair.transfer.names import escape

__all__ = ["Staging", "remove_parts"]

_log = logging.getLogger("midair.transfer")

_SYNC_ONE_BY_ONE = 32
"""Up to so many entries are synced each for itself; beyond that one call for the file system is faster (measured on
ext4: 1,700 files a second one by one, 4,100 with one syncfs), although it waits for other programs' data too."""
_UNSUPPORTED = frozenset({errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})


class Staging:
    """``folder`` is a descriptor of the receiver's folder, held by the caller. Used by one thread at a time."""

    def __init__(self, folder: int, manifest: Manifest) -> None:
        self._folder = folder
        self._manifest = manifest
        self._folders = disk.Folders(folder)
        self._dressed_before = False

    def create(self, present: set[str]) -> None:
        """Make the top-level parts that are not ``present``; nothing is in them yet.

        Raises: TargetExistsError, LocalIOError, DiskFullError.
        """
        for entry in self._manifest.top_level:
            name = part_name(entry.path)
            if name in present:
                continue
            try:
                self._create_part(entry, name)
            except FileExistsError as error:
                raise TargetExistsError(f"{escape(name)} is in the way") from error
            except OSError as error:
                raise from_os(error, name) from error

    def _create_part(self, entry: Entry, name: str) -> None:
        if entry.kind == "directory":
            os.mkdir(name, 0o700, dir_fd=self._folder)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o600, dir_fd=self._folder))

    def open_file(self, index: int) -> int:
        """A descriptor for writing; the caller closes it. Folders on the way are made.

        Raises: LocalIOError, DiskFullError.
        """
        entry = self._manifest.entries[index]
        try:
            return disk.open_own_file(*self._place(entry.path, create=True))
        except FileExistsError as error:
            raise LocalIOError(f"{escape(entry.path)}: something was put in the way of the transfer") from error
        except OSError as error:
            raise from_os(error, entry.path) from error

    def finish(self, alive: Callable[[], bool]) -> None:
        """Make what has no content, set times and modes, sync everything. Stops early, without effect on what is
        done, once ``alive`` says no.

        Raises: LocalIOError, DiskFullError.
        """
        mask = disk.umask()
        entries = self._manifest.entries
        one_by_one = len(entries) <= _SYNC_ONE_BY_ONE
        directories: list[Entry] = []
        for index, entry in enumerate(entries):
            if not alive():
                return
            try:
                if entry.kind == "file":
                    self._finish_file(index, mask, sync=one_by_one)
                else:
                    self._place(entry.path + "/.", create=True)
                    directories.append(entry)
            except OSError as error:
                raise from_os(error, entry.path) from error
        # The deepest first: what is made in a folder changes its time, and a mode may lock us out.
        for entry in reversed(directories):
            try:
                descriptor = disk.open_folder(*self._place(entry.path, create=False))
                _dress(descriptor, entry, mask, sync=one_by_one)
            except OSError as error:
                raise from_os(error, entry.path) from error
        self._folders.close()
        self._sync_all(one_by_one=one_by_one)

    def _finish_file(self, index: int, mask: int, *, sync: bool) -> None:
        entry = self._manifest.entries[index]
        name, folder = self._place(entry.path, create=True)
        found = disk.lstat(name, folder)
        if found is not None and _is_dressed(found, entry, mask):
            self._dressed_before = True  # perhaps by a run that was killed; its mode may not even let us open it
            return
        descriptor = self.open_file(index)
        if os.fstat(descriptor).st_size != entry.size:
            os.close(descriptor)
            raise LocalIOError(f"{escape(entry.path)}: its unfinished data was changed by somebody else")
        _dress(descriptor, entry, mask, sync=sync)

    def _sync_all(self, *, one_by_one: bool) -> None:
        try:
            if one_by_one and not self._dressed_before:
                os.fsync(self._folder)
            elif not disk.sync_file_system(self._folder):
                self._sync_each()
                os.fsync(self._folder)
        except OSError as error:
            raise from_os(error, "the folder") from error

    def _sync_each(self) -> None:
        for entry in self._manifest.entries:
            name, folder = self._place(entry.path, create=False)
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def publish(self) -> None:
        """Give every part its final name; never over something. May be repeated after a crash.

        Raises: TargetExistsError, LocalIOError.
        """
        for entry in self._manifest.top_level:
            name = part_name(entry.path)
            try:
                self._publish_part(name, entry.path)
            except FileExistsError as error:
                raise TargetExistsError(f"{escape(entry.path)} is already there") from error
            except OSError as error:
                raise from_os(error, entry.path) from error
        self.sync_folder()

    def sync_folder(self) -> None:
        """Names on the top level reach the disk. Raises: LocalIOError, DiskFullError."""
        try:
            os.fsync(self._folder)
        except OSError as error:
            raise from_os(error, "the folder") from error

    def _publish_part(self, part: str, name: str) -> None:
        staged, target = disk.lstat(part, self._folder), disk.lstat(name, self._folder)
        if staged is None:
            if target is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), part)
            return  # by an earlier run; the inspection has looked at it
        if target is not None and (target.st_dev, target.st_ino) == (staged.st_dev, staged.st_ino):
            os.unlink(part, dir_fd=self._folder)
            return
        disk.rename_new(part, name, self._folder)

    def close(self) -> None:
        """Idempotent."""
        self._folders.close()

    def _place(self, path: str, *, create: bool) -> tuple[str, int]:
        """``(name, folder descriptor)``, good until the next call. Raises: OSError."""
        components = path.split("/")
        components[0] = part_name(components[0])
        return components[-1], self._folders.get(components[:-1], create=create)


def remove_parts(folder: int, names: Iterable[str]) -> None:
    """Take away parts that a journal of ours names. Raises: LocalIOError."""
    for name in names:
        try:
            found = disk.lstat(name, folder)
            if found is None or not disk.is_ours(found, folder):
                continue
            if stat.S_ISDIR(found.st_mode):
                shutil.rmtree(name, dir_fd=folder)  # by descriptor, so a link in it is removed and not followed
            elif stat.S_ISREG(found.st_mode):
                os.unlink(name, dir_fd=folder)
        except OSError as error:
            raise from_os(error, name) from error


def _is_dressed(found: os.stat_result, entry: Entry, mask: int) -> bool:
    mode = entry.mode & ~mask
    if found.st_size != entry.size or stat.S_IMODE(found.st_mode) != mode:
        return False
    # The mode comes last. So where it is one that new files never have, the time is set, as well as it can be.
    return found.st_mtime_ns == entry.mtime_ns or not mode & stat.S_IWUSR


def _dress(descriptor: int, entry: Entry, mask: int, *, sync: bool) -> None:
    """Set mode and time, as far as the file system has them, and close. Raises: OSError."""
    actions: list[Callable[[], None]] = [
        lambda: os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns)),
        lambda: os.fchmod(descriptor, entry.mode & ~mask),
    ]
    try:
        for action in actions:
            try:
                action()
            except OverflowError:
                _log.debug("a time of modification does not fit")
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                _log.debug("mode or time was not set: %s", errno.errorcode.get(error.errno, "?"))
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
