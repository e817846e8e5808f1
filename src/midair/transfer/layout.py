"""What stands where in the receiver's folder until a transfer is complete.

NAME.part                 each file or folder on the top level, the latter with its whole tree in it
FIRST.part.journal        one for the transfer, FIRST being its first name
NAME                      only ever complete, verified and durable
"""

from __future__ import annotations

from collections.abc import Sequence

from blake3 import blake3

from midair.transfer.names import MAX_COMPONENT_BYTES, UnacceptableName, escape, fold

__all__ = ["check_layout", "journal_name", "part_name"]

_PART = ".part"
_JOURNAL = ".part.journal"


def part_name(name: str) -> str:
    """Where the top-level ``name`` grows."""
    return _stem(name) + _PART


def journal_name(first: str) -> str:
    """The journal of the transfer whose first top-level name is ``first``."""
    return _stem(first) + _JOURNAL


def check_layout(top_level: Sequence[str]) -> None:
    """Raises: UnacceptableName when a part or the journal would have the name of something else."""
    taken: set[str] = set()
    for name in (*top_level, *map(part_name, top_level), journal_name(top_level[0])):
        folded = fold(name)
        if folded in taken:
            raise UnacceptableName(f"{escape(name)} would clash with the name of unfinished data")
        taken.add(folded)


def _stem(name: str) -> str:
    """``name``, or what stands for it where the longest suffix would make it too long for a file system."""
    encoded = name.encode()
    if len(encoded) + len(_JOURNAL) <= MAX_COMPONENT_BYTES:
        return name
    return f"{encoded[:200].decode(errors='ignore')}~{blake3(encoded).hexdigest(8)}"
