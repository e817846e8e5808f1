"""The mailbox protocol as dialogues, without a socket."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midair.config import ServerLimits
from midair.endpoint import Endpoint
from midair.server import MemoryStore
from midair.server.office import Office

SOURCE = Endpoint.parse("192.0.2.1:1000")
LIMITS = ServerLimits()


class Dialogue:
    """An office with its store; clients are numbers."""

    def __init__(self, limits: ServerLimits = LIMITS, motd: str | None = None) -> None:
        self.met = 0
        self.refused: list[str] = []
        self.office = Office(
            MemoryStore(limits, randbelow=lambda count: 0),
            limits,
            motd=motd,
            met=self._meet,
            refused=self.refused.append,
        )

    def _meet(self) -> None:
        self.met += 1

    def connect(self, client: int) -> list[dict[str, Any]]:
        return [json.loads(msgspec.json.encode(frame)) for _, frame in self.office.connected(client, SOURCE)]

    async def raw(self, client: int, data: bytes) -> list[tuple[int, dict[str, Any]]]:
        outgoing = await self.office.received(client, data, now=10, wall=1234.5)
        return [(to, json.loads(msgspec.json.encode(frame))) for to, frame in outgoing]

    async def says(self, client: int, kind: str, **fields: Any) -> list[tuple[int, dict[str, Any]]]:
        return await self.raw(client, json.dumps({"type": kind, **fields}).encode())

    async def bound(self, client: int, side: str, app: str = "app") -> None:
        self.connect(client)
        assert await self.says(client, "bind", appid=app, side=side) == []

    async def claims(self, client: int, nameplate: str = "7") -> str:
        [(to, answer)] = await self.says(client, "claim", nameplate=nameplate)
        assert (to, answer["type"]) == (client, "claimed"), answer
        mailbox: str = answer["mailbox"]
        return mailbox

    async def is_refused(self, client: int, text: str, kind: str, **fields: Any) -> None:
        orig = {"type": kind, **fields}
        assert await self.says(client, kind, **fields) == [(client, {"type": "error", "error": text, "orig": orig})]


async def test_the_first_frame_is_a_welcome() -> None:
    assert Dialogue().connect(1) == [{"type": "welcome", "welcome": {}}]
    assert Dialogue(motd="Hello").connect(1) == [{"type": "welcome", "welcome": {"motd": "Hello"}}]


async def test_a_meeting_from_beginning_to_end() -> None:
    talk = Dialogue()
    await talk.bound(1, "alice")
    await talk.bound(2, "bob")
    assert await talk.says(1, "allocate", id="a1") == [
        (1, {"type": "ack", "id": "a1"}),
        (1, {"type": "allocated", "nameplate": "1"}),
    ]
    mailbox = await talk.claims(1, "1")
    assert await talk.says(2, "list") == [(2, {"type": "nameplates", "nameplates": [{"id": "1"}]})]
    assert await talk.claims(2, "1") == mailbox
    assert talk.met == 1
    assert await talk.says(1, "open", mailbox=mailbox) == []
    pake = {"type": "message", "side": "alice", "phase": "pake", "body": "abcd", "id": "a2", "server_rx": 1234.5}
    assert await talk.says(1, "add", phase="pake", body="abcd", id="a2") == [
        (1, {"type": "ack", "id": "a2"}),
        (1, pake),
    ]
    assert await talk.says(2, "open", mailbox=mailbox) == [(2, pake)]
    answer = {"type": "message", "side": "bob", "phase": "pake", "body": "ef", "id": None, "server_rx": 1234.5}
    assert await talk.says(2, "add", phase="pake", body="ef") == [(1, answer), (2, answer)]
    for client in (1, 2):
        assert await talk.says(client, "release") == [(client, {"type": "released"})]
        assert await talk.says(client, "close", mood="happy") == [(client, {"type": "closed"})]
    talk.office.disconnected(1)
    talk.office.disconnected(2)
    assert list(talk.office.in_use()) == []
    assert talk.refused == []


async def test_everything_is_told_again_to_a_side_that_has_reconnected() -> None:
    talk = Dialogue()
    await talk.bound(1, "alice")
    mailbox = await talk.claims(1)
    await talk.says(1, "open", mailbox=mailbox)
    await talk.says(1, "add", phase="pake", body="00")
    talk.office.disconnected(1)
    await talk.bound(2, "alice")
    assert await talk.claims(2) == mailbox
    [(to, message)] = await talk.says(2, "open", mailbox=mailbox)
    assert (to, message["phase"]) == (2, "pake")
    assert await talk.says(2, "release", nameplate="7") == [(2, {"type": "released"})]
    assert await talk.says(2, "close", mailbox=mailbox) == [(2, {"type": "closed"})]
    talk.office.disconnected(2)
    await talk.bound(3, "alice")
    assert await talk.says(3, "release", nameplate="7") == [(3, {"type": "released"})]
    assert await talk.says(3, "close", mailbox=mailbox) == [(3, {"type": "closed"})]


async def test_who_has_gone_gets_no_messages() -> None:
    talk = Dialogue()
    for client, side in ((1, "alice"), (2, "bob")):
        await talk.bound(client, side)
        await talk.says(client, "open", mailbox="box")
    talk.office.disconnected(1)
    assert [to for to, _ in await talk.says(2, "add", phase="p", body="")] == [2]
    await talk.says(2, "close")
    assert talk.office.listened_to() == []


async def test_applications_and_mailboxes_are_kept_apart() -> None:
    talk = Dialogue()
    await talk.bound(1, "alice", app="one")
    await talk.bound(2, "bob", app="two")
    await talk.bound(3, "bob", app="one")
    await talk.says(1, "open", mailbox="box")
    await talk.says(2, "open", mailbox="box")
    await talk.says(3, "open", mailbox="other")
    assert [to for to, _ in await talk.says(1, "add", phase="p", body="")] == [1]


async def test_the_third_side_is_crowded_and_the_pair_goes_on() -> None:
    talk = Dialogue()
    for client, side in ((1, "alice"), (2, "bob"), (3, "eve")):
        await talk.bound(client, side)
    mailbox = await talk.claims(1)
    await talk.claims(2)
    await talk.is_refused(3, "crowded", "claim", nameplate="7")
    await talk.is_refused(3, "crowded", "open", mailbox=mailbox)
    await talk.says(1, "open", mailbox=mailbox)
    assert len(await talk.says(1, "add", phase="p", body="")) == 1
    assert talk.refused == ["crowded", "crowded"]


async def test_a_ping_needs_no_bind() -> None:
    talk = Dialogue()
    talk.connect(1)
    assert await talk.says(1, "ping", ping=3) == [(1, {"type": "pong", "pong": 3})]


@pytest.mark.parametrize("kind", ["list", "allocate", "release", "close"])
async def test_everything_else_needs_a_bind(kind: str) -> None:
    talk = Dialogue()
    talk.connect(1)
    await talk.is_refused(1, "must bind first", kind)


async def test_each_thing_is_asked_for_once_a_connection_and_in_order() -> None:
    talk = Dialogue()
    await talk.bound(1, "alice")
    await talk.is_refused(1, "already bound", "bind", appid="app", side="bob")
    await talk.is_refused(1, "must open mailbox before adding", "add", phase="p", body="")
    await talk.is_refused(1, "release without nameplate must follow claim", "release")
    await talk.is_refused(1, "close without mailbox must follow open", "close")
    mailbox = await talk.claims(1)
    await talk.is_refused(1, "only one claim per connection", "claim", nameplate="8")
    await talk.is_refused(1, "release and claim must use same nameplate", "release", nameplate="8")
    await talk.says(1, "open", mailbox=mailbox)
    await talk.is_refused(1, "only one open per connection", "open", mailbox="other")
    await talk.is_refused(1, "open and close must use same mailbox", "close", mailbox="other")
    await talk.says(1, "allocate")
    await talk.is_refused(1, "you already allocated one, don't be greedy", "allocate")
    await talk.says(1, "release")
    await talk.is_refused(1, "only one release per connection", "release")
    await talk.says(1, "close")
    await talk.is_refused(1, "only one close per connection", "close")
    await talk.is_refused(1, "must open mailbox before adding", "add", phase="p", body="")
    assert set(talk.refused) == {"order"}


async def test_a_frame_of_an_unknown_type_is_refused() -> None:
    talk = Dialogue()
    await talk.bound(1, "alice")
    await talk.is_refused(1, "unknown type", "destroy", id="5")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"\xff", b'{"type":"bind","x":"\xff"}', b'{"a":' + b"[" * 50_000, b'{"type":1}{'],
)
async def test_what_is_no_json_object_is_an_error_without_an_original(data: bytes) -> None:
    talk = Dialogue()
    talk.connect(1)
    [(to, answer)] = await talk.raw(1, data)
    assert (to, answer["type"], answer["orig"]) == (1, "error", {})
    assert talk.refused == ["frame"]


@pytest.mark.parametrize(
    "frame",
    [
        {},
        {"type": 5},
        {"type": "bind", "appid": "a"},
        {"type": "bind", "appid": "a", "side": ""},
        {"type": "bind", "appid": "a" * 1000, "side": "s"},
        {"type": "claim"},
        {"type": "claim", "nameplate": 7},
        {"type": "claim", "nameplate": "seven"},
        {"type": "claim", "nameplate": "7" * 41},
        {"type": "open", "mailbox": ""},
        {"type": "open", "mailbox": "m" * 1000},
        {"type": "add", "phase": "p"},
        {"type": "add", "phase": "p", "body": "not hex"},
        {"type": "ping"},
        {"type": "ping", "ping": 1, "id": "i" * 1000},
    ],
)
async def test_a_frame_with_a_wrong_field_comes_back_with_an_error(frame: dict[str, Any]) -> None:
    talk = Dialogue()
    talk.connect(1)
    [(to, answer)] = await talk.raw(1, json.dumps(frame).encode())
    assert (to, answer["type"], answer["orig"]) == (1, "error", frame)


async def test_a_large_frame_does_not_come_back_with_its_error() -> None:
    talk = Dialogue()
    await talk.bound(1, "alice")
    [(_, answer)] = await talk.says(1, "add", phase="p", body="00" * 4000)
    assert (answer["type"], answer["orig"]) == ("error", {})


async def test_a_message_over_the_limit_is_refused() -> None:
    talk = Dialogue(replace(LIMITS, message_bytes=10))
    await talk.bound(1, "alice")
    await talk.says(1, "open", mailbox="box")
    assert len(await talk.says(1, "add", phase="p", body="0" * 10)) == 1
    await talk.is_refused(1, "limit: a message has at most 10 characters", "add", phase="p", body="0" * 12)
    assert talk.refused == ["message-bytes"]


async def test_a_mailbox_is_in_use_while_somebody_who_claimed_or_opened_it_is_connected() -> None:
    talk = Dialogue()
    await talk.bound(1, "alice")
    mailbox = await talk.claims(1)
    assert list(talk.office.in_use()) == [("app", mailbox)]
    talk.office.disconnected(1)
    assert list(talk.office.in_use()) == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
_KINDS = st.sampled_from(["bind", "list", "allocate", "claim", "release", "open", "add", "close", "ping", "x"])
_FIELDS = st.sampled_from(["appid", "side", "nameplate", "mailbox", "phase", "body", "mood", "ping", "id"])
_VALUES = st.sampled_from(["7", "a", "box", "00", 7, None]) | _JSON
_FRAMES = st.builds(lambda kind, fields: {**fields, "type": kind}, _KINDS, st.dictionaries(_FIELDS, _VALUES))


@settings(max_examples=60, deadline=None)
@given(frames=st.lists(st.tuples(st.integers(1, 3), _FRAMES | _JSON), max_size=12))
async def test_no_sequence_of_frames_breaks_the_office(frames: list[tuple[int, Any]]) -> None:
    talk = Dialogue()
    for client, side in ((1, "alice"), (2, "bob"), (3, "eve")):
        await talk.bound(client, side)
    for client, frame in frames:
        for to, answer in await talk.raw(client, json.dumps(frame).encode()):
            assert to in (1, 2, 3)
            assert isinstance(answer["type"], str)
    for client in (1, 2, 3):
        talk.office.disconnected(client)
    assert talk.office.listened_to() == []
