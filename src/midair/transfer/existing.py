"""What stands in the receiver's folder under the names of an offer, and whether it is the same.

Size and time of modification are not enough to tell: a clock ticks every few milliseconds, and archives and builds give
one time to many files. So midair leaves a note on a file that it has received: the identity that the sender gave to it,
which is another one for another file and after every change. A file with that note, and with the size and time it had
then, is the same. Where there is no such note (or the file system has no room for one) both sides hash the file. An
empty file needs no more than its size.

Nothing is changed by looking, and no link is followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from blake3 import blake3

from midair.errors import LocalIOError
from midair.transfer import disk
from midair.transfer.failures import from_os
from midair.transfer.journal import AlikeFile
from midair.transfer.manifest import Entry, Manifest
from midair.transfer.names import escape
from midair.transfer.plan import Fate, Plan

__all__ = ["Survey", "fingerprint", "hash_existing", "survey"]

_CHUNK = 1 << 20
_FEW = 100
"""Names on the top level that are looked at beforehand: where nothing has them nothing below them is there."""


@dataclass(slots=True, kw_only=True)
class Survey:
    """What was found under names of the offer, beside what the plan has been told of."""

    unsure: list[int] = field(default_factory=list)
    """Files of the right size: their hashes have to tell."""
    clashes: list[int] = field(default_factory=list)
    """What stands there is something else."""
    present: int = 0
    """Entries under whose name there is anything, folders not counted."""


def survey(
    folder: int,
    manifest: Manifest,
    plan: Plan,
    *,
    alike: Mapping[int, AlikeFile],
    published: Callable[[int], bool] = lambda index: False,
    verify: bool = False,
) -> Survey:
    """Look at every name of ``manifest`` that something may have; ``plan`` is told of folders and of what is identical.

    ``alike`` are files whose hashes were compared in an earlier run. What is ``published`` is ours and not looked at.
    To ``verify`` means that only hashes count.

    Raises: LocalIOError.
    """
    result = Survey()
    folders = disk.Folders(folder)
    standing = {""}
    device = os.fstat(folder).st_dev
    try:
        if len(manifest.tops) < _FEW and not any(_stands(entry.path, folder) for entry in manifest.top_level):
            return result
        for index, entry in enumerate(manifest.entries):
            parent, _, name = entry.path.rpartition("/")
            if parent not in standing or plan.fate(index) is not Fate.NEW or published(index):
                continue
            try:
                inside = folders.get(parent.split("/") if parent else ())
                found = disk.lstat(name, inside)
                if found is None:
                    continue
                if entry.kind == "directory" and stat.S_ISDIR(found.st_mode):
                    _check_folder(entry, found, name, inside, device)
                    standing.add(entry.path)
                    plan.decide(index, Fate.MERGED)
                    continue
                result.present += 1
                same = _is_same(entry, found, name, inside, alike.get(index))
                if verify and same and entry.kind == "file" and entry.size:
                    same = None
            except OSError as error:
                raise from_os(error, entry.path) from error
            if same:
                plan.decide(index, Fate.IDENTICAL)
            else:
                (result.clashes if same is False else result.unsure).append(index)
    finally:
        folders.close()
    return result


def _stands(name: str, folder: int) -> bool:
    try:
        return disk.lstat(name, folder) is not None
    except OSError as error:
        raise from_os(error, name) from error


def _check_folder(entry: Entry, found: os.stat_result, name: str, inside: int, device: int) -> None:
    if found.st_dev != device:
        raise LocalIOError(
            f"{escape(entry.path)} is on another file system than the folder to receive into",
            hint="What is unfinished could not be moved there at once. Receive into a folder on that file system.",
        )
    if not os.access(name, os.W_OK | os.X_OK, dir_fd=inside):
        raise LocalIOError(f"{escape(entry.path)} is a folder that may not be written to")


def _is_same(entry: Entry, found: os.stat_result, name: str, inside: int, known: AlikeFile | None) -> bool | None:
    """None when only the hashes can tell."""
    if entry.kind == "symlink":
        return stat.S_ISLNK(found.st_mode) and os.readlink(name, dir_fd=inside) == entry.detail
    if entry.kind != "file" or not stat.S_ISREG(found.st_mode) or found.st_size != entry.size:
        return False
    if not entry.size:
        return True
    if known is not None and (known.mtime_ns, known.inode) == (found.st_mtime_ns, found.st_ino):
        return True
    if entry.identity and found.st_mtime_ns == entry.mtime_ns and disk.marked(name, inside) == entry.identity:
        return True
    return None


def fingerprint(index: int, found: os.stat_result) -> AlikeFile:
    """What tells later that the file is still the one that was compared; its size is the offer's."""
    return AlikeFile(index, found.st_mtime_ns, found.st_ino)


def hash_existing(
    folders: disk.Folders, entry: Entry, alive: Callable[[], bool]
) -> tuple[bytes, os.stat_result] | None:
    """BLAKE3 of what stands under the name of ``entry``, and what it was meanwhile.

    None when it cannot be read, or is not what it was, or ``alive`` says no in between.
    """
    parent, _, name = entry.path.rpartition("/")
    try:
        descriptor = disk.open_to_read(name, folders.get(parent.split("/") if parent else ()))
    except OSError:
        return None
    hasher = blake3()
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    try:
        found = os.fstat(descriptor)
        left = entry.size
        while left and alive():
            count = os.readv(descriptor, [view[:left]])
            if not count:
                return None
            hasher.update(view[:count])
            left -= count
        after = os.fstat(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    same = (found.st_size, found.st_mtime_ns) == (after.st_size, after.st_mtime_ns) == (entry.size, found.st_mtime_ns)
    return (hasher.digest(), found) if same and not left else None
