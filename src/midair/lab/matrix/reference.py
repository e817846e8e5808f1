"""The reference page of supported NATs, made from ceilings and from results. Pure text.

For each box of the catalogue it says what the best technique is beside some partners, and what a contender did in the
cells in which the box is.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

from midair.lab.catalogue import DESCRIPTIONS, KERNEL_PREFIX, NO_BOX, parse_topology
from midair.lab.ceiling import DIRECT, Conditions, Technique, ceiling
from midair.lab.ceiling.coverage import Budget

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from midair.lab.ceiling import Ceiling
    from midair.lab.matrix.result import CellResult, Summary

__all__ = ["reference_page"]

_PARTNERS: Final = {"itself": "another like it", "drop": "`drop`", "rst": "`rst`", "symmetric": "`symmetric`"}
"""With whom each box is paired, and how that column is called."""
_CONDITIONS: Final = Conditions(skews=(-0.5, -0.1, 0.0, 0.1, 0.5), budget=Budget(sockets=512, syns=1023))
"""With nobody's phase preferred."""
_BUDGET: Final = _CONDITIONS.budget
_WORTH_TRYING: Final = 0.01
"""A probability below which the relay is what a pair gets."""
_COUNTS: Final = ("tries", "successes", "relayed")
_NAME: Final = re.compile(r"[a-z0-9:-]+")


def reference_page(results: Sequence[CellResult], summary: Summary) -> str:
    """Markdown."""
    return "\n".join(_lines(results, summary)) + "\n"


def _lines(results: Sequence[CellResult], summary: Summary) -> Iterator[str]:
    used: set[Technique] = set()
    rows = [_row(name, results, used) for name in DESCRIPTIONS]
    yield from _INTRODUCTION.splitlines()
    how = "in the simulated net" if summary.mode == "simulated" else "on the wire"
    yield f"The last column counts direct connections in tries of {summary.contender} {how}, in those of"
    yield f"{summary.cells} cells in which the box is. {_judgement(summary)}"
    yield ""
    header = ["box", "what it does", *_PARTNERS.values(), summary.contender]
    yield _cells(header)
    yield "|" + "---|" * len(header)
    yield from rows
    yield ""
    yield "## Techniques"
    yield ""
    for technique in Technique:
        if technique in used:
            yield f"* **{technique}**: {technique.description}"
    yield ""
    yield "## What no technique gets through directly"
    yield ""
    yield from _hopeless()


def _row(name: str, results: Sequence[CellResult], used: set[Technique]) -> str:
    columns = []
    for partner in _PARTNERS:
        best = _best(f"{name} x {name if partner == 'itself' else partner}")
        if best.technique is None:
            columns.append("nothing")
            continue
        used.add(best.technique)
        percent = "" if best.probability == 1 else f", {100 * best.probability:.0f} %"
        columns.append(f"{best.technique}{percent}")
    mine = [result for result in results if name in _names(result.topology)]
    tries, successes, relayed = (sum(getattr(result, what) for result in mine) for what in _COUNTS)
    measured = f"{successes} of {tries}" + (f", {relayed} relayed" if relayed else "") if tries else ""
    return _cells([f"`{name}`", DESCRIPTIONS[name], *columns, measured])


@cache
def _best(topology: str) -> Ceiling:
    """Without a relay, unless only that is left."""
    direct = ceiling(parse_topology(topology), DIRECT, _CONDITIONS)
    if direct.probability >= _WORTH_TRYING:
        return direct
    return ceiling(parse_topology(topology), frozenset({Technique.RELAY}), _CONDITIONS)


def _names(topology: str) -> set[str]:
    """Of the boxes in a topology, knobs left off; in IPv6 cells too."""
    sides = topology.partition(" with ")[0].replace(" x ", " ")
    return {match[0] for word in re.split(r"[()&+> ]+", sides) if (match := _NAME.match(word.partition(",")[0]))}


def _judgement(summary: Summary) -> str:
    if summary.is_fine:
        return "Every cell came out as computed."
    return f"{summary.below} cells are below their ceiling, {summary.above} above."


def _hopeless() -> Iterator[str]:
    """Pairs for which only the relay is left, with the reason."""
    for text in _WITHOUT_HOPE:
        found = ceiling(parse_topology(text), DIRECT, _CONDITIONS)
        percent = "" if found.probability == 0 else f" ({100 * found.probability:.2g} %)"
        yield f"* `{text}`{percent}: {found.reasoning}"


_WITHOUT_HOPE: Final = (
    "symmetric x symmetric",
    "no-simopen x no-simopen",
    "https-only x drop",
    "(drop + drop) > carrier-symmetric",
)


def _cells(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


_INTRODUCTION: Final = f"""\
# Supported NATs

What stands between a host and the internet, in the lab's words (`midair lab kinds`), and how two hosts get a direct TCP
connection through it. This page is made by `midair lab matrix --from benchmarks/results/lab-matrix.jsonl --docs
docs/reference/supported-nats.md`, and that file by `midair lab matrix --contender midair --simulated --skew 0 --tries 5
--seed 1 --output DIR`. `{NO_BOX}` is a public address, `{KERNEL_PREFIX}...` a real Linux router.

The columns in the middle say the best technique for a pair of the box and a partner, whichever side starts first, and
how often it gets through when that is not always. They are computed from what the boxes do (`midair.lab.ceiling`), for
{_BUDGET.sockets} sockets, {_BUDGET.syns} SYNs and {_BUDGET.seconds:g} s a side where ports are covered, and without
port mapping and IPv6, which get through nearly everywhere they are to be had.

"""
