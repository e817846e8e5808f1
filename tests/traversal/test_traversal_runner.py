"""connect_peers with real sockets on loopback: a reflector and relay in this process, strangers, dead ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest

from midair import events
from midair.channel import ChannelClosed
from midair.config import ServerURL, TraversalOptions
from midair.endpoint import Endpoint
from midair.errors import IncompatibleError, NoPathError, PeerLostError, RemoteProtocolError
from midair.nat.forecast import PROBES, Forecast
from midair.relay.wire import OK, PREAMBLE_BYTES, parse_preamble
from midair.stun import Deframer, respond
from midair.traversal import PathResult, connect_peers
from midair.traversal.late_dials import COVERAGE_AFTER
from midair.traversal.sync import VERSION, Description, WireCandidate, decode, encode

QUICK = TraversalOptions(head_start=0.3, deadline=3.0, server_wait=1.0)


# -- the server's part, as small as it can be --


class Helper:
    """Answers STUN and splices relay legs on one port, as the server does."""

    def __init__(self, port_shift: int = 0) -> None:
        self.port_shift = port_shift
        """What a NAT between would add to each port."""
        self.waiting: dict[bytes, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}
        self.relayed = 0
        self.mappings: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        expected = (OSError, asyncio.IncompleteReadError, asyncio.CancelledError)
        with contextlib.closing(writer), contextlib.suppress(*expected):
            first = await reader.readexactly(1)
            await (self._relay(reader, writer) if first == b"M" else self._reflect(first, reader, writer))

    async def _reflect(self, data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        deframer, source = Deframer(), Endpoint.from_sockaddr(writer.get_extra_info("peername"))
        source = Endpoint(source.address, 1024 + (source.port + self.port_shift - 1024) % 64512)
        self.mappings.append(writer)
        while data:
            for message in deframer.feed(data):
                writer.write(respond(message, source) or b"")
            data = await reader.read(2048)
        self.mappings.remove(writer)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        token = parse_preamble(b"M" + await reader.readexactly(PREAMBLE_BYTES - 1)).token
        if token not in self.waiting:
            self.waiting[token] = (reader, writer)
            await asyncio.Event().wait()
        other_reader, other_writer = self.waiting.pop(token)
        self.relayed += 1
        writer.write(OK)
        other_writer.write(OK)
        await asyncio.gather(pump(reader, other_writer), pump(other_reader, writer))
        other_writer.close()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@dataclass
class Meeting:
    """The server's address and what it saw."""

    server: ServerURL
    helper: Helper


