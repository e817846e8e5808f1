"""The meeting's machine in dialogues: with its clock in hand, and two of them against a server in memory."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rendezvous_support import APP_ID, SERVER, Peer, World, make_machine, make_plan

from midair.errors import (
    CrowdedError,
    IncompatibleError,
    MidairError,
    PeerLostError,
    QuotaError,
    RemoteProtocolError,
    ServerUnreachableError,
    UnknownCodeError,
    WrongCodeError,
)
from midair.rendezvous import machine as machine_module
from midair.rendezvous import steps, wire
from midair.rendezvous.keys import KeyExchange
from midair.rendezvous.machine import Machine, UnprovenError
from midair.rendezvous.refusals import TurnedAwayError
from midair.rendezvous.stages import CONFIRM_SECONDS, NEXT, PROOF_SECONDS, Stage

WELCOME = wire.Welcome(welcome=wire.WelcomeInfo())


def met_pair(world: World) -> tuple[Peer, Peer]:
    sender = world.add(make_plan(side="aaaa"))
    world.settle()
    receiver = world.add(make_plan(side="bbbb", role="receiver", nameplate="7", wait=10.0))
    world.settle()
    assert sender.met is not None
    assert receiver.met is not None
    assert sender.met.key == receiver.met.key
    return sender, receiver


def hear(machine: Machine, frame: wire.ServerFrame, now: float) -> list[steps.Command]:
    return machine.handle(steps.Received(frame=frame), now=now)


def frames(commands: list[steps.Command]) -> list[wire.ClientFrame]:
    return [command.frame for command in commands if isinstance(command, steps.Transmit)]


def test_a_sender_allocates_claims_opens_and_speaks_first() -> None:
    machine = make_machine(make_plan())
    assert machine.handle(steps.Started(), now=0) == [steps.Connect()]
    assert frames(machine.handle(steps.Connected(), now=0)) == [wire.Bind(appid=APP_ID, side="aaaa"), wire.Allocate()]
    assert hear(machine, WELCOME, 0) == []
    assert frames(hear(machine, wire.Allocated(nameplate="7"), 0)) == [wire.Claim(nameplate="7")]
    announce, *rest = hear(machine, wire.Claimed(mailbox="box"), 0)
    assert announce == steps.Announce(code="7-acorn-volcano")
    opened, pake, ping = frames(rest)
    assert opened == wire.Open(mailbox="box")
    assert isinstance(pake, wire.Add)
    assert pake.phase == "pake"
    assert isinstance(ping, wire.Ping)
    assert machine.stage is Stage.WAITING


def test_the_stages_lead_to_an_end_and_nowhere_from_there() -> None:
    assert set(NEXT) == set(Stage)
    assert NEXT[Stage.OVER] == frozenset()
    assert all(Stage.OVER in following for stage, following in NEXT.items() if stage is not Stage.OVER)


def test_two_machines_meet_and_talk_in_order() -> None:
    world = World()
    sender, receiver = met_pair(world)
    assert sender.met is not None
    assert receiver.met is not None
    assert sender.met.peer_versions == {"from": "bbbb", "role": "receiver"}
    assert receiver.met.peer_versions == {"from": "aaaa", "role": "sender"}
    for number in range(20):
        sender.send(b"s%d" % number)
        receiver.send(b"r%d" % number)
    world.settle()
    assert receiver.delivered == [b"s%d" % number for number in range(20)]
    assert sender.delivered == [b"r%d" % number for number in range(20)]


def test_the_number_is_free_again_once_both_have_met() -> None:
    world = World()
    met_pair(world)
    assert world.server.nameplates == {}


def test_after_both_have_left_the_server_holds_nothing() -> None:
    world = World()
    sender, receiver = met_pair(world)
    sender.close()
    receiver.close()
    world.settle()
    assert sender.finished
    assert receiver.finished
    assert world.server.mailboxes == {}
    assert world.server.moods == {"aaaa": "happy", "bbbb": "happy"}


def test_a_wrong_code_is_found_out_by_both_and_both_leave_scared() -> None:
    world = World()
    sender = world.add(make_plan(side="aaaa"))
    world.settle()
    receiver = world.add(make_plan(side="bbbb", role="receiver", nameplate="7", secret="acorn-tornado"))
    world.settle()
    for peer in (sender, receiver):
        assert [type(error) for error in peer.errors] == [WrongCodeError]
        assert peer.met is None
        assert peer.finished
    assert world.server.moods == {"aaaa": "scary", "bbbb": "scary"}
    assert world.server.mailboxes == {}


def test_nothing_but_pake_and_version_is_said_before_the_other_key_is_confirmed() -> None:
    world = World()
    sender = world.add(make_plan(side="aaaa"))
    world.settle()
    sender.send(b"too early")
    world.add(make_plan(side="bbbb", role="receiver", nameplate="7", secret="acorn-tornado"))
    world.settle()
    assert {frame.phase for frame in sender.said if isinstance(frame, wire.Add)} == {"pake", "version"}


def test_a_receiver_nobody_waits_for_gives_the_number_back() -> None:
    world = World()
    receiver = world.add(make_plan(side="bbbb", role="receiver", nameplate="9", wait=10.0))
    world.advance(9.9)
    assert receiver.errors == []
    world.advance(0.2)
    assert [type(error) for error in receiver.errors] == [UnknownCodeError]
    assert "9" in str(receiver.errors[0])
    assert receiver.finished
    assert world.server.moods == {"bbbb": "lonely"}
    assert world.server.nameplates == {}
    assert world.server.mailboxes == {}


def test_a_sender_waits_without_limit_and_keeps_its_connection_alive() -> None:
    world = World()
    sender = world.add(make_plan(side="aaaa"))
    world.advance(24 * 3600)
    assert sender.errors == []
    assert len(world.server.connections) == 1
    pings = sum(isinstance(frame, wire.Ping) for frame in sender.said)
    assert 2800 < pings < 2900


def test_a_sender_with_a_limit_gives_up_after_it() -> None:
    world = World()
    sender = world.add(make_plan(side="aaaa", wait=30.0))
    world.advance(31)
    assert [type(error) for error in sender.errors] == [PeerLostError]
    assert world.server.nameplates == {}


def test_a_peer_that_never_proves_its_key_is_not_waited_for_forever() -> None:
    world = World()
    sender = world.add(make_plan(side="aaaa"))
    world.settle()
    world.server.post("box1", "bbbb", "pake", world.server.mailboxes["box1"][0].body)
    world.settle()
    # Our own message sent back under another name is also no key exchange.
    assert [type(error) for error in sender.errors] == [RemoteProtocolError]

    world = World()
    sender = world.add(make_plan(side="aaaa"))
    world.settle()
    world.server.post("box1", "bbbb", "something-newer", "00")
    world.advance(PROOF_SECONDS + 1)
    assert [type(error) for error in sender.errors] == [UnprovenError]


def test_who_goes_away_without_a_proof_has_had_no_guess() -> None:
    """A sender's first sealed message is what a guess could be tested with."""
    world = World()
    sender = world.add(make_plan(side="aaaa"))
    world.settle()
    stranger = KeyExchange("7-acorn-tornado", APP_ID, bytes)
    world.server.post("box1", "bbbb", "pake", stranger.message.hex())
    world.advance(PROOF_SECONDS - 1)
    assert sender.errors == []
    world.advance(2)
    assert [type(error) for error in sender.errors] == [UnprovenError]
    assert {frame.phase for frame in sender.said if isinstance(frame, wire.Add)} == {"pake"}
    assert world.server.nameplates == {}


