"""What a NAT check's result means, in words; and how single observations are judged."""

from __future__ import annotations

import itertools
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from random import Random

import pytest

from midair.endpoint import Endpoint
from midair.nat.check.advice import help_for, meaning_of
from midair.nat.check.judge import (
    Reflection,
    judge_allocation,
    judge_filtering,
    judge_mapping,
    judge_nats,
    judge_nats_by_router,
    judge_pooling,
    judge_reaction,
)
from midair.nat.check.report import Allocation, Filtering, Mapping, NatReport, Opening, Pooling, Reaction, YesNo
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
ANOTHER = Endpoint.parse("198.51.100.2:5000")
CONNECTED, RST, SILENCE, IMPOSSIBLE = (Result(answer=number) for number in (0, 1, 3, 4))


def seen(*pairs: tuple[Endpoint, Endpoint]) -> list[Reflection]:
    return [Reflection(asked, mapped) for asked, mapped in pairs]


@pytest.mark.parametrize(
    ("others", "again", "mapping"),
    [
        (seen((OTHER_PORT, ONE), (OTHER_ADDRESS, ONE)), [], Mapping.ENDPOINT_INDEPENDENT),
        (seen((OTHER_ADDRESS, ONE)), [], Mapping.ENDPOINT_INDEPENDENT),
        (seen((OTHER_PORT, ONE), (OTHER_ADDRESS, TWO)), [], Mapping.ADDRESS_DEPENDENT),
        (
            seen((OTHER_PORT, TWO), (OTHER_ADDRESS, THREE)),
            seen((OTHER_ADDRESS, THREE)),
            Mapping.ADDRESS_AND_PORT_DEPENDENT,
        ),
        (
            seen((OTHER_PORT, TWO), (OTHER_ADDRESS, THREE)),
            seen((OTHER_ADDRESS, ONE), (OTHER_ADDRESS, ONE)),
            Mapping.ADDRESS_AND_PORT_DEPENDENT,
        ),
        (
            seen((OTHER_PORT, TWO), (OTHER_ADDRESS, THREE)),
            seen((OTHER_ADDRESS, TWO), (OTHER_ADDRESS, ONE), (OTHER_ADDRESS, TWO)),
            Mapping.CONNECTION_DEPENDENT,
        ),
        (seen((OTHER_PORT, ONE)), [], Mapping.NOT_MEASURED),
        (seen((OTHER_ADDRESS, TWO)), [], Mapping.NOT_MEASURED),
        ([], [], Mapping.NOT_MEASURED),
    ],
)
def test_the_mapping_is_told_by_who_sees_what(
    others: list[Reflection], again: list[Reflection], mapping: Mapping
) -> None:
    found, note = judge_mapping(LOCAL, Reflection(SERVER, ONE), others, again)
    assert found is mapping
    assert bool(note) == (mapping is Mapping.NOT_MEASURED)


def test_whether_each_connection_gets_a_port_of_its_own_may_stay_unknown() -> None:
    found, note = judge_mapping(LOCAL, Reflection(SERVER, ONE), seen((OTHER_PORT, TWO)), [])
    assert found is Mapping.ADDRESS_AND_PORT_DEPENDENT
    assert "not measured" in note


def test_who_is_seen_as_what_he_is_is_behind_no_translation() -> None:
    assert judge_mapping(LOCAL, Reflection(SERVER, LOCAL), [], []) == (Mapping.NONE, "")


@pytest.mark.parametrize(
    ("same", "others", "pooling"),
    [
        (seen((SERVER, ONE), (SERVER, TWO)), seen((OTHER_ADDRESS, ONE)), Pooling.ONE),
        (seen((SERVER, ONE), (SERVER, ANOTHER)), [], Pooling.ARBITRARY),
        (seen((SERVER, ONE), (SERVER, TWO)), seen((OTHER_ADDRESS, ANOTHER)), Pooling.BY_DESTINATION),
        (seen((SERVER, ONE), (SERVER, TWO)), seen((OTHER_PORT, ONE)), Pooling.NOT_MEASURED),
        (seen((SERVER, LOCAL)), seen((OTHER_ADDRESS, LOCAL)), Pooling.NOT_MEASURED),
    ],
)
def test_several_outside_addresses_are_told_by_who_sees_which(
    same: list[Reflection], others: list[Reflection], pooling: Pooling
) -> None:
    assert judge_pooling(LOCAL, same, others)[0] is pooling


PRIVATE, CARRIER, PUBLIC = (ip_address(text) for text in ("10.0.0.1", "100.64.0.1", "198.51.100.7"))


