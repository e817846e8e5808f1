"""What is sent, on disk: found by looking (``scan``), read in place, and watched for changes.

Nothing is hashed or opened beforehand, except files with holes, to see how large those are. A file is opened when its
turn comes, and must then be the file that was scanned; after every read it must still be. Otherwise it fails, rather
than become a mixture of two versions.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

from blake3 import blake3

from midair.errors import LocalIOError, SourceChangedError, UsageError
from midair.transfer.failures import from_os
from midair.transfer.manifest import Entry, Manifest, ManifestBuilder
from midair.transfer.names import UnacceptableName, escape, link_fault
from midair.transfer.wire import MIN_HOLE_BYTES

__all__ = ["Source", "SourceReader", "scan"]

_CHUNK = 1 << 20
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NONBLOCK: what has become a pipe meanwhile must not make us wait for a writer."""
_OWN_ID = os.geteuid() if hasattr(os, "geteuid") else -1
_MAX_EXTENTS = 10_000
"""Parts of a file with holes that are looked at before it is sent."""
_WHAT_CAN_BE_SENT = "Only files and folders can be sent, and with - what comes in on stdin."


def scan(paths: Sequence[Path]) -> Source:
    """Look at what ``paths`` name, folders with all that is in them, in sorted order.

    A path that is itself a symbolic link is followed. Further down links are sent as links, where they stay in their
    folder; what leads elsewhere is omitted, and so is everything that is neither a file, a folder nor a link.

    Raises: UsageError (nothing to send, a name or kind of file that cannot be sent), LocalIOError (cannot be read).
    """
    scanner = _Scanner()
    for path in paths:
        scanner.add_top(path)
    return scanner.finish()