def test_a_receiver_proves_itself_first_and_has_more_patience() -> None:
    """The sender may have to notice that its connection died while it waited."""
    world = World()
    receiver = world.add(make_plan(side="bbbb", role="receiver", nameplate="7", wait=10.0))
    world.settle()
    world.server.post("box1", "aaaa", "pake", KeyExchange("7-acorn-volcano", APP_ID, bytes, waits=True).message.hex())
    world.advance(59)
    assert receiver.errors == []
    assert {frame.phase for frame in receiver.said if isinstance(frame, wire.Add)} == {"pake", "version"}
    world.advance(2)
    assert [type(error) for error in receiver.errors] == [UnprovenError]


def test_two_senders_cannot_meet() -> None:
    world = World()
    one = world.add(make_plan(side="aaaa", nameplate="5"))
    other = world.add(make_plan(side="bbbb", nameplate="5"))
    world.settle()
    for peer in (one, other):
        assert [type(error) for error in peer.errors] == [IncompatibleError]
        assert peer.met is None


def test_a_third_side_in_the_mailbox_ends_the_meeting() -> None:
    world = World()
    sender, _ = met_pair(world)
    world.server.post("box1", "cccc", "pake", "00")
    world.settle()
    assert [type(error) for error in sender.errors] == [CrowdedError]


