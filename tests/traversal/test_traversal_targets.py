"""When a target is dialled again, what is said of it, and the table of an attempt."""

from __future__ import annotations

import pytest

from midair.endpoint import Endpoint
from midair.port import ConnectFailure
from midair.traversal.attempt import TRANSITIONS, Attempt, Happening, Stage, table
from midair.traversal.explanation import no_path, why_not_direct
from midair.traversal.late_dials import TURN
from midair.traversal.report import AttemptLog
from midair.traversal.targets import EAGER_RATE, LATE_RATE, MAX_DIALS, MAX_DIALS_IN_TURNS, Target, late_gap, retry_gap

REMOTE = Endpoint.parse("203.0.113.5:4242")


def target() -> Target:
    return Target(endpoint=REMOTE, next_at=0.0)


def test_a_refusal_after_a_round_trip_is_dialled_again_in_the_same_moment() -> None:
    it = target()
    it.dialled(0.0, started=0.0)
    assert it.next_at is None
    it.failed(ConnectFailure.REFUSED, "ECONNREFUSED", 0.1, started=0.0)
    assert it.next_at == 0.1


def test_refusals_without_delay_make_one_syn_in_ten_milliseconds() -> None:
    it, dials, now = target(), 0, 0.0
    while now < 1.0:
        it.dialled(now, started=0.0)
        dials += 1
        it.failed(ConnectFailure.UNREACHABLE, "EHOSTUNREACH", now, started=0.0)
        assert it.next_at is not None
        now = it.next_at
    assert 99 <= dials <= 101


def test_after_the_eager_time_the_gaps_grow_and_stay_bounded() -> None:
    assert retry_gap(1.49, 0) == 0.010
    gaps = [retry_gap(2.0, number) for number in range(8)]
    assert gaps[0] == 0.050
    assert gaps == sorted(gaps)
    assert gaps[-1] == retry_gap(2.0, 10_000) == 0.250


def test_many_targets_together_are_dialled_no_faster_than_a_few() -> None:
    assert retry_gap(0.0, 0, targets=4) == 0.010
    assert 16 / retry_gap(0.0, 0, targets=16) == EAGER_RATE


@pytest.mark.parametrize(("count", "rate"), [(8, 32), (1000, LATE_RATE), (2500, LATE_RATE)])
def test_the_repeated_dials_of_a_coverage_come_to_no_more_syns_a_second_than_the_first(count: int, rate: float) -> None:
    assert count / late_gap(count) == rate
    it = Target(endpoint=REMOTE, late=True, gap=late_gap(count))
    it.dialled(1.0, started=0.0)
    it.failed(ConnectFailure.REFUSED, "ECONNREFUSED", 1.1, started=0.0)
    assert it.next_at == 1.0 + late_gap(count)


def test_what_is_dialled_in_turns_is_dialled_again_at_once_until_the_other_sides_turn_is_over() -> None:
    it, now = Target(endpoint=REMOTE, late=True, gap=late_gap(2), next_at=0.75), 0.0
    while it.next_at is not None:
        now = it.next_at
        it.dialled(now, started=0.0)
        it.failed(ConnectFailure.REFUSED, "ECONNREFUSED", now, started=0.0)
    assert it.dials == MAX_DIALS_IN_TURNS
    assert now - 0.75 > TURN


def test_a_target_that_refuses_for_ever_is_given_up_at_last() -> None:
    it, now = target(), 0.0
    while it.next_at is not None:
        now = it.next_at
        it.dialled(now, started=0.0)
        it.failed(ConnectFailure.REFUSED, "ECONNREFUSED", now, started=0.0)
    assert it.dials == MAX_DIALS
    assert now > 20


@pytest.mark.parametrize("failure", [ConnectFailure.SELF, ConnectFailure.DENIED, ConnectFailure.OTHER])
def test_what_the_next_dial_would_meet_again_is_not_dialled_again(failure: ConnectFailure) -> None:
    it = target()
    it.dialled(0.0, started=0.0)
    it.failed(failure, "EACCES", 0.1, started=0.0)
    assert it.next_at is None


def test_a_taken_4_tuple_is_tried_again_and_is_no_syn() -> None:
    it = target()
    it.dialled(0.0, started=0.0)
    it.failed(ConnectFailure.DUPLICATE, "EADDRNOTAVAIL", 0.0, started=0.0)
    assert it.next_at == 0.010
    assert it.sent == 0
    assert not it.failures