@pytest.mark.parametrize(
    ("local", "hops", "nats"),
    [
        (ONE, [], 0),
        (LOCAL, [PRIVATE, PUBLIC], 1),
        (LOCAL, [PUBLIC], 1),
        (LOCAL, [PRIVATE, CARRIER, PUBLIC], 2),
        (LOCAL, [PRIVATE, None, CARRIER], 2),
        (LOCAL, [PRIVATE, PRIVATE, PUBLIC], None),
        (LOCAL, [PRIVATE, None, PUBLIC], None),
        (LOCAL, [], None),
        (Endpoint(CARRIER, 5000), [CARRIER, PUBLIC], 1),
        (Endpoint(CARRIER, 5000), [CARRIER, PRIVATE, PUBLIC], 1),
    ],
)
def test_the_number_of_nats_is_told_by_the_addresses_on_the_way(
    local: Endpoint, hops: list[IPv4Address | IPv6Address | None], nats: int | None
) -> None:
    found, note = judge_nats(local, ONE, hops)
    assert found == nats
    assert bool(note) == (nats is None)


def test_a_router_that_names_its_outside_address_tells_the_number_of_nats_too() -> None:
    assert judge_nats_by_router(ONE, [ONE.address], behind_another=False) == 1
    assert judge_nats_by_router(ONE, [CARRIER], behind_another=False) == 2
    assert judge_nats_by_router(ONE, [], behind_another=True) == 2
    assert judge_nats_by_router(ONE, [PUBLIC], behind_another=False) is None
    assert judge_nats_by_router(ONE, [], behind_another=False) is None


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


def test_silence_from_an_address_that_cannot_be_reached_says_nothing() -> None:
    found, note = judge_filtering(CONNECTED, SILENCE, reached_elsewhere=False)
    assert found is Filtering.NOT_MEASURED
    assert note


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
    found, note = judge_reaction([result])
    assert found is reaction
    assert bool(note) == (reaction is Reaction.NOT_MEASURED)


def test_one_answer_says_more_than_silence() -> None:
    assert judge_reaction([SILENCE, RST])[0] is Reaction.RST
    assert judge_reaction([None, SILENCE])[0] is Reaction.DROP
    assert judge_reaction([])[0] is Reaction.NOT_MEASURED


def bursts_of(*ports: list[int]) -> list[list[tuple[int, int]]]:
    return [[(50000 + port % 1000, port) for port in burst] for burst in ports]


@pytest.mark.parametrize(
    ("first", "bursts", "allocation", "step"),
    [
        ((40000, 40000), [[(40001, 40001)] * 6, [(40002, 40002)] * 5 + [(40003, 9999)]], Allocation.PRESERVING, 0),
        ((9, 2000), bursts_of([2001, 2003, 2002, 2004], [2006, 2005, 2007, 2008]), Allocation.SEQUENTIAL, 1),
        ((9, 2000), bursts_of([1998, 1994, 1996], [1988, 1992, 1990]), Allocation.SEQUENTIAL, -2),
        # Others have ports in between.
        ((9, 2000), bursts_of([2002, 2008, 2006, 2014], [2024, 2016, 2018, 2026]), Allocation.SEQUENTIAL, 2),
        ((9, 65534), bursts_of([65535, 1024, 1025], [1026, 1027, 1028]), Allocation.SEQUENTIAL, 1),
        # By accident most of them are neighbours.
        ((9, 2003), bursts_of([2001, 2007, 2002, 2005], [2006, 2000, 2008, 2004]), Allocation.BAND, 0),
        ((9, 20000), bursts_of([20200, 20100, 20050], [20210, 20001, 20080]), Allocation.BAND, 0),
        ((9, 20000), bursts_of([60200, 1100, 20050], [50210, 33001, 9080]), Allocation.RANDOM, 0),
    ],
)
def test_the_allocation_is_told_by_the_ports_and_their_order(
    first: tuple[int, int], bursts: list[list[tuple[int, int]]], allocation: Allocation, step: int
) -> None:
    found, by, band = judge_allocation(first, bursts)
    assert (found, by) == (allocation, step)
    assert (band != (0, 0)) == (found is Allocation.BAND)