def test_a_third_side_is_turned_away_by_the_server() -> None:
    world = World()
    world.add(make_plan(side="aaaa", nameplate="5"))
    world.add(make_plan(side="bbbb", role="receiver", nameplate="5", secret="abcd"))
    world.peers[1].wants_connection = False
    world.settle()
    world.server.nameplates["5"][1].add("bbbb")
    world.server.sides["box1"].add("bbbb")
    third = world.add(make_plan(side="cccc", role="receiver", nameplate="5"))
    world.settle()
    assert [type(error) for error in third.errors] == [TurnedAwayError]
    assert wire.Release(nameplate="5") in third.said


def test_our_own_messages_are_never_delivered_to_us() -> None:
    world = World()
    sender, receiver = met_pair(world)
    sender.send(b"one")
    world.settle()
    assert sender.delivered == []
    assert receiver.delivered == [b"one"]


def test_a_changed_message_ends_the_meeting_and_is_not_delivered() -> None:
    world = World()
    sender, receiver = met_pair(world)
    world.server.post("box1", "aaaa", "0", "00" * 60)
    world.settle()
    assert receiver.delivered == []
    assert [type(error) for error in receiver.errors] == [RemoteProtocolError]
    assert sender.errors == []


def test_a_message_moved_to_another_number_does_not_unseal() -> None:
    world = World()
    sender, receiver = met_pair(world)
    sender.send(b"zero")
    body = world.server.mailboxes["box1"][-1].body
    world.settle()
    world.server.post("box1", "aaaa", "1", body)
    world.settle()
    assert receiver.delivered == [b"zero"]
    assert [type(error) for error in receiver.errors] == [RemoteProtocolError]


def test_messages_out_of_turn_and_twice_are_delivered_once_in_order() -> None:
    world = World()
    sender, receiver = met_pair(world)
    world.server.connections.remove(receiver.connection)  # type: ignore[arg-type]
    for number in range(5):
        sender.send(b"%d" % number)
    kept = [message for message in world.server.mailboxes["box1"] if message.phase.isdigit()]
    assert len(kept) == 5
    for index in (4, 2, 2, 1, 0, 0, 3, 4):
        receiver.feed(steps.Received(frame=kept[index]))
    assert receiver.delivered == [b"0", b"1", b"2", b"3", b"4"]


def test_a_message_far_out_of_turn_is_refused_before_it_is_stored() -> None:
    world = World()
    _, receiver = met_pair(world)
    world.server.post("box1", "aaaa", "64", "00")
    world.settle()
    assert [type(error) for error in receiver.errors] == [RemoteProtocolError]


@pytest.mark.parametrize("phase", ["dilate-0", "00", "٣", "-1", "version2"])
def test_phases_nobody_knows_are_passed_over(phase: str) -> None:
    world = World()
    _, receiver = met_pair(world)
    world.server.post("box1", "aaaa", phase, "00")
    world.settle()
    assert receiver.errors == []
    assert receiver.delivered == []


def test_the_version_before_the_pake_waits_for_it() -> None:
    world = World()
    sender = world.add(make_plan(side="aaaa"))
    world.settle()
    receiver = world.add(make_plan(side="bbbb", role="receiver", nameplate="7"))
    while sum(message.side == "bbbb" for message in world.server.mailboxes["box1"]) < 2:
        assert receiver.step()
    assert sender.connection is not None
    theirs = [frame for frame in sender.connection.frames if isinstance(frame, wire.Message)]
    sender.connection.frames.clear()
    for frame in reversed(theirs):
        sender.feed(steps.Received(frame=frame))
    assert sender.met is not None


def test_a_message_before_the_version_waits_for_it() -> None:
    world = World()
    sender = world.add(make_plan(side="aaaa"))
    world.settle()
    receiver = world.add(make_plan(side="bbbb", role="receiver", nameplate="7"))
    while sender.met is None:
        # The receiver hears the pake, answers it, and then nothing for a while.
        if not any(frame.phase == "version" for frame in receiver.said if isinstance(frame, wire.Add)):
            receiver.step()
        sender.step()
    sender.send(b"hello")
    assert receiver.connection is not None
    theirs = [frame for frame in receiver.connection.frames if isinstance(frame, wire.Message) and frame.side == "aaaa"]
    assert [frame.phase for frame in theirs] == ["version", "0"]
    receiver.feed(steps.Received(frame=theirs[1]))
    assert receiver.delivered == []
    assert receiver.errors == []
    receiver.feed(steps.Received(frame=theirs[0]))
    assert receiver.delivered == [b"hello"]


