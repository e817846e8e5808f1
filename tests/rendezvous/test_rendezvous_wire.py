"""Mailbox frames: round trips, tolerance for what is newer, refusal of what is broken."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midair.rendezvous import wire

TOKENS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
NAMEPLATES = st.text("0123456789", min_size=1, max_size=40)
BODIES = st.binary(max_size=300).map(bytes.hex)
IDS = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)

CLIENT_FRAMES = st.one_of(
    st.builds(wire.Bind, id=IDS, appid=TOKENS, side=TOKENS),
    st.builds(wire.List, id=IDS),
    st.builds(wire.Allocate, id=IDS),
    st.builds(wire.Claim, id=IDS, nameplate=NAMEPLATES),
    st.builds(wire.Release, id=IDS, nameplate=st.none() | NAMEPLATES),
    st.builds(wire.Open, id=IDS, mailbox=TOKENS),
    st.builds(wire.Add, id=IDS, phase=TOKENS, body=BODIES),
    st.builds(wire.Close, id=IDS, mailbox=st.none() | TOKENS, mood=st.none() | st.sampled_from(["happy", "scary"])),
    st.builds(wire.Ping, id=IDS, ping=st.integers(0, 2**53)),
)
SERVER_FRAMES = st.one_of(
    st.builds(wire.Welcome, welcome=st.builds(wire.WelcomeInfo, motd=st.none() | TEXTS, error=st.none() | TEXTS)),
    st.builds(wire.Nameplates, nameplates=st.lists(st.builds(wire.NameplateEntry, id=NAMEPLATES), max_size=5)),
    st.builds(wire.Allocated, nameplate=NAMEPLATES, server_tx=st.floats(0, 1e12)),
    st.builds(wire.Claimed, mailbox=TOKENS),
    st.builds(wire.Released),
    st.builds(wire.Message, side=TOKENS, phase=TOKENS, body=BODIES, id=IDS, server_rx=st.floats(0, 1e12)),
    st.builds(wire.Closed),
    st.builds(wire.Ack, id=IDS),
    st.builds(wire.Pong, pong=st.integers(0, 2**53)),
    st.builds(wire.Error, error=TEXTS),
)


@settings(deadline=None)
@given(CLIENT_FRAMES)
def test_every_command_survives_the_wire(frame: wire.ClientFrame) -> None:
    assert wire.decode_client_frame(wire.encode(frame)) == frame
    assert wire.decode_client_frame(wire.encode(frame).encode()) == frame


@settings(deadline=None)
@given(SERVER_FRAMES)
def test_every_response_survives_the_wire(frame: wire.ServerFrame) -> None:
    assert wire.decode_server_frame(wire.encode(frame)) == frame


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200))
def test_garbage_is_refused_with_one_kind_of_error(data: bytes | str) -> None:
    for decode in (wire.decode_client_frame, wire.decode_server_frame):
        with pytest.raises(wire.WireError):
            decode(data)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
COMMANDS = ["bind", "list", "allocate", "claim", "release", "open", "add", "close", "ping"]
RESPONSES = ["welcome", "nameplates", "allocated", "claimed", "message", "ack", "pong", "error"]
TYPES = st.sampled_from([*COMMANDS, *RESPONSES])
NAMES = ["appid", "side", "nameplate", "mailbox", "phase", "body", "mood", "welcome", "orig", "id", "server_tx", "x"]
FIELDS = st.sampled_from([*NAMES, "ping", "pong", "error", "nameplates"])


@settings(deadline=None)
@given(TYPES, st.dictionaries(FIELDS, JSON_VALUES, max_size=6))
def test_objects_of_odd_fields_decode_or_are_refused(kind: str, fields: dict[str, Any]) -> None:
    data = json.dumps({"type": kind, **fields})
    for decode in (wire.decode_client_frame, wire.decode_server_frame):
        with contextlib.suppress(wire.WireError):
            decode(data)


def test_fields_nobody_knows_are_passed_over() -> None:
    text = '{"type":"bind","appid":"a","side":"b","client_version":["python","0.24.0"],"id":"12ab"}'
    assert wire.decode_client_frame(text) == wire.Bind(appid="a", side="b", id="12ab")
    welcome = '{"type":"welcome","welcome":{"your-address":{"port":1},"motd":"hi"},"server_tx":1.5}'
    assert wire.decode_server_frame(welcome) == wire.Welcome(welcome=wire.WelcomeInfo(motd="hi"), server_tx=1.5)


def test_frames_of_unknown_type_are_told_apart_from_broken_ones() -> None:
    assert wire.decode_server_frame('{"type":"dance","with":1}') == wire.Unknown(type="dance")
    assert wire.decode_client_frame('{"type":"welcome","welcome":{}}') == wire.Unknown(type="welcome")


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"type":7}',
        '{"type":""}',
        '{"type":"bind","appid":"a"}',
        '{"type":"bind","appid":"a","side":"' + "s" * 65 + '"}',
        '{"type":"bind","appid":"a","side":"b\\n"}',
        '{"type":"bind","appid":"a","side":"é"}',
        '{"type":"claim","nameplate":"٣"}',
        '{"type":"claim","nameplate":"7x"}',
        '{"type":"claim","nameplate":7}',
        '{"type":"add","phase":"0","body":"abc"}',
        '{"type":"add","phase":"0","body":"zz"}',
        '{"type":"add","phase":"0","body":"' + "00" * (wire.MAX_BODY_BYTES + 1) + '"}',
        '{"type":"ping","ping":-1}',
        '{"type":"ping","ping":1.5}',
        '{"type":"list","type":"ping"}',
        '{"type":"list"} x',
        '{"type":"list","x":' + "[" * 60_000 + "]" * 60_000 + "}",
    ],
)
def test_a_command_with_a_missing_or_invalid_field_is_refused(text: str) -> None:
    with pytest.raises(wire.WireError):
        wire.decode_client_frame(text)


def test_what_was_received_does_not_stand_in_the_error() -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.decode_client_frame('{"type":"SECRET","type":"bind","appid":"SECRET","side":"SEC RET"}')
    assert "SEC" not in str(caught.value)


def test_a_frame_over_the_limit_is_refused_in_both_directions() -> None:
    with pytest.raises(wire.WireError, match="over the limit"):
        wire.decode_server_frame('{"type":"closed","x":"' + "x" * wire.MAX_FRAME_BYTES + '"}')
    with pytest.raises(wire.WireError, match="over the limit"):
        wire.encode(wire.Error(error="x" * wire.MAX_FRAME_BYTES))


def test_the_largest_body_fits_into_a_frame() -> None:
    frame = wire.Message(side="s" * 64, phase="p" * 64, body="00" * wire.MAX_BODY_BYTES, id="i" * 64)
    assert wire.decode_server_frame(wire.encode(frame)) == frame


def test_the_refused_command_comes_back_as_it_was() -> None:
    error = wire.decode_server_frame('{"type":"error","error":"no","orig":{"type":"x","n":[1]}}')
    assert isinstance(error, wire.Error)
    assert bytes(error.orig) == b'{"type":"x","n":[1]}'
    # magic-wormhole's client looks the field up without asking whether it is there.
    assert '"orig":{}' in wire.encode(wire.Error(error="no"))
