"""Candidates: priorities, selection, and what of a peer's is dialled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midair.endpoint import Endpoint
from midair.traversal.candidates import MAX_CANDIDATES, Candidate, CandidateType, dialable, priority, select

HOST, SRFLX, RELAYED = CandidateType.HOST, CandidateType.SERVER_REFLEXIVE, CandidateType.RELAYED
V4, V6 = Endpoint.parse("198.51.100.7:4242"), Endpoint.parse("[2001:db8::7]:4242")


def candidate(kind: CandidateType, endpoint: Endpoint, order: int = 0) -> Candidate:
    return Candidate(type=kind, endpoint=endpoint, priority=priority(kind, endpoint, order))


def test_priorities_follow_the_formula_of_rfc_8445() -> None:
    # 2^24 * type + 2^8 * (2^13 * direction + other) + (256 - component)
    assert priority(HOST, V6) == (126 << 24) + (((6 << 13) + 8191) << 8) + 255
    assert priority(SRFLX, V4, 1) == (100 << 24) + (((6 << 13) + 4094) << 8) + 255
    assert priority(RELAYED, V6) < 1 << 24


def test_hosts_go_before_reflexive_and_ipv6_before_ipv4_and_the_first_before_the_next() -> None:
    order = [
        (HOST, V6, 0),
        (HOST, V6, 1),
        (HOST, V4, 0),
        (HOST, V4, 1),
        (SRFLX, V6, 0),
        (SRFLX, V4, 9),
        (RELAYED, V6, 0),
    ]
    priorities = [priority(*each) for each in order]
    assert priorities == sorted(priorities, reverse=True)
    assert len(set(priorities)) == len(priorities)


@given(st.sampled_from(CandidateType), st.sampled_from([V4, V6]), st.integers(0, 100_000))
def test_a_priority_is_always_in_the_range_of_rfc_8445(kind: CandidateType, endpoint: Endpoint, order: int) -> None:
    assert 1 <= priority(kind, endpoint, order) < 1 << 31


def test_a_host_without_a_nat_has_one_candidate_not_two() -> None:
    assert select([candidate(SRFLX, V4), candidate(HOST, V4)]) == (candidate(HOST, V4),)


def test_a_machine_with_forty_bridges_still_tells_its_reflexive_candidates() -> None:
    hosts = [candidate(HOST, Endpoint.parse(f"172.17.{number}.1:4242"), number) for number in range(40)]
    selected = select([*hosts, candidate(SRFLX, V4), candidate(SRFLX, V6)])
    assert len(selected) == MAX_CANDIDATES
    assert selected[-2:] == (candidate(SRFLX, V6), candidate(SRFLX, V4))
    assert selected[:14] == tuple(hosts[:14])


@pytest.mark.parametrize("count", [17, 40])
def test_no_more_than_sixteen_are_selected_of_any_kind(count: int) -> None:
    many = [candidate(SRFLX, Endpoint.parse(f"198.51.100.{number}:1"), number) for number in range(count)]
    assert select(many) == tuple(many[:16])


@pytest.mark.parametrize(
    "text",
    [
        "224.0.0.1:5350",
        "[ff02::1]:5350",
        "0.0.0.0:80",
        "[::]:80",
        "0.1.2.3:80",
        "198.51.100.7:0",
        "255.255.255.255:80",
        "240.0.0.1:80",
        "169.254.1.1:80",
        "[fe80::1]:80",
    ],
)
@pytest.mark.parametrize("loopback", [True, False])
def test_what_is_no_single_hosts_address_is_not_dialled(text: str, loopback: bool) -> None:
    assert not dialable(Endpoint.parse(text), loopback=loopback)


@pytest.mark.parametrize("text", ["127.0.0.1:80", "127.255.0.1:80", "[::1]:80"])
def test_loopback_is_dialled_only_when_our_server_is_there(text: str) -> None:
    assert dialable(Endpoint.parse(text), loopback=True)
    assert not dialable(Endpoint.parse(text), loopback=False)


@pytest.mark.parametrize("text", ["10.1.2.3:80", "192.168.1.7:80", "100.64.0.9:80", "[fd00::1]:80", "[2001:db8::1]:80"])
def test_private_and_public_addresses_are_dialled(text: str) -> None:
    assert dialable(Endpoint.parse(text), loopback=False)
