"""The receiver's files against the sender's, by their hashes, where nothing cheaper tells whether they are the same.

Both sides hash at the same time: the sender is asked for many files at once, and answers in their order.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from midair import events
from midair.errors import RemoteProtocolError
from midair.transfer import disk, wire
from midair.transfer.existing import fingerprint, hash_existing
from midair.transfer.journal import AlikeFile
from midair.transfer.manifest import Manifest
from midair.transfer.outcome import Results
from midair.transfer.plan import Fate, Plan
from midair.transfer.receiving import Line

__all__ = ["Comparison"]

_LOOK_SECONDS = 0.2
"""How often somebody who waits for an answer looks whether it still matters."""
_PATIENCE, _SLOWEST_DISK = 600.0, 5_000_000
"""Seconds, and beyond them bytes a second, that a sender may take to hash a file."""


class Comparison:
    """``run`` is for the worker, ``take`` and ``take_failed`` for the thread that takes in records."""

    def __init__(self, line: Line, manifest: Manifest, plan: Plan, results: Results) -> None:
        self._line = line
        self._manifest = manifest
        self._plan = plan
        self._results = results
        self._changed = threading.Condition()
        self._awaited: set[int] = set()
        self._answers: dict[int, bytes | None] = {}
        self.bytes_hashed = 0

    def run(self, folder: int, unsure: Sequence[int]) -> tuple[list[AlikeFile], list[int]]:
        """Compare these files; the plan and the results are told which are identical.

        Returns how those are now, for the journal, and which differ; incomplete when the transfer has ended meanwhile.

        Raises: ConnectionLostError.
        """
        alike: list[AlikeFile] = []
        differing: list[int] = []
        if unsure:
            size = sum(self._manifest.entries[index].size for index in unsure)
            files = f"{len(unsure)} file{'' if len(unsure) == 1 else 's'}"
            self._line.emit(events.Status(text=f"Comparing {files}, {size} bytes, with what is there already..."))
        folders = disk.Folders(folder)
        try:
            for start in range(0, len(unsure), wire.MAX_COMPARED):
                batch = list(unsure[start : start + wire.MAX_COMPARED])
                with self._changed:
                    self._awaited.update(batch)
                self._line.link.send(wire.Compare(files=batch))
                for index in batch:
                    if not self._line.alive():
                        break
                    self._compare(folders, index, alike, differing)
        finally:
            folders.close()
        return alike, differing

    def _compare(self, folders: disk.Folders, index: int, alike: list[AlikeFile], differing: list[int]) -> None:
        entry = self._manifest.entries[index]
        ours = hash_existing(folders, entry, self._line.alive)
        self.bytes_hashed += entry.size
        theirs = self._wait_for(index)
        if ours is not None and ours[0] == theirs:
            self._plan.decide(index, Fate.IDENTICAL)
            self._results.put_hash(index, ours[0])
            alike.append(fingerprint(index, ours[1]))
        elif self._plan.fate(index) is Fate.NEW:
            differing.append(index)

    def _wait_for(self, index: int) -> bytes | None:
        """The sender's hash; None when there is none, or the transfer has ended."""
        self._line.link.expect(_PATIENCE + self._manifest.entries[index].size / _SLOWEST_DISK)
        try:
            with self._changed:
                while index not in self._answers and self._line.alive():
                    self._changed.wait(_LOOK_SECONDS)
                return self._answers.pop(index, None)
        finally:
            self._line.link.expect(None)

    def take(self, hashes: Sequence[wire.FileHash]) -> None:
        """The sender's answers. Raises: RemoteProtocolError."""
        self._line.link.moved()
        for answer in hashes:
            if not self._answer(answer.file, answer.blake3):
                raise RemoteProtocolError("the sender compared what it was not asked to")

    def take_failed(self, message: wire.FileFailed) -> bool:
        """The sender gives up a file; whether it was one to compare."""
        with self._changed:
            if message.file not in self._awaited:
                return False
            self._plan.fail(message.file, message.reason, message.text)
        return self._answer(message.file, None)

    def _answer(self, file: int, blake3: bytes | None) -> bool:
        """False when it is not awaited."""
        with self._changed:
            if file not in self._awaited:
                return False
            self._awaited.remove(file)
            self._answers[file] = blake3
            self._changed.notify_all()
            return True
