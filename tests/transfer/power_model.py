"""A file system as the list of what was done to it, and what of that is left when the power goes. Pure.

What a completed sync has covered is there. Of everything else any part may be there, in any order:

* Content: of each sector written since, any version from the last one synced to the newest; so writes are dropped,
  torn and reordered. The size is any of those the file has had since. What was never written reads as zeros.
* Names: a name made, taken away or moved is there once its folder was synced; a move is there as a whole or not at all,
  and does not come before what it needs. Syncing a file says nothing about its name.
* Mode, time and mark: any version since the last sync; fdatasync does not cover them.

That is less than any journaling file system promises.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["ROOT", "Done", "Inode", "Kind", "Linked", "Moved", "Set", "Synced", "Unlinked", "Wrote", "left_over"]

ROOT = 0
"""The number of the folder all this is in."""
SECTOR = 512
PAGE = 4096

Kind = Literal["file", "folder", "link"]


@dataclass(slots=True)
class Inode:
    """A file, folder or link; what it is without a name."""

    kind: Kind
    content: bytes = b""
    """Of a link, where it points."""
    about: dict[str, object] = field(default_factory=dict)
    """``mode``, ``time``, ``mark``."""
    names: dict[str, int] = field(default_factory=dict)
    """Of a folder: what is in it."""


@dataclass(frozen=True, slots=True)
class Linked:
    """``inode`` is new and has got its first name."""

    folder: int
    name: str
    inode: int
    kind: Kind
    mode: int
    content: bytes = b""
    """Of a link, where it points."""


@dataclass(frozen=True, slots=True)
class Unlinked:
    folder: int
    name: str
    was: int


@dataclass(frozen=True, slots=True)
class Moved:
    """In one step; what had the new name has lost it."""

    folder: int
    name: str
    new_folder: int
    new_name: str


@dataclass(frozen=True, slots=True)
class Wrote:
    """``content`` of None: the size was set to ``offset``."""

    inode: int
    offset: int
    content: bytes | None


@dataclass(frozen=True, slots=True)
class Set:
    inode: int
    what: str
    value: object


@dataclass(frozen=True, slots=True)
class Synced:
    """``inode`` of None: everything."""

    inode: int | None
    data_only: bool = False


Done = Linked | Unlinked | Moved | Wrote | Set | Synced


def left_over(before: dict[int, Inode], done: Sequence[Done], dice: random.Random | None) -> dict[int, Inode]:
    """What is there after ``done``, begun with ``before`` (all of it durable), when then the power goes.

    Without ``dice`` it does not go: everything is there.
    """
    durable = _durable(done)
    after = {number: Inode(it.kind, it.content, dict(it.about), dict(it.names)) for number, it in before.items()}
    kept = _kept_names(done, durable, dice)
    writes: dict[int, list[tuple[bool, Wrote]]] = {}
    settings: dict[tuple[int, str], list[tuple[bool, object]]] = {}
    for place, step in enumerate(done):
        match step:
            case Linked(_, _, inode, kind, mode, content):
                after[inode] = Inode(kind, content, {"mode": mode})
            case Wrote(inode):
                writes.setdefault(inode, []).append((place in durable, step))
            case Set(inode, what, value):
                settings.setdefault((inode, what), []).append((place in durable, value))
            case _:
                pass
        if place in kept:
            _rename(after, step)
    for (number, what), values in settings.items():
        _settle(after[number], what, values, dice)
    for number, steps in writes.items():
        after[number].content = _settle_content(after[number].content, steps, dice)
    return after


def _durable(done: Sequence[Done]) -> set[int]:
    """Places of the steps that a sync has covered."""
    durable: set[int] = set()
    open_: list[int] = []
    for place, step in enumerate(done):
        if not isinstance(step, Synced):
            open_.append(place)
            continue
        covered = {other for other in open_ if _covers(step, done[other])}
        durable |= covered
        open_ = [other for other in open_ if other not in covered]
    return durable


def _covers(sync: Synced, step: Done) -> bool:
    if sync.inode is None:
        return True
    match step:
        case Wrote(inode):
            return inode == sync.inode
        case Set(inode):
            return inode == sync.inode and not sync.data_only
        case Linked(folder) | Unlinked(folder):
            return folder == sync.inode
        case Moved(folder, _, new_folder):
            return sync.inode in (folder, new_folder)
        case _:
            return False


def _kept_names(done: Sequence[Done], durable: set[int], dice: random.Random | None) -> set[int]:
    """Places of the steps with names that are there: all that are durable, some others, and what those need."""
    places = [place for place, step in enumerate(done) if isinstance(step, Linked | Unlinked | Moved)]
    if dice is None:
        return set(places)
    needs = _needs(done, places)
    match dice.choice(["none", "all", "first", "some", "some"]):
        case "none":
            wanted: set[int] = set()
        case "all":
            wanted = set(places)
        case "first":
            wanted = set(places[: dice.randint(0, len(places))])
        case _:
            chance = dice.random()
            wanted = {place for place in places if dice.random() < chance}
    kept: set[int] = set()
    pending = [place for place in places if place in wanted or place in durable]
    while pending:
        place = pending.pop()
        if place not in kept:
            kept.add(place)
            pending.extend(needs[place])
    return kept


def _needs(done: Sequence[Done], places: Iterable[int]) -> dict[int, list[int]]:
    """For each step the ones before it that it cannot be there without."""
    last: dict[tuple[int, str], int] = {}
    inside: dict[int, list[int]] = {}
    needs: dict[int, list[int]] = {}
    for place in places:
        match done[place]:
            case Linked(folder, name) | Unlinked(folder, name):
                keys = [(folder, name)]
            case Moved(folder, name, new_folder, new_name):
                keys = [(folder, name), (new_folder, new_name)]
            case _:
                raise AssertionError(done[place])
        needs[place] = [last[key] for key in keys if key in last]
        step = done[place]
        if isinstance(step, Unlinked):
            needs[place] += inside.get(step.was, [])  # a folder goes when it is empty
        for key in keys:
            last[key] = place
            inside.setdefault(key[0], []).append(place)
    return needs


def _rename(after: dict[int, Inode], step: Done) -> None:
    match step:
        case Linked(folder, name, inode):
            after[folder].names[name] = inode
        case Unlinked(folder, name):
            after[folder].names.pop(name, None)
        case Moved(folder, name, new_folder, new_name):
            after[new_folder].names[new_name] = after[folder].names.pop(name)
        case _:
            pass


def _settle(inode: Inode, what: str, values: list[tuple[bool, object]], dice: random.Random | None) -> None:
    least = max((place for place, (durable, _) in enumerate(values) if durable), default=-1)
    chosen = len(values) - 1 if dice is None else dice.randint(least, len(values) - 1)
    if chosen >= 0:
        inode.about[what] = values[chosen][1]


def _settle_content(content: bytes, steps: list[tuple[bool, Wrote]], dice: random.Random | None) -> bytes:
    least = max((place for place, (durable, _) in enumerate(steps) if durable), default=-1)
    for _, step in steps[: least + 1]:
        content = _write(content, step)
    pending = [step for _, step in steps[least + 1 :]]
    if dice is None or not pending:
        for step in pending:
            content = _write(content, step)
        return content
    versions = [content]
    for step in pending:
        versions.append(_write(versions[-1], step))
    match dice.choice(["none", "all", "first", "pages", "sectors"]):
        case "none":
            return versions[0]
        case "all":
            return versions[-1]
        case "first":
            # And the next one torn.
            place = dice.randrange(len(pending))
            return _mix(versions[place : place + 2], SECTOR, dice)
        case "pages":
            return _mix(versions, PAGE, dice)
        case _:
            return _mix(versions, SECTOR, dice)


def _mix(versions: list[bytes], unit: int, dice: random.Random) -> bytes:
    size = len(dice.choice(versions))
    result = bytearray(size)
    chance = dice.choice([0.02, 0.5, 0.98])
    for start in range(0, size, unit):
        version = versions[-1] if dice.random() < chance else dice.choice(versions)
        piece = version[start : min(start + unit, size)]
        result[start : start + len(piece)] = piece
    return bytes(result)


def _write(content: bytes, step: Wrote) -> bytes:
    if step.content is None:
        return content[: step.offset].ljust(step.offset, b"\0")
    return content[: step.offset].ljust(step.offset, b"\0") + step.content + content[step.offset + len(step.content) :]
