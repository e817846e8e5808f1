"""The rules of a move: one side as a dialogue, then two of them against each other over wires with a will of their own.

In the world here each side says numbered words; every order in which records, agreements and ends can come about is a
seed, and a failure prints it.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import pytest

from midair.channel.move import Move, MoveError

NEW, OTHER = b"new-----", b"other---"


def state(move: Move) -> set[str]:
    """What is so now."""
    return {name for name in ("due", "departed", "arrives", "early", "over") if getattr(move, name)}


def test_the_leading_side_moves_when_both_have_agreed() -> None:
    move = Move(leading=True)
    move.agree(NEW)
    assert state(move) == {"due"}
    move.departs()
    assert state(move) == {"due"}
    move.sent()
    assert state(move) == {"departed"}
    move.take(NEW)
    assert state(move) == {"departed", "arrives", "over"}


def test_the_following_side_moves_when_it_is_led_and_not_before() -> None:
    move = Move(leading=False)
    move.agree(NEW)
    assert state(move) == set()
    move.take(NEW)
    assert state(move) == {"due", "arrives"}
    move.departs()
    move.sent()
    assert state(move) == {"departed", "arrives", "over"}


def test_the_answer_may_come_before_the_leading_side_knows_that_its_move_is_out() -> None:
    move = Move(leading=True)
    move.agree(NEW)
    move.departs()
    move.take(NEW)
    assert state(move) == {"due", "arrives"}
    move.sent()
    assert state(move) == {"departed", "arrives", "over"}


def test_a_move_that_comes_before_the_agreement_waits_for_it() -> None:
    move = Move(leading=False)
    move.take(NEW)
    assert state(move) == {"early"}
    move.agree(NEW)
    assert state(move) == {"due", "arrives"}


def test_after_the_last_word_nothing_moves() -> None:
    for leading in (True, False):
        move = Move(leading=leading)
        move.ended()
        move.agree(NEW)
        if not leading:
            move.take(NEW)
        assert "due" not in state(move)


def test_moves_that_cannot_be_are_refused() -> None:
    unled = Move(leading=True)
    unled.agree(NEW)
    with pytest.raises(MoveError, match="without being led"):
        unled.take(NEW)
    elsewhere = Move(leading=False)
    elsewhere.agree(NEW)
    with pytest.raises(MoveError, match="another connection"):
        elsewhere.take(OTHER)
    early = Move(leading=False)
    early.take(OTHER)
    with pytest.raises(MoveError, match="another connection"):
        early.agree(NEW)
    twice = Move(leading=False)
    twice.agree(NEW)
    twice.take(NEW)
    with pytest.raises(MoveError, match="second time"):
        twice.take(NEW)


# -- two sides --

MOVE, CLOSE = "move", "close"


@dataclass
class Wire:
    """One direction of one connection: in order, as slow as it likes, and dead from some moment on."""

    flying: deque[str] = field(default_factory=deque)
    alive: bool = True


@dataclass
class Side:
    """What the driver is: says words, and hears."""

    move: Move
    out: dict[str, Wire]
    come: dict[str, Wire]
    says: int = 0
    heard: list[str] = field(default_factory=list)
    closed: bool = False
    departing: bool = False
    """MOVE is out, and it is not known yet."""
    broken: bool = False
    agreed: bool = False
    ended_by_peer: bool = False

    def say(self, word: str) -> None:
        """As MovingChannel.send: the MOVE that is due goes first."""
        self.depart()
        self.know()
        self.put(word)

    def depart(self) -> None:
        if self.move.due and not self.departing:
            self.move.departs()
            self.put(MOVE)
            self.departing = True

    def know(self) -> None:
        if self.departing:
            self.move.sent()
            self.departing = False

    def put(self, word: str) -> None:
        wire = self.out["new" if self.move.departed else "old"]
        if not wire.alive:
            self.broken = True
        else:
            wire.flying.append(word)

    def hear(self) -> None:
        """As MovingChannel.receive: one record, from the one connection it reads."""
        wire = self.come["new" if self.move.arrives else "old"]
        if wire.flying:
            word = wire.flying.popleft()
            if word == MOVE:
                self.move.take(NEW)
            elif word == CLOSE:
                self.ended_by_peer = True
            else:
                self.heard.append(word)
        elif not wire.alive:
            self.broken = True


class World:
    """Two sides, two connections, and a chance that decides what happens next."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        wires = {(name, way): Wire() for name in ("old", "new") for way in (0, 1)}
        self.wires = wires
        self.sides = [
            Side(
                Move(leading=number == 0),
                out={name: wires[name, number] for name in ("old", "new")},
                come={name: wires[name, 1 - number] for name in ("old", "new")},
            )
            for number in (0, 1)
        ]
        self.deaths = self.chance.random() < 0.3
        self.ends = self.chance.random() < 0.7
        self.answered = False

    def run(self) -> None:
        for _ in range(self.chance.randrange(20, 200)):
            self.step(self.chance.choice(self.sides))
        if self.chance.random() < 0.5:
            self.agree_further()
        while any(self.go_on(side) for side in self.sides):
            pass

    def go_on(self, side: Side) -> bool:
        """Whether there was something left to do."""
        before = self.progress(side)
        self.say_move(side)
        self.hear(side)
        return before != self.progress(side)

    def progress(self, side: Side) -> tuple[object, ...]:
        return len(side.heard), side.ended_by_peer, side.broken, side.departing, side.move.departed, side.move.arrives

    def step(self, side: Side) -> None:
        what = self.chance.random()
        if what < 0.45:
            if not side.closed and not side.broken:
                side.say(f"word-{side.says}")
                side.says += 1
        elif what < 0.85:
            self.hear(side)
        elif what < 0.95:
            self.say_move(side)
        elif what < 0.98:
            self.agree_further()
        elif self.ends and not side.closed and self.chance.random() < 0.3:
            side.know()
            side.move.ended()
            side.put(CLOSE)
            side.closed = True
        elif self.deaths and self.chance.random() < 0.3:
            name = self.chance.choice(["old", "new"])
            for way in (0, 1):
                self.wires[name, way].alive = False
                if self.chance.random() < 0.5:  # what was on its way is lost, too
                    self.wires[name, way].flying.clear()

    def hear(self, side: Side) -> None:
        if not side.ended_by_peer and not side.broken and not side.move.early:
            side.hear()

    def say_move(self, side: Side) -> None:
        """As the thread of a move: it comes when it comes."""
        side.know()
        if not side.broken and not side.closed:
            side.depart()

    def agree_further(self) -> None:
        """The following side answers the nomination; then the leading one hears of it. Each may take it in late."""
        leading, following = self.sides
        if not self.answered:
            self.answered = True
        elif self.chance.random() < 0.5 and not leading.agreed:
            leading.agreed = True
            leading.move.agree(NEW)
        elif not following.agreed:
            following.agreed = True
            following.move.agree(NEW)


