"""Files that come in one piece, many at a time: made, written and dressed at once.

Opening each again at the end costs as much as all the rest. So what is done here is what there has to be, and no more:
five calls of the system a file. That they are still there at the end is seen by counting what is in each folder.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from midair.transfer import disk
from midair.transfer.failures import from_os
from midair.transfer.manifest import Entry, Files, Manifest

__all__ = ["Place", "WholeFiles"]

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OURS = stat.S_IRUSR | stat.S_IWUSR


class Place(Protocol):
    """Where they come to stand."""

    def inside(self, parent: str) -> int:
        """A descriptor of the folder for what is in ``parent``, which is made; good until the next call.

        Raises: OSError.
        """
        ...

    def part_of(self, path: str) -> str:
        """What the last component of ``path`` is called there."""
        ...

    def open_file(self, index: int) -> int:
        """One that may be there already. Raises: LocalIOError, DiskFullError."""
        ...


class WholeFiles:
    """Written by one thread; what became of them is asked for when that has ended."""

    def __init__(self, place: Place, manifest: Manifest, mask: int) -> None:
        self._place = place
        self._manifest = manifest
        self._mask = mask
        self.dressed = bytearray(len(manifest))
        """Of each entry, whether there is nothing left to do."""
        self.inside: Counter[str] = Counter()
        """How many of those there are in each folder."""

    def write(self, files: Files, sizes: Sequence[int], data: memoryview) -> None:
        """All of them, from ``data``. Raises: LocalIOError, DiskFullError."""
        entries, masked, inside = self._manifest.entries, ~self._mask, self.inside
        known: str | None = None
        folder = start = 0
        for index, size in zip(range(files.first, files.end), sizes, strict=True):
            entry = entries[index]
            content = data[start : start + size]
            start += size
            parent, _, name = entry.path.rpartition("/")
            mode = entry.mode & masked
            try:
                if mode & _OURS != _OURS:  # once it is dressed we could not write to it again, should that be needed
                    raise FileExistsError
                if parent != known:
                    folder, known = self._place.inside(parent), parent
                if not parent:
                    name = self._place.part_of(name)
                descriptor = os.open(name, _NEW, mode, dir_fd=folder)
            except FileExistsError:
                known = None
                self._write_undressed(index, content)
                continue
            except OSError as error:
                raise from_os(error, entry.path) from error
            self._fill(descriptor, entry, content)
            self.dressed[index] = 1
            inside[parent] += 1

    def _fill(self, descriptor: int, entry: Entry, content: memoryview) -> None:
        """And close."""
        try:
            disk.write_at(descriptor, content, 0)
            if entry.identity:
                disk.mark(descriptor, entry.identity)
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        except OverflowError:
            pass  # no file system has such a time, and nobody can do more about it later
        except OSError as error:
            raise from_os(error, entry.path) from error
        finally:
            os.close(descriptor)

    def _write_undressed(self, index: int, content: memoryview) -> None:
        descriptor = self._place.open_file(index)
        try:
            disk.write_at(descriptor, content, 0)
        except OSError as error:
            raise from_os(error, self._manifest.entries[index].path) from error
        finally:
            os.close(descriptor)
