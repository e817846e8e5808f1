"""A report as it is told: to the peer, and to a later run."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midair.nat.check.report import Allocation, Filtering, Mapping, NatReport, Opening, Pooling, Reaction, YesNo
from midair.nat.told import Known, ToldReport, tell, understand

known = st.builds(
    Known,
    report=st.builds(
        NatReport,
        family=st.sampled_from((4, 6)),
        mapping=st.sampled_from(Mapping),
        allocation=st.sampled_from(Allocation),
        filtering=st.sampled_from(Filtering),
        reaction=st.sampled_from(Reaction),
        simultaneous_open=st.sampled_from(YesNo),
        hairpin=st.sampled_from(YesNo),
        pooling=st.sampled_from(Pooling),
        only_web=st.sampled_from(YesNo),
        nats=st.none() | st.integers(0, 2),
    ),
    opening=st.sampled_from(Opening),
    age=st.floats(0, 1e6),
)


def decoded(**fields: Any) -> ToldReport:
    return msgspec.json.decode(json.dumps(fields), type=ToldReport)


@given(known)
def test_what_is_told_is_understood_and_short(all_of_it: Known) -> None:
    told = msgspec.json.encode(tell(all_of_it))
    assert len(told) < 600
    assert understand(msgspec.json.decode(told, type=ToldReport)) == all_of_it


def test_what_was_not_measured_is_not_told() -> None:
    assert msgspec.json.encode(tell(Known(report=NatReport(family=4)))) == b'{"family":4}'


@given(st.text(max_size=64), st.sampled_from(("mapping", "filtering", "reaction", "only_web", "opening")))
def test_a_word_that_is_not_known_counts_as_not_measured(word: str, name: str) -> None:
    words = {each.value for kind in (Mapping, Filtering, Reaction, YesNo, Opening) for each in kind}
    if word not in words:
        assert understand(decoded(**{"family": 4, name: word})) == Known(report=NatReport(family=4))


def test_fields_of_a_later_release_are_passed_over() -> None:
    assert decoded(family=4, colour="blue") == decoded(family=4)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"family": "4"},
        {"family": 256},
        {"family": 4, "age": -1},
        {"family": 4, "age": 1e10},
        {"family": 4, "mapping": "x" * 65},
        {"family": 4, "reaction": 1},
        {"family": 4, "nats": -1},
    ],
    ids=str,
)
def test_what_has_no_bounds_or_no_type_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        decoded(**wrong)


def test_strangers_get_in_where_the_filter_or_the_firewall_lets_anybody() -> None:
    for report in (
        NatReport(family=4, filtering=Filtering.ENDPOINT_INDEPENDENT),
        NatReport(family=4, reaction=Reaction.PASS),
    ):
        assert Known(report=report).lets_strangers_in
    assert not Known(report=NatReport(family=4, filtering=Filtering.ADDRESS_DEPENDENT)).lets_strangers_in
