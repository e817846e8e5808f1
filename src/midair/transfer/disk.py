"""Files and folders by descriptor: nothing here follows a symbolic link.

Every name is looked up in a folder that is held open, one component at a time. So whoever else can write there may
swap a name for a link whenever they like; what they get is an error.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

__all__ = [
    "Folders",
    "clear",
    "extend",
    "folds_case",
    "holds",
    "is_ours",
    "lstat",
    "mark",
    "marked",
    "open_folder",
    "open_own_file",
    "open_to_read",
    "rename_new",
    "reserve",
    "sync_data",
    "sync_file_system",
    "takes_any_name",
    "umask",
    "write_at",
]

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_RENAME_NOREPLACE = 1
_KEEP_SIZE = 1
_PUNCH_HOLE = 2
_NOT_SUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM})

_libc = ctypes.CDLL(None, use_errno=True)
_renameat2 = getattr(_libc, "renameat2", None)
_syncfs = getattr(_libc, "syncfs", None)
_fallocate = getattr(_libc, "fallocate64", None) or getattr(_libc, "fallocate", None)
_setxattr, _getxattr = getattr(os, "setxattr", None), getattr(os, "getxattr", None)
_ZEROS = bytes(1 << 20)
_MARK = "user.midair.source"


def mark(descriptor: int, identity: bytes) -> None:
    """Leave a note on a file of where it is from, if the file system has room for one (an extended attribute)."""
    if _setxattr is not None:
        try:
            _setxattr(descriptor, _MARK, identity)
        except OSError:
            return


def marked(name: str, folder: int) -> bytes | None:
    """The note on a regular file, if there is one that can be read."""
    if _getxattr is None:
        return None
    try:
        descriptor = open_to_read(name, folder)
    except OSError:
        return None
    try:
        note: bytes = _getxattr(descriptor, _MARK)
        return note
    except OSError:
        return None
    finally:
        os.close(descriptor)


def write_at(descriptor: int, data: memoryview, offset: int) -> None:
    """All of ``data``. Raises: OSError."""
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def holds(descriptor: int, size: int) -> bool:
    """Whether a file of ``size`` bytes can be where this one is, as far as the file system's own limit goes (4 GiB less
    a byte on FAT). The offset is moved."""
    try:
        os.lseek(descriptor, size, os.SEEK_SET)
    except OSError:
        return False
    return True


def takes_any_name(folder: int) -> bool:
    """Whether names that Windows could not bear can be given in ``folder``; on FAT they cannot. Raises: OSError."""
    probe = f".midair-{os.getpid()}?:"
    try:
        os.close(
            os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        )
    except OSError as error:
        return error.errno != errno.EINVAL
    os.unlink(probe, dir_fd=folder)
    return True


def reserve(descriptor: int, size: int) -> None:
    """Have the file system keep room for the first ``size`` bytes, without changing what the file is, where it can.

    Raises: OSError when there is no room.
    """
    number = _allocate(descriptor, _KEEP_SIZE, 0, size)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        raise OSError(number, os.strerror(number))


def clear(descriptor: int, start: int, end: int) -> None:
    """From ``start`` to ``end`` the file reads as zeros, and takes no room there where that can be. Raises: OSError."""
    size = os.fstat(descriptor).st_size
    if start < size and _allocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, start, min(end, size) - start):
        for at in range(start, min(end, size), len(_ZEROS)):
            write_at(descriptor, memoryview(_ZEROS)[: min(end, size) - at], at)
    extend(descriptor, end)


def extend(descriptor: int, size: int) -> None:
    """The file is at least ``size`` bytes long; what is added is a hole. Raises: OSError."""
    if os.fstat(descriptor).st_size < size:
        os.ftruncate(descriptor, size)


def _allocate(descriptor: int, mode: int, start: int, size: int) -> int:
    """0, or the number of the error."""
    if _fallocate is None:
        return errno.ENOSYS
    while _fallocate(descriptor, mode, ctypes.c_int64(start), ctypes.c_int64(size)):
        if ctypes.get_errno() != errno.EINTR:
            return ctypes.get_errno()
    return 0


def sync_data(descriptor: int) -> None:
    """Content and size reach the disk. Raises: OSError."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


def sync_file_system(descriptor: int) -> bool:
    """Everything on the file system that ``descriptor`` is on reaches the disk; False where there is no such call.

    Raises: OSError.
    """
    if _syncfs is None:
        return False
    if _syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return True