# Lost connections


def test_the_first_connection_is_not_tried_twice() -> None:
    machine = make_machine(make_plan())
    machine.handle(steps.Started(), now=0)
    error = ServerUnreachableError("nothing listens there")
    commands = machine.handle(steps.ConnectFailed(error=error), now=1)
    assert commands == [steps.Fail(error=error), steps.Finish()]


def test_a_server_that_says_nothing_is_given_up() -> None:
    machine = make_machine(make_plan())
    machine.handle(steps.Started(), now=0)
    machine.handle(steps.Connected(), now=0)
    assert machine.deadline == 15
    fail, *_ = machine.handle(steps.TimePassed(), now=15)
    assert isinstance(fail, steps.Fail)
    assert isinstance(fail.error, ServerUnreachableError)
    assert SERVER in str(fail.error)
    assert machine.deadline == pytest.approx(16.2)
    assert machine.handle(steps.TimePassed(), now=16.3) == [steps.Finish()]


def test_a_lost_connection_is_made_again_with_growing_pauses() -> None:
    machine = make_machine(make_plan())
    machine.handle(steps.Started(), now=0)
    machine.handle(steps.Connected(), now=0)
    hear(machine, WELCOME, 0)
    error = ServerUnreachableError("nothing listens there")
    assert machine.handle(steps.Disconnected(reason="gone"), now=10) == []
    now, pauses = 10.0, []
    while True:
        assert machine.deadline is not None
        pauses.append(machine.deadline - now)
        now = machine.deadline
        commands = machine.handle(steps.TimePassed(), now=now)
        if commands != [steps.Connect()]:
            break
        assert machine.handle(steps.ConnectFailed(error=error), now=now) == []
    assert pauses[:6] == [0.5, 1, 2, 4, 8, 8]
    assert now == 70
    assert commands == [steps.Fail(error=error), steps.Finish()]


def test_a_connection_that_answers_no_ping_is_dropped() -> None:
    world = World()
    sender = world.add(make_plan(side="aaaa"))
    world.settle()
    dead = sender.connection
    sender.mute = True
    world.now += 30
    sender.feed(steps.TimePassed())
    assert isinstance(sender.said[-1], wire.Ping)
    world.now += 15
    sender.feed(steps.TimePassed())
    assert world.server.connections == []
    world.advance(1)
    assert sender.connection not in (None, dead)
    assert sender.errors == []


def test_what_was_not_echoed_is_said_again_on_the_next_connection() -> None:
    world = World()
    sender, receiver = met_pair(world)
    assert sender.connection is not None
    sender.mute = True
    sender.send(b"lost on the way")
    sender.lose_connection()
    sender.send(b"said while away")
    world.advance(1)
    assert receiver.delivered == [b"lost on the way", b"said while away"]


def test_what_was_echoed_is_not_said_again() -> None:
    world = World()
    sender, _ = met_pair(world)
    sender.send(b"once")
    world.settle()
    before = len(world.server.mailboxes["box1"])
    sender.lose_connection()
    world.advance(1)
    assert sender.connection is not None
    assert len(world.server.mailboxes["box1"]) == before


def test_a_server_that_forgot_everything_is_told_again() -> None:
    world = World()
    sender, receiver = met_pair(world)
    sender.send(b"before")
    world.settle()
    world.server.forget()
    for peer in (sender, receiver):
        peer.lose_connection()
    world.advance(1)
    sender.send(b"after")
    receiver.send(b"answer")
    world.settle()
    assert receiver.delivered == [b"before", b"after"]
    assert sender.delivered == [b"answer"]
    assert {message.phase for message in world.server.mailboxes["box1"]} == {"pake", "version", "0", "1"}


def test_a_sender_whose_server_forgot_it_while_waiting_is_still_found() -> None:
    world = World()
    sender = world.add(make_plan(side="aaaa"))
    world.settle()
    world.server.forget()
    sender.lose_connection()
    world.advance(1)
    receiver = world.add(make_plan(side="bbbb", role="receiver", nameplate="7", wait=10.0))
    world.settle()
    assert sender.met is not None
    assert receiver.met is not None
    assert sender.announced == ["7-acorn-volcano"]


