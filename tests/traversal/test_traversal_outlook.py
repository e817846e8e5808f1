"""The plan is made from both sides' reports, and the reason names both."""

from __future__ import annotations

import json
import random
from ipaddress import ip_network

import msgspec
import pytest

from midair.config import TraversalOptions
from midair.endpoint import Endpoint
from midair.errors import RemoteProtocolError
from midair.nat.check.report import Allocation, Filtering, Mapping, NatReport, Opening, Pooling, Reaction, YesNo
from midair.nat.forecast import Forecast
from midair.nat.told import MAX_TOLD, Known, ToldReport, tell, understand
from midair.traversal.agent import Plan
from midair.traversal.candidates import Candidate, CandidateType, priority
from midair.traversal.knowledge import our_reports
from midair.traversal.late_dials import TURN, TURNS_AFTER
from midair.traversal.planning import make_plan
from midair.traversal.sync import MAX_MESSAGE_BYTES, Description, decode, describe, encode

OUR_OUTSIDE = Endpoint.parse("198.51.100.2:5000")
THEIR_OUTSIDE = Endpoint.parse("203.0.113.2:6000")
KEEPS = NatReport(family=4, allocation=Allocation.PRESERVING)
REFUSES_CROSSING = NatReport(family=4, allocation=Allocation.PRESERVING, simultaneous_open=YesNo.NO)
ONLY_WEB = NatReport(family=4, allocation=Allocation.PRESERVING, only_web=YesNo.YES)
RANDOM = Forecast(low=20000, high=47999)


def told(*reports: NatReport) -> tuple[ToldReport, ...]:
    return tuple(tell(Known(report=each)) for each in reports)


def side(
    *reports: NatReport,
    controlling: bool = False,
    outside: Endpoint | None = None,
    kind: CandidateType = CandidateType.SERVER_REFLEXIVE,
    forecast: Forecast | None = None,
) -> Description:
    endpoint = outside or (OUR_OUTSIDE if controlling else THEIR_OUTSIDE)
    return describe(
        (Candidate(type=kind, endpoint=endpoint, priority=priority(kind, endpoint)),),
        controlling=controlling,
        direct=True,
        relay=True,
        forecast=forecast,
        spare=0 if forecast else endpoint.port + 1,
        reports=told(*reports),
    )


def plan(ours: Description, theirs: Description) -> Plan:
    return make_plan(
        ours,
        theirs,
        {OUR_OUTSIDE},
        TraversalOptions(),
        loopback=False,
        networks=[ip_network("10.1.0.0/24")],
        random=random.Random(1),
    )


def us(*reports: NatReport) -> Description:
    return side(*reports, controlling=True)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(KEEPS, REFUSES_CROSSING), (REFUSES_CROSSING, KEEPS)], ids=["their side", "our side"]
)
def test_where_a_nat_refuses_crossing_the_turns_begin_at_once(ours: NatReport, theirs: NatReport) -> None:
    assert [dial.after for dial in plan(us(ours), side(theirs)).late] == [0.0, TURN]
    assert [dial.after for dial in plan(us(KEEPS), side(KEEPS)).late] == [TURNS_AFTER, TURNS_AFTER + TURN]


def test_with_a_peer_that_tells_no_report_the_turns_begin_when_it_begins_them() -> None:
    assert [dial.after for dial in plan(us(REFUSES_CROSSING), side()).late] == [TURNS_AFTER, TURNS_AFTER + TURN]


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (KEEPS, ONLY_WEB, "the other side can only dial ports of the web, and we have none"),
        (ONLY_WEB, KEEPS, "from here only ports of the web can be dialled, and the other side has none"),
        (REFUSES_CROSSING, REFUSES_CROSSING, "both sides' networks refuse connections that cross"),
    ],
)
def test_where_there_is_no_hope_the_relay_does_not_wait_and_all_is_tried_still(
    ours: NatReport, theirs: NatReport, said: str
) -> None:
    made = plan(us(ours), side(theirs))
    assert made.head_start == 0.0
    assert made.notes[-1] == said
    assert made.remotes == (THEIR_OUTSIDE,)
    assert len(made.late) == 2


