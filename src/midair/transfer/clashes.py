"""What is to be done where something else already has the name of what is received."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from midair.errors import TargetExistsError
from midair.transfer import disk
from midair.transfer.failures import from_os
from midair.transfer.manifest import MAX_TOTAL, Entry, Manifest
from midair.transfer.names import escape, fold, numbered
from midair.transfer.plan import Fate, Plan

__all__ = ["Clash", "Resolution", "Resolve", "resolve_clashes"]

_MAX_NUMBER = 9999
Kind = Literal["file", "folder", "link", "other"]


class Resolution(Enum):
    """What is done about one clash."""

    OVERWRITE = "overwrite"
    """What is there is replaced, in one step, once the new one is whole. Not where one of the two is a folder."""
    RENAME = "rename"
    """The new one gets a number: name-1.ext."""
    SKIP = "skip"
    """What is there stays, the new one is not fetched."""
    REFUSE = "refuse"
    """The whole transfer is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clash:
    """Two things of one name."""

    name: str
    """The path in the receiver's folder, safe to show."""
    there: Kind
    there_size: int
    there_mtime_ns: int
    new: Kind
    new_size: int | None
    """None when nobody knows: it is a stream. So it is with the time."""
    new_mtime_ns: int | None

    @property
    def replaceable(self) -> bool:
        """Whether OVERWRITE is possible."""
        return "folder" not in (self.there, self.new) and self.there != "other"


Resolve = Callable[[Clash], Resolution]
"""Called for one clash after the other, in the receiver's worker thread; it may take its time."""

_KINDS: dict[str, Kind] = {"file": "file", "directory": "folder", "symlink": "link"}


def resolve_clashes(
    folder: int, manifest: Manifest, plan: Plan, clashes: Sequence[int], resolve: Resolve | None
) -> None:
    """Have ``resolve`` decide about each; None refuses. The decisions go into ``plan``.

    Raises: TargetExistsError, LocalIOError; what ``resolve`` raises.
    """
    resolver = _Resolver(folder, manifest, plan)
    try:
        for index in clashes:
            resolver.settle(index, resolve)
    finally:
        resolver.close()


class _Resolver:
    def __init__(self, folder: int, manifest: Manifest, plan: Plan) -> None:
        self._manifest = manifest
        self._plan = plan
        self._folders = disk.Folders(folder)
        self._taken: set[str] | None = None

    def settle(self, index: int, resolve: Resolve | None) -> None:
        entry = self._manifest.entries[index]
        parent, _, name = entry.path.rpartition("/")
        try:
            inside = self._folders.get(parent.split("/") if parent else ())
            found = disk.lstat(name, inside)
        except OSError as error:
            raise from_os(error, entry.path) from error
        if found is None:
            return  # gone meanwhile
        clash = _clash(entry, found)
        match Resolution.REFUSE if resolve is None else resolve(clash):
            case Resolution.SKIP:
                self._keep(index)
            case Resolution.RENAME:
                self._plan.decide(index, Fate.RENAMED, name=self._free_name(parent, name, inside))
            case Resolution.OVERWRITE if clash.replaceable:
                self._plan.decide(index, Fate.REPLACING)
            case _:
                raise _refused(clash)

    def _keep(self, index: int) -> None:
        entries = self._manifest.entries
        self._plan.decide(index, Fate.KEPT)
        if entries[index].kind == "directory":
            inside = entries[index].path + "/"
            for below, entry in enumerate(entries):
                if entry.path.startswith(inside) and self._plan.fate(below) is Fate.NEW:
                    self._plan.decide(below, Fate.KEPT)

    def _free_name(self, parent: str, name: str, inside: int) -> str:
        if self._taken is None:
            self._taken = {fold(entry.path) for entry in self._manifest.entries}
        for number in range(1, _MAX_NUMBER + 1):
            candidate = numbered(name, number)
            if candidate is None:
                break
            path = fold(f"{parent}/{candidate}" if parent else candidate)
            if path not in self._taken and disk.lstat(candidate, inside) is None:
                self._taken.add(path)
                return candidate
        raise TargetExistsError(f"there is no free name like {escape(name)}")

    def close(self) -> None:
        self._folders.close()


def _clash(entry: Entry, found: os.stat_result) -> Clash:
    stream = entry.size == MAX_TOTAL
    there: Kind = "other"
    for test, kind in ((stat.S_ISREG, "file"), (stat.S_ISDIR, "folder"), (stat.S_ISLNK, "link")):
        if test(found.st_mode):
            there = kind  # type: ignore[assignment]
    return Clash(
        name=escape(entry.path),
        there=there,
        there_size=found.st_size,
        there_mtime_ns=found.st_mtime_ns,
        new=_KINDS[entry.kind],
        new_size=None if stream else entry.size,
        new_mtime_ns=None if stream else entry.mtime_ns,
    )


def _refused(clash: Clash) -> TargetExistsError:
    if clash.replaceable:
        return TargetExistsError(f"{clash.name} is already there and differs")
    if clash.there == clash.new:
        return TargetExistsError(f"{clash.name} is already there")
    there = {"folder": "a folder", "file": "a file", "link": "a symbolic link", "other": "no file"}[clash.there]
    return TargetExistsError(f"{clash.name} is already there, and is {there}")