def test_the_outage_is_over_when_the_mailbox_has_been_played() -> None:
    world = World()
    sender, _ = met_pair(world)
    for _ in range(5):
        world.server.up = False
        sender.lose_connection()
        world.advance(40)
        world.server.up = True
        world.advance(10)
        assert sender.connection is not None
    assert sender.errors == []


ACTIONS = ["step", "send", "mute", "lose", "lose both", "wait"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(ACTIONS)), max_size=60))
def test_whatever_connections_break_every_message_arrives_once_and_in_order(plan: list[tuple[str, str]]) -> None:
    """A sender that waits for the proof until every dead connection has been noticed."""
    with mock.patch.object(machine_module, "PROOF_SECONDS", CONFIRM_SECONDS):
        play(plan)


def play(plan: list[tuple[str, str]]) -> None:
    world = World()
    sender = world.add(make_plan(side="aaaa", nameplate="7"))
    receiver = world.add(make_plan(side="bbbb", role="receiver", nameplate="7"))
    peers = {"a": sender, "b": receiver}
    for peer in peers.values():
        while peer.machine.stage is Stage.CLAIMING:
            peer.step()
    sent: dict[str, list[bytes]] = {"a": [], "b": []}
    for name, action in plan:
        match action:
            case "step":
                peers[name].step()
            case "send" if peers[name].met:
                sent[name].append(b"%d" % len(sent[name]))
                peers[name].send(sent[name][-1])
            case "mute":
                peers[name].mute = True
            case "lose":
                peers[name].lose_connection()
            case "lose both":
                sender.lose_connection()
                receiver.lose_connection()
            case "wait":
                world.advance(0.3)
    # Long enough for dead connections to be noticed.
    world.advance(100)
    assert sender.errors == receiver.errors == []
    assert receiver.delivered == sent["a"]
    assert sender.delivered == sent["b"]


# The end


def test_leaving_while_away_tells_the_server_on_one_last_connection() -> None:
    world = World()
    sender, receiver = met_pair(world)
    sender.lose_connection()
    sender.send(b"last words")
    sender.close()
    world.settle()
    assert sender.finished
    assert world.server.moods == {"aaaa": "happy"}
    assert receiver.delivered == [b"last words"]


def test_leaving_a_server_that_is_gone_ends_at_the_first_failed_try() -> None:
    world = World()
    sender, _ = met_pair(world)
    world.server.up = False
    sender.lose_connection()
    sender.close()
    world.settle()
    assert sender.finished
    assert sender.errors == []


def test_leaving_before_the_number_is_known_still_gives_it_back() -> None:
    machine = make_machine(make_plan())
    machine.handle(steps.Started(), now=0)
    machine.handle(steps.Connected(), now=0)
    hear(machine, WELCOME, 0)
    assert machine.handle(steps.CloseRequested(mood="lonely"), now=1) == []
    assert frames(hear(machine, wire.Allocated(nameplate="7"), 1)) == [wire.Release(nameplate="7")]
    assert hear(machine, wire.Released(), 1) == [steps.Finish()]


def test_leaving_before_the_mailbox_is_known_still_closes_it() -> None:
    machine = make_machine(make_plan(nameplate="7"))
    machine.handle(steps.Started(), now=0)
    machine.handle(steps.Connected(), now=0)
    hear(machine, WELCOME, 0)
    assert frames(machine.handle(steps.CloseRequested(mood="lonely"), now=1)) == [wire.Release(nameplate="7")]
    assert frames(hear(machine, wire.Claimed(mailbox="box"), 1)) == [wire.Close(mailbox="box", mood="lonely")]
    assert hear(machine, wire.Released(), 1) == []
    assert hear(machine, wire.Closed(), 1) == [steps.Finish()]


def test_leaving_does_not_wait_long_for_a_server_that_says_nothing() -> None:
    world = World()
    sender, _ = met_pair(world)
    sender.mute = True
    sender.close()
    world.advance(1.3)
    assert sender.finished


def test_after_the_end_nothing_happens_any_more() -> None:
    world = World()
    sender, _ = met_pair(world)
    sender.close()
    sender.close()
    world.settle()
    assert sender.finished
    for event in (steps.Connected(), steps.TimePassed(), steps.SendRequested(message=b"x")):
        assert sender.machine.handle(event, now=world.now) == []
    assert sender.machine.deadline is None


