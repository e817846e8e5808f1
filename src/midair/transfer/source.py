"""What is sent, on disk: read in place, and watched for changes.

A file is opened when its turn comes, and must then be the file that was found; after every read it must still be.
Otherwise it fails, rather than become a mixture of two versions.
"""

from __future__ import annotations

import errno
import os
import stat
from array import array
from collections.abc import Callable, Sequence

from blake3 import blake3

from midair.errors import MidairError, SourceChangedError
from midair.transfer.failures import from_os
from midair.transfer.manifest import Files, Manifest
from midair.transfer.names import escape
from midair.transfer.wire import MIN_HOLE_BYTES

__all__ = ["READING", "Source", "SourceReader"]

_CHUNK = 1 << 20
READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NONBLOCK: what has become a pipe meanwhile must not make us wait for a writer."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Source:
    """Files to send. May be sent several times, one after the other."""

    def __init__(self, manifest: Manifest, roots: dict[str, str], devices: array[int], inodes: array[int]) -> None:
        """Use :func:`midair.transfer.scan`."""
        self.manifest = manifest
        self._roots = roots
        self._devices = devices
        self._inodes = inodes

    def reader(self) -> SourceReader:
        """For one Sender."""
        return SourceReader(self)

    def locate(self, index: int) -> str:
        """Where entry ``index`` is in the file system."""
        return self.locate_path(self.manifest.entries[index].path)

    def locate_path(self, path: str) -> str:
        """The same of an entry of this path."""
        top, slash, rest = path.partition("/")
        return self._roots[top] + slash + rest

    def is_unchanged(self, index: int, found: os.stat_result) -> bool:
        """Whether ``found`` is still what was scanned."""
        entry = self.manifest.entries[index]
        return (
            stat.S_ISREG(found.st_mode)
            and found.st_size == entry.size
            and found.st_mtime_ns == entry.mtime_ns
            and found.st_ino == self._inodes[index]
            and found.st_dev == self._devices[index]
        )


