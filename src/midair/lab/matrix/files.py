"""The results as files in a folder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from midair.lab.matrix.page import page
from midair.lab.matrix.result import result_line, summary_line
from midair.lab.matrix.svg import svg

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from midair.lab.matrix.result import CellResult, Summary

__all__ = ["EVIDENCE", "RESULTS", "write_files"]

RESULTS: Final = "results.jsonl"
EVIDENCE: Final = "evidence"
"""The folder below it for tries that came out otherwise than computed."""


def write_files(folder: Path, results: Sequence[CellResult], summary: Summary) -> None:
    """``results.jsonl``, ``matrix.svg`` and ``matrix.html``; what is there of these is replaced. Evidence below the
    folder is named from there, so that all of it can be moved.

    Raises: OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results = [replace(result, evidence=result.evidence.removeprefix(f"{folder}/")) for result in results]
    lines = [*map(result_line, results), summary_line(summary)]
    (folder / RESULTS).write_text("".join(f"{line}\n" for line in lines), "utf-8")
    (folder / "matrix.svg").write_text(svg(results, summary), "utf-8")
    (folder / "matrix.html").write_text(page(results, summary), "utf-8")