def lstat(name: str, folder: int) -> os.stat_result | None:
    """None when there is nothing. Raises: OSError."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def folds_case(name: str, folder: int) -> bool:
    """Whether the file system takes names that differ in case for one; ``name`` is there and has letters.

    Raises: OSError.
    """
    here, swapped = lstat(name, folder), lstat(name.swapcase(), folder)
    return here is not None and swapped is not None and (here.st_dev, here.st_ino) == (swapped.st_dev, swapped.st_ino)


def is_ours(found: os.stat_result, folder: int) -> bool:
    """Whether we made what was ``found`` in ``folder``, as far as its owner tells.

    On a file system without owners everything has the folder's; and whoever owns the folder may do there as they like.
    """
    return found.st_uid in (os.geteuid(), os.fstat(folder).st_uid)


def open_folder(name: str, folder: int) -> int:
    """Raises: OSError; ENOTDIR or ELOOP when it is a link."""
    return os.open(name, _FOLDER_FLAGS, dir_fd=folder)


def open_own_file(name: str, folder: int) -> int:
    """Open a file for writing that is new or that we alone made: a regular file, ours, with no other name.

    Raises: OSError; EEXIST when something else stands there, ELOOP when it is a symbolic link.
    """
    try:
        return os.open(name, _FILE_FLAGS | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
    except FileExistsError:
        descriptor = os.open(name, _FILE_FLAGS | os.O_NONBLOCK, dir_fd=folder)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or not is_ours(found, folder):
        os.close(descriptor)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
    return descriptor


def open_to_read(name: str, folder: int) -> int:
    """A regular file that somebody else may have made. Raises: OSError."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
    return descriptor


def rename_new(old: str, new: str, folder: int, new_folder: int) -> None:
    """Give ``old`` in ``folder`` the name ``new`` in ``new_folder``, which must not be taken.

    Raises: FileExistsError, OSError.
    """
    if _renameat2 is not None:
        if not _renameat2(folder, os.fsencode(old), new_folder, os.fsencode(new), _RENAME_NOREPLACE):
            return
        number = ctypes.get_errno()
        if number not in _NOT_SUPPORTED:
            raise OSError(number, os.strerror(number), new)
    _rename_new_portably(old, new, folder, new_folder)


def _rename_new_portably(old: str, new: str, folder: int, new_folder: int) -> None:
    if stat.S_ISREG(os.stat(old, dir_fd=folder, follow_symlinks=False).st_mode):
        try:
            os.link(old, new, src_dir_fd=folder, dst_dir_fd=new_folder, follow_symlinks=False)
            os.unlink(old, dir_fd=folder)
            return
        except OSError as error:  # a file system without hard links
            if error.errno not in _NOT_SUPPORTED:
                raise
    # No call here says "unless it is there". Nobody but us is expected to take the name in this moment.
    if lstat(new, new_folder) is not None:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
    os.rename(old, new, src_dir_fd=folder, dst_dir_fd=new_folder)


def umask() -> int:
    """The permission bits that new files of this process do not get."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        # Reading it any other way means setting it, for all threads.
        status = Path("/proc/self/status").read_text()
        return int(status.split("\nUmask:", 1)[1].split(None, 1)[0], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


class Folders:
    """Folders below one that is held open, the last one used kept open too. For one thread."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._path: tuple[str, ...] = ()
        self._descriptor = root

    def get(self, path: Sequence[str], *, create: bool = False) -> int:
        """A descriptor of the folder at ``path``, good until the next call. Raises: OSError."""
        wanted = tuple(path)
        if wanted == self._path:
            return self._descriptor
        known = len(self._path)
        if wanted[:known] != self._path:
            self.close()
            known = 0
        for component in wanted[known:]:
            descriptor = self._enter(component, create=create)
            path_now = (*self._path, component)
            self.close()
            self._path, self._descriptor = path_now, descriptor
        return self._descriptor

    def _enter(self, component: str, *, create: bool) -> int:
        try:
            return open_folder(component, self._descriptor)
        except FileNotFoundError:
            if not create:
                raise
        os.mkdir(component, 0o700, dir_fd=self._descriptor)
        return open_folder(component, self._descriptor)

    def close(self) -> None:
        """Back to the root, which stays open."""
        if self._descriptor != self._root:
            os.close(self._descriptor)
        self._path, self._descriptor = (), self._root
