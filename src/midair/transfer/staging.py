"""The parts of a transfer on disk: made, written to, dressed with times and modes, and given their final names.

A part has the tree of the offer in it, under the offer's own names. What the plan has for a name that is taken (another
name, taking its place) only counts when the final names are given.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Container, Iterable

from midair.errors import LocalIOError, TargetExistsError
from midair.transfer import disk
from midair.transfer.failures import from_os
from midair.transfer.layout import part_name
from midair.transfer.manifest import Entry, Manifest
from midair.transfer.names import escape
from midair.transfer.plan import Plan
from midair.transfer.publishing import Publisher
from midair.transfer.whole_files import WholeFiles

__all__ = ["Staging", "remove_parts"]

_log = logging.getLogger("midair.transfer")

_SYNC_ONE_BY_ONE = 32
"""Up to so many entries are synced each for itself; beyond that one call for the file system is faster (measured on
ext4: 1,700 files a second one by one, 4,100 with one syncfs), although it waits for other programs' data too."""
_NOTHING_DONE = re.compile(b"\\0")
_UNSUPPORTED = frozenset({errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})


class Staging:
    """``folder`` is a descriptor of the receiver's folder, held by the caller. Used by one thread at a time."""

    def __init__(self, folder: int, manifest: Manifest, plan: Plan) -> None:
        self._folder = folder
        self._manifest = manifest
        self._plan = plan
        self._folders = disk.Folders(folder)
        self._inside: tuple[str, tuple[str, ...]] = ("", ())
        """The folder of the last file among the unfinished data, and its path there."""
        self._mask = disk.umask()
        self._dressed_before = False
        self.whole_files = WholeFiles(self, manifest, self._mask)

    def create(self, present: set[str], wanted: list[str]) -> None:
        """Make the top-level parts that are not ``present``; nothing is in them yet. ``wanted`` gets the names of all.

        Raises: TargetExistsError, LocalIOError, DiskFullError.
        """
        for index, entry in zip(self._manifest.tops, self._manifest.top_level, strict=True):
            if not self._plan.staged(index):
                continue
            name = part_name(entry.path)
            if name in present:
                wanted.append(name)
                continue
            try:
                self._create_part(entry, name)
            except FileExistsError as error:
                raise TargetExistsError(f"{escape(name)} is in the way") from error
            except OSError as error:
                raise from_os(error, name) from error
            wanted.append(name)

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

    def inside(self, parent: str) -> int:
        """See :class:`midair.transfer.whole_files.Place`."""
        return self._place(f"{parent}/." if parent else ".", create=True)[1]

    def part_of(self, path: str) -> str:
        """See :class:`midair.transfer.whole_files.Place`."""
        return part_name(path)

    def discard(self, index: int) -> None:
        """Take away what there is of a file or link that gets no name. Raises: LocalIOError, DiskFullError."""
        entry = self._manifest.entries[index]
        try:
            name, folder = self._place(entry.path, create=False)
            found = disk.lstat(name, folder)
            if found is not None and disk.is_ours(found, folder) and not stat.S_ISDIR(found.st_mode):
                os.unlink(name, dir_fd=folder)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise from_os(error, entry.path) from error

    def finish(self, alive: Callable[[], bool], published: Container[int], whole: WholeFiles | None = None) -> None:
        """Make what has no content, set times and modes, sync everything; what is ``published`` has had that, and so,
        but for the sync, have those that came ``whole``. Stops early, without effect on what is done, once ``alive``
        says no.

        Raises: LocalIOError, DiskFullError.
        """
        mask = self._mask
        one_by_one = len(self._manifest) <= _SYNC_ONE_BY_ONE
        dressed = whole.dressed if whole is not None else bytes(len(self._manifest))
        self._dressed_before = unseen = any(dressed)
        directories: list[int] = []
        inside = Counter[str]() if whole is None else whole.inside.copy()
        for index, _ in self._plan.notable():
            if dressed[index] and not self._plan.staged(index):
                inside[self._manifest.entries[index].path.rpartition("/")[0]] -= 1
        for found in _NOTHING_DONE.finditer(dressed):
            index = found.start()
            entry = self._manifest.entries[index]
            if not alive():
                return
            if index in published or not self._plan.staged(index):
                continue
            try:
                if entry.kind == "file":
                    self._finish_file(index, mask, sync=one_by_one)
                elif entry.kind == "symlink":
                    self._finish_link(index)
                else:
                    self._place(entry.path + "/.", create=True)
                    directories.append(index)
            except OSError as error:
                raise from_os(error, entry.path) from error
            if unseen and self._plan.staged(index):
                inside[entry.path.rpartition("/")[0]] += 1
        # The deepest first: what is made in a folder changes its time, and a mode may lock us out.
        for index in reversed(directories):
            entry = self._manifest.entries[index]
            try:
                descriptor = disk.open_folder(*self._place(entry.path, create=False))
                if len(os.listdir(descriptor)) < inside[entry.path]:  # noqa: PTH208 (a descriptor)
                    os.close(descriptor)
                    raise _changed(entry)
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
            if found.st_mtime_ns != entry.mtime_ns:  # after a power cut the mode may be there and the time not
                _set_time(name, folder, entry)
            return
        descriptor = self.open_file(index)
        if os.fstat(descriptor).st_size != entry.size:
            os.close(descriptor)
            raise _changed(entry)
        _dress(descriptor, entry, mask, sync=sync)

    def _finish_link(self, index: int) -> None:
        """The last to be made: while content is written there is no link among what is ours. One that is right stays:
        once the journal says that all is there, nothing may be missing, not for a moment."""
        entry = self._manifest.entries[index]
        name, folder = self._place(entry.path, create=True)
        try:
            if not _is_link_to(entry.detail, name, folder):
                self.discard(index)
                os.symlink(entry.detail, name, dir_fd=folder)
        except FileExistsError as error:
            raise LocalIOError(f"{escape(entry.path)}: something was put in the way of the transfer") from error
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self._plan.fail(index, "unsupported", "the receiver's file system has no symbolic links")
            return
        _set_time(name, folder, entry)

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
        for index, entry in enumerate(self._manifest.entries):
            if not self._plan.staged(index) or entry.kind == "symlink":
                continue
            with contextlib.suppress(FileNotFoundError):  # it has been published
                name, folder = self._place(entry.path, create=False)
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(name, flags, dir_fd=folder)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def publish(self) -> None:
        """Give everything that is staged its final name. May be repeated after a crash: what has gone from the
        unfinished data has got there.

        Raises: TargetExistsError when a name was taken meanwhile; LocalIOError.
        """
        publisher = Publisher(self._manifest, self._plan)
        for index, entry in zip(self._manifest.tops, self._manifest.top_level, strict=True):
            if not self._plan.staged(index):
                continue
            part = part_name(entry.path)
            try:
                publisher.publish(part, self._folder, entry.path, self._folder, entry.path)
            except FileExistsError as error:
                raise TargetExistsError(f"{escape(publisher.at)} is already there") from error
            except OSError as error:
                raise from_os(error, publisher.at) from error
        self.sync_folder()

    def sync_folder(self) -> None:
        """Names on the top level reach the disk. Raises: LocalIOError, DiskFullError."""
        try:
            os.fsync(self._folder)
        except OSError as error:
            raise from_os(error, "the folder") from error

    def sync_names(self, indices: Iterable[int]) -> None:
        """The names of these files among the unfinished data reach the disk, those on the top level have before.

        Raises: OSError.
        """
        folders: set[tuple[str, ...]] = set()
        for index in indices:
            top, *rest = self._manifest.entries[index].path.split("/")
            path = (part_name(top), *rest)
            folders.update(path[:depth] for depth in range(1, len(path)))
        for folder in sorted(folders):
            os.fsync(self._folders.get(folder))

    def close(self) -> None:
        """Idempotent."""
        self._folders.close()

    def _place(self, path: str, *, create: bool) -> tuple[str, int]:
        """``(name, folder descriptor)``, good until the next call. Raises: OSError."""
        parent, slash, name = path.rpartition("/")
        if not slash:
            return part_name(name), self._folder
        if parent != self._inside[0]:
            top, *rest = parent.split("/")
            self._inside = parent, (part_name(top), *rest)
        return name, self._folders.get(self._inside[1], create=create)


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


def _is_link_to(target: str, name: str, folder: int) -> bool:
    try:
        return os.readlink(name, dir_fd=folder) == target
    except OSError:
        return False


def _changed(entry: Entry) -> LocalIOError:
    return LocalIOError(f"{escape(entry.path)}: its unfinished data was changed by somebody else")


def _is_dressed(found: os.stat_result, entry: Entry, mask: int) -> bool:
    mode = entry.mode & ~mask
    if found.st_size != entry.size or stat.S_IMODE(found.st_mode) != mode:
        return False
    # The mode comes last. So where it is one that new files never have, the time is set, as well as it can be.
    return found.st_mtime_ns == entry.mtime_ns or not mode & stat.S_IWUSR


def _set_time(name: str, folder: int, entry: Entry) -> None:
    """As far as that can be done from outside."""
    with contextlib.suppress(OSError, OverflowError, NotImplementedError):
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=folder, follow_symlinks=False)


def _dress(descriptor: int, entry: Entry, mask: int, *, sync: bool) -> None:
    """Set mode and time, as far as the file system has them, and close. Raises: OSError."""
    if entry.identity:
        disk.mark(descriptor, entry.identity)
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
