"""What is sent, found by looking: names, sizes and times, in the order in which it is sent.

Nothing is hashed or opened, except files with holes, to see how large those are.
"""

from __future__ import annotations

import errno
import os
import stat
from array import array
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from midair.errors import LocalIOError, UsageError
from midair.transfer.failures import from_os
from midair.transfer.manifest import Entry, ManifestBuilder
from midair.transfer.names import UnacceptableName, escape, link_fault
from midair.transfer.source import READING, Source
from midair.transfer.wire import MIN_HOLE_BYTES

__all__ = ["scan"]

_OWN_ID = os.geteuid() if hasattr(os, "geteuid") else -1
_KIND_AND_READABLE = 0o170000 | stat.S_IRUSR
_OWN_FILE = stat.S_IFREG | stat.S_IRUSR
_TOGETHER = 512
"""Entries that are judged at once."""
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


class _Scanner:
    def __init__(self) -> None:
        self._builder = ManifestBuilder()
        self._roots: dict[str, str] = {}
        self._devices = array("Q")
        self._inodes = array("Q")
        self._entries: list[Entry] = []
        """Those that the builder has not seen yet."""

    def add_top(self, path: Path) -> None:
        shown = str(path)
        try:
            root = path.resolve(strict=True)
            # The name the person typed, also where it is a link; but "." and ".." only get one when resolved.
            name = path.name if path.name not in ("", "..") else root.name
            if not name:
                raise UsageError(f"{escape(shown)} has no name it could be sent under")
            self._add(_Top(name, str(root), shown), root.stat())
        except OSError as error:
            raise from_os(error, shown) from error
        except RuntimeError as error:  # a loop of links, as pathlib says it before Python 3.13
            raise LocalIOError(f"{escape(shown)}: the symbolic links go round in a circle") from error
        self._roots[name] = str(root)

    def finish(self) -> Source:
        try:
            self._hand_on()
            manifest = self._builder.finish()
        except UnacceptableName as error:
            raise UsageError(f"this cannot be sent: {error}") from error
        return Source(manifest, self._roots, self._devices, self._inodes)

    def _add(self, top: _Top, found: os.stat_result) -> None:
        """One entry and, if it is a folder, all below; depth first, in sorted order."""
        pending = [(top.name, found)]
        while pending:
            path, found = pending.pop()
            # Nearly all of them, and so without further ado: a file that its owner may read, without holes.
            if found.st_mode & _KIND_AND_READABLE == _OWN_FILE and found.st_uid == _OWN_ID and _is_full(found):
                entry = Entry(path, "file", found.st_size, found.st_mtime_ns, found.st_mode & 0o777, _identity(found))
            else:
                entry = _entry(top, path, found)
                if entry.kind == "directory":
                    pending.extend(reversed(_children(top, path)))
            self._entries.append(entry)
            self._devices.append(found.st_dev)
            self._inodes.append(found.st_ino)
            if len(self._entries) >= _TOGETHER:
                self._hand_on()
        self._hand_on()

    def _hand_on(self) -> None:
        entries, self._entries = self._entries, []
        try:
            self._builder.add_all(entries)
        except UnacceptableName as error:
            raise UsageError(f"this cannot be sent: {error}", hint="Rename it, or pack it into an archive.") from error


class _Top(NamedTuple):
    """What was named to be sent."""

    name: str
    real: str
    shown: str

    def real_path(self, path: str) -> str:
        """Where an entry of this path is in the file system."""
        return self.real + path[len(self.name) :]

    def shown_path(self, path: str) -> str:
        """The same in the person's words."""
        return self.shown.rstrip("/") + path[len(self.name) :] if len(path) > len(self.name) else self.shown


def _entry(top: _Top, path: str, found: os.stat_result) -> Entry:
    """Raises: UsageError, LocalIOError."""
    mode, real = found.st_mode & 0o777, top.real_path(path)
    if stat.S_ISREG(found.st_mode):
        if not _is_readable(real, found) and os.path.lexists(real):  # else it has gone, and will fail by name
            raise LocalIOError(f"{escape(top.shown_path(path))}: it may not be read")
        return Entry(path, "file", found.st_size, found.st_mtime_ns, mode, _identity(found), _holes(real, found))
    if stat.S_ISDIR(found.st_mode):
        return Entry(path, "directory", 0, found.st_mtime_ns, mode)
    if stat.S_ISLNK(found.st_mode):
        return _link(path, real, found, top.shown_path(path))
    if "/" in path:
        return Entry(path, "omitted", 0, found.st_mtime_ns, 0, detail="it is neither a file, a folder nor a link")
    raise UsageError(f"{escape(top.shown)} is neither a file nor a folder", hint=_WHAT_CAN_BE_SENT)


def _children(top: _Top, path: str) -> list[tuple[str, os.stat_result]]:
    """What is in a folder, sorted; not what goes away while we look."""
    children = []
    try:
        with os.scandir(top.real_path(path)) as entries:
            for entry in entries:
                try:
                    children.append((f"{path}/{entry.name}", entry.stat(follow_symlinks=False)))
                except FileNotFoundError:
                    continue
    except FileNotFoundError:
        return []
    except OSError as error:
        raise from_os(error, top.shown_path(path)) from error
    return sorted(children, key=itemgetter(0))


def _is_full(found: os.stat_result) -> bool:
    """Whether it has no holes, as far as one can see from outside."""
    return found.st_blocks * 512 >= found.st_size


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
    if _is_full(found):
        return 0
    holes = position = 0
    try:
        descriptor = os.open(real, READING)
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
