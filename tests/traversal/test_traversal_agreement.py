"""What both sides say to each other before the race, over a mailbox with a delay."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from midair.channel import Role
from midair.errors import IncompatibleError, PeerLostError, RemoteProtocolError
from midair.traversal.agreement import PINGS, Agreement
from midair.traversal.sync import VERSION, Description, Go, Message, Ping, Pong, decode, encode

DELAY = 0.05
LATE = 0.04
"""Seconds by which a busy machine may be late; a wrong round trip makes 0.3 s, two messages more 0.1 s."""
OURS = Description(version=VERSION, controlling=True, direct=True, relay=True)
THEIRS = Description(version=VERSION, controlling=False, direct=True, relay=True)


@dataclass
class Mailbox:
    """One end; what it sends arrives at the other after ``delay`` seconds."""

    delay: float = DELAY
    inbox: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    sent: list[Message] = field(default_factory=list)
    peer: Mailbox | None = None

    async def send(self, message: bytes) -> None:
        self.sent.append(decode(message))
        if self.peer is not None:
            asyncio.get_running_loop().call_later(self.delay, self.peer.inbox.put_nowait, message)

    async def receive(self) -> bytes:
        message = await self.inbox.get()
        self.inbox.task_done()
        return message


def mailboxes() -> tuple[Mailbox, Mailbox]:
    a, b = Mailbox(), Mailbox()
    a.peer, b.peer = b, a
    return a, b


async def one_side(mailbox: Mailbox, role: Role, *, begins: float = 0.0, gathers: float = 0.0) -> tuple[float, float]:
    """When it has both descriptions, and when it starts, on the loop's clock."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(begins)
    async with Agreement(mailbox, role) as agreement:
        await asyncio.sleep(gathers)
        await agreement.describe(OURS if role is Role.A else THEIRS)
        described = loop.time()
        await agreement.moment()
        return described, loop.time()


async def test_both_start_at_once_one_message_after_both_are_described() -> None:
    """The machine may be busy for a moment; three times in a row it is not."""
    for _ in range(3):
        a, b = mailboxes()
        (described, start_a), (_, start_b) = await asyncio.gather(
            one_side(a, Role.A, gathers=3 * DELAY), one_side(b, Role.B, gathers=3 * DELAY)
        )
        if abs(start_a - start_b) < LATE and abs(start_a - described - DELAY) < LATE:
            break
    else:
        pytest.fail(
            f"a started {start_a - start_b:.3f} s after b, and {start_a - described:.3f} s after the descriptions"
        )
    assert [type(message) for message in a.sent if not isinstance(message, Ping)] == [Description, Go]
    assert b.inbox.empty()


async def test_the_shortest_of_several_round_trips_counts() -> None:
    """Both sides are busy while they gather: the first answer is late, the others are not."""
    a, b = mailboxes()
    a.delay = 4 * DELAY
    loop = asyncio.get_running_loop()
    loop.call_later(3 * DELAY, setattr, a, "delay", DELAY)
    (_, start_a), (_, start_b) = await asyncio.gather(
        one_side(a, Role.A, gathers=9 * DELAY), one_side(b, Role.B, gathers=9 * DELAY)
    )
    assert start_a == pytest.approx(start_b, abs=LATE)
    assert 1 < sum(isinstance(message, Ping) for message in a.sent) <= PINGS


async def test_the_answer_to_the_last_ping_is_not_left_behind() -> None:
    a, _ = mailboxes()
    async with Agreement(a, Role.A) as agreement:
        a.inbox.put_nowait(encode(Pong()))
        await a.inbox.join()
        a.inbox.put_nowait(encode(THEIRS))
        await agreement.describe(OURS)
        await agreement.moment()
        a.inbox.put_nowait(encode(Pong()))
        await a.inbox.join()
    assert sum(isinstance(message, Ping) for message in a.sent) == 2


async def test_who_comes_late_makes_no_wrong_round_trip() -> None:
    """The first ping waits in the mailbox for longer than any round trip takes, so there is a second one."""
    a, b = mailboxes()
    (_, start_a), (_, start_b) = await asyncio.gather(
        one_side(a, Role.A), one_side(b, Role.B, begins=0.6, gathers=4 * DELAY)
    )
    assert start_a == pytest.approx(start_b, abs=LATE)
    assert sum(isinstance(message, Ping) for message in a.sent) > 1


async def played(role: Role, script: Sequence[bytes]) -> None:
    """Our side against a peer that says this."""
    mailbox = Mailbox()
    for message in script:
        mailbox.inbox.put_nowait(message)
    async with asyncio.timeout(1), Agreement(mailbox, role) as agreement:
        await agreement.describe(OURS)
        await agreement.moment()


@pytest.mark.parametrize(
    ("role", "script", "complaint"),
    [
        (Role.A, [Go()], "sent Go, where Description was due"),
        (Role.A, [Pong()] * (PINGS + 1), "sent Pong, where Description was due"),
        (Role.A, [THEIRS, THEIRS], "sent Description, where something else was due"),
        (Role.B, [Pong()], "sent Pong, where Description was due"),
        (Role.B, [Go()], "sent Go, where Description was due"),
        (Role.B, [Ping()] * (PINGS + 1), "sent Ping, where Description was due"),
    ],
    ids=repr,
)
async def test_a_message_out_of_turn_is_refused(role: Role, script: list[Message], complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        await played(role, [encode(message) for message in script])


async def test_two_that_both_control_are_incompatible() -> None:
    with pytest.raises(IncompatibleError):
        await played(Role.A, [encode(Ping())])


async def test_another_version_is_told_from_the_first_message() -> None:
    with pytest.raises(IncompatibleError):
        await played(Role.B, [b'{"type":"ping","version":%d}' % (VERSION + 1)])


async def test_what_ends_the_exchange_is_raised_where_it_is_waited_for() -> None:
    class Broken(Mailbox):
        async def receive(self) -> bytes:
            raise PeerLostError("gone")

    with pytest.raises(PeerLostError):
        async with Agreement(Broken(), Role.A) as agreement:
            await agreement.describe(OURS)