def test_a_stranger_gets_three_visits_but_a_connection_that_broke_is_none() -> None:
    it, now = target(), 0.0
    for suspicion in ("closed", "broken", "timeout"):
        it.dialled(now, started=0.0)
        it.rejected(suspicion, now, started=0.0)
        assert it.next_at is not None
    for again in (True, True, False):
        it.dialled(now, started=0.0)
        it.rejected("stranger", now, started=0.0)
        assert (it.next_at is not None) is again


@pytest.mark.parametrize("stage", Stage)
def test_every_stage_stands_in_the_table_and_can_be_left_or_is_an_end(stage: Stage) -> None:
    moves = TRANSITIONS[stage]
    assert bool(moves) is (stage not in (Stage.CHOSEN, Stage.ENDED))
    if moves:
        assert moves[Happening.RETIRED] is Stage.ENDED
    attempt = Attempt(id="x", how="dial", remote=REMOTE, stage=stage)
    for happening in set(Happening) - set(moves):
        assert not attempt.move(happening)
        assert attempt.stage is stage


def test_the_table_prints() -> None:
    assert table().splitlines()[:2] == ["dialling   opened         proving", "dialling   failed         ended"]
    assert len(table().splitlines()) == sum(len(moves) for moves in TRANSITIONS.values())


def test_the_reason_names_the_syns_nobody_answered() -> None:
    it = target()
    it.sent = 14
    assert why_not_direct([it], 2.0) == "no answer to 14 SYNs to 203.0.113.5:4242 within 2.0 s"
    it.sent = 1
    assert why_not_direct([it], 2.0) == "no answer to a SYN to 203.0.113.5:4242 within 2.0 s"


def test_the_reason_names_errors_strangers_and_the_lack_of_addresses() -> None:
    refused, strange = target(), target()
    refused.sent, refused.failures["ECONNREFUSED"] = 151, 150
    strange.sent, strange.strangers = 3, 3
    assert why_not_direct([refused, strange], 2.0) == (
        "203.0.113.5:4242: ECONNREFUSED 150 times in 2.0 s; somebody else answers at 203.0.113.5:4242"
    )
    assert why_not_direct([target()] * 5, 2.0).endswith("; 2 more likewise in vain")
    assert "no address" in why_not_direct([], 2.0)


def test_the_reason_says_what_was_dialled_late() -> None:
    it = target()
    it.sent = 1
    in_turns = [Target(endpoint=REMOTE, local=local, late=True, sent=1) for local in (0, 1)]
    assert why_not_direct([it, *in_turns], 2.0) == (
        "no answer to a SYN to 203.0.113.5:4242 within 2.0 s; "
        "with either side dialling first, from ports not used before, likewise"
    )
    endpoints = [Endpoint(REMOTE.address, port) for port in range(2000, 2512)]
    covering = [Target(endpoint=each, local=local, late=True, sent=1) for local in (0, 1) for each in endpoints]
    assert why_not_direct([it, *covering], 2.0).startswith("512 ports of the other side's NAT tried in vain; no answer")
    fan = [Target(endpoint=REMOTE, local=local, late=True, sent=1) for local in range(1, 65)]
    assert why_not_direct([it, *fan], 2.0).startswith("tried from 64 ports of ours in vain; no answer")


def test_the_failure_says_in_one_line_what_was_tried() -> None:
    it = target()
    it.sent, it.failures["ECONNREFUSED"] = 12, 3
    trouble = "the relay does not answer"
    assert no_path([it], direct=True, relay_trouble=trouble, strangers_accepted=0) == (
        "no direct connection (12 dials: no answer 9, ECONNREFUSED 3), and no relay: the relay does not answer"
    )
    assert no_path([it], direct=False, relay_trouble=trouble, strangers_accepted=0).startswith("no connection through")


def test_equal_results_in_a_row_are_one_event() -> None:
    log = AttemptLog()
    told = [event for result in ["A", "A", "A", "ok"] for event in log.note("dial", "r", result)]
    told += log.note("accept", "r", "stranger")
    told += log.flush()
    assert [(e.how, e.result, e.count) for e in told] == [
        ("dial", "A", 3),
        ("dial", "ok", 1),
        ("accept", "stranger", 1),
    ]
    assert list(log.flush()) == []


def test_ten_thousand_strangers_do_not_fill_the_log() -> None:
    log = AttemptLog()
    for number in range(10_000):
        list(log.note("accept", str(number), "stranger"))
    assert len(list(log.flush())) == 64
