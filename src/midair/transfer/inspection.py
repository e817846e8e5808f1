"""What is in the receiver's folder before anything is written: whose parts, how far they came, what has the names that
are wanted, and whether there is room.

no journal             what is there under the names is not ours
journal, same content  the parts it names are ours and count
... committing         some final names may be ours already: where the part is gone
... committed          all of them are; only the sender has not heard
journal, other content the parts it names are ours and go, once the new offer is accepted
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Collection, Set
from dataclasses import dataclass, field

from midair.errors import DiskFullError, LocalIOError, TargetExistsError
from midair.transfer import disk
from midair.transfer.existing import Survey, survey
from midair.transfer.journal import AlikeFile, JournalReader, Stage
from midair.transfer.journal_file import JournalFile
from midair.transfer.layout import journal_name, part_name
from midair.transfer.manifest import Entry, Manifest
from midair.transfer.names import escape
from midair.transfer.plan import Fate, Plan
from midair.transfer.ranges import RangeSet
from midair.transfer.wire import Digest

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
    """Virtual ranges among the unfinished data that are neither asked for nor hashed again."""
    runs: list[Digest | int] = field(default_factory=list)
    """What the journal has on hashes, if they are to be verified (see there)."""
    distrusted: list[int] = field(default_factory=list)
    """Files that the journal vouches for, and that are not there or not so long."""
    parts: set[str] = field(default_factory=set)
    """Names on the top level that are ours."""
    present: set[str] = field(default_factory=set)
    """Those of our parts, or to be made ours, that are there."""
    leftovers: set[str] = field(default_factory=set)
    """Parts of ours, of other content, to be removed."""
    exceptions: dict[int, tuple[str, str]] = field(default_factory=dict)
    """What the journal says became of entries when they were to be renamed."""
    survey: Survey = field(default_factory=Survey)
    published: set[int] = field(default_factory=set)
    """Entries that have got their names already, in a run that did not come to its end."""


def inspect(folder: int, manifest: Manifest, plan: Plan, *, verify: bool = False) -> Found:
    """Look at ``folder``, a descriptor, for what ``manifest`` would write; ``plan`` is told what stands there.

    To ``verify``, what is there already needs its hashes compared.

    Raises: TargetExistsError (something where unfinished data would go), LocalIOError (another receiver is at it);
    OSError.
    """
    opened = JournalFile.open(folder, journal_name(manifest.entries[0].path), manifest, keep_runs=verify)
    found = Found()
    try:
        alike: dict[int, AlikeFile] = {}
        if opened is not None:
            found.journal, said = opened
            alike = said.alike if said.same_content else alike
            _judge_journal(folder, manifest, found, said)
        if found.stage is not Stage.RECEIVING:
            _take_over(folder, manifest, plan, found)
        if found.stage is not Stage.COMMITTED:
            found.survey = survey(
                folder, manifest, plan, alike=alike, published=found.published.__contains__, verify=verify
            )
        _check_parts(folder, manifest, plan, found)
        if found.begun and found.stage is Stage.RECEIVING:
            _distrust_what_is_not_there(folder, manifest, found)
    except BaseException:
        if found.journal is not None:
            found.journal.close()
        raise
    return found


def check_room(
    folder: int, manifest: Manifest, plan: Plan, found: Found, *, undecided: Collection[int] = frozenset()
) -> None:
    """Whether what is missing can be written; what is ``undecided`` may need no room in the end.

    Raises: LocalIOError, DiskFullError; OSError.
    """
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=folder):
        raise LocalIOError("the folder to receive into may not be written to")
    missing = _missing_bytes(manifest, plan, found, undecided)
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


def _missing_bytes(manifest: Manifest, plan: Plan, found: Found, undecided: Collection[int]) -> int:
    """What has to be written, as far as that is certain, without holes."""
    wanted = plan.wanted()
    for start, end in (*map(manifest.span, sorted(undecided)), *found.durable):
        wanted.subtract(start, end)
    missing = wanted.total
    for hollow in re.finditer(b"h", manifest.letters):
        index = hollow.start()
        here = sum(end - start for start, end in wanted.overlapping(*manifest.span(index)))
        missing -= min(here, manifest.entries[index].holes)
    return missing


def _judge_journal(folder: int, manifest: Manifest, found: Found, said: JournalReader) -> None:
    found.leftovers = said.parts
    if not said.same_content:
        return
    tops = [
        (entry, _final_name(entry, said.exceptions.get(index)))
        for index, entry in zip(manifest.tops, manifest.top_level, strict=True)
        if entry.kind != "omitted"
    ]
    wanted = [(entry, name) for entry, name in tops if name is not None]
    if said.stage is Stage.COMMITTED and not all(_stands(folder, entry, name) for entry, name in wanted):
        return  # it was all here once; somebody has taken some of it away since
    if said.stage is Stage.COMMITTING and not all(
        disk.lstat(part_name(entry.path), folder) or _stands(folder, entry, name) for entry, name in wanted
    ):
        return
    found.begun, found.stage = True, said.stage
    found.durable = said.durable if said.stage is Stage.RECEIVING else RangeSet([(0, manifest.total)])
    found.runs = said.runs if said.stage is Stage.RECEIVING else []
    found.parts, found.leftovers = said.parts, set()
    found.exceptions = said.exceptions


def _final_name(entry: Entry, exception: tuple[str, str] | None) -> str | None:
    """Of something on the top level; None when it was not to be there."""
    if exception is None:
        return entry.path
    outcome, path = exception
    return (path or entry.path) if outcome == "received" else None


def _stands(folder: int, entry: Entry, name: str) -> bool:
    """Whether something that may well be ``entry`` has the name."""
    found = disk.lstat(name, folder)
    if found is None:
        return False
    if entry.kind == "directory":
        return stat.S_ISDIR(found.st_mode)
    return stat.S_ISREG(found.st_mode) and found.st_size == entry.size


def _take_over(folder: int, manifest: Manifest, plan: Plan, found: Found) -> None:
    """The fates of what an earlier run has named already, or decided not to name."""
    staged = _staged(folder, manifest) if found.stage is Stage.COMMITTING else frozenset()
    for index in range(len(manifest)):
        if plan.fate(index) is Fate.OMITTED or index in staged:
            continue
        found.published.add(index)
        match found.exceptions.get(index):
            case None | ("received", ""):
                pass
            case ("received", path):
                plan.decide(index, Fate.RENAMED, name=path.rpartition("/")[2])
            case ("kept", _):
                plan.decide(index, Fate.KEPT)
            case (outcome, text):
                plan.fail(index, outcome, text)


def _staged(folder: int, manifest: Manifest) -> Set[int]:
    """Entries of which there is something among the unfinished data."""
    folders = disk.Folders(folder)
    inside, staged = {""}, set()
    try:
        for index, entry in enumerate(manifest.entries):
            parent, _, name = entry.path.rpartition("/")
            if parent not in inside:
                continue
            components = parent.split("/") if parent else []
            components[:1] = map(part_name, components[:1])
            there = disk.lstat(name if parent else part_name(name), folders.get(components))
            if there is not None:
                staged.add(index)
                if stat.S_ISDIR(there.st_mode):
                    inside.add(entry.path)
    finally:
        folders.close()
    return staged


def _check_parts(folder: int, manifest: Manifest, plan: Plan, found: Found) -> None:
    for index, entry in zip(manifest.tops, manifest.top_level, strict=True):
        if not plan.staged(index):
            continue
        name = part_name(entry.path)
        part = disk.lstat(name, folder)
        if part is None or name in found.leftovers:
            continue
        right_kind = stat.S_ISDIR if entry.kind == "directory" else stat.S_ISREG
        ours = right_kind(part.st_mode) and disk.is_ours(part, folder)
        # A part that was made and, because of a crash, not written down is still empty.
        if not ours or not (name in found.parts or (found.journal is not None and _is_empty(name, part, folder))):
            raise TargetExistsError(
                f"{escape(name)} is in the way: it is not unfinished data of this transfer",
                hint="Move it away, or name another folder with -o.",
            )
        if found.begun:
            found.present.add(name)
        else:
            found.leftovers.add(name)


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
                found.durable.subtract(*manifest.span(piece.index))
                found.distrusted.append(piece.index)
