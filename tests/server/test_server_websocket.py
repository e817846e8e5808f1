"""The server's WebSocket against somebody else's client (the Sans-I/O layer of ``websockets``), and against liars."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.uri import parse_uri

from midair.server.websocket import WebSocket, read_upgrade

LIMIT = 70_000
REQUEST = (
    b"GET /v1 HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def pair() -> tuple[ClientProtocol, WebSocket]:
    """Both ends, open."""
    client = ClientProtocol(parse_uri("ws://localhost/v1"))
    client.send_request(client.connect())
    upgrade = read_upgrade(b"".join(client.data_to_send()))
    assert upgrade is not None
    client.receive_data(upgrade.response)
    client.events_received()
    assert client.handshake_exc is None
    return client, WebSocket(max_message_bytes=LIMIT)


def hears(client: ClientProtocol, socket: WebSocket) -> list[tuple[Opcode, bytes]]:
    """What the client makes of all that is to be written."""
    client.receive_data(b"".join(socket.outgoing))
    socket.outgoing.clear()
    return [(event.opcode, bytes(event.data)) for event in client.events_received() if isinstance(event, Frame)]


def frame(first: int, payload: bytes = b"", *, length: bytes | None = None, masked: bool = True) -> bytes:
    """With a mask of zeros."""
    size = bytes([len(payload)]) if length is None else length
    return bytes([first, size[0] | (0x80 if masked else 0)]) + size[1:] + (b"\0\0\0\0" if masked else b"") + payload


def test_the_example_of_the_rfc_is_answered_as_there() -> None:
    upgrade = read_upgrade(REQUEST + b"Authorization: Basic eA==\r\n\r\n")
    assert upgrade is not None
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in upgrade.response  # section 1.3
    assert (upgrade.path, upgrade.authorization) == ("/v1", "Basic eA==")


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        (b"GET", b"POST"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"Upgrade: WebSocket", b"Upgrade: h2c"),
        (b"keep-alive, Upgrade", b"keep-alive"),
        (b"Version: 13", b"Version: 8"),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25jZQ"),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ="),
        (b"Host: x", b"Host: x\r\nContent-Length: 5"),
        (b"Host: x", b"Host: x\r\nTransfer-Encoding: chunked"),
        (b"Host: x", b"Host: x\r\nSec-WebSocket-Version: 13"),
        (b"Host: x", b"Host: x\r\n folded"),
        (b"Host: x", b"Host: \x00"),
        (b"Host: x", b"Host : x"),
        (b"Host: x", b"\r\n".join(b"X%d: y" % n for n in range(100))),
    ],
)
def test_a_request_that_is_odd_is_left_to_who_has_the_words_for_it(there: bytes, instead: bytes) -> None:
    assert read_upgrade(REQUEST + b"\r\n") is not None
    assert read_upgrade(REQUEST.replace(there, instead) + b"\r\n") is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, LIMIT)), max_size=6), st.integers(1, 40_000))
def test_messages_of_all_sizes_arrive_both_ways_however_they_are_cut(kinds: list[tuple[bool, int]], cut: int) -> None:
    client, socket = pair()
    sent = [(is_text, bytes(range(97, 122)) * (size // 25) + b"x" * (size % 25)) for is_text, size in kinds]
    for is_text, data in sent:
        (client.send_text if is_text else client.send_binary)(data)
    stream = b"".join(client.data_to_send())
    arrived = [message for at in range(0, len(stream), cut) for message in socket.receive(stream[at : at + cut])]
    assert arrived == sent
    for is_text, data in sent:
        (socket.send_text if is_text else socket.send_binary)(data)
    assert hears(client, socket) == [(Opcode.TEXT if is_text else Opcode.BINARY, data) for is_text, data in sent]


def test_a_message_in_fragments_is_one_and_a_ping_between_them_is_answered() -> None:
    client, socket = pair()
    client.send_text(b"one ", fin=False)
    client.send_ping(b"there?")
    client.send_continuation(b"and ", fin=False)
    client.send_continuation(b"two", fin=True)
    assert socket.receive(b"".join(client.data_to_send())) == [(True, b"one and two")]
    assert hears(client, socket) == [(Opcode.PONG, b"there?")]
    assert socket.is_open


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (frame(0x81, b"x", masked=False), CloseCode.PROTOCOL_ERROR),
        (frame(0xC1, b"x"), CloseCode.PROTOCOL_ERROR),  # compressed, which was not agreed on
        (frame(0x83), CloseCode.PROTOCOL_ERROR),
        (frame(0x80, b"the middle of nothing"), CloseCode.PROTOCOL_ERROR),
        (frame(0x01, b"a") + frame(0x81, b"b"), CloseCode.PROTOCOL_ERROR),
        (frame(0x09, b"half a ping"), CloseCode.PROTOCOL_ERROR),
        (frame(0x89, length=b"\x7e\x00\x80"), CloseCode.PROTOCOL_ERROR),
        (frame(0x88, b"x"), CloseCode.PROTOCOL_ERROR),
        (frame(0x88, b"\x03\xed"), CloseCode.PROTOCOL_ERROR),  # 1005 is never sent
        (frame(0x88, b"\x07\xd0"), CloseCode.PROTOCOL_ERROR),  # 2000 is nobody's
        (frame(0x88, b"\x03\xe8\xff"), CloseCode.INVALID_DATA),
        (frame(0x81, length=b"\x7f" + (LIMIT + 1).to_bytes(8, "big")), CloseCode.MESSAGE_TOO_BIG),
        (frame(0x81, length=b"\x7f" + b"\xff" * 8), CloseCode.MESSAGE_TOO_BIG),
        (frame(0x01, b"x" * 100) + frame(0x80, length=b"\x7f" + LIMIT.to_bytes(8, "big")), CloseCode.MESSAGE_TOO_BIG),
    ],
)
def test_who_breaks_the_rules_is_told_and_heard_no_more(said: bytes, code: CloseCode) -> None:
    socket = WebSocket(max_message_bytes=LIMIT)
    assert socket.receive(said + frame(0x81, b"more")) == []
    assert socket.outgoing == [b"\x88\x02" + code.to_bytes(2, "big")]
    assert socket.ended
    assert socket.receive(frame(0x81, b"more")) == []
    assert len(socket.outgoing) == 1


def test_a_close_is_answered_with_its_own_code_and_ends_it() -> None:
    client, socket = pair()
    client.send_text(b"last")
    client.send_close(4000, "enough")
    assert socket.receive(b"".join(client.data_to_send())) == [(True, b"last")]
    assert socket.ended
    assert not socket.is_open
    hears(client, socket)
    assert client.close_rcvd is not None
    assert client.close_rcvd.code == 4000


def test_after_its_own_close_it_says_nothing_hears_nothing_and_waits_for_the_answer() -> None:
    client, socket = pair()
    socket.close(CloseCode.GOING_AWAY)
    socket.close(CloseCode.INTERNAL_ERROR)
    socket.send_text(b"late")
    client.send_text(b"crossing")
    assert socket.receive(b"".join(client.data_to_send())) == []
    before = socket.ended
    hears(client, socket)
    assert client.close_rcvd is not None
    assert client.close_rcvd.code == CloseCode.GOING_AWAY
    socket.receive(b"".join(client.data_to_send()))
    assert (before, socket.ended) == (False, True)
    assert socket.outgoing == []


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_break_it(data: bytes) -> None:
    socket = WebSocket(max_message_bytes=100)
    for at in range(0, len(data), 7):
        socket.receive(data[at : at + 7])
    assert read_upgrade(data) is None
