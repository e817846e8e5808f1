"""What NAT checks have found here, kept for the transfers that follow: one small file.

A report counts for the network it was made in: the same address of ours, with the same address outside. It is at most a
week old, and what a transfer finds out itself counts more.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from midair.nat.check.report import NatReport, Opening
from midair.nat.told import Known, ToldReport, tell

__all__ = ["Remembered", "recall", "remember"]

_log = logging.getLogger("midair.nat")

MAX_AGE_SECONDS = 7 * 24 * 3600.0
MAX_NETWORKS = 16
"""Home, work, a phone's hotspot, some hotels; in each one for either IP version."""
MAX_BYTES = 64 * 1024

_Address = Annotated[str, msgspec.Meta(max_length=64)]


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """One report and where it was made."""

    found: float
    """Seconds since 1970."""
    local: _Address
    mapped: _Address
    """Our address there and how it looked from outside, without ports."""
    told: ToldReport


class _File(msgspec.Struct, kw_only=True):
    version: int
    networks: list[Remembered] = []


_VERSION = 1


def remember(path: Path, found: Iterable[tuple[NatReport, Opening]]) -> None:
    """Adds what was found just now; a report of the same network gives way. A file that cannot be written is only
    logged: it saves time, and nothing depends on it."""
    now = time.time()
    new = [
        Remembered(
            found=now,
            local=str(report.local.address),
            mapped=str(report.mapped.address),
            told=tell(Known(report=report, opening=opening)),
        )
        for report, opening in found
        if report.local is not None and report.mapped is not None
    ]
    places = {(each.local, each.mapped) for each in new}
    kept = [each for each in recall(path) if (each.local, each.mapped) not in places]
    content = msgspec.json.encode(_File(version=_VERSION, networks=[*new, *kept][:MAX_NETWORKS]))
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        _log.debug("what the check found is not kept: %s", error)


def recall(path: Path) -> Sequence[Remembered]:
    """All that is not too old, the newest first; nothing from a file that is not there or not understood."""
    now = time.time()
    try:
        with path.open("rb") as file:
            content = msgspec.json.decode(file.read(MAX_BYTES), type=_File)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        _log.debug("nothing is known from earlier checks: %s", error)
        return []
    if content.version != _VERSION:
        return []
    return [each for each in content.networks[:MAX_NETWORKS] if 0 <= now - each.found <= MAX_AGE_SECONDS]
