"""What a sync has made durable, as the journal and the ranges are told of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

from midair.transfer.journal import HollowRun
from midair.transfer.manifest import Manifest
from midair.transfer.ranges import Range
from midair.transfer.wire import Digest

__all__ = ["apart", "files_of", "spans", "without"]


def files_of(run: Digest) -> range:
    """The entries it is about."""
    return range(run.file, run.file + run.files)


def without(manifest: Manifest, run: Digest, dropped: Set[int]) -> Iterator[Digest]:
    """What is left of it without the files that were ``dropped``."""
    if dropped.isdisjoint(files_of(run)):
        yield run
    else:
        yield from (each for each in apart(manifest, run) if each.file not in dropped)


def apart(manifest: Manifest, run: Digest) -> Iterator[Digest]:
    """One for each of its files."""
    if run.files == 1:
        yield run
        return
    for place, index in enumerate(files_of(run)):
        digest = None if run.blake3 is None else run.blake3[32 * place : 32 * place + 32]
        yield Digest(index, 0, manifest.entries[index].size, digest)


def spans(manifest: Manifest, parts: Iterable[Digest | HollowRun]) -> Iterator[Range]:
    """Virtual ranges; files one after the other as one."""
    start = end = 0
    for part in parts:
        base = manifest.start(part.file)
        if base + part.start != end:
            yield start, end
            start = base + part.start
        end = base + part.end
    yield start, end