# What the server says


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("crowded", TurnedAwayError),
        ("limit: 50 mailboxes for one address", QuotaError),
        ("too many connections", QuotaError),
        ("reclaimed", RemoteProtocolError),
        ("must bind first", RemoteProtocolError),
        ("unlimited nonsense", RemoteProtocolError),
    ],
)
def test_a_refusal_becomes_the_error_it_means(text: str, kind: type[MidairError]) -> None:
    world = World()
    sender = world.add(make_plan(side="aaaa"))
    world.settle()
    sender.feed(steps.Received(frame=wire.Error(error=text)))
    assert [type(error) for error in sender.errors] == [kind]


def test_the_servers_words_are_shown_short_and_without_control_characters() -> None:
    world = World()
    sender = world.add(make_plan(side="aaaa"))
    world.settle()
    sender.feed(steps.Received(frame=wire.Error(error="\x1b[31mred\n" + "x" * 10_000)))
    assert "\x1b" not in str(sender.errors[0])
    assert len(str(sender.errors[0])) < 300


def test_a_welcome_may_turn_everybody_away() -> None:
    machine = make_machine(make_plan())
    machine.handle(steps.Started(), now=0)
    machine.handle(steps.Connected(), now=0)
    fail, *_ = hear(machine, wire.Welcome(welcome=wire.WelcomeInfo(error="closed for today")), 0)
    assert isinstance(fail, steps.Fail)
    assert "closed for today" in str(fail.error)


@pytest.mark.parametrize("nameplate", ["007", "1234567890"])
def test_a_number_no_person_could_hand_on_is_refused(nameplate: str) -> None:
    machine = make_machine(make_plan())
    machine.handle(steps.Started(), now=0)
    machine.handle(steps.Connected(), now=0)
    hear(machine, WELCOME, 0)
    fail, *_ = hear(machine, wire.Allocated(nameplate=nameplate), 0)
    assert isinstance(fail, steps.Fail)
    assert isinstance(fail.error, RemoteProtocolError)


def test_a_broken_frame_ends_the_meeting() -> None:
    world = World()
    sender, _ = met_pair(world)
    sender.feed(steps.Violated(reason="not a mailbox frame"))
    world.settle()
    assert [type(error) for error in sender.errors] == [RemoteProtocolError]
    assert sender.finished


SERVER_FRAMES: st.SearchStrategy[wire.ServerFrame | wire.Unknown] = st.one_of(
    st.sampled_from(
        [
            WELCOME,
            wire.Allocated(nameplate="7"),
            wire.Claimed(mailbox="box"),
            wire.Claimed(mailbox="other"),
            wire.Released(),
            wire.Closed(),
            wire.Ack(),
            wire.Nameplates(nameplates=[]),
            wire.Error(error="crowded"),
            wire.Unknown(type="x"),
        ]
    ),
    st.builds(wire.Pong, pong=st.integers(0, 3)),
    st.builds(
        wire.Message,
        side=st.sampled_from(["aaaa", "bbbb", "cccc"]),
        phase=st.sampled_from(["pake", "version", "0", "1", "63", "64", "999999999999", "x"]),
        body=st.binary(max_size=80).map(bytes.hex),
    ),
)
EVENTS: st.SearchStrategy[steps.Event] = st.one_of(
    st.builds(steps.Received, frame=SERVER_FRAMES),
    st.just(steps.Disconnected(reason="gone")),
    st.just(steps.Violated(reason="garbage")),
    st.just(steps.TimePassed()),
    st.just(steps.SendRequested(message=b"x")),
    st.just(steps.CloseRequested(mood="happy")),
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([None, "7"]), st.lists(st.tuples(EVENTS, st.floats(0, 20)), max_size=40))
def test_no_sequence_of_frames_breaks_the_machine(
    nameplate: str | None, events: list[tuple[steps.Event, float]]
) -> None:
    machine = make_machine(make_plan(nameplate=nameplate))
    now, connected, connecting = 0.0, False, True
    machine.handle(steps.Started(), now=now)
    for event, pause in events:
        now += pause
        if connecting:
            event, connecting, connected = steps.Connected(), False, True
        elif not connected and isinstance(event, steps.Received | steps.Disconnected | steps.Violated):
            continue
        elif isinstance(event, steps.Disconnected):
            connected = False
        commands = machine.handle(event, now=now)
        connecting = connecting or steps.Connect() in commands
        if steps.Drop() in commands:
            connected = False
            commands += machine.handle(steps.Disconnected(reason="dropped"), now=now)
        assert sum(isinstance(command, steps.Fail) for command in commands) <= 1
        if machine.stage is Stage.OVER:
            assert commands[-1] == steps.Finish()
            return
        assert machine.deadline is not None or connecting
