"""What a NAT check's result means, in words; and how single observations are judged."""

from __future__ import annotations

import itertools

import pytest

from midair.endpoint import Endpoint
from midair.nat.check.advice import help_for, meaning_of
from midair.nat.check.judge import (
    Reflection,
    judge_allocation,
    judge_filtering,
    judge_mapping,
    judge_reaction,
)
from midair.nat.check.report import Allocation, Filtering, Mapping, NatReport, Reaction, YesNo
from midair.nat.check.wire import (
    CONNECT_BACK,
    SECONDS_MAX,
    DialBack,
    Origin,
    Result,
    decode_answer,
    decode_request,
    encode_origin,
    encode_request,
    encode_result,
)
from midair.stun.wire import StunError, decode

LOCAL = Endpoint.parse("10.0.0.2:5000")
ONE, TWO, THREE = (Endpoint.parse(f"198.51.100.1:{port}") for port in (5000, 5001, 5002))
SERVER, OTHER_PORT, OTHER_ADDRESS = (
    Endpoint.parse(text) for text in ("192.0.2.1:7420", "192.0.2.1:7421", "192.0.2.2:7420")
)
CONNECTED, RST, SILENCE, IMPOSSIBLE = (Result(answer=number) for number in (0, 1, 3, 4))


def seen(*pairs: tuple[Endpoint, Endpoint]) -> list[Reflection]:
    return [Reflection(asked, mapped) for asked, mapped in pairs]


@pytest.mark.parametrize(
    ("others", "again", "mapping"),
    [
        (seen((OTHER_PORT, ONE), (OTHER_ADDRESS, ONE)), None, Mapping.ENDPOINT_INDEPENDENT),
        (seen((OTHER_ADDRESS, ONE)), None, Mapping.ENDPOINT_INDEPENDENT),
        (seen((OTHER_PORT, ONE), (OTHER_ADDRESS, TWO)), None, Mapping.ADDRESS_DEPENDENT),
        (
            seen((OTHER_PORT, TWO), (OTHER_ADDRESS, THREE)),
            Reflection(OTHER_ADDRESS, THREE),
            Mapping.ADDRESS_AND_PORT_DEPENDENT,
        ),
        (
            seen((OTHER_PORT, TWO), (OTHER_ADDRESS, THREE)),
            Reflection(OTHER_ADDRESS, TWO),
            Mapping.CONNECTION_DEPENDENT,
        ),
        (seen((OTHER_PORT, ONE)), None, Mapping.NOT_MEASURED),
        (seen((OTHER_ADDRESS, TWO)), None, Mapping.NOT_MEASURED),
        ([], None, Mapping.NOT_MEASURED),
    ],
)
def test_the_mapping_is_told_by_who_sees_what(
    others: list[Reflection], again: Reflection | None, mapping: Mapping
) -> None:
    found, note = judge_mapping(LOCAL, Reflection(SERVER, ONE), others, again)
    assert found is mapping
    assert bool(note) == (mapping is Mapping.NOT_MEASURED)


def test_who_is_seen_as_what_he_is_is_behind_no_translation() -> None:
    assert judge_mapping(LOCAL, Reflection(SERVER, LOCAL), [], None) == (Mapping.NONE, "")


@pytest.mark.parametrize(
    ("same_address", "other_address", "filtering"),
    [
        (CONNECTED, CONNECTED, Filtering.ENDPOINT_INDEPENDENT),
        (CONNECTED, SILENCE, Filtering.ADDRESS_DEPENDENT),
        (CONNECTED, RST, Filtering.ADDRESS_DEPENDENT),
        (SILENCE, SILENCE, Filtering.ADDRESS_AND_PORT_DEPENDENT),
        (RST, IMPOSSIBLE, Filtering.ADDRESS_AND_PORT_DEPENDENT),
        (CONNECTED, IMPOSSIBLE, Filtering.NOT_MEASURED),
        (CONNECTED, None, Filtering.NOT_MEASURED),
        (IMPOSSIBLE, IMPOSSIBLE, Filtering.NOT_MEASURED),
        (None, None, Filtering.NOT_MEASURED),
    ],
)
def test_the_filtering_is_told_by_who_gets_in(
    same_address: Result | None, other_address: Result | None, filtering: Filtering
) -> None:
    found, note = judge_filtering(same_address, other_address)
    assert found is filtering
    assert bool(note) == (filtering is Filtering.NOT_MEASURED)


