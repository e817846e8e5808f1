"""The messages before the race."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midair.endpoint import Endpoint
from midair.errors import IncompatibleError, RemoteProtocolError
from midair.traversal.candidates import Candidate, CandidateType, priority, select
from midair.traversal.sync import (
    MAX_MESSAGE_BYTES,
    VERSION,
    Description,
    Go,
    Message,
    Ping,
    Pong,
    candidates_of,
    decode,
    describe,
    encode,
    start_delay,
)

PLAIN: dict[str, Any] = {
    "type": "description",
    "version": VERSION,
    "controlling": True,
    "direct": True,
    "relay": True,
    "candidates": [{"kind": "host", "endpoint": "192.0.2.1:80", "priority": 5}],
}


def description(**changes: Any) -> bytes:
    return json.dumps(PLAIN | changes).encode()


addresses = st.ip_addresses().filter(lambda a: not (a.version == 6 and (a.ipv4_mapped or a.scope_id)))
candidates = st.builds(
    lambda kind, address, port, order: Candidate(
        type=kind, endpoint=Endpoint(address, port), priority=priority(kind, Endpoint(address, port), order)
    ),
    st.sampled_from(CandidateType),
    addresses,
    st.integers(1, 65535),
    st.integers(0, 20),
)


@given(st.lists(candidates, max_size=16), st.booleans(), st.booleans(), st.booleans())
def test_a_description_survives_the_round_trip(
    some: list[Candidate], controlling: bool, direct: bool, relay: bool
) -> None:
    ours = describe(select(some), controlling=controlling, direct=direct, relay=relay)
    assert len(encode(ours)) <= MAX_MESSAGE_BYTES
    theirs = decode(encode(ours))
    assert theirs == ours
    assert isinstance(theirs, Description)
    read = candidates_of(theirs, loopback=True)
    assert set(read) <= set(some)


@pytest.mark.parametrize("message", [Ping(), Pong(), Go()], ids=repr)
def test_the_short_messages_survive_the_round_trip(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_noise_is_refused_without_a_traceback(noise: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(noise)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 8000,
        b'{"type":"description","version":2}',
        b'{"type":"dance"}',
        b'{"type":"description","version":"2"}',
        description(candidates=[PLAIN["candidates"][0]] * 17),
        description(candidates=[PLAIN["candidates"][0] | {"priority": -1}]),
        description(candidates=[PLAIN["candidates"][0] | {"endpoint": "1" * 65}]),
        description(direct="yes"),
        description(padding="x" * MAX_MESSAGE_BYTES),
    ],
    ids=["deep", "incomplete", "unknown", "untyped", "17 candidates", "negative", "long", "no bool", "huge"],
)
def test_messages_that_break_the_rules_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(data)


@pytest.mark.parametrize("kind", ["description2", "ping"])
def test_another_version_is_incompatible_whatever_else_it_says(kind: str) -> None:
    with pytest.raises(IncompatibleError, match=f"speaks version 3 of the traversal, we speak {VERSION}"):
        decode(b'{"type":"%s","version":3,"candidates":"elsewhere"}' % kind.encode())


def test_the_ping_which_comes_first_says_the_version() -> None:
    assert json.loads(encode(Ping()))["version"] == VERSION


def test_fields_of_a_later_release_are_passed_over() -> None:
    assert decode(description(colour="blue")) == decode(description())


@pytest.mark.parametrize(
    ("kind", "endpoint"),
    [
        ("host", "224.0.0.1:80"),
        ("host", "127.0.0.1:80"),
        ("srflx", "192.0.2.1:0"),
        ("srflx", "example.org:80"),
        ("srflx", "[fe80::1%eth0]:80"),
        ("srflx", "192.0.2.1"),
        ("of-the-future", "192.0.2.9:80"),
    ],
)
def test_a_candidate_that_cannot_be_dialled_is_left_out_and_the_others_stay(kind: str, endpoint: str) -> None:
    bad = {"kind": kind, "endpoint": endpoint, "priority": 9}
    message = decode(description(candidates=[bad, *PLAIN["candidates"]]))
    assert isinstance(message, Description)
    assert [str(each.endpoint) for each in candidates_of(message, loopback=False)] == ["192.0.2.1:80"]


@pytest.mark.parametrize(("round_trip", "delay"), [(0.2, 0.11), (0.0, 0.0), (60.0, 2.0), (-1.0, 0.0)])
def test_the_controlling_side_starts_a_little_after_go_arrives(round_trip: float, delay: float) -> None:
    assert start_delay(round_trip) == pytest.approx(delay)
