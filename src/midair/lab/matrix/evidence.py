"""What is kept of a try that came out otherwise than computed: all packets, the tables of all boxes, and what each side
saw. One folder for each try.

    wire.pcapng     what passed all nodes of the pair, for Wireshark and tcpdump
    syns.txt        the SYNs among it, in words
    a.1.table       the connections in each box when it was over
    a.json, b.json  the contender's own story of each side
    cell.txt        which cell it was, how to repeat it, and what was expected
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from midair.lab.capture import CaptureWriter, read_capture, syn_story

if TYPE_CHECKING:
    from pathlib import Path

    from midair.lab.ceiling import Ceiling
    from midair.lab.lab import Lab
    from midair.lab.matrix.attempt import Attempt
    from midair.lab.matrix.cells import Cell

__all__ = ["folder_name", "keep_evidence", "keep_what_the_wire_saw"]

_NOT_IN_NAMES = re.compile(r"[^a-z0-9.,=&+-]+")
_LONGEST_NAME = 100


def folder_name(cell: Cell) -> str:
    """Something a shell needs no quotes for."""
    name = _NOT_IN_NAMES.sub("_", f"{cell.topology}@{1000 * cell.skew:g}ms").strip("_")
    return name[:_LONGEST_NAME]


def keep_evidence(folder: Path, cell: Cell, attempt: Attempt, ceiling: Ceiling, *, contender: str, seed: int) -> None:
    """The part of it that there is in the simulated net too. Raises: OSError when it cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, story in zip(("a", "b"), attempt.stories, strict=True):
        (folder / f"{name}.json").write_text(json.dumps(story, indent=1, default=str) + "\n", "utf-8")
    expected = f"{ceiling.probability:.0%} by {ceiling.technique}" if ceiling.technique else "nothing"
    lines = [
        f"cell      {cell}",
        f"contender {contender}",
        f"expected  {expected}: {ceiling.reasoning}",
        f"seen      {attempt.outcome}{f': {attempt.reason}' if attempt.reason else ''}",
        f"again     midair lab matrix --cells '{cell.topology}' --skew {1000 * cell.skew:g} --seed {seed}",
    ]
    (folder / "cell.txt").write_text("\n".join(lines) + "\n", "utf-8")


def keep_what_the_wire_saw(folder: Path, lab: Lab, pair: int, wire: Path) -> None:
    """``lab`` is still up, ``pair`` is the cell's number in it, ``wire`` what was captured of the whole lab.

    Raises: OSError when it cannot be written.
    """
    boxes = dict.fromkeys(box for host in (lab.pairs[pair].a, lab.pairs[pair].b) for box in lab.boxes(host.name))
    for box in boxes:
        try:
            table = lab.table(box)
        except OSError as error:
            table = [f"the table cannot be read: {error}"]
        (folder / f"{box}.table").write_text("".join(f"{line}\n" for line in table), "utf-8")
    nodes = {lab.pairs[pair].a.name, lab.pairs[pair].b.name, *boxes}
    with open(wire, "rb") as everything, open(folder / "wire.pcapng", "wb") as file:
        writer = CaptureWriter(file)
        for record in read_capture(everything):
            if record.node in nodes:
                writer.write(record.time, record.node, record.port, record.direction, record.packet)
    (folder / "syns.txt").write_text("\n".join(syn_story(folder / "wire.pcapng")) + "\n", "utf-8")