@pytest.mark.parametrize(
    "theirs",
    [
        side(ONLY_WEB, kind=CandidateType.MAPPED),
        side(ONLY_WEB, kind=CandidateType.HOST),
        side(ONLY_WEB, outside=Endpoint.parse("[2001:db8::2]:6000"), kind=CandidateType.HOST),
        msgspec.structs.replace(side(), reports=(ToldReport(family=4, only_web="sometimes"),)),
        side(NatReport(family=4, only_web=YesNo.YES, filtering=Filtering.ENDPOINT_INDEPENDENT)),
        side(NatReport(family=6, only_web=YesNo.YES)),
    ],
    ids=["a mapped port", "a public address", "IPv6", "not known", "lets strangers in", "of IPv6 only"],
)
def test_as_long_as_there_is_hope_the_relay_waits(theirs: Description) -> None:
    assert plan(us(KEEPS), theirs).head_start == TraversalOptions().head_start


def test_who_can_only_dial_the_web_can_dial_us_where_our_port_is_the_webs() -> None:
    ours = side(KEEPS, controlling=True, outside=Endpoint.parse("198.51.100.2:443"))
    assert plan(ours, side(ONLY_WEB)).head_start == TraversalOptions().head_start


def test_the_reason_names_both_sides() -> None:
    strict = NatReport(family=4, filtering=Filtering.ADDRESS_AND_PORT_DEPENDENT)
    carrier = side(NatReport(family=4, allocation=Allocation.BAND, nats=2), controlling=True, forecast=RANDOM)
    assert plan(carrier, side(strict)).notes == (
        "your side: every connection gets a random port, out of about 28,000 (two NATs in a row)",
        "their side: only the exact peer may answer",
    )


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (Known(report=KEEPS), "its NAT keeps ports"),
        (Known(report=NatReport(family=4, mapping=Mapping.NONE)), "no NAT"),
        (Known(report=ONLY_WEB), "its NAT keeps ports, a firewall lets out to the ports of the web only"),
        (Known(report=REFUSES_CROSSING), "its NAT keeps ports, connections that cross on the way are refused"),
        (Known(report=NatReport(family=4, reaction=Reaction.PASS)), "anybody may dial in"),
        (Known(report=NatReport(family=4, reaction=Reaction.RST)), "who comes unasked is refused"),
        (Known(report=NatReport(family=4, reaction=Reaction.DROP)), "who comes unasked is dropped"),
        (Known(report=NatReport(family=4, pooling=Pooling.ARBITRARY)), "its outside address changes"),
        (Known(report=REFUSES_CROSSING, age=7300), "connections that cross on the way are refused (checked 2 h ago)"),
        (Known(report=REFUSES_CROSSING, age=3e5), "connections that cross on the way are refused (checked 3 days ago)"),
    ],
)
def test_what_is_known_of_a_side_is_said_in_words(known: Known, said: str) -> None:
    theirs = msgspec.structs.replace(side(), reports=(tell(known),))
    note = plan(us(), theirs).notes[0]
    assert note.startswith("their side: ")
    assert note.endswith(said)


def test_where_nothing_is_known_nothing_is_said() -> None:
    assert plan(us(), side()).notes == ()
    assert plan(us(NatReport(family=4)), side(NatReport(family=6))).notes == ()


def test_reports_travel_in_the_description_bounded() -> None:
    said = side(KEEPS, ONLY_WEB, controlling=True, forecast=RANDOM)
    assert decode(encode(said)) == said
    report = {"family": 4, "mapping": "x" * 64, "filtering": "x" * 64, "reaction": "x" * 64, "opening": "x" * 64}
    plain = json.loads(encode(said))
    assert isinstance(decode(json.dumps(plain | {"reports": [report] * MAX_TOLD}).encode()), Description)
    with pytest.raises(RemoteProtocolError):
        decode(json.dumps(plain | {"reports": [{"family": 4}] * (MAX_TOLD + 1)}).encode())
    with pytest.raises(RemoteProtocolError):
        decode(json.dumps(plain | {"reports": [{"family": 4, "mapping": "x" * 65}]}).encode())