class Source:
    """Files to send. May be sent several times, one after the other."""

    def __init__(self, manifest: Manifest, roots: dict[str, str], devices: array[int], inodes: array[int]) -> None:
        """Use ``scan``."""
        self.manifest = manifest
        self._roots = roots
        self._devices = devices
        self._inodes = inodes

    def reader(self) -> SourceReader:
        """For one Sender."""
        return SourceReader(self)

    def locate(self, index: int) -> str:
        """Where entry ``index`` is in the file system."""
        top, slash, rest = self.manifest.entries[index].path.partition("/")
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

    def read_into(self, index: int, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset`` of entry ``index``.

        Raises: SourceChangedError, LocalIOError.
        """
        entry = self._source.manifest.entries[index]
        name = entry.path
        try:
            if index != self._index:
                if entry.size == len(buffer):
                    return self._read_whole(index, name, buffer)
                self._open(index, name)
            assert self._descriptor is not None
            self._read(self._descriptor, index, name, buffer, offset)
        except OSError as error:
            raise from_os(error, name) from error

    def _read(self, descriptor: int, index: int, name: str, buffer: memoryview, offset: int) -> None:
        while buffer:
            count = os.preadv(descriptor, [buffer], offset)
            if not count:
                raise _changed(name, "it became shorter")
            buffer, offset = buffer[count:], offset + count
        if not self._source.is_unchanged(index, os.fstat(descriptor)):
            raise _changed(name, "it was written to")

    def _read_whole(self, index: int, name: str, buffer: memoryview) -> None:
        """A file that is read in one go need not be looked at twice. Raises: SourceChangedError; OSError."""
        descriptor = self._open_quietly(index, name)
        try:
            self._read(descriptor, index, name, buffer, 0)
        except OSError as error:
            if not self._source.is_unchanged(index, os.fstat(descriptor)):  # a pipe, which has no offsets
                raise _changed(name, "it is not the file it was") from error
            raise
        finally:
            os.close(descriptor)

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
        self.close()
        self._descriptor = self._open_quietly(index, name)
        self._index = index
        if not self._source.is_unchanged(index, os.fstat(self._descriptor)):
            raise _changed(name, "it is not the file it was")

    def _open_quietly(self, index: int, name: str) -> int:
        try:
            return os.open(self._source.locate(index), _READING)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _changed(name, "it is gone") from error

    def close(self) -> None:
        """Idempotent."""
        self._index, self._data = -1, (0, 0)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _changed(name: str, how: str) -> SourceChangedError:
    return SourceChangedError(f"{escape(name)} changed while it was sent: {how}")


class _Scanner:
    def __init__(self) -> None:
        self._builder = ManifestBuilder()
        self._roots: dict[str, str] = {}
        self._devices = array("Q")
        self._inodes = array("Q")

    def add_top(self, path: Path) -> None:
        shown = str(path)
        try:
            root = path.resolve(strict=True)
            # The name the person typed, also where it is a link; but "." and ".." only get one when resolved.
            name = path.name if path.name not in ("", "..") else root.name
            if not name:
                raise UsageError(f"{escape(shown)} has no name it could be sent under")
            self._add(name, str(root), root.stat(), shown)
        except OSError as error:
            raise from_os(error, shown) from error
        except RuntimeError as error:  # a loop of links, as pathlib says it before Python 3.13
            raise LocalIOError(f"{escape(shown)}: the symbolic links go round in a circle") from error
        self._roots[name] = str(root)

    def finish(self) -> Source:
        try:
            manifest = self._builder.finish()
        except UnacceptableName as error:
            raise UsageError(f"this cannot be sent: {error}") from error
        return Source(manifest, self._roots, self._devices, self._inodes)

    def _add(self, path: str, root: str, found: os.stat_result, shown: str) -> None:
        """One entry and, if it is a folder, all below; depth first, in sorted order."""
        pending = [(path, root, found, shown)]
        while pending:
            path, real, found, shown = pending.pop()
            self._add_entry(path, real, found, shown)
            if stat.S_ISDIR(found.st_mode):
                pending.extend(reversed(_children(path, real, shown)))

    def _add_entry(self, path: str, real: str, found: os.stat_result, shown: str) -> None:
        mode = found.st_mode & 0o777
        if stat.S_ISREG(found.st_mode):
            if not _is_readable(real, found) and os.path.lexists(real):  # else it has gone, and will fail by name
                raise LocalIOError(f"{escape(shown)}: it may not be read")
            holes = _holes(real, found)
            entry = Entry(path, "file", found.st_size, found.st_mtime_ns, mode, _identity(found), holes)
        elif stat.S_ISDIR(found.st_mode):
            entry = Entry(path, "directory", 0, found.st_mtime_ns, mode)
        elif stat.S_ISLNK(found.st_mode):
            entry = _link(path, real, found, shown)
        elif "/" in path:
            entry = Entry(path, "omitted", 0, found.st_mtime_ns, 0, detail="it is neither a file, a folder nor a link")
        else:
            raise UsageError(f"{escape(shown)} is neither a file nor a folder", hint=_WHAT_CAN_BE_SENT)
        try:
            self._builder.add(entry)
        except UnacceptableName as error:
            raise UsageError(f"this cannot be sent: {error}", hint="Rename it, or pack it into an archive.") from error
        self._devices.append(found.st_dev)
        self._inodes.append(found.st_ino)


def _children(path: str, real: str, shown: str) -> list[tuple[str, str, os.stat_result, str]]:
    """What is in a folder; not what goes away while we look."""
    children = []
    try:
        with os.scandir(real) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    children.append((f"{path}/{entry.name}", entry.path, found, f"{shown.rstrip('/')}/{entry.name}"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise from_os(error, shown) from error
    return sorted(children, key=lambda child: child[0])


def _is_readable(real: str, found: os.stat_result) -> bool:
    # What the owner may do stands in the mode, whatever else does.
    if found.st_uid == _OWN_ID and found.st_mode & stat.S_IRUSR:
        return True
    return os.access(real, os.R_OK, effective_ids=os.access in os.supports_effective_ids)


def _identity(found: os.stat_result) -> bytes:
    """Says nothing about the sender's disk, but is another one for another file, or after a change to this one."""
    return blake3(f"{found.st_dev} {found.st_ino} {found.st_ctime_ns}".encode()).digest(16)


def _link(path: str, real: str, found: os.stat_result, shown: str) -> Entry:
    try:
        target = os.readlink(real)  # noqa: PTH115 (as it stands, not tidied up)
    except FileNotFoundError:
        return Entry(path, "omitted", 0, found.st_mtime_ns, 0, detail="it is gone")
    except OSError as error:
        raise from_os(error, shown) from error
    fault = link_fault(path, target)
    if fault is None:
        return Entry(path, "symlink", 0, found.st_mtime_ns, 0o777, _identity(found), detail=target)
    return Entry(path, "omitted", 0, found.st_mtime_ns, 0, detail=f"it is a link that {fault}")


def _holes(real: str, found: os.stat_result) -> int:
    """Bytes in holes, the small ones left out. As far as one can see in a bounded time."""
    size = found.st_size
    if found.st_blocks * 512 >= size:
        return 0
    holes = position = 0
    try:
        descriptor = os.open(real, _READING)
    except OSError:
        return 0  # it will be said when its turn comes
    try:
        for _ in range(_MAX_EXTENTS):
            try:
                start = os.lseek(descriptor, position, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    return holes
                start = size
            if start - position >= MIN_HOLE_BYTES:
                holes += start - position
            if start >= size:
                break
            position = os.lseek(descriptor, start, os.SEEK_HOLE)
        return min(holes, size)
    except OSError:
        return holes
    finally:
        os.close(descriptor)
