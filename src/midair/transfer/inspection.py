"""What is in the receiver's folder before anything is written: whose parts, how far they came, what is in the way, and
whether there is room.

no journal             nothing may be there
journal, same content  the parts it names are ours and count; the final names must be free
... committing         some final names may be ours already: where the part is gone
... committed          all of them are; only the sender has not heard
journal, other content the parts it names are ours and go, once the new offer is accepted
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass, field

from midair.errors import DiskFullError, LocalIOError, TargetExistsError
from midair.transfer import disk
from midair.transfer.journal import JournalReader, Stage
from midair.transfer.journal_file import JournalFile
from midair.transfer.layout import journal_name, part_name
from midair.transfer.manifest import Entry, Manifest
from midair.transfer.names import escape
from midair.transfer.ranges import RangeSet

__all__ = ["Found", "check_room", "inspect"]

_SPARE_BYTES = 1 << 20
_SPARE_BYTES_PER_ENTRY = 512
"""Room on the disk beyond the content: for the journal, folders and inodes."""


@dataclass(slots=True, kw_only=True)
class Found:
    """What there is; nothing has been changed by finding out."""

    journal: JournalFile | None = None
    """Locked, if there is one."""
    begun: bool = False
    """The journal is about what is offered."""
    stage: Stage = Stage.RECEIVING
    durable: RangeSet = field(default_factory=RangeSet)
    """Virtual ranges that are neither asked for nor hashed again."""
    parts: set[str] = field(default_factory=set)
    """Names on the top level that are ours."""
    present: set[str] = field(default_factory=set)
    """Those of our parts, or to be made ours, that are there."""
    leftovers: set[str] = field(default_factory=set)
    """Parts of ours, of other content, to be removed."""


def inspect(folder: int, manifest: Manifest) -> Found:
    """Look at ``folder``, a descriptor, for what ``manifest`` would write.

    Raises: TargetExistsError, LocalIOError (another receiver is at it); OSError.
    """
    opened = JournalFile.open(folder, journal_name(manifest.entries[0].path), manifest)
    found = Found() if opened is None else _judge_journal(folder, manifest, *opened)
    try:
        _check_targets(folder, manifest, found)
        _check_parts(folder, manifest, found)
        if found.begun and found.stage is Stage.RECEIVING:
            _distrust_what_is_not_there(folder, manifest, found)
    except BaseException:
        if found.journal is not None:
            found.journal.close()
        raise
    return found


def check_room(folder: int, manifest: Manifest, found: Found) -> None:
    """Whether what is missing can be written.

    Raises: LocalIOError, DiskFullError; OSError.
    """
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=folder):
        raise LocalIOError("the folder to receive into may not be written to")
    missing = manifest.total - found.durable.total
    if not missing:
        return
    system = os.fstatvfs(folder)
    free = system.f_bavail * system.f_frsize
    for name in found.leftovers:
        with contextlib.suppress(OSError):
            free += os.stat(name, dir_fd=folder, follow_symlinks=False).st_blocks * 512
    needed = missing + _SPARE_BYTES + _SPARE_BYTES_PER_ENTRY * len(manifest)
    if free < needed:
        raise DiskFullError(f"{needed} bytes are needed for it, and {free} are free")


def _judge_journal(folder: int, manifest: Manifest, journal: JournalFile, said: JournalReader) -> Found:
    tops = list(manifest.top_level)
    if said.same_content:
        if said.stage is Stage.COMMITTED and not all(_stands(folder, entry) for entry in tops):
            # It was all here once; somebody has taken some of it away since.
            return Found(journal=journal)
        if said.stage is Stage.COMMITTING and not all(
            disk.lstat(part_name(entry.path), folder) or _stands(folder, entry) for entry in tops
        ):
            return Found(journal=journal, leftovers=said.parts)
        durable = said.durable if said.stage is Stage.RECEIVING else RangeSet([(0, manifest.total)])
        return Found(journal=journal, begun=True, stage=said.stage, durable=durable, parts=said.parts)
    return Found(journal=journal, leftovers=said.parts)


def _stands(folder: int, entry: Entry) -> bool:
    """Whether something that may well be ``entry`` has its final name."""
    found = disk.lstat(entry.path, folder)
    if found is None:
        return False
    if entry.kind == "directory":
        return stat.S_ISDIR(found.st_mode)
    return stat.S_ISREG(found.st_mode) and found.st_size == entry.size


def _check_targets(folder: int, manifest: Manifest, found: Found) -> None:
    for entry in manifest.top_level:
        target = disk.lstat(entry.path, folder)
        if target is None:
            continue
        part = disk.lstat(part_name(entry.path), folder)
        # Ours once renaming has begun: the part has gone into it, or (where renaming is link and unlink) still is it.
        renamed = part is None or (part.st_dev, part.st_ino) == (target.st_dev, target.st_ino)
        if found.stage is Stage.RECEIVING or not renamed:
            raise TargetExistsError(f"{escape(entry.path)} is already there")


def _check_parts(folder: int, manifest: Manifest, found: Found) -> None:
    for entry in manifest.top_level:
        name = part_name(entry.path)
        part = disk.lstat(name, folder)
        if part is None or name in found.leftovers:
            continue
        right_kind = stat.S_ISDIR if entry.kind == "directory" else stat.S_ISREG
        ours = right_kind(part.st_mode) and disk.is_ours(part, folder)
        # A part that was made and, because of a crash, not written down is still empty.
        if not ours or not (name in found.parts or (found.begun and _is_empty(name, part, folder))):
            raise TargetExistsError(
                f"{escape(name)} is in the way: it is not unfinished data of this transfer",
                hint="Move it away, or name another folder with -o.",
            )
        found.present.add(name)


def _is_empty(name: str, part: os.stat_result, folder: int) -> bool:
    if stat.S_ISREG(part.st_mode):
        return part.st_size == 0
    descriptor = disk.open_folder(name, folder)
    try:
        with os.scandir(descriptor) as entries:
            return next(entries, None) is None
    finally:
        os.close(descriptor)


def _distrust_what_is_not_there(folder: int, manifest: Manifest, found: Found) -> None:
    """A file that is gone, or shorter than the journal says, holds nothing to rely on."""
    for start, end in list(found.durable):
        for piece in manifest.pieces(start, end):
            entry = manifest.entries[piece.index]
            top, slash, rest = entry.path.partition("/")
            # Only a look: a link on the way is followed here, and refused when the file is opened.
            try:
                there = disk.lstat(part_name(top) + slash + rest, folder)
            except NotADirectoryError:
                there = None
            if there is None or not stat.S_ISREG(there.st_mode) or there.st_size < piece.offset + piece.size:
                base = manifest.start(piece.index)
                found.durable.subtract(base, base + entry.size)