def test_a_description_with_all_there_can_be_is_still_a_message() -> None:
    """Sixteen candidates of IPv6, and two reports in the longest words."""
    endpoints = [Endpoint.parse(f"[2001:db8:1234:5678:9abc:def0:1234:56{number:02x}]:65535") for number in range(16)]
    kind = CandidateType.SERVER_REFLEXIVE
    longest = {
        name: max((each for each in kind_of), key=lambda each: len(each.value))
        for name, kind_of in (
            ("mapping", Mapping),
            ("allocation", Allocation),
            ("filtering", Filtering),
            ("reaction", Reaction),
            ("pooling", Pooling),
        )
    }
    report = NatReport(family=4, nats=2, simultaneous_open=YesNo.NO, hairpin=YesNo.NO, only_web=YesNo.NO, **longest)  # type: ignore[arg-type]
    said = describe(
        tuple(Candidate(type=kind, endpoint=each, priority=priority(kind, each)) for each in endpoints),
        controlling=True,
        direct=True,
        relay=True,
        forecast=RANDOM,
        reports=tuple(tell(Known(report=report, opening=Opening.IN_VAIN, age=604799.123456)) for _ in range(MAX_TOLD)),
    )
    assert len(encode(said)) < MAX_MESSAGE_BYTES


# -- our own --

HERE = {"10.1.0.2"}
SEEN = [(5000, OUR_OUTSIDE)]
EARLIER = ("10.1.0.2", "198.51.100.2", Known(report=REFUSES_CROSSING, opening=Opening.REFUSED, age=60.0))


def known_of(*told_reports: ToldReport) -> Known:
    (report,) = told_reports
    return understand(report)


def test_an_earlier_check_in_this_network_is_told() -> None:
    known = known_of(*our_reports(SEEN, HERE, None, [EARLIER]))
    assert known.report.simultaneous_open is YesNo.NO
    assert (known.opening, known.age) == (Opening.REFUSED, 60.0)


@pytest.mark.parametrize(
    "earlier",
    [
        ("10.1.0.3", "198.51.100.2", EARLIER[2]),
        ("10.1.0.2", "198.51.100.9", EARLIER[2]),
        ("10.1.0.2", "198.51.100.2", Known(report=NatReport(family=6, simultaneous_open=YesNo.NO))),
        ("10.1.0.2", "198.51.100.2", Known(report=NatReport(family=4, mapping=Mapping.NONE))),
        (
            "10.1.0.2",
            "198.51.100.2",
            Known(report=NatReport(family=4, allocation=Allocation.RANDOM, simultaneous_open=YesNo.NO)),
        ),
    ],
    ids=["another address here", "another outside", "another IP version", "no NAT then", "changed ports then"],
)
def test_a_check_of_another_network_is_not_told(earlier: tuple[str, str, Known]) -> None:
    assert our_reports(SEEN, HERE, None, [earlier]) == told(KEEPS)


def test_what_gathering_has_seen_is_told_without_any_check() -> None:
    assert our_reports(SEEN, HERE, None) == told(KEEPS)
    public = [(5000, Endpoint.parse("198.51.100.2:5000"))]
    assert our_reports(public, {"198.51.100.2"}, None) == told(NatReport(family=4, mapping=Mapping.NONE))
    changed = [(5000, Endpoint.parse("198.51.100.2:20001"))]
    for forecast, allocation in (
        (Forecast(low=20000, high=20100, step=2), Allocation.SEQUENTIAL),
        (Forecast(low=20000, high=20250), Allocation.BAND),
        (Forecast(low=1024, high=65535), Allocation.RANDOM),
    ):
        assert our_reports(changed, HERE, forecast) == told(NatReport(family=4, allocation=allocation))
    both = [*SEEN, (5000, Endpoint.parse("[2001:db8::2]:5000"))]
    assert [each.family for each in our_reports(both, {*HERE, "2001:db8::2"}, None)] == [4, 6]
    assert our_reports([], HERE, None) == ()
