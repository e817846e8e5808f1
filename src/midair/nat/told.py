"""What a side knows of the NATs before it, as it is told: to the peer, and to a later run of its own. Pure.

The words are those of the report. A word that is not known here, from a later release or from somebody who makes them
up, counts as not measured, and so does what is not told at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, TypeVar

import msgspec

from midair.nat.check.report import (
    Allocation,
    Filtering,
    Mapping,
    NatReport,
    Opening,
    Pooling,
    Reaction,
    YesNo,
)

__all__ = ["MAX_TOLD", "Known", "ToldReport", "tell", "understand"]

MAX_TOLD = 4
"""Reports that one side tells at most; there are two IP versions, and room for one that is told twice."""

_Word = Annotated[str, msgspec.Meta(max_length=64)]
_Enum = TypeVar("_Enum", bound=StrEnum)


class ToldReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One IP version's. Fields of a later release are passed over."""

    family: Annotated[int, msgspec.Meta(ge=0, le=255)]
    age: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0
    """Seconds since it was measured."""
    mapping: _Word = ""
    allocation: _Word = ""
    filtering: _Word = ""
    reaction: _Word = ""
    simultaneous_open: _Word = ""
    hairpin: _Word = ""
    pooling: _Word = ""
    only_web: _Word = ""
    opening: _Word = ""
    nats: Annotated[int, msgspec.Meta(ge=0, le=255)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The same, understood."""

    report: NatReport
    opening: Opening = Opening.NOT_MEASURED
    age: float = 0.0
    """Seconds since it was measured."""

    @property
    def lets_strangers_in(self) -> bool:
        """Whether somebody who has not been dialled can dial it."""
        report = self.report
        return report.filtering is Filtering.ENDPOINT_INDEPENDENT or report.reaction is Reaction.PASS


def tell(known: Known) -> ToldReport:
    """What was not measured is left out."""
    report = known.report
    words: dict[str, str] = {
        name: value.value
        for name, value in (
            ("mapping", report.mapping),
            ("allocation", report.allocation),
            ("filtering", report.filtering),
            ("reaction", report.reaction),
            ("simultaneous_open", report.simultaneous_open),
            ("hairpin", report.hairpin),
            ("pooling", report.pooling),
            ("only_web", report.only_web),
            ("opening", known.opening),
        )
        if value.value != YesNo.NOT_MEASURED.value
    }
    return ToldReport(family=report.family, age=max(0.0, known.age), nats=report.nats, **words)


def understand(told: ToldReport) -> Known:
    """The opposite of ``tell``, whatever the words are."""
    return Known(
        report=NatReport(
            family=told.family,
            mapping=_meant(Mapping, told.mapping),
            allocation=_meant(Allocation, told.allocation),
            filtering=_meant(Filtering, told.filtering),
            reaction=_meant(Reaction, told.reaction),
            simultaneous_open=_meant(YesNo, told.simultaneous_open),
            hairpin=_meant(YesNo, told.hairpin),
            pooling=_meant(Pooling, told.pooling),
            only_web=_meant(YesNo, told.only_web),
            nats=told.nats,
        ),
        opening=_meant(Opening, told.opening),
        age=told.age,
    )


def _meant(kind: type[_Enum], word: str) -> _Enum:
    try:
        return kind(word)
    except ValueError:
        return kind(YesNo.NOT_MEASURED.value)