class SourceReader:
    """Reads a source's files in place, one of them open at a time."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._index = -1
        self._descriptor: int | None = None
        self._data = (0, 0)
        """A part of the open file that is known to be data, counting small holes."""
        self._parent = ""
        self._folder: int | None = None

    def read_into(self, index: int, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset`` of entry ``index``.

        Raises: SourceChangedError, LocalIOError.
        """
        entry = self._source.manifest.entries[index]
        name = entry.path
        try:
            if index != self._index:
                self._open(index, name)
            assert self._descriptor is not None
            self._read(self._descriptor, index, name, buffer, offset)
        except OSError as error:
            raise from_os(error, name) from error

    def read_files(self, files: Files, sizes: Sequence[int], buffer: memoryview) -> tuple[int, MidairError | None]:
        """Those of ``sizes``, whole, one behind the other at the beginning of ``buffer``: how many, and why no more."""
        self._close_file()
        entries = self._source.manifest.entries
        start = 0
        for index, size in zip(range(files.first, files.end), sizes, strict=True):
            path = entries[index].path
            end = start + size
            try:
                self._read_small(index, path, buffer[start:end])
            except OSError as error:
                return index - files.first, from_os(error, path)
            except MidairError as error:
                return index - files.first, error
            start = end
        return len(sizes), None

    def _read_small(self, index: int, path: str, buffer: memoryview) -> None:
        """In one go, so it need not be looked at twice; its folder is held open for the next.

        Raises: SourceChangedError; OSError.
        """
        parent, _, name = path.rpartition("/")
        try:
            if parent != self._parent:
                self._enter_folder(parent)
            if self._folder is None:
                name = self._source.locate(index)
            descriptor = os.open(name, READING, dir_fd=self._folder)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _changed(path, "it is gone") from error
        try:
            count = os.preadv(descriptor, [buffer], 0)
            if count < len(buffer) or not self._source.is_unchanged(index, os.fstat(descriptor)):
                self._read(descriptor, index, path, buffer[count:], count)
        except OSError as error:
            if not self._source.is_unchanged(index, os.fstat(descriptor)):  # a pipe, which has no offsets
                raise _changed(path, "it is not the file it was") from error
            raise
        finally:
            os.close(descriptor)

    def _enter_folder(self, parent: str) -> None:
        """What is in no folder is reached by its own path. Raises: OSError."""
        self._leave_folder()
        if parent:
            self._folder = os.open(self._source.locate_path(parent), _FOLDER)
        self._parent = parent

    def _leave_folder(self) -> None:
        folder, self._folder, self._parent = self._folder, None, ""
        if folder is not None:
            os.close(folder)

    def _read(self, descriptor: int, index: int, name: str, buffer: memoryview, offset: int) -> None:
        while buffer:
            count = os.preadv(descriptor, [buffer], offset)
            if not count:
                raise _changed(name, "it became shorter")
            buffer, offset = buffer[count:], offset + count
        if not self._source.is_unchanged(index, os.fstat(descriptor)):
            raise _changed(name, "it was written to")

    def hash(self, index: int, check: Callable[[], None]) -> bytes:
        """BLAKE3 of all of entry ``index``; ``check`` is called in between, and may raise.

        Raises: SourceChangedError, LocalIOError.
        """
        hasher = blake3()
        size = self._source.manifest.entries[index].size
        view = memoryview(bytearray(min(size, _CHUNK)))
        for offset in range(0, size, _CHUNK):
            check()
            part = view[: size - offset]
            self.read_into(index, offset, part)
            hasher.update(part)
        return hasher.digest()

    def data_size(self, index: int, offset: int) -> int:
        """How many bytes from ``offset`` of entry ``index`` on are to be sent, up to a hole or the end of the file.

        Holes smaller than MIN_HOLE_BYTES count as the zeros they read as.

        Raises: SourceChangedError, LocalIOError.
        """
        if not self._data[0] <= offset < self._data[1]:
            self._data = self._find_data(index, offset)
            # Past the end of a file that became shorter everything looks like a hole.
            assert self._descriptor is not None
            if not self._source.is_unchanged(index, os.fstat(self._descriptor)):
                raise _changed(self._source.manifest.entries[index].path, "it was written to")
        return self._data[1] - offset if self._data[0] <= offset else 0

    def _find_data(self, index: int, offset: int) -> tuple[int, int]:
        size = self._source.manifest.entries[index].size
        start = end = self._seek(index, offset, os.SEEK_DATA)
        if start - offset < MIN_HOLE_BYTES:
            start = offset
        # What is not looked at now is asked for again.
        while end < size and end - offset < _CHUNK:
            end = self._seek(index, end, os.SEEK_HOLE)
            after = self._seek(index, end, os.SEEK_DATA)
            if not end <= after < end + MIN_HOLE_BYTES:
                break
            end = after
        return start, max(start, end)

    def hole_end(self, index: int, offset: int) -> int:
        """Where the hole ends that ``data_size`` found at ``offset``. Raises: SourceChangedError, LocalIOError."""
        self.data_size(index, offset)
        return self._data[0]

    def _seek(self, index: int, offset: int, whence: int) -> int:
        """The size of the file where there is no more of it."""
        entry = self._source.manifest.entries[index]
        if index != self._index:
            self._open(index, entry.path)
        assert self._descriptor is not None
        try:
            return min(os.lseek(self._descriptor, offset, whence), entry.size)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return entry.size
            raise from_os(error, entry.path) from error

    def _open(self, index: int, name: str) -> None:
        self._close_file()
        self._descriptor = self._open_quietly(index, name)
        self._index = index
        if not self._source.is_unchanged(index, os.fstat(self._descriptor)):
            raise _changed(name, "it is not the file it was")

    def _open_quietly(self, index: int, name: str) -> int:
        try:
            return os.open(self._source.locate(index), READING)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _changed(name, "it is gone") from error

    def close(self) -> None:
        """Idempotent."""
        self._close_file()
        self._leave_folder()

    def _close_file(self) -> None:
        self._index, self._data = -1, (0, 0)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _changed(name: str, how: str) -> SourceChangedError:
    return SourceChangedError(f"{escape(name)} changed while it was sent: {how}")