def judge(world: World) -> None:
    for side, peer in (world.sides, world.sides[::-1]):
        said = [f"word-{number}" for number in range(peer.says)]
        assert side.heard == said[: len(side.heard)], "words are lost, doubled or out of order"
        if not side.broken and not peer.broken and not side.move.early and not world.deaths:
            assert side.heard == said, "words never came"
            assert side.ended_by_peer == peer.closed
        if side.move.over:
            assert not side.come["old"].flying, "something came over the old connection after MOVE"
    leading, following = world.sides
    if following.move.departed:
        assert leading.move.departed, "the following side moved by itself"


@pytest.mark.parametrize("block", range(5))
def test_however_records_agreements_and_ends_interleave_words_come_once_and_in_order(block: int) -> None:
    for seed in range(block * 300, block * 300 + 300):
        world = World(seed)
        try:
            world.run()
            judge(world)
        except (AssertionError, MoveError) as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_the_world_knows_every_kind_of_end() -> None:
    ends: set[object] = set()
    for seed in range(300):
        world = World(seed)
        world.run()
        leading, following = world.sides
        ended = leading.closed or following.closed
        ends.add((leading.move.departed, following.move.departed, ended))
        ends.add("broken" if leading.broken or following.broken else "whole")
    stay, go, half = (False, False), (True, True), (True, False)
    assert ends >= {(*stay, False), (*stay, True), (*go, False), (*go, True), (*half, True), "broken", "whole"}
