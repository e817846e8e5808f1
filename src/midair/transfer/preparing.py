"""Before anything is asked for: a journal, the parts on the top level, room for what is large.

In this order, and each durable before the next, so that whenever the power goes there is no part that no journal names,
but for one that is empty; and no journal that vouches for what is not there.
"""

from __future__ import annotations

import contextlib

from midair.errors import MidairError
from midair.transfer.file_system import fail_what_cannot_be, refuse_twins, reserve
from midair.transfer.inspection import Found
from midair.transfer.journal import Record, Stage, dropped_records, parts_records
from midair.transfer.journal_file import JournalFile
from midair.transfer.layout import journal_name
from midair.transfer.manifest import Manifest
from midair.transfer.plan import Plan
from midair.transfer.ranges import RangeSet
from midair.transfer.staging import Staging, remove_parts

__all__ = ["prepare"]


def prepare(
    folder: int,
    manifest: Manifest,
    plan: Plan,
    found: Found,
    staging: Staging,
    durable: RangeSet,
    alike: list[Record],
) -> JournalFile:
    """The journal. ``alike`` is put into it. What this file system cannot bear fails in the plan.

    Raises: MidairError; then nothing of a transfer that was not begun before is left.
    """
    begun = found.journal is None
    journal = found.journal or JournalFile.create(folder, journal_name(manifest.entries[0].path))
    created: list[str] = []
    try:
        refuse_twins(folder, manifest)
        if found.stage is Stage.RECEIVING:
            fail_what_cannot_be(folder, journal, manifest, plan)
        if not found.begun:
            begun = True
            if found.leftovers:
                remove_parts(folder, found.leftovers)
                staging.sync_folder()
            journal.begin(manifest.id)
        if found.stage is Stage.RECEIVING:
            staging.sync_folder()
            if found.distrusted:
                # Else what comes to stand there now would be vouched for before it is durable.
                journal.append(dropped_records(found.distrusted))
            _create_parts(journal, found, staging, created)
            if alike:
                journal.append(alike)
            reserve(staging, manifest, plan, durable)
    except MidairError:
        if begun and not found.begun:
            remove_parts(folder, created)
            with contextlib.suppress(MidairError):
                staging.sync_folder()
            journal.remove()
        raise
    except BaseException:
        journal.close()
        raise
    return journal


def _create_parts(journal: JournalFile, found: Found, staging: Staging, created: list[str]) -> None:
    staging.create(found.present, created)
    unrecorded = [name for name in created if name not in found.parts]
    if unrecorded:
        # Before anything is in them: a part that no journal names is only taken for ours while it is empty.
        journal.append(parts_records(unrecorded))
    staging.sync_folder()
