"""The agent as dialogues: what it is told on the left, what it orders on the right, seconds in the margin."""

from __future__ import annotations

from typing import Any

import pytest

from midair.endpoint import Endpoint
from midair.port import ConnectFailure
from midair.traversal.agent import ACK_SECONDS, MAX_PROVING, Agent, LateDial, Plan
from midair.traversal.steps import (
    Accepted,
    Acknowledge,
    AcknowledgementSent,
    AgentEvent,
    Authenticate,
    Authenticated,
    Choose,
    Command,
    ConnectionDied,
    Dial,
    Fail,
    Failed,
    Nominate,
    Nominated,
    NominationAcked,
    Opened,
    Rejected,
    RelayFailed,
    RelayReady,
    Retire,
    Started,
    Stopped,
    Tick,
    Use,
    WakeAt,
)
from midair.traversal.targets import IN_TURNS, MAX_LATE_DIALS

ONE, TWO = Endpoint.parse("203.0.113.5:4242"), Endpoint.parse("[2001:db8::5]:4242")
SOMEBODY = Endpoint.parse("198.51.100.99:5555")


class Dialogue:
    """An agent, and the last WakeAt apart from the other commands."""

    def __init__(self, *remotes: Endpoint, **changes: Any) -> None:
        settings: dict[str, Any] = {
            "controlling": True,
            "direct": True,
            "relay": True,
            "head_start": 2.0,
            "deadline": 20.0,
        }
        self.agent = Agent(Plan(remotes=remotes, **(settings | changes)))
        self.wake: float | None = None

    def at(self, now: float, event: AgentEvent) -> list[Command]:
        commands = self.agent.handle(event, now)
        wakes = [command.at for command in commands if isinstance(command, WakeAt)]
        self.wake = wakes[-1] if wakes else None
        return [command for command in commands if not isinstance(command, WakeAt)]

    def due(self) -> float:
        """When it wants to be woken."""
        assert self.wake is not None
        return self.wake

    def is_waiting(self) -> bool:
        """Whether it wants to be woken at all."""
        return self.wake is not None

    def ready(self, now: float, key: str) -> list[Command]:
        """A dialled connection opens and proves itself."""
        assert self.at(now, Opened(key)) == [Authenticate(key)]
        return self.at(now, Authenticated(key))


def test_every_candidate_is_dialled_at_the_start_and_the_first_to_prove_itself_is_taken() -> None:
    d = Dialogue(ONE, TWO)
    assert d.at(10.0, Started()) == [Dial("dial-1", ONE), Dial("dial-2", TWO)]
    assert d.due() == 12.0
    assert d.at(10.1, Opened("dial-2")) == [Authenticate("dial-2")]
    assert d.at(10.2, Authenticated("dial-2")) == [Nominate("dial-2")]
    assert d.at(10.3, Opened("dial-1")) == [Authenticate("dial-1")]
    assert d.at(10.4, Authenticated("dial-1")) == []
    assert d.at(10.5, NominationAcked("dial-2")) == [Choose("dial-2", None), Retire("dial-1")]
    assert not d.is_waiting()
    assert d.agent.decided
    assert d.agent.dials == 2


def test_the_controlled_side_waits_to_be_told_answers_and_takes_that_one() -> None:
    d = Dialogue(ONE, TWO, controlling=False)
    d.at(0.0, Started())
    assert d.ready(0.1, "dial-1") == []
    assert d.ready(0.1, "dial-2") == []
    assert d.at(0.2, Nominated("dial-2")) == [Acknowledge("dial-2")]
    assert d.at(0.2, Nominated("dial-1")) == []
    assert d.at(0.2, AcknowledgementSent("dial-2")) == [Choose("dial-2", None), Retire("dial-1")]


