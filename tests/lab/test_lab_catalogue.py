"""Boxes and topologies are read from text and written as text, and what cannot be read is explained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midair.lab.behaviour import (
    Allocation,
    Filtering,
    Hairpin,
    LinkBehaviour,
    Mapping,
    NatBehaviour,
    NatLimits,
    NatTimers,
    PortRule,
    Reaction,
    Unsolicited,
)
from midair.lab.catalogue import BOXES, DESCRIPTIONS, box_of, parse_box, parse_topology
from midair.lab.description import ACCESS_LINK, SERVER_LINK, Box, KernelKind, Side, Topology

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = st.floats(0, allow_nan=False)
COUNTS = st.integers(1, 1 << 20)
PORTS = st.integers(1, 65535)


allocations = st.builds(
    Allocation,
    rule=st.sampled_from(PortRule),
    low=st.integers(1, 30000),
    high=st.integers(30000, 65535),
    step=st.integers(-10, 10),
    block=PORTS,
    addresses=st.integers(1, 28),
    pooling=...,
)
timers = st.builds(NatTimers, opening=SECONDS, established=SECONDS, closing=SECONDS, udp=SECONDS)
limits = st.builds(NatLimits, entries=COUNTS, entries_per_host=COUNTS, half_open=COUNTS, new_per_second=SECONDS)
behaviours = st.builds(
    NatBehaviour,
    mapping=...,
    filtering=...,
    unsolicited=...,
    simultaneous_open=...,
    sequence_check=...,
    on_rst=...,
    on_icmp=...,
    hairpin=...,
    rewrites_payload=...,
    decrements_ttl=...,
    allocation=allocations,
    timers=timers,
    limits=limits,
    only_ports=st.lists(PORTS, max_size=3).map(tuple),
    only_addresses=st.lists(st.ip_addresses().map(str), max_size=3).map(tuple),
)
boxes = st.one_of(
    st.sampled_from(sorted(BOXES)).map(parse_box), behaviours.map(box_of), st.sampled_from(KernelKind).map(box_of)
)
chains = st.lists(boxes, max_size=3).map(tuple)
sides = st.builds(Side, boxes=chains, second=st.none() | chains)
links = st.builds(
    LinkBehaviour,
    delay=SECONDS,
    jitter=SECONDS,
    loss=st.floats(0, 1),
    lose_syns=st.lists(st.integers(1, 9), max_size=3).map(tuple),
    rate=SECONDS,
    queue=COUNTS,
    mtu=st.integers(68, 65535),
    up=...,
)
topologies = st.builds(
    Topology, a=sides, b=sides, shared=chains, ipv6=st.booleans(), a_link=links, b_link=links, server_link=links
)


@settings(deadline=None)
@given(topologies)
def test_what_a_topology_is_written_as_is_read_as_the_same(topology: Topology) -> None:
    assert parse_topology(str(topology)) == topology


@settings(deadline=None)
@given(boxes)
def test_what_a_box_is_written_as_is_read_as_the_same(box: Box) -> None:
    assert parse_box(str(box)) == box


@settings(deadline=None)
@given(st.lists(st.sampled_from([*"()&+>x=, 0", "drop", "none", "with", "ipv6", "a.delay", "kernel:"])))
def test_whatever_is_written_it_is_read_or_refused_by_a_value_error(pieces: list[str]) -> None:
    text = "".join(pieces)
    try:
        topology = parse_topology(text)
    except ValueError:
        return
    assert parse_topology(str(topology)) == topology


DROP = parse_box("drop")


@pytest.mark.parametrize(
    ("text", "topology"),
    [
        ("none x drop", Topology(a=Side(), b=Side(boxes=(DROP,)))),
        (
            "drop>carrier x rst",
            Topology(a=Side(boxes=(DROP, parse_box("carrier"))), b=Side(boxes=(parse_box("rst"),))),
        ),
        ("(none + none) > drop", Topology(a=Side(), b=Side(), shared=(DROP,))),
        (
            "(drop & mobile) x none",
            Topology(a=Side(boxes=(DROP,), second=(parse_box("mobile"),)), b=Side()),
        ),
        (
            "((none & drop) + none) > rst>carrier",
            Topology(
                a=Side(second=(DROP,)),
                b=Side(),
                shared=(parse_box("rst"), parse_box("carrier")),
            ),
        ),
        (
            "kernel:cone x drop,hairpin=external-source",
            Topology(
                a=Side(boxes=(box_of(KernelKind.CONE),)),
                b=Side(
                    boxes=(
                        Box(
                            "drop,hairpin=external-source",
                            replace(BOXES["drop"], hairpin=Hairpin.EXTERNAL_SOURCE),
                        ),
                    )
                ),
            ),
        ),
        (
            "none x none with ipv6 a.delay=0.1 b.lose-syns=1/2 server.up=no",
            Topology(
                a=Side(),
                b=Side(),
                ipv6=True,
                a_link=replace(ACCESS_LINK, delay=0.1),
                b_link=replace(ACCESS_LINK, lose_syns=(1, 2)),
                server_link=replace(SERVER_LINK, up=False),
            ),
        ),
    ],
)
def test_these_texts_mean_these_topologies(text: str, topology: Topology) -> None:
    assert parse_topology(text) == topology
    assert str(topology) == text


def test_spaces_are_free_around_marks() -> None:
    assert parse_topology("( drop+rst )>carrier") == parse_topology("(drop + rst) > carrier")


@pytest.mark.parametrize(
    ("text", "explanation"),
    [
        ("", "a box has to stand"),
        ("drop", "'x' has to stand: drop ..."),
        ("drop y drop", "'x' has to stand: drop ..."),
        ("drop x", "a box has to stand: drop x ..."),
        ("drop x drop drop", "'with' has to stand: drop x drop ..."),
        ("(drop + rst)", "'>' has to stand"),
        ("(drop & rst) > carrier", "'x' has to stand"),
        ("none>drop x none", "none stands alone"),
        ("dorp x none", "'dorp' is no box; there are none, firewall,"),
        ("kernel:dorp x none", "there are masquerade-drop,"),
        ("kernel:cone,hairpin=none x none", "have no knobs"),
        ("drop,hair=none x none", "no knob 'hair'; it has mapping filtering"),
        ("drop,hairpin x none", "come knobs, each once"),
        ("drop,step=1,step=2 x none", "come knobs, each once"),
        ("drop,hairpin=maybe x none", "hairpin takes none, internal-source, external-source"),
        ("drop,decrements-ttl=true x none", "decrements-ttl takes yes or no"),
        ("drop,addresses=0 x none", "addresses takes a whole number from 1 to 28"),
        ("drop,opening=-1 x none", "opening takes a number from 0.0 to inf"),
        ("drop,opening=nan x none", "opening takes a number from 0.0 to inf"),
        ("drop,low=2000,high=1000 x none", "the ports from 2000 to 1000 are none"),
        ("drop,only-ports=http x none", "only-ports takes ports with slashes between them"),
        ("drop,only-ports=0 x none", "only-ports takes ports"),
        ("drop,only-addresses=here x none", "only-addresses takes addresses with slashes between them"),
        ("drop x drop with a.lose-syns=0", "lose-syns takes numbers from 1 with slashes between them"),
        ("drop x drop with a.speed=1", "a link has no knob 'speed'; it has delay"),
        ("drop x drop with c.delay=1", "an option is ipv6, or a link's"),
        ("drop x drop with a.delay=1 a.delay=2", "an option is ipv6, or a link's"),
        ("drop x drop with a.loss=2", "loss takes a number from 0 to 1"),
    ],
)
def test_what_cannot_be_read_is_explained(text: str, explanation: str) -> None:
    with pytest.raises(ValueError, match=r"^the topology .* cannot be understood: ") as caught:
        parse_topology(text)
    assert explanation in str(caught.value)


def test_every_name_is_described_in_one_line_of_its_own() -> None:
    assert set(DESCRIPTIONS) == {"none", *BOXES, *(f"kernel:{kind}" for kind in KernelKind)}
    assert len(set(DESCRIPTIONS.values())) == len(DESCRIPTIONS)
    assert all(text and "\n" not in text and len(text) < 100 for text in DESCRIPTIONS.values())


def test_no_two_names_stand_for_the_same_behaviour() -> None:
    assert len(set(map(repr, BOXES.values()))) == len(BOXES)


@pytest.mark.parametrize("text", ["symmetric,hairpin=external-source", "rst,low=20000,opening=20.0"])
def test_a_behaviour_is_named_after_the_box_nearest_to_it(text: str) -> None:
    assert str(box_of(parse_box(text).kind)) == text


def is_open(box: NatBehaviour) -> bool:
    return box.filtering is Filtering.ENDPOINT_INDEPENDENT


@pytest.mark.parametrize(
    ("names", "holds"),
    [
        ("drop rst icmp strict", lambda box: box.mapping is Mapping.ENDPOINT_INDEPENDENT and not is_open(box)),
        ("drop rst icmp", lambda box: box.allocation.rule is PortRule.PRESERVING_UNTIL_CLASH),
        ("drop rst icmp symmetric", lambda box: box.on_rst is Reaction.DELETES),
        ("full-cone rfc5382 carrier", is_open),
        ("firewall firewall-rst firewall-icmp", lambda box: not box.translates),
        ("symmetric symmetric-sequential mobile", lambda box: box.mapping is Mapping.ADDRESS_AND_PORT_DEPENDENT),
        ("rst firewall-rst", lambda box: box.unsolicited is Unsolicited.RST),
        ("symmetric-band mobile", lambda box: box.allocation.high - box.allocation.low + 1 == 251),
        ("proxy-only", lambda box: "192.0.2.20" in box.only_addresses),
    ],
)
def test_the_catalogue_keeps_its_word(names: str, holds: Callable[[NatBehaviour], bool]) -> None:
    assert [name for name in names.split() if not holds(BOXES[name])] == []
