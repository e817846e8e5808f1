"""What is sent, on disk: found by looking (``scan``), read in place, and watched for changes.

Nothing is hashed or opened beforehand. A file is opened when its turn comes, and must then be the file that was
scanned; after every read it must still be. Otherwise the transfer ends, rather than carry a mixture of two versions.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Sequence
from pathlib import Path

from blake3 import blake3

from midair.errors import LocalIOError, MidairError, SourceChangedError, UsageError
from midair.transfer.failures import from_os
from midair.transfer.manifest import Entry, Manifest, ManifestBuilder
from midair.transfer.names import UnacceptableName, escape

__all__ = ["Source", "SourceReader", "scan"]


def scan(paths: Sequence[Path]) -> Source:
    """Look at what ``paths`` name, folders with all that is in them, in sorted order.

    A path that is itself a symbolic link is followed; links further down are refused, like everything that is neither
    a file nor a folder.

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

    def read_into(self, index: int, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset`` of entry ``index``.

        Raises: SourceChangedError, LocalIOError.
        """
        name = self._source.manifest.entries[index].path
        try:
            if index != self._index:
                self._open(index, name)
            assert self._descriptor is not None
            while buffer:
                count = os.preadv(self._descriptor, [buffer], offset)
                if not count:
                    raise _changed(name, "it became shorter")
                buffer, offset = buffer[count:], offset + count
            if not self._source.is_unchanged(index, os.fstat(self._descriptor)):
                raise _changed(name, "it was written to")
        except OSError as error:
            raise from_os(error, name) from error

    def _open(self, index: int, name: str) -> None:
        self.close()
        try:
            # O_NONBLOCK: what has become a pipe meanwhile must not make us wait for a writer.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            self._descriptor = os.open(self._source.locate(index), flags)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _changed(name, "it is gone") from error
        self._index = index
        if not self._source.is_unchanged(index, os.fstat(self._descriptor)):
            raise _changed(name, "it is not the file it was")

    def close(self) -> None:
        """Idempotent."""
        self._index = -1
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
        if stat.S_ISREG(found.st_mode):
            entry = Entry(path, "file", found.st_size, found.st_mtime_ns, found.st_mode & 0o777, _identity(found))
        elif stat.S_ISDIR(found.st_mode):
            entry = Entry(path, "directory", 0, found.st_mtime_ns, found.st_mode & 0o777)
        else:
            raise _unsendable(found.st_mode, shown)
        if entry.kind == "file" and not os.access(real, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
            raise LocalIOError(f"{escape(shown)}: it may not be read")
        try:
            self._builder.add(entry)
        except UnacceptableName as error:
            raise UsageError(f"this cannot be sent: {error}", hint="Rename it, or pack it into an archive.") from error
        self._devices.append(found.st_dev)
        self._inodes.append(found.st_ino)


def _children(path: str, real: str, shown: str) -> list[tuple[str, str, os.stat_result, str]]:
    try:
        with os.scandir(real) as entries:
            return sorted(
                (f"{path}/{e.name}", e.path, e.stat(follow_symlinks=False), f"{shown.rstrip('/')}/{e.name}")
                for e in entries
            )
    except OSError as error:
        raise from_os(error, shown) from error


def _identity(found: os.stat_result) -> bytes:
    """Says nothing about the sender's disk, but is another one for another file, or after a change to this one."""
    return blake3(f"{found.st_dev} {found.st_ino} {found.st_ctime_ns}".encode()).digest(16)


def _unsendable(mode: int, shown: str) -> MidairError:
    if stat.S_ISLNK(mode):
        return UsageError(
            f"{escape(shown)} is a symbolic link, and links inside of a folder are not sent",
            hint="Remove it, or pack the folder into an archive.",
        )
    return UsageError(f"{escape(shown)} is neither a file nor a folder", hint="Only files and folders can be sent.")