def test_the_dials_of_a_coverage_go_out_at_their_times_from_their_ports() -> None:
    d = Dialogue(ONE, late=(LateDial(TWO, 0, 0.75), LateDial(ONE, 1, 0.752), LateDial(ONE, 2, 0.756)))
    assert d.at(10.0, Started()) == [Dial("dial-1", ONE)]
    assert d.due() == pytest.approx(10.75)
    assert d.at(10.75, Tick()) == [Dial("dial-2", TWO)]
    assert d.due() == pytest.approx(10.752)
    assert d.at(10.76, Tick()) == [Dial("dial-3", ONE, 1), Dial("dial-4", ONE, 2)]
    assert d.agent.dials == 4


def test_a_dial_of_a_coverage_that_is_refused_is_repeated_with_patience_and_not_for_ever() -> None:
    others = tuple(LateDial(ONE, number, 100.0) for number in range(IN_TURNS))
    d = Dialogue(late=(LateDial(TWO, 3, 0.75), *others))
    d.at(0.0, Started())
    assert d.at(0.75, Tick()) == [Dial("dial-1", TWO, 3)]
    now, count = 0.75, 1
    while True:
        assert d.at(now + 0.05, Failed(f"dial-{count}", ConnectFailure.REFUSED, "ECONNREFUSED")) == []
        if d.due() > now + 0.3:
            break
        assert d.due() == pytest.approx(now + 0.25)
        now, count = d.due(), count + 1
        assert d.at(now, Tick()) == [Dial(f"dial-{count}", TWO, 3)]
    assert count == MAX_LATE_DIALS


def test_the_reason_for_the_relay_tells_the_nats_and_how_much_was_covered() -> None:
    late = tuple(LateDial(Endpoint(TWO.address, 5000 + n), 0, 0.75) for n in range(512))
    d = Dialogue(ONE, late=late, notes=("their NAT is random",))
    d.at(0.0, Started())
    d.at(0.75, Tick())
    d.at(1.0, RelayReady("relay"))
    assert d.at(2.0, Tick()) == [Nominate("relay")]
    (choose, *_) = d.at(2.1, NominationAcked("relay"))
    assert isinstance(choose, Choose)
    assert choose.reason is not None
    assert choose.reason.startswith("their NAT is random; 512 ports of the other side's NAT tried in vain; no answer")


def test_a_refused_dial_is_repeated_at_once() -> None:
    d = Dialogue(ONE)
    d.at(0.0, Started())
    assert d.at(0.1, Failed("dial-1", ConnectFailure.REFUSED, "ECONNREFUSED")) == [Dial("dial-2", ONE)]
    assert d.at(0.101, Failed("dial-2", ConnectFailure.RESET, "ECONNRESET")) == []
    assert d.due() == pytest.approx(0.11)
    assert d.at(d.due(), Tick()) == [Dial("dial-3", ONE)]
    assert d.agent.dials == 3


def test_an_accepted_connection_can_win() -> None:
    d = Dialogue()
    assert d.at(0.0, Started()) == []
    assert d.at(0.1, Accepted("accept-1", SOMEBODY)) == [Authenticate("accept-1")]
    assert d.at(0.2, Authenticated("accept-1")) == [Nominate("accept-1")]
    assert d.at(0.3, NominationAcked("accept-1")) == [Choose("accept-1", None)]


def test_strangers_are_forgotten_and_the_attempt_goes_on() -> None:
    d = Dialogue(ONE)
    d.at(0.0, Started())
    d.at(0.1, Accepted("accept-1", SOMEBODY))
    assert d.at(0.2, Rejected("accept-1", "stranger")) == []
    d.at(0.3, Opened("dial-1"))
    assert d.at(0.4, Rejected("dial-1", "stranger")) == []
    assert d.at(d.due(), Tick()) == [Dial("dial-2", ONE)]
    assert d.ready(0.9, "dial-2") == [Nominate("dial-2")]


