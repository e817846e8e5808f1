"""What the receiver's file system can bear, found out before anything is asked for."""

from __future__ import annotations

import os

from midair.errors import DiskFullError, LocalIOError
from midair.transfer import disk
from midair.transfer.journal_file import JournalFile
from midair.transfer.layout import journal_name
from midair.transfer.manifest import Manifest
from midair.transfer.names import UnacceptableName, check, escape
from midair.transfer.plan import Plan
from midair.transfer.ranges import RangeSet
from midair.transfer.staging import Staging

__all__ = ["RESERVE_BYTES", "fail_what_cannot_be", "refuse_twins", "reserve"]

RESERVE_BYTES = 64 << 20
"""Files from this size on get their room on the disk before anything is asked for."""
_LARGE = 1 << 31
"""Smaller files every file system in use can hold."""


def refuse_twins(folder: int, manifest: Manifest) -> None:
    """Where the file system would put two files into one; the journal is there to try it with. Raises: LocalIOError."""
    twins = manifest.twins
    if twins is not None and disk.folds_case(journal_name(manifest.entries[0].path), folder):
        raise LocalIOError(
            f"{escape(twins[0])} and {escape(twins[1])} would be the same file in the folder to receive into",
            hint="Receive into a folder whose file system tells upper from lower case.",
        )


def fail_what_cannot_be(folder: int, journal: JournalFile, manifest: Manifest, plan: Plan) -> None:
    """In the plan: files too large for the file system, and names it does not take, as on FAT. Raises: OSError."""
    for index, entry in enumerate(manifest.entries if manifest.largest >= _LARGE else ()):
        if entry.size >= _LARGE and plan.staged(index) and not journal.holds(entry.size):
            plan.fail(index, "unsupported", "the receiver's file system takes no file so large")
    if manifest.for_windows or disk.takes_any_name(folder):
        return
    bad: set[str] = set()
    for index, entry in enumerate(manifest.entries):
        parent, _, name = entry.path.rpartition("/")
        try:
            check(name, windows=True)
            fine = parent not in bad
        except UnacceptableName:
            fine = False
        if not fine:
            bad.add(entry.path)
            if plan.staged(index):
                plan.fail(index, "unsupported", "the receiver's file system does not take this name")


def reserve(staging: Staging, manifest: Manifest, plan: Plan, durable: RangeSet) -> None:
    """Room for what is large and has no holes. Raises: DiskFullError, LocalIOError."""
    for index, entry in enumerate(manifest.entries if manifest.largest >= RESERVE_BYTES else ()):
        if entry.size < RESERVE_BYTES or entry.holes or not plan.staged(index):
            continue
        if durable.covers(*manifest.span(index)):
            continue
        descriptor = staging.open_file(index)
        try:
            disk.reserve(descriptor, entry.size)
        except OSError as error:
            raise DiskFullError(f"there is no room left for {escape(entry.path)}") from error
        finally:
            os.close(descriptor)
