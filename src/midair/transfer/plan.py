"""What becomes of each entry at the receiver: decided before anything is asked for, but for what fails later. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import IntEnum

from midair.transfer.manifest import Manifest
from midair.transfer.ranges import RangeSet

__all__ = ["Fate", "Plan"]


class Fate(IntEnum):
    """Of one entry."""

    NEW = 0
    """Nothing has its name; it gets it."""
    MERGED = 1
    """A folder that is there already: what is in ours comes into it."""
    IDENTICAL = 2
    """A file or link that is there already, with the same content."""
    REPLACING = 3
    """It takes the place of what has its name."""
    RENAMED = 4
    """It gets another name than its own."""
    KEPT = 5
    """What has its name stays; it is not wanted."""
    FAILED = 6
    """One of the two sides could not."""
    OMITTED = 7
    """The sender does not send it."""


_FATES = tuple(Fate)
_NOTABLE = re.compile(rb"[^\0]")
_STAGED = frozenset({Fate.NEW, Fate.MERGED, Fate.REPLACING, Fate.RENAMED})


class Plan:
    """Fates of the entries of one manifest; all are NEW at first, but for those the sender omits."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._fates = bytearray(len(manifest))
        self._names: dict[int, str] = {}
        self._failures: dict[int, tuple[str, str]] = {}
        for found in re.finditer(b"o", manifest.letters):
            self._fates[found.start()] = Fate.OMITTED

    def fate(self, index: int) -> Fate:
        return _FATES[self._fates[index]]

    def decide(self, index: int, fate: Fate, *, name: str = "") -> None:
        """``name`` is the last component of the name it gets when it is RENAMED."""
        self._fates[index] = fate
        if fate is Fate.RENAMED:
            self._names[index] = name

    def fail(self, index: int, reason: str, text: str) -> None:
        """``reason`` is an error's word."""
        self._fates[index] = Fate.FAILED
        self._failures[index] = (reason, text)

    def staged(self, index: int) -> bool:
        """Whether the entry is made among the unfinished data, to get a name at the end."""
        return self._fates[index] in _STAGED

    def wanted(self) -> RangeSet:
        """The virtual ranges that have to come from the sender, sooner or later."""
        result = RangeSet([(0, self._manifest.total)] if self._manifest.total else [])
        for index, fate in self.notable():
            if fate not in _STAGED:
                result.subtract(*self._manifest.span(index))
        return result

    def notable(self) -> Iterator[tuple[int, Fate]]:
        """The entries that are not NEW."""
        for found in _NOTABLE.finditer(self._fates):
            yield found.start(), self.fate(found.start())

    def bytes_with(self, *fates: Fate) -> int:
        """Bytes of content in all entries with one of these fates, NEW not among them."""
        assert Fate.NEW not in fates
        return sum(self._manifest.entries[index].size for index, fate in self.notable() if fate in fates)

    @property
    def stored_bytes(self) -> int:
        """Bytes of content that are there, under whatever name, when all is done as planned."""
        return self._manifest.total - self.bytes_with(Fate.KEPT, Fate.FAILED)

    def new_name(self, index: int) -> str | None:
        """The last component of the name a RENAMED entry gets."""
        return self._names.get(index) if self._fates[index] == Fate.RENAMED else None

    def result(self, index: int) -> tuple[str, str]:
        """``(outcome, text)`` for the sender: what became of the entry, and why, or what path it has got instead."""
        match self._fates[index]:
            case Fate.IDENTICAL:
                return "identical", ""
            case Fate.RENAMED:
                folder, slash, _ = self._manifest.entries[index].path.rpartition("/")
                return "received", folder + slash + self._names[index]
            case Fate.KEPT:
                return "kept", ""
            case Fate.FAILED:
                return self._failures[index]
            case Fate.OMITTED:
                return "omitted", self._manifest.entries[index].detail
            case _:
                return "received", ""

    def exceptions(self) -> Iterator[int]:
        """Entries whose result a later run could not tell by looking: they are kept, renamed or failed."""
        return (index for index, fate in self.notable() if fate in (Fate.KEPT, Fate.RENAMED, Fate.FAILED))