@pytest.mark.parametrize("width", [32, 64, 251, 4096, 64512])
def test_random_ports_are_not_taken_for_counted_ones(width: int) -> None:
    draws = Random(7)
    found = []
    for _ in range(500):
        ports = [draws.randrange(1024, 1024 + width) for _ in range(13)]
        found.append(judge_allocation((1, ports[0]), bursts_of(ports[1:7], ports[7:]))[0])
    assert found.count(Allocation.SEQUENTIAL) == 0


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
    combinations = itertools.product(Mapping, Allocation, Filtering, Reaction, YesNo, YesNo)
    return [
        NatReport(
            family=4,
            mapping=m,
            allocation=a,
            filtering=f,
            reaction=r,
            simultaneous_open=s,
            only_web=w,
            step=1,
            band=(5, 9),
        )
        for m, a, f, r, s, w in combinations
    ]


def test_whatever_is_found_means_something_in_two_sentences() -> None:
    for report in all_reports():
        for opening in (Opening.OPENED, Opening.NOT_OFFERED):
            for sentence in meaning_of(report, opening):
                assert sentence.endswith(".")
                assert sentence.count(". ") == 0


HOME = NatReport(
    family=4,
    mapping=Mapping.ENDPOINT_INDEPENDENT,
    allocation=Allocation.PRESERVING,
    filtering=Filtering.ADDRESS_AND_PORT_DEPENDENT,
    reaction=Reaction.DROP,
    simultaneous_open=YesNo.YES,
    nats=1,
    only_web=YesNo.NO,
)
RANDOM = replace(HOME, mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=Allocation.RANDOM)
FIREWALL = replace(HOME, mapping=Mapping.NONE, allocation=Allocation.NOT_MEASURED, nats=0)
OPEN = replace(FIREWALL, reaction=Reaction.PASS, filtering=Filtering.ENDPOINT_INDEPENDENT)


@pytest.mark.parametrize(
    ("report", "opening", "words"),
    [
        (OPEN, Opening.NOT_MEASURED, "open to the internet"),
        (replace(OPEN, filtering=Filtering.NOT_MEASURED), Opening.NOT_MEASURED, "open to the internet"),
        (FIREWALL, Opening.NOT_OFFERED, "public address, behind a firewall"),
        (FIREWALL, Opening.OPENED, "The firewall lets in only answers, but opens a port"),
        (RANDOM, Opening.NOT_OFFERED, "between two like this one the relay is used"),
        (RANDOM, Opening.OPENED, "opens a port when midair asks"),
        (replace(RANDOM, allocation=Allocation.SEQUENTIAL), Opening.IN_VAIN, "the next port is met"),
        (replace(RANDOM, mapping=Mapping.NOT_MEASURED), Opening.REFUSED, "takes a random port"),
        (
            replace(HOME, mapping=Mapping.ADDRESS_DEPENDENT),
            Opening.NOT_OFFERED,
            "different addresses to different destinations",
        ),
        (HOME, Opening.NOT_OFFERED, "the same port to everybody"),
        (replace(HOME, mapping=Mapping.NOT_MEASURED), Opening.NOT_OFFERED, "whether everybody sees the same was not"),
        (replace(HOME, simultaneous_open=YesNo.NO), Opening.NOT_OFFERED, "all networks but those that do the same"),
        (replace(HOME, filtering=Filtering.ENDPOINT_INDEPENDENT), Opening.NOT_OFFERED, "lets anybody in"),
        (replace(HOME, only_web=YesNo.YES), Opening.OPENED, "ports of the web only"),
    ],
)
def test_the_meaning_names_what_matters(report: NatReport, opening: Opening, words: str) -> None:
    assert words in " ".join(meaning_of(report, opening))


@pytest.mark.parametrize(
    ("report", "opening", "words"),
    [
        (HOME, Opening.NOT_OFFERED, "Turning on UPnP"),
        (HOME, Opening.NOT_MEASURED, "Turning on UPnP"),
        (HOME, Opening.REFUSED, "refuses to"),
        (HOME, Opening.IN_VAIN, "nothing arrives there"),
        (replace(HOME, nats=2), Opening.IN_VAIN, "another NAT after it"),
        (replace(HOME, nats=2), Opening.OPENED, ""),
        (HOME, Opening.OPENED, ""),
        (FIREWALL, Opening.NOT_OFFERED, "Opening a TCP port in the firewall"),
        (OPEN, Opening.NOT_OFFERED, ""),
        (replace(HOME, only_web=YesNo.YES), Opening.OPENED, "let TCP out to other ports"),
    ],
)
def test_help_is_given_where_something_would_help(report: NatReport, opening: Opening, words: str) -> None:
    text = help_for(report, opening)
    assert words in text
    assert bool(text) == bool(words)
