"""The plain puncher as a dialogue: what it is told at which time, and what it orders."""

from __future__ import annotations

import pytest

from midair.lab.puncher.machine import (
    Accepted,
    Command,
    Dial,
    Event,
    Failed,
    Listen,
    Opened,
    Puncher,
    Received,
    Send,
    Started,
    Stop,
    Tick,
    WakeAt,
)
from midair.lab.puncher.story import EndStory, Note, Punch

HELLO = b"7 b dial-1\n"


@pytest.fixture
def puncher() -> Puncher:
    return Puncher("7", "a", pause=0.25)  # a number that floats have


def dialogue(puncher: Puncher, *lines: tuple[float, Event, list[Command]]) -> None:
    for at, event, commands in lines:
        assert puncher.handle(event, at) == commands


def test_it_listens_and_dials_when_it_starts_and_dials_again_a_pause_after_an_error(puncher: Puncher) -> None:
    dialogue(
        puncher,
        (10.0, Started(), [Listen(), WakeAt(13.5), Dial("dial-1")]),
        (10.125, Failed("dial-1", "ECONNREFUSED"), [WakeAt(10.375)]),
        (10.25, Tick(), [WakeAt(10.375)]),
        (10.375, Tick(), [WakeAt(13.5), Dial("dial-2")]),
    )
    assert not puncher.over


def test_it_says_hello_on_everything_that_opens_and_is_through_when_it_hears_the_other(puncher: Puncher) -> None:
    dialogue(
        puncher,
        (0.0, Started(), [Listen(), WakeAt(3.5), Dial("dial-1")]),
        (0.1, Opened("dial-1"), [Send("dial-1", b"7 a dial-1\n")]),
        (0.12, Accepted("accept-1"), [Send("accept-1", b"7 a accept-1\n")]),
        (0.15, Received("dial-1", HELLO[:4]), []),
    )
    assert (puncher.through, puncher.over) == (False, False)
    dialogue(puncher, (0.16, Received("dial-1", HELLO[4:]), []), (3.5, Tick(), []))
    assert (puncher.through, puncher.over) == (True, True)
    assert puncher.heard == {"dial-1": "dial-1"}


@pytest.mark.parametrize("line", [b"8 b dial-1\n", b"7 a dial-1\n", b"HTTP/1.1 400 Bad Request\r\n", b"\xff\n"])
def test_it_does_not_take_somebody_else_for_the_peer(puncher: Puncher, line: bytes) -> None:
    dialogue(
        puncher,
        (0.0, Started(), [Listen(), WakeAt(3.5), Dial("dial-1")]),
        (0.1, Accepted("accept-1"), [Send("accept-1", b"7 a accept-1\n")]),
        (0.2, Received("accept-1", line), []),
    )
    assert not puncher.through
    assert puncher.notes[-1] == Note(at=0.2, what="met a stranger", id="accept-1")


def test_it_gives_up_after_three_and_a_half_seconds_and_does_nothing_more(puncher: Puncher) -> None:
    dialogue(
        puncher,
        (1.0, Started(), [Listen(), WakeAt(4.5), Dial("dial-1")]),
        (4.5, Tick(), [Stop()]),
        (4.6, Failed("dial-1", "ETIMEDOUT"), []),
        (4.7, Accepted("accept-1"), []),
    )
    assert puncher.over
    assert not puncher.through


def test_it_dials_again_when_a_dialled_connection_dies_and_not_when_an_accepted_one_does(puncher: Puncher) -> None:
    dialogue(
        puncher,
        (0.0, Started(), [Listen(), WakeAt(3.5), Dial("dial-1")]),
        (0.1, Accepted("accept-1"), [Send("accept-1", b"7 a accept-1\n")]),
        (0.2, Failed("accept-1", "ECONNRESET"), []),
        (0.3, Opened("dial-1"), [Send("dial-1", b"7 a dial-1\n")]),
        (0.5, Failed("dial-1", "closed"), [WakeAt(0.75)]),
        (0.75, Tick(), [WakeAt(3.5), Dial("dial-2")]),
    )


def test_the_last_pause_ends_at_the_deadline(puncher: Puncher) -> None:
    dialogue(
        puncher,
        (0.0, Started(), [Listen(), WakeAt(3.5), Dial("dial-1")]),
        (3.4, Failed("dial-1", "ECONNREFUSED"), [WakeAt(3.5)]),
        (3.5, Tick(), [Stop()]),
    )


def end(name: str, heard: tuple[tuple[str, str], ...], *, started: float = 0.0, at: float = 0.2) -> EndStory:
    notes = tuple(Note(at=at, what="heard", id=ours) for ours, _ in heard)
    return EndStory(name=name, started=started, local="", seen="", notes=notes, heard=heard)


def test_a_punch_is_through_when_both_have_heard_each_other_on_one_connection() -> None:
    a = end("a", (("accept-1", "dial-2"), ("dial-1", "accept-1")))
    b = end("b", (("dial-2", "accept-1"),), started=0.1, at=0.15)
    punch = Punch(a=a, b=b)
    assert punch.through
    assert (punch.how, punch.seconds) == (("accept", "connect"), 0.25)


@pytest.mark.parametrize("heard", [(), (("dial-1", "dial-1"),)])
def test_bytes_that_went_one_way_on_each_of_two_connections_are_not_enough(heard: tuple[tuple[str, str], ...]) -> None:
    punch = Punch(a=end("a", (("accept-1", "dial-1"),)), b=end("b", heard))
    assert not punch.through
    assert (punch.how, punch.seconds) == (None, None)