def test_a_crowd_of_strangers_is_turned_away_but_candidates_addresses_still_get_in() -> None:
    d = Dialogue(ONE)
    d.at(0.0, Started())
    answers = [d.at(0.1, Accepted(f"accept-{n}", SOMEBODY)) for n in range(MAX_PROVING)]
    assert answers[MAX_PROVING // 2 - 1] == [Authenticate(f"accept-{MAX_PROVING // 2 - 1}")]
    assert answers[MAX_PROVING // 2] == [Retire(f"accept-{MAX_PROVING // 2}")]
    from_peer = Endpoint(ONE.address, 1)
    answers = [d.at(0.1, Accepted(f"peer-{n}", from_peer)) for n in range(MAX_PROVING)]
    assert answers[0] == [Authenticate("peer-0")]
    assert answers[-1] == [Retire(f"peer-{MAX_PROVING - 1}")]
    d.at(0.2, Rejected("accept-0", "timeout"))
    assert d.at(0.2, Accepted("again", from_peer)) == [Authenticate("again")]


def test_the_relay_waits_until_the_head_start_is_over() -> None:
    d = Dialogue(ONE)
    d.at(0.0, Started())
    assert d.at(0.2, RelayReady("relay")) == []
    assert d.due() == 2.0
    assert d.at(2.0, Tick()) == [Nominate("relay")]
    assert d.at(2.1, NominationAcked("relay")) == [
        Choose("relay", "no answer to a SYN to 203.0.113.5:4242 within 2.1 s"),
        Retire("dial-1"),
    ]


def test_a_relay_that_comes_after_the_head_start_is_taken_at_once() -> None:
    d = Dialogue(ONE)
    d.at(0.0, Started())
    assert d.at(2.0, Tick()) == []
    assert d.at(5.0, RelayReady("relay")) == [Nominate("relay")]


def test_a_direct_connection_that_proves_itself_in_time_keeps_the_relay_out() -> None:
    d = Dialogue(ONE)
    d.at(0.0, Started())
    d.at(0.2, RelayReady("relay"))
    assert d.ready(1.9, "dial-1") == [Nominate("dial-1")]
    assert d.at(2.0, Tick()) == []
    assert d.at(2.1, NominationAcked("dial-1")) == [Choose("dial-1", None), Retire("relay")]


def test_where_only_the_relay_is_allowed_nothing_is_dialled_and_nobody_is_let_in() -> None:
    d = Dialogue(ONE, direct=False, why_not="only the relay was allowed")
    assert d.at(0.0, Started()) == []
    assert d.at(0.1, Accepted("accept-1", ONE)) == [Retire("accept-1")]
    assert d.at(0.2, RelayReady("relay")) == [Nominate("relay")]
    assert d.at(0.3, NominationAcked("relay")) == [Choose("relay", "only the relay was allowed")]


def test_where_only_the_relay_is_allowed_its_failure_is_the_end() -> None:
    d = Dialogue(direct=False)
    d.at(0.0, Started())
    assert d.at(0.2, RelayFailed("it is full")) == [Fail("no connection through the relay: it is full")]


def test_a_relay_that_failed_before_the_start_counts() -> None:
    d = Dialogue(direct=False)
    assert d.at(0.0, RelayFailed("it is full")) == []
    assert d.at(0.1, Started()) == [Fail("no connection through the relay: it is full")]


def test_a_dead_relay_does_not_hurt_a_direct_connection() -> None:
    d = Dialogue(ONE)
    d.at(0.0, RelayFailed("unreachable"))
    d.at(0.0, Started())
    assert d.ready(5.0, "dial-1") == [Nominate("dial-1")]
    assert d.at(5.1, NominationAcked("dial-1")) == [Choose("dial-1", None)]


def test_when_the_deadline_passes_everything_is_retired_and_the_reason_told() -> None:
    d = Dialogue(ONE, TWO, relay=False)
    d.at(0.0, Started())
    d.at(0.1, Accepted("accept-1", SOMEBODY))
    fail, *rest = d.at(20.0, Tick())
    assert fail == Fail("no direct connection (2 dials: no answer 2), and no relay: it was not allowed")
    assert rest == [Retire("dial-1"), Retire("dial-2"), Retire("accept-1")]
    assert d.at(20.1, Opened("dial-1")) == [Retire("dial-1")]
    assert d.at(20.1, Accepted("accept-2", SOMEBODY)) == [Retire("accept-2")]
    assert d.at(20.1, Authenticated("accept-1")) == [Retire("accept-1")]
    assert d.at(20.1, RelayReady("relay")) == [Retire("relay")]
    for event in (
        Rejected("accept-1", "key"),
        ConnectionDied("dial-1"),
        Nominated("dial-1"),
        NominationAcked("dial-1"),
    ):
        assert d.at(20.1, event) == []


def test_a_nominated_connection_that_dies_is_followed_by_the_next_one() -> None:
    d = Dialogue(ONE, TWO)
    d.at(0.0, Started())
    assert d.ready(0.1, "dial-1") == [Nominate("dial-1")]
    assert d.ready(0.1, "dial-2") == []
    assert d.at(0.2, ConnectionDied("dial-1")) == [
        Nominate("dial-2"),
    ]
    assert d.at(0.3, NominationAcked("dial-2")) == [Choose("dial-2", None)]


def test_the_only_connection_that_dies_is_dialled_again() -> None:
    d = Dialogue(ONE)
    d.at(0.0, Started())
    d.ready(0.1, "dial-1")
    assert d.at(0.2, ConnectionDied("dial-1")) == [Dial("dial-2", ONE)]


def test_while_an_answer_is_out_nothing_more_is_dialled_but_not_for_ever() -> None:
    d = Dialogue(ONE, TWO)
    d.at(0.0, Started())
    d.ready(0.1, "dial-1")
    assert d.at(0.2, Failed("dial-2", ConnectFailure.REFUSED, "ECONNREFUSED")) == []
    assert d.at(0.1 + ACK_SECONDS, Tick()) == [Dial("dial-3", TWO)]


def test_a_nomination_that_is_not_answered_is_followed_by_another_and_the_first_answer_counts() -> None:
    for answered, other in (("dial-1", "dial-2"), ("dial-2", "dial-1")):
        d = Dialogue(ONE, TWO)
        d.at(0.0, Started())
        assert d.ready(0.1, "dial-1") == [Nominate("dial-1")]
        d.ready(0.2, "dial-2")
        assert d.at(2.0, Tick()) == []
        assert d.due() == 0.1 + ACK_SECONDS
        assert d.at(d.due(), Tick()) == [Nominate("dial-2")]
        assert d.at(3.5, NominationAcked(answered)) == [Choose(answered, None), Retire(other)]
        assert d.at(3.6, NominationAcked(other)) == []


def test_a_relay_is_the_last_resort_of_an_unanswered_nomination() -> None:
    d = Dialogue(ONE)
    d.at(0.0, Started())
    d.at(0.0, RelayReady("relay"))
    d.ready(0.1, "dial-1")
    assert d.at(0.1 + ACK_SECONDS, Tick()) == [Nominate("relay")]


def test_the_controlled_side_answers_the_next_nomination_when_the_first_died_under_its_answer() -> None:
    d = Dialogue(ONE, TWO, controlling=False)
    d.at(0.0, Started())
    d.ready(0.1, "dial-1")
    d.ready(0.1, "dial-2")
    assert d.at(0.2, Nominated("dial-1")) == [Acknowledge("dial-1")]
    assert d.at(0.3, Nominated("dial-2")) == []
    assert d.at(0.4, ConnectionDied("dial-1")) == [Acknowledge("dial-2")]
    assert d.at(0.5, AcknowledgementSent("dial-2")) == [Choose("dial-2", None)]


def test_a_peer_that_answers_what_nobody_asked_or_nominates_out_of_its_role_chooses_nothing() -> None:
    d = Dialogue(ONE, TWO)
    d.at(0.0, Started())
    d.ready(0.1, "dial-1")
    d.ready(0.1, "dial-2")
    assert d.at(0.2, NominationAcked("dial-2")) == []
    assert d.at(0.2, Nominated("dial-2")) == []
    assert not d.agent.decided


def test_a_relay_that_is_nominated_before_our_own_start_is_answered() -> None:
    d = Dialogue(ONE, controlling=False)
    d.at(0.0, RelayReady("relay"))
    assert d.at(0.1, Nominated("relay")) == [Acknowledge("relay")]
    choice, *_ = d.at(0.1, AcknowledgementSent("relay"))
    assert isinstance(choice, Choose)


def test_every_wake_lies_ahead_so_the_driver_never_spins() -> None:
    d = Dialogue(ONE, TWO)
    d.at(0.0, Started())
    now, flying = 0.0, ["dial-1", "dial-2"]
    while now < 19.5:
        commands = [command for key in flying for command in d.at(now, Failed(key, ConnectFailure.REFUSED, "x"))]
        if not commands:
            assert d.due() > now
            now = d.due()
            commands = d.at(now, Tick())
        flying = [command.id for command in commands if isinstance(command, Dial)]
        assert len(flying) == len(commands)
    assert 300 < d.agent.dials < 800


def test_at_the_deadline_an_answer_that_is_out_is_still_waited_for() -> None:
    for answered in (True, False):
        d = Dialogue(ONE)
        d.at(0.0, Started())
        assert d.ready(19.5, "dial-1") == [Nominate("dial-1")]
        assert d.at(20.0, Tick()) == []
        assert d.due() == 19.5 + ACK_SECONDS
        if answered:
            assert d.at(21.0, NominationAcked("dial-1")) == [Choose("dial-1", None)]
        else:
            fail, *rest = d.at(d.due(), Tick())
            assert isinstance(fail, Fail)
            assert rest == [Retire("dial-1")]


def moving(**changes: Any) -> Dialogue:
    """Both sides can move what has begun, and there is a relay already."""
    d = Dialogue(ONE, **({"moving": True, "head_start": 0.05} | changes))
    d.at(0.0, Started())
    d.at(0.0, RelayReady("relay"))
    return d


def test_what_can_move_begins_on_the_relay_and_ends_on_the_first_direct_connection() -> None:
    d = moving()
    assert d.at(d.due(), Tick()) == [Use("relay")]
    assert not d.agent.decided
    assert d.ready(7.0, "dial-1") == [Nominate("dial-1", True)]
    assert d.at(7.1, NominationAcked("dial-1")) == [Choose("dial-1", None)]
    assert not d.is_waiting()


def test_the_controlled_side_answers_for_the_relay_and_once_more_for_the_direct_connection() -> None:
    d = moving(controlling=False)
    assert d.at(0.1, Nominated("relay")) == [Use("relay")]
    assert d.ready(7.0, "dial-1") == []
    d.at(7.0, Accepted("accept-1", SOMEBODY))
    assert d.at(7.1, Nominated("dial-1", True)) == [Acknowledge("dial-1")]
    assert d.at(7.1, AcknowledgementSent("dial-1")) == [Choose("dial-1", None), Retire("accept-1")]


def test_a_direct_connection_that_is_there_first_keeps_the_relay_out_also_where_it_could_move() -> None:
    d = moving()
    assert d.ready(0.04, "dial-1") == [Nominate("dial-1")]
    assert d.at(0.05, Tick()) == []
    assert d.at(0.06, NominationAcked("dial-1")) == [Choose("dial-1", None), Retire("relay")]


def test_while_an_answer_is_awaited_nothing_begins_elsewhere_and_what_has_begun_hinders_no_answer() -> None:
    d = moving()
    d.ready(0.04, "dial-1")
    assert d.at(0.05, Tick()) == []
    assert d.at(0.04 + ACK_SECONDS, Tick()) == [Use("relay")], "it may never come"
    assert d.at(4.0, NominationAcked("dial-1")) == [Choose("dial-1", None)]
    d = moving(controlling=False)
    d.ready(0.04, "dial-1")
    assert d.at(0.05, Nominated("dial-1")) == [Acknowledge("dial-1")]
    assert d.at(0.05, Nominated("relay")) == [Use("relay")]
    assert d.at(0.05, AcknowledgementSent("dial-1")) == [Choose("dial-1", None)]


def test_a_nomination_that_overtakes_the_beginning_on_the_relay_is_answered_after_that() -> None:
    d = moving(controlling=False)
    d.ready(0.1, "dial-1")
    d.at(0.1, Accepted("accept-1", SOMEBODY))
    d.at(0.1, Authenticated("accept-1"))
    assert d.at(0.11, Nominated("dial-1", True)) == []
    assert d.at(0.12, Nominated("accept-1", True)) == []
    assert d.at(0.13, ConnectionDied("dial-1")) == []
    assert d.at(0.16, Nominated("relay")) == [Use("relay"), Acknowledge("accept-1")]
    assert d.at(0.16, AcknowledgementSent("accept-1")) == [Choose("accept-1", None)]


def test_while_the_relay_is_used_dials_go_on_as_if_there_was_none() -> None:
    d = moving()
    d.at(d.due(), Tick())
    assert d.at(0.2, Failed("dial-1", ConnectFailure.REFUSED, "ECONNREFUSED")) == [Dial("dial-2", ONE)]
    assert d.ready(0.3, "dial-2") == [Nominate("dial-2", True)]
    assert d.at(0.4, ConnectionDied("dial-2")) == [Dial("dial-3", ONE)]
    assert d.ready(5.0, "dial-3") == [Nominate("dial-3", True)]
    assert d.at(5.1, NominationAcked("dial-3")) == [Choose("dial-3", None)]


@pytest.mark.parametrize("controlling", [True, False])
def test_where_no_direct_connection_comes_about_the_relay_stays_and_the_reason_is_told(controlling: bool) -> None:
    d = moving(controlling=controlling)
    assert d.at(0.05, Tick() if controlling else Nominated("relay")) == [Use("relay")]
    assert d.at(20.0, Tick()) == [
        Choose("relay", "no answer to a SYN to 203.0.113.5:4242 within 20.0 s"),
        Retire("dial-1"),
    ]
    assert d.agent.decided
    assert d.at(20.1, Opened("dial-1")) == [Retire("dial-1")]


def test_what_is_over_needs_no_better_path() -> None:
    d = moving()
    assert d.at(0.01, Stopped()) == [], "nothing has begun"
    d.at(d.due(), Tick())
    choose, *rest = d.at(1.0, Stopped())
    assert isinstance(choose, Choose)
    assert (choose.id, rest) == ("relay", [Retire("dial-1")])
    assert (choose.reason or "").startswith("it was over before more was tried; no answer to a SYN")
    assert d.at(1.1, Stopped()) == []


def test_where_only_the_relay_is_allowed_nothing_is_to_move() -> None:
    d = moving(direct=False, why_not="only the relay was allowed", head_start=0.0)
    assert d.at(0.3, NominationAcked("relay")) == [Choose("relay", "only the relay was allowed")]


def test_a_relay_that_comes_just_before_the_deadline_is_not_begun_on() -> None:
    """The other side, whose deadline may be a little earlier, would have given up and never know."""
    d = Dialogue(ONE, moving=True)
    d.at(0.0, Started())
    assert d.at(20.0 - ACK_SECONDS, RelayReady("relay")) == []
    fail, *_ = d.at(20.0, Tick())
    assert isinstance(fail, Fail)
    d = Dialogue(ONE, moving=True)
    d.at(0.0, Started())
    assert d.at(19.9 - ACK_SECONDS, RelayReady("relay")) == [Use("relay")]
