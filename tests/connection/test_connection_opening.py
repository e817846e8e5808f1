"""How two programs come to a connection: over a code, and over signalling of their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from connection_peers import QUICK, SECRET, Courier, nothing_left_open, serving

import midair
from midair import Connection, ServerURL, TraversalOptions, events
from midair.errors import (
    ConnectionLostError,
    IncompatibleError,
    NoPathError,
    PeerLostError,
    RemoteProtocolError,
    ServerUnreachableError,
    UnknownCodeError,
    UsageError,
    WrongCodeError,
)
from midair.traversal import gathering
from midair.traversal.agreement import PINGS

NOWHERE = ServerURL(secure=False, host="127.0.0.1", port=9)


@pytest.fixture
async def server() -> AsyncIterator[ServerURL]:
    async with serving() as found:
        yield found


Use = Callable[[Connection], Any]


class Host:
    """One that waits for a peer; ``code`` is there when it does."""

    def __init__(self, server: ServerURL | str, use: Use, **arguments: Any) -> None:
        self.code: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.task = asyncio.ensure_future(self._run(server, use, {"options": QUICK, **arguments}))

    async def _run(self, server: ServerURL | str, use: Use, arguments: dict[str, Any]) -> Any:
        async with midair.host(server, on_code=self.code.set_result, **arguments) as connection:
            return await use(connection)


async def answers(connection: Connection) -> bytes:
    """Gives back what it gets, in capitals."""
    question = b"".join([piece async for piece in connection])
    await connection.write(question.upper())
    return question


async def asks(connection: Connection) -> bytes:
    await connection.write(b"hello")
    await connection.write_eof()
    return b"".join([piece async for piece in connection])


# -- over a code --


async def test_two_who_share_a_code_are_connected(server: ServerURL) -> None:
    async with nothing_left_open():
        host = Host(str(server), answers, application="test/1")
        async with midair.connect(await host.code, str(server), application="test/1", options=QUICK) as connection:
            assert connection.path == "direct"
            assert await asks(connection) == b"HELLO"
        assert await host.task == b"hello"


async def test_both_may_know_the_code_before(server: ServerURL) -> None:
    host = Host(server, answers, code="7-known-before")
    assert await host.code == "7-known-before"
    async with midair.connect("7 KNOWN before", server, options=QUICK) as connection:
        assert await asks(connection) == b"HELLO"
    await host.task


async def test_the_story_begins_when_they_meet_and_is_told_as_it_happens(server: ServerURL) -> None:
    told: list[events.Event] = []
    host = Host(server, answers)
    async with midair.connect(await host.code, server, options=QUICK, on_event=told.append) as connection:
        assert isinstance(told[0], events.Met)
        assert isinstance(told[-1], events.PathChosen)
        assert [event for _, event in connection.story] == told
        await asks(connection)
    await host.task


async def test_the_relay_is_a_connection_too_and_says_why(server: ServerURL) -> None:
    relay = replace(QUICK, policy="relay")
    host = Host(server, answers, options=relay)
    async with midair.connect(await host.code, server, options=QUICK) as connection:
        assert connection.path == "relay"
        assert connection.reason == "only the relay was allowed by the other side"
        assert await asks(connection) == b"HELLO"
    await host.task


async def test_an_exception_in_the_block_is_not_an_end_for_the_peer(server: ServerURL) -> None:
    async def fails(connection: Connection) -> None:
        await connection.write(b"half")
        assert await connection.read() == b"got it"
        raise LookupError("a mistake")

    host = Host(server, fails)
    async with midair.connect(await host.code, server, options=QUICK) as connection:
        assert await connection.read() == b"half"
        await connection.write(b"got it")
        with pytest.raises(ConnectionLostError):
            await connection.read()
    with pytest.raises(LookupError):
        await host.task


async def test_a_wrong_code_connects_nobody(server: ServerURL) -> None:
    host = Host(server, answers)
    code = await host.code
    with pytest.raises(WrongCodeError):
        async with midair.connect(code + "x", server, options=QUICK):
            pytest.fail("there is no connection")
    with pytest.raises(WrongCodeError):
        await host.task


async def test_a_code_nobody_waits_with_fails_in_time(server: ServerURL) -> None:
    async with asyncio.timeout(2):
        with pytest.raises(UnknownCodeError):
            async with midair.connect("9-nobody-there", server, wait=0.2):
                pytest.fail("there is no connection")


async def test_a_host_waits_no_longer_than_it_was_told(server: ServerURL) -> None:
    async with asyncio.timeout(3):
        with pytest.raises(PeerLostError):
            await Host(server, answers, wait=0.2).task


async def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(ServerUnreachableError):
        async with midair.connect("9-nobody-there", NOWHERE):
            pytest.fail("there is no connection")


async def test_another_application_is_refused_on_both_sides(server: ServerURL) -> None:
    host = Host(server, answers, application="chat/1")
    with pytest.raises(IncompatibleError, match="another program"):
        async with midair.connect(await host.code, server, application="chat/2", options=QUICK):
            pytest.fail("there is no connection")
    with pytest.raises(IncompatibleError, match="another program"):
        await host.task


async def test_a_sender_of_files_is_no_such_program(server: ServerURL, tmp_path: Any) -> None:
    (tmp_path / "file").write_bytes(b"x")
    code: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def listen(event: events.Event) -> None:
        if isinstance(event, events.CodeReady):
            code.set_result(event.code)

    session = midair.SendSession([tmp_path / "file"], server, on_event=listen, rejoin=0.1)
    sending = asyncio.ensure_future(session.run())
    with pytest.raises(IncompatibleError, match="not a program of this kind"):
        async with midair.connect(await code, server):
            pytest.fail("there is no connection")
    with pytest.raises(IncompatibleError):
        await sending


async def test_cancelling_a_host_who_waits_leaves_nothing_open(server: ServerURL) -> None:
    async with nothing_left_open():
        host = Host(server, answers)
        await host.code
        host.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await host.task


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.02, 0.04, 0.08, 0.16])
async def test_cancelling_both_at_any_moment_leaves_nothing_open(server: ServerURL, moment: float) -> None:
    async def stays(connection: Connection) -> None:
        await connection.read()

    async def connects(code: str) -> None:
        async with midair.connect(code, server, options=QUICK) as connection:
            await stays(connection)

    async with nothing_left_open():
        host = Host(server, stays)
        peer = asyncio.ensure_future(connects(await host.code))
        await asyncio.sleep(moment)
        for task in (host.task, peer):
            task.cancel()
        await asyncio.wait({host.task, peer}, timeout=5)
        assert host.task.done()
        assert peer.done()
        for task in (host.task, peer):
            # The other one's end may have come first.
            with contextlib.suppress(asyncio.CancelledError, midair.MidairError):
                await task


# -- over signalling of a program's own --


async def punched(
    courier: Courier,
    use: Use,
    *,
    controlling: bool,
    server: ServerURL | None,
    secret: bytes = SECRET,
    options: TraversalOptions = QUICK,
) -> Any:
    async with midair.punch(
        courier.send, courier.receive, secret=secret, controlling=controlling, server=server, options=options
    ) as connection:
        return await use(connection)


async def test_two_functions_and_a_secret_are_enough(server: ServerURL) -> None:
    courier = Courier()
    async with nothing_left_open():
        asked, answered = await asyncio.gather(
            punched(courier, asks, controlling=True, server=server),
            punched(courier.other, answers, controlling=False, server=server),
        )
        assert (asked, answered) == (b"HELLO", b"hello")
    assert len(courier.seen) <= 3 + 2 * PINGS, "two descriptions, a word to start, and some pings and pongs"


async def test_whoever_passes_the_messages_on_learns_nothing(server: ServerURL) -> None:
    courier = Courier()
    await asyncio.gather(
        punched(courier, asks, controlling=True, server=server),
        punched(courier.other, answers, controlling=False, server=server),
    )
    assert not any(b"127.0.0.1" in message or b"candidates" in message for message in courier.seen)
    assert len(set(courier.seen)) == len(courier.seen)


async def failures(one: Any, two: Any) -> list[BaseException]:
    outcomes = await asyncio.gather(one, two, return_exceptions=True)
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert len(failed) == 2, outcomes
    return failed


async def test_another_secret_or_the_same_role_does_not_open(server: ServerURL) -> None:
    for controlling, secret in ((False, b"t" * 32), (True, SECRET)):
        courier = Courier()
        for failure in await failures(
            punched(courier, asks, controlling=True, server=server),
            punched(courier.other, answers, controlling=controlling, server=server, secret=secret),
        ):
            assert isinstance(failure, RemoteProtocolError)
            assert "another secret" in failure.message


async def test_a_message_that_is_repeated_is_refused(server: ServerURL) -> None:
    class Stuttering(Courier):
        async def send(self, message: bytes) -> None:
            await super().send(message)
            await super().send(message)

    courier = Stuttering()
    quick = replace(QUICK, deadline=0.5, server_wait=0.5)
    _, failure = await failures(
        punched(courier, asks, controlling=True, server=server, options=quick),
        punched(courier.other, answers, controlling=False, server=server, options=quick),
    )
    assert isinstance(failure, RemoteProtocolError)


async def test_what_the_programs_functions_raise_is_what_it_gets(server: ServerURL) -> None:
    async def broken(*message: bytes) -> bytes:
        raise BrokenPipeError("their server has gone")

    async with nothing_left_open():
        for arguments in ((Courier().send, broken), (broken, Courier().receive)):
            with pytest.raises(BrokenPipeError):
                async with midair.punch(*arguments, secret=SECRET, controlling=True, server=server, options=QUICK):
                    pytest.fail("there is no connection")


async def test_a_peer_that_never_answers_is_lost_in_time(server: ServerURL) -> None:
    quick = replace(QUICK, deadline=0.2, server_wait=0.2)
    async with nothing_left_open():
        async with asyncio.timeout(2):
            with pytest.raises(PeerLostError):
                await punched(Courier(), asks, controlling=True, server=server, options=quick)


@pytest.mark.parametrize("moment", [0.0, 0.005, 0.01, 0.02, 0.05])
async def test_cancelling_a_punch_at_any_moment_leaves_nothing_open(server: ServerURL, moment: float) -> None:
    courier = Courier()
    async with nothing_left_open():
        tasks = {
            asyncio.ensure_future(punched(courier, lambda each: each.read(), controlling=True, server=server)),
            asyncio.ensure_future(punched(courier.other, lambda each: each.read(), controlling=False, server=server)),
        }
        await asyncio.sleep(moment)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=5)
        for task in tasks:
            assert task.done()
            with contextlib.suppress(asyncio.CancelledError, midair.MidairError):
                await task


@pytest.mark.parametrize("length", [0, 31, 33])
async def test_a_secret_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        await punched(Courier(), asks, controlling=True, server=None, secret=b"x" * length)


async def test_the_relay_without_a_server_is_refused() -> None:
    with pytest.raises(UsageError, match="needs a server"):
        await punched(Courier(), asks, controlling=True, server=None, options=replace(QUICK, policy="relay"))


async def test_without_a_server_there_is_no_relay_to_fall_back_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "host_endpoints", lambda *arguments, **more: [])
    courier = Courier()
    options = replace(QUICK, deadline=0.3, port_mapping=False)
    for failure in await failures(
        punched(courier, asks, controlling=True, server=None, options=options),
        punched(courier.other, answers, controlling=False, server=None, options=options),
    ):
        assert isinstance(failure, NoPathError)
        assert "no relay" in failure.message