@pytest.mark.parametrize(
    ("result", "reaction"),
    [
        (CONNECTED, Reaction.PASS),
        (RST, Reaction.RST),
        (SILENCE, Reaction.DROP),
        (IMPOSSIBLE, Reaction.NOT_MEASURED),
        (None, Reaction.NOT_MEASURED),
        (Result(answer=2, icmp=(3, 1)), Reaction.ICMP_HOST),
        (Result(answer=2, icmp=(3, 3)), Reaction.ICMP_PORT),
        (Result(answer=2, icmp=(3, 13)), Reaction.ICMP_ADMIN),
        (Result(answer=2, icmp=(1, 4)), Reaction.ICMP_PORT),
        (Result(answer=2, icmp=(3, 9)), Reaction.ICMP_OTHER),
        (Result(answer=2, icmp=(3, 3), milliseconds=6060), Reaction.ICMP_LATE),
    ],
)
def test_the_reaction_is_told_by_what_comes_back(result: Result | None, reaction: Reaction) -> None:
    assert judge_reaction(result) is reaction


def test_the_allocation_is_told_by_the_forecast() -> None:
    assert judge_allocation(0, None) is Allocation.PRESERVING
    assert judge_allocation(-2, (5000, 5100)) is Allocation.SEQUENTIAL
    assert judge_allocation(0, (20000, 20300)) is Allocation.BAND
    assert judge_allocation(0, (1024, 65535)) is Allocation.RANDOM


@pytest.mark.parametrize(
    "wanted",
    [
        DialBack(),
        DialBack(port=1024, other_address=True),
        DialBack(port=65535, crossing=True, seconds=SECONDS_MAX),
    ],
)
def test_a_request_to_dial_back_is_understood_as_it_was_meant(wanted: DialBack) -> None:
    message = decode(encode_request(wanted, bytes(12)))
    assert message.method == CONNECT_BACK
    assert decode_request(message) == wanted


@pytest.mark.parametrize("answer", [Origin(TWO), Result(answer=2, icmp=(3, 13), milliseconds=6001)])
def test_an_answer_is_understood_as_it_was_meant(answer: Origin | Result) -> None:
    encoded = encode_origin(answer, bytes(12)) if isinstance(answer, Origin) else encode_result(answer, bytes(12))
    assert decode_answer(decode(encoded)) == answer


@pytest.mark.parametrize(
    "wanted", [DialBack(port=22), DialBack(port=1023), DialBack(seconds=0), DialBack(seconds=SECONDS_MAX + 1)]
)
def test_a_server_dials_no_well_known_port_and_not_for_ever(wanted: DialBack) -> None:
    with pytest.raises(StunError):
        decode_request(decode(encode_request(wanted, bytes(12))))


def all_reports() -> list[NatReport]:
    combinations = itertools.product(Mapping, Allocation, Filtering, Reaction, YesNo)
    return [
        NatReport(family=4, mapping=m, allocation=a, filtering=f, reaction=r, simultaneous_open=s, step=1, band=(5, 9))
        for m, a, f, r, s in combinations
    ]


def test_whatever_is_found_means_something_in_two_sentences() -> None:
    for report in all_reports():
        for sentence in meaning_of(report):
            assert sentence.endswith(".")
            assert sentence.count(". ") == 0


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (NatReport(family=4, mapping=Mapping.NONE, reaction=Reaction.PASS), "open to the internet"),
        (NatReport(family=6, mapping=Mapping.NONE, reaction=Reaction.DROP), "public address, behind a firewall"),
        (
            NatReport(family=4, mapping=Mapping.CONNECTION_DEPENDENT, allocation=Allocation.RANDOM),
            "between two like this one the relay is used",
        ),
        (
            NatReport(family=4, mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=Allocation.SEQUENTIAL),
            "the next port is met",
        ),
        (NatReport(family=4, mapping=Mapping.ENDPOINT_INDEPENDENT), "the same port to everybody"),
        (
            NatReport(family=4, mapping=Mapping.ENDPOINT_INDEPENDENT, simultaneous_open=YesNo.NO),
            "all networks but those that do the same",
        ),
    ],
)
def test_the_meaning_names_what_matters(report: NatReport, words: str) -> None:
    assert words in " ".join(meaning_of(report))


def test_help_is_given_where_something_would_help() -> None:
    home = NatReport(family=4, mapping=Mapping.ENDPOINT_INDEPENDENT)
    assert "UPnP" in help_for(home, port_mapping=[], double_nat=None)
    assert help_for(home, port_mapping=["upnp"], double_nat=False) == ""
    assert "behind another NAT" in help_for(home, port_mapping=["upnp"], double_nat=True)
    assert "firewall" in help_for(NatReport(family=4, mapping=Mapping.NONE), port_mapping=[], double_nat=None)
    is_open = NatReport(family=4, mapping=Mapping.NONE, reaction=Reaction.PASS)
    assert help_for(is_open, port_mapping=[], double_nat=None) == ""
