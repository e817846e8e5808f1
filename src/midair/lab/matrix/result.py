"""The results: one line of JSON for each cell, and one for all of them. Pure values and their text."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from midair.lab.matrix.attempt import Attempt, Outcome
from midair.lab.matrix.verdict import Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from midair.lab.ceiling import Ceiling
    from midair.lab.matrix.cells import Cell

__all__ = ["CellResult", "Summary", "cell_result", "read_results", "result_line", "summarise", "summary_line"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """One cell."""

    topology: str
    skew: float
    """Seconds."""
    contender: str
    mode: str
    """``wire`` or ``simulated``."""
    tries: int
    successes: int
    """Direct connections."""
    relayed: int
    verdict: str
    ceiling: float
    """The probability of a direct connection."""
    with_luck: float
    """The same if the SYNs happen to cross."""
    technique: str
    """By which it is; empty when none does."""
    reasoning: str
    p50: float | None
    """Seconds until a direct connection; of the slower of two in the middle."""
    p95: float | None
    syns: float
    """The mean."""
    how: dict[str, int]
    """``connect/accept`` of a and b: how often."""
    reasons: dict[str, int]
    """Why tries failed: how often."""
    seed: int
    evidence: str = ""
    """The folder with what was kept of a surprising try."""

    @property
    def name(self) -> str:
        """As the command line takes it, with the skew."""
        return f"{self.topology} @ {1000 * self.skew:g} ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All cells."""

    contender: str
    mode: str
    cells: int
    meets: int
    below: int
    above: int
    unreachable: int
    tries: int
    successes: int
    relayed: int
    ceiling: float
    """Of all tries' successes, the share that is possible."""
    p50: float | None
    """Of the cells' own."""
    p95: float | None
    seconds: float
    """The run took."""
    seed: int

    @property
    def is_fine(self) -> bool:
        """Whether every cell is within tolerance."""
        return self.below == self.above == 0


def cell_result(
    cell: Cell, attempts: Sequence[Attempt], ceiling: Ceiling, *, contender: str, mode: str, seed: int, evidence: str
) -> CellResult:
    """Counts a cell's tries."""
    direct = [attempt for attempt in attempts if attempt.outcome is Outcome.DIRECT]
    times = sorted(attempt.seconds for attempt in direct if attempt.seconds is not None)
    return CellResult(
        topology=str(cell.topology),
        skew=cell.skew,
        contender=contender,
        mode=mode,
        tries=len(attempts),
        successes=len(direct),
        relayed=sum(attempt.outcome is Outcome.RELAYED for attempt in attempts),
        verdict=judge(len(direct), len(attempts), ceiling.probability, ceiling.with_luck),
        ceiling=round(ceiling.probability, 6),
        with_luck=round(ceiling.with_luck, 6),
        technique=ceiling.technique or "",
        reasoning=ceiling.reasoning,
        p50=_percentile(times, 50),
        p95=_percentile(times, 95),
        syns=round(sum(attempt.syns for attempt in attempts) / len(attempts), 1),
        how=dict(Counter("/".join(attempt.how) for attempt in direct if attempt.how).most_common()),
        reasons=dict(Counter(attempt.reason for attempt in attempts if attempt.reason).most_common()),
        seed=seed,
        evidence=evidence,
    )


def summarise(results: Sequence[CellResult], *, seconds: float) -> Summary:
    """Raises: ValueError when there are none."""
    if not results:
        raise ValueError("there are no results")
    verdicts = Counter(result.verdict for result in results)
    times = sorted(result.p50 for result in results if result.p50 is not None)
    tries = sum(result.tries for result in results)
    return Summary(
        contender=results[0].contender,
        mode=results[0].mode,
        cells=len(results),
        meets=verdicts[Verdict.MEETS],
        below=verdicts[Verdict.BELOW],
        above=verdicts[Verdict.ABOVE],
        unreachable=verdicts[Verdict.UNREACHABLE],
        tries=tries,
        successes=sum(result.successes for result in results),
        relayed=sum(result.relayed for result in results),
        ceiling=round(sum(result.ceiling * result.tries for result in results) / tries, 4),
        p50=_percentile(times, 50),
        p95=_percentile(times, 95),
        seconds=round(seconds, 1),
        seed=results[0].seed,
    )


def result_line(result: CellResult) -> str:
    """JSON."""
    return json.dumps({"type": "cell", **asdict(result)}, ensure_ascii=False)


def summary_line(summary: Summary) -> str:
    """JSON."""
    return json.dumps({"type": "summary", **asdict(summary)}, ensure_ascii=False)


def read_results(lines: Iterable[str]) -> tuple[list[CellResult], Summary]:
    """Both, of a file of results.

    Raises: ValueError when it is not such a file, or not a whole one.
    """
    results, summaries = [], []
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            kind = values.pop("type")
            if kind == "cell":
                results.append(CellResult(**{field.name: values[field.name] for field in fields(CellResult)}))
            else:
                summaries.append(Summary(**{field.name: values[field.name] for field in fields(Summary)}))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"line {number} is not a result of the matrix: {error!r}") from error
    if not results or len(summaries) != 1:
        raise ValueError("a file of results has cells and ends with a summary")
    return results, summaries[0]


def _percentile(times: Sequence[float], percent: int) -> float | None:
    """The time that so many are not above, in milliseconds' precision; None of nothing."""
    if not times:
        return None
    return round(times[min(len(times) - 1, len(times) * percent // 100)], 3)