@contextlib.asynccontextmanager
async def meeting_point(port_shift: int = 0) -> AsyncIterator[Meeting]:
    helper = Helper(port_shift)
    server = await asyncio.start_server(helper.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server:
        yield Meeting(ServerURL(secure=False, host=host, port=port), helper)
        server.close()
        await helper.stop()


def nowhere() -> ServerURL:
    """A server that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return ServerURL(secure=False, host="127.0.0.1", port=sock.getsockname()[1])


# -- the mailbox's part --

Change = Callable[[Description], Description]


@dataclass
class Mailbox:
    """Our end of an exchange. ``change`` rewrites the description that comes in; that is how a test makes a network."""

    inbox: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    peer: Mailbox | None = None
    change: Change | None = None

    async def send(self, message: bytes) -> None:
        assert self.peer is not None
        self.peer.inbox.put_nowait(message)

    async def receive(self) -> bytes:
        message = await self.inbox.get()
        parsed = decode(message) if self.change is not None else None
        if isinstance(parsed, Description) and self.change is not None:
            return encode(self.change(parsed))
        return message


def candidates(*endpoints: Endpoint, alone: bool = True) -> Change:
    """The peer is at these endpoints (and, unless ``alone``, where it says)."""
    more = tuple(WireCandidate(kind="host", endpoint=str(each), priority=1 << 30) for each in endpoints)

    def change(theirs: Description) -> Description:
        if alone:
            return msgspec.structs.replace(theirs, candidates=more, spare=0)
        return msgspec.structs.replace(theirs, candidates=more + theirs.candidates)

    return change


@dataclass
class Peer:
    """One call of connect_peers and what it told."""

    task: asyncio.Task[PathResult]
    story: list[events.Event]

    def told(self, kind: type[events.Event]) -> list[Any]:
        return [event for event in self.story if isinstance(event, kind)]


@dataclass
class Pair:
    """What the two peers are given."""

    server: ServerURL
    options: tuple[TraversalOptions, TraversalOptions] = (QUICK, QUICK)
    changes: tuple[Change | None, Change | None] = (None, None)
    """How the controlling and the controlled side see the other."""
    keys: tuple[bytes, bytes] = (b"k" * 32, b"k" * 32)
    controlling: tuple[bool, bool] = (True, False)
    moves: tuple[bool, bool] = (False, False)

    def start(self) -> tuple[Peer, Peer]:
        boxes = (Mailbox(change=self.changes[0]), Mailbox(change=self.changes[1]))
        boxes[0].peer, boxes[1].peer = boxes[1], boxes[0]
        return (self._peer(0, boxes[0]), self._peer(1, boxes[1]))

    def _peer(self, number: int, mailbox: Mailbox) -> Peer:
        story: list[events.Event] = []
        task = asyncio.ensure_future(
            connect_peers(
                mailbox,
                session_key=self.keys[number],
                controlling=self.controlling[number],
                server=self.server,
                options=self.options[number],
                on_event=story.append,
                moves=self.moves[number],
            )
        )
        return Peer(task, story)


@contextlib.asynccontextmanager
async def connected(pair: Pair) -> AsyncIterator[tuple[PathResult, PathResult, Peer, Peer]]:
    """Both results, checked to be the two ends of one channel that works; everything is closed in the end."""
    a, b = pair.start()
    one, two = await asyncio.gather(a.task, b.task)
    try:
        assert one.channel.connection_id == two.channel.connection_id
        await one.channel.send_async(16, b"ping")
        assert (await two.channel.receive_async()).payload == b"ping"
        await two.channel.send_async(17, b"pong")
        assert (await one.channel.receive_async()).payload == b"pong"
        yield one, two, a, b
    finally:
        await asyncio.gather(one.close_leftovers(), two.close_leftovers())
        one.channel.abort()
        two.channel.abort()


async def failures(pair: Pair) -> list[BaseException]:
    a, b = pair.start()
    results = await asyncio.gather(a.task, b.task, return_exceptions=True)
    assert all(isinstance(result, BaseException) for result in results), results
    return [result for result in results if isinstance(result, BaseException)]


def open_sockets() -> set[int]:
    """The descriptors of this process that are sockets."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                found.add(int(name))
    return found


@pytest.fixture(autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    gc.collect()
    before = open_sockets()
    yield
    assert open_sockets() <= before


# -- direct --


async def test_two_peers_on_one_machine_connect_directly() -> None:
    async with meeting_point() as at, connected(Pair(at.server)) as (one, two, a, b):
        assert (one.path, two.path) == ("direct", "direct")
        assert "dial" in (one.how, two.how)
        assert (one.local, one.remote) == (two.remote, two.local)
        assert one.reason is two.reason is None
        assert one.attempts >= 1
        assert 0 <= one.seconds < 1
        assert at.helper.relayed <= 1
        for peer, result in ((a, one), (b, two)):
            (chosen,) = peer.told(events.PathChosen)
            assert (chosen.path, chosen.how, chosen.remote) == ("direct", result.how, str(result.remote))
            (reflected,) = peer.told(events.Reflected)
            assert reflected.local == reflected.mapped
            assert reflected.mapped.endswith(f":{result.local.port}"), "the reflector was asked from the very port"


async def test_the_mapping_is_kept_alive_until_the_leftovers_are_closed() -> None:
    async with meeting_point() as at, connected(Pair(at.server)) as (one, two, _, _):
        assert len(at.helper.mappings) == 2
        await asyncio.gather(one.close_leftovers(), two.close_leftovers())
        await until(lambda: not at.helper.mappings)
        await one.close_leftovers()


async def test_a_peer_that_cannot_be_dialled_is_reached_by_its_own_dial() -> None:
    async with meeting_point() as at:
        async with connected(Pair(at.server, changes=(candidates(), None))) as (one, two, _, _):
            assert (one.how, two.how) == ("accept", "dial")
            assert one.attempts == 0
        async with connected(Pair(at.server, changes=(None, candidates()))) as (one, two, _, _):
            assert (one.how, two.how) == ("dial", "accept")


async def test_many_ways_to_the_same_peer_end_in_one() -> None:
    def everywhere(theirs: Description) -> Description:
        port = Endpoint.parse(theirs.candidates[0].endpoint).port
        return candidates(*(Endpoint.of(f"127.0.0.{number}", port) for number in range(1, 9)))(theirs)

    async with meeting_point() as at:
        for _ in range(5):
            async with connected(Pair(at.server, changes=(everywhere, everywhere))) as (one, two, _, _):
                assert (one.path, two.path) == ("direct", "direct")


async def test_a_fixed_port_is_used_and_is_free_again_afterwards() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        number = sock.getsockname()[1]
    fixed = replace(QUICK, local_port=number)
    async with meeting_point() as at:
        for _ in range(2):
            async with connected(Pair(at.server, options=(fixed, QUICK))) as (one, _, _, _):
                assert one.local.port == number


async def test_a_nat_that_changes_ports_is_asked_from_a_fan_of_ports_which_stay_open() -> None:
    told: list[Description] = []

    def listen(theirs: Description) -> Description:
        told.append(theirs)
        return theirs

    async with (
        meeting_point(port_shift=1000) as meeting,
        connected(Pair(meeting.server, changes=(listen, listen))) as (one, _, a, b),
    ):
        assert [sum(each.kind == "srflx" for each in theirs.candidates) for theirs in told] == [1, 1]
        assert all(theirs.forecast is not None for theirs in told)
        assert len(one.leftovers.ports) == 1 + PROBES
        assert len(a.told(events.Reflected)) == len(b.told(events.Reflected)) == 1 + PROBES
        assert len(meeting.helper.mappings) == 2 * (1 + PROBES)


async def test_a_nat_that_keeps_ports_is_asked_once_and_a_spare_port_is_opened_beside() -> None:
    async with meeting_point() as meeting, connected(Pair(meeting.server)) as (one, _, a, _b):
        assert len(a.told(events.Reflected)) == 1
        assert len(one.leftovers.ports) == 2


async def test_a_peer_behind_a_counting_nat_is_met_at_one_of_its_next_ports() -> None:
    """The one side is told neither address of the other, and the other only where the NAT has counted to."""

    def counted(theirs: Description) -> Description:
        (host, *_) = theirs.candidates
        real = Endpoint.parse(host.endpoint)
        dead = WireCandidate(kind="srflx", endpoint=str(dead_end()), priority=1)
        expected = Forecast(low=real.port - 6, high=real.port + 6, step=2)
        return msgspec.structs.replace(theirs, candidates=(dead,), forecast=expected)

    patient = replace(QUICK, head_start=2.0)
    async with (
        meeting_point() as meeting,
        connected(Pair(meeting.server, (patient, patient), changes=(candidates(), counted))) as (one, two, _, b),
    ):
        assert (one.how, two.how) == ("accept", "dial")
        assert two.remote.port == one.local.port
        assert COVERAGE_AFTER < two.seconds < COVERAGE_AFTER + 0.5
        assert {event.result for event in b.told(events.Attempted)} >= {"ECONNREFUSED", "ok"}


async def test_a_server_without_a_reflector_does_not_prevent_a_direct_connection() -> None:
    direct = replace(QUICK, policy="direct")
    async with connected(Pair(nowhere(), options=(direct, direct))) as (one, _, a, _):
        assert one.path == "direct"
        assert a.told(events.Reflected) == []


async def test_a_relay_that_is_dead_does_not_prevent_a_direct_connection() -> None:
    async with connected(Pair(nowhere())) as (one, _, _, _):
        assert one.path == "direct"


async def test_a_silent_server_costs_its_wait_and_nothing_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = ServerURL(secure=False, host="127.0.0.1", port=silent.getsockname()[1])
        options = replace(QUICK, server_wait=0.2)
        async with connected(Pair(server, options=(options, options))) as (one, _, _, _):
            assert one.path == "direct"


# -- strangers --


@contextlib.asynccontextmanager
async def stranger(words: bytes | None) -> AsyncIterator[Endpoint]:
    """Listens where a candidate says the peer is; says something else, or (None) nothing."""
    visits: list[asyncio.Event] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        over = asyncio.Event()
        visits.append(over)
        try:
            await visit(reader, writer)
        finally:
            over.set()

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            if words is not None:
                writer.write(words)
                await writer.drain()
            while await reader.read(1000):
                pass

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Endpoint.from_sockaddr(server.sockets[0].getsockname())
        server.close()
        for over in visits:
            await over.wait()


@pytest.mark.parametrize(
    "words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 5000, None], ids=["http", "zeros", "mute"]
)
async def test_a_stranger_at_a_candidates_address_is_turned_away_and_the_peers_still_meet(words: bytes | None) -> None:
    async with meeting_point() as at, stranger(words) as elsewhere:
        both = candidates(elsewhere, alone=False)
        async with connected(Pair(at.server, changes=(both, both))) as (one, _, a, _):
            assert one.path == "direct"
            assert one.remote != elsewhere
            results = {(event.remote, event.result) for event in a.told(events.Attempted)}
            assert (str(elsewhere), "ok") not in results


async def test_a_stranger_who_is_all_there_is_leads_to_the_relay_and_is_named() -> None:
    async with meeting_point() as at, stranger(b"SSH-2.0-OpenSSH\r\n") as elsewhere:
        both = candidates(elsewhere)
        options = replace(QUICK, head_start=0.7)
        async with connected(Pair(at.server, (options, options), changes=(both, both))) as (one, _, a, _):
            assert one.path == "relay"
            sides = "your side: no NAT; their side: no NAT"
            assert one.reason == f"{sides}; somebody else answers at {elsewhere}"
            assert events.Attempted(how="dial", remote=str(elsewhere), result="stranger", count=3) in a.story


async def test_strangers_who_come_to_our_port_are_turned_away() -> None:
    async with meeting_point() as at:
        pair = Pair(at.server, changes=(candidates(dead_end()), candidates(dead_end())))
        a, b = pair.start()
        await until(lambda: bool(a.told(events.Reflected)))
        ours = Endpoint.parse(a.told(events.Reflected)[0].mapped)
        reached = 0
        while not a.task.done():
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(*ours.to_sockaddr())
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                writer.close()
                reached += 1
            await asyncio.sleep(0.01)
        one, two = await asyncio.gather(a.task, b.task)
        assert one.path == "relay"
        assert reached
        assert any(event.how == "accept" and event.result == "stranger" for event in a.told(events.Attempted))
        await asyncio.gather(one.close_leftovers(), two.close_leftovers())
        one.channel.abort()
        two.channel.abort()


async def test_somebody_with_another_key_is_not_the_peer() -> None:
    async with meeting_point() as at:
        options = replace(QUICK, deadline=0.5)
        one, two = await failures(Pair(at.server, (options, options), keys=(b"k" * 32, b"K" * 32)))
        assert isinstance(one, NoPathError)
        assert isinstance(two, NoPathError)
        assert "strangers" in one.message


# -- the relay --


def dead_end() -> Endpoint:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return Endpoint.from_sockaddr(sock.getsockname())


async def test_the_relay_is_taken_after_the_head_start_when_no_dial_comes_through() -> None:
    async with meeting_point() as at:
        pair = Pair(at.server, changes=(candidates(dead_end()), candidates(dead_end())))
        async with connected(pair) as (one, two, a, _):
            assert (one.path, one.how, two.path, two.how) == ("relay",) * 4
            assert 0.3 <= one.seconds < 1.0
            assert one.attempts > 5
            assert one.reason is not None
            assert "ECONNREFUSED" in one.reason
            assert at.helper.relayed == 1
            refusals = [event for event in a.told(events.Attempted) if event.result == "ECONNREFUSED"]
            assert len(refusals) == 1, "one event for all the retries"
            assert refusals[0].count >= 5


async def test_policy_relay_dials_nobody_and_does_not_wait() -> None:
    relay = replace(QUICK, policy="relay")
    async with meeting_point() as at:
        for options, reason in (
            ((relay, relay), "only the relay was allowed"),
            ((QUICK, relay), "only the relay was allowed by the other side"),
        ):
            async with connected(Pair(at.server, options=options)) as (one, two, _, _):
                assert (one.path, one.attempts, two.attempts) == ("relay", 0, 0)
                assert one.seconds < 0.3
                assert one.reason == reason
                assert two.reason == "only the relay was allowed"


async def test_policy_direct_opens_no_relay_leg() -> None:
    direct = replace(QUICK, policy="direct")
    async with meeting_point() as at:
        async with connected(Pair(at.server, options=(QUICK, direct))) as (one, _, _, _):
            assert one.path == "direct"
        assert at.helper.relayed == 0


async def test_policies_that_exclude_each_other_fail_at_once() -> None:
    options = (replace(QUICK, policy="relay"), replace(QUICK, policy="direct"))
    async with meeting_point() as at:
        for failure in await failures(Pair(at.server, options=options)):
            assert isinstance(failure, NoPathError)
            assert "no connection is allowed by both sides" in failure.message


# -- when it fails --


async def test_everything_dead_fails_in_time_and_says_what_was_tried() -> None:
    options = replace(QUICK, deadline=0.6)
    started = time.monotonic()
    pair = Pair(nowhere(), (options, options), changes=(candidates(dead_end()), candidates(dead_end())))
    for failure in await failures(pair):
        assert isinstance(failure, NoPathError)
        assert "dials: ECONNREFUSED" in failure.message
        assert "cannot be reached" in failure.message
        assert "\n" not in failure.message
    assert time.monotonic() - started < 3


async def test_a_relay_that_is_dead_fails_at_once_when_only_the_relay_is_allowed() -> None:
    relay = replace(QUICK, policy="relay", deadline=15.0)
    started = time.monotonic()
    for failure in await failures(Pair(nowhere(), (relay, relay))):
        assert isinstance(failure, NoPathError)
        assert failure.message.startswith("no connection through the relay: the relay at ws://127.0.0.1")
    assert time.monotonic() - started < 3


async def test_a_peer_of_another_version_is_incompatible() -> None:
    async with meeting_point() as at:
        pair = Pair(at.server, changes=(lambda theirs: msgspec.structs.replace(theirs, version=VERSION + 1), None))
        a, b = pair.start()
        with pytest.raises(IncompatibleError, match=f"version {VERSION + 1}"):
            await a.task
        b.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await b.task


async def test_two_that_took_the_same_role_are_incompatible() -> None:
    async with meeting_point() as at:
        for failure in await failures(Pair(at.server, controlling=(True, True))):
            assert isinstance(failure, IncompatibleError)


async def test_a_peer_that_falls_silent_is_lost_in_time() -> None:
    options = replace(QUICK, server_wait=0.1, deadline=0.2)
    a, b = Pair(nowhere(), (options, options)).start()
    b.task.cancel()
    with pytest.raises(PeerLostError):
        await a.task
    with pytest.raises(asyncio.CancelledError):
        await b.task


async def test_a_peer_that_sends_garbage_breaks_the_rules() -> None:
    mailbox = Mailbox(peer=Mailbox())
    mailbox.inbox.put_nowait(b"\xff\xfe garbage")
    with pytest.raises(RemoteProtocolError):
        await connect_peers(
            mailbox,
            session_key=b"k" * 32,
            controlling=True,
            server=nowhere(),
            options=QUICK,
            on_event=lambda event: None,
        )


@pytest.mark.parametrize("moment", range(12))
async def test_cancelling_at_any_moment_leaves_nothing_open(moment: int) -> None:
    async with meeting_point() as at:
        a, b = Pair(at.server, changes=(candidates(dead_end()), candidates(dead_end()))).start()
        await asyncio.sleep(moment * 0.01)
        for peer in (a, b):
            peer.task.cancel()
        for peer in (a, b):
            with pytest.raises(asyncio.CancelledError):
                await peer.task


async def test_cancelling_close_leftovers_still_closes_everything() -> None:
    async with meeting_point() as at:
        a, b = Pair(at.server).start()
        for result in await asyncio.gather(a.task, b.task):
            closing = asyncio.ensure_future(result.close_leftovers())
            await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait({closing})
            result.channel.abort()


async def test_the_channel_closes_cleanly_after_the_transfer() -> None:
    async with meeting_point() as at, connected(Pair(at.server)) as (one, two, _, _):
        one.channel.sock.setblocking(True)
        two.channel.sock.setblocking(True)
        closing = asyncio.ensure_future(asyncio.to_thread(one.channel.close))
        with pytest.raises(ChannelClosed):
            await asyncio.to_thread(two.channel.receive)
        two.channel.close()
        await closing


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        assert loop.time() < deadline, "it did not come to be in time"
        await asyncio.sleep(0.005)
