"""The messages of a transfer."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from transfer_support import unhurried

from midair.channel import MAX_PAYLOAD
from midair.channel.stream import CONTENT_AT
from midair.errors import (
    IncompatibleError,
    MidairError,
    PeerFailedError,
    PeerRefusedError,
    RemoteProtocolError,
    SourceChangedError,
)
from midair.transfer import wire
from midair.transfer.failures import from_peer, telling
from midair.transfer.pace import MAX_DATA_BYTES
from midair.transfer.runs import Runs

offsets = st.integers(0, (1 << 63) - 1)
digests = st.builds(wire.Digest, st.integers(0, 999_999), offsets, offsets, st.binary(min_size=32, max_size=32))
words = st.from_regex("[a-z][a-z-]{0,30}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=1000)
indices = st.integers(0, 999_999)
hashes = st.binary(min_size=32, max_size=32)
failed = st.builds(wire.Failed, reason=words, text=texts)
streams = st.builds(wire.StreamOffer, kind=st.sampled_from(["stream", "text"]), name=texts.map(lambda name: name[:255]))
from_sender = st.one_of(
    st.builds(
        wire.Announce,
        version=st.integers(0, 9),
        entries=st.integers(1, 1_000_000),
        total=offsets,
        manifest_id=st.binary(min_size=16, max_size=16),
        stream=st.none() | streams,
    ),
    st.builds(wire.Compared, hashes=st.lists(st.builds(wire.FileHash, indices, hashes), max_size=5)),
    st.builds(wire.Hole, start=offsets, end=offsets),
    st.builds(wire.FileFailed, file=indices, reason=words, text=texts),
    st.builds(wire.StreamEnd, total=offsets, blake3=hashes),
    st.builds(wire.Digests, digests=st.lists(digests, max_size=5)),
    st.builds(wire.RangeEnd, start=offsets, end=offsets, digests=st.lists(digests, max_size=5)),
    failed,
    st.sampled_from([wire.Cancel(), wire.Ping(), wire.Bye()]),
)
results = st.builds(wire.FileResult, indices, st.none() | hashes, words, texts)
from_receiver = st.one_of(
    st.builds(wire.Accept, durable=offsets, identical=offsets, excluded=offsets, holes=st.booleans()),
    st.builds(wire.Compare, files=st.lists(indices, min_size=1, max_size=5)),
    st.builds(wire.Refuse, reason=words, text=texts),
    st.builds(wire.Request, start=offsets, end=offsets),
    st.builds(wire.Progress, durable=offsets),
    st.builds(wire.FileResults, results=st.lists(results, max_size=5)),
    st.builds(wire.Finished, total=offsets),
    failed,
    st.sampled_from([wire.Cancel(), wire.Ping()]),
)


def test_the_content_of_a_data_record_begins_where_channels_have_a_place_for_it() -> None:
    payload = memoryview(bytearray(CONTENT_AT + 1))
    wire.encode_data_header_into(payload, 7)
    position, content = wire.decode_data(payload)
    assert (position, len(content)) == (7, 1)
    assert wire.DATA_HEADER_BYTES + MAX_DATA_BYTES <= MAX_PAYLOAD


@unhurried
@given(from_sender)
def test_what_a_sender_says_is_understood(message: wire.FromSender) -> None:
    assert wire.decode_from_sender(wire.encode(message)) == message


@unhurried
@given(from_receiver)
def test_what_a_receiver_says_is_understood(message: wire.FromReceiver) -> None:
    assert wire.decode_from_receiver(wire.encode(message)) == message


@unhurried
@given(st.binary(max_size=300))
def test_noise_breaks_the_protocol_and_nothing_else(payload: bytes) -> None:
    for decode in (wire.decode_from_sender, wire.decode_from_receiver):
        try:
            message = decode(payload)
        except RemoteProtocolError:
            continue
        assert isinstance(message, get_args(wire.Message))


@pytest.mark.parametrize(
    "raw",
    [
        {"m": "accept", "durable": -1},
        {"m": "accept", "durable": 1 << 63},
        {"m": "accept", "durable": "1"},
        {"m": "accept"},
        {"m": "refuse", "reason": "Not A Word", "text": ""},
        {"m": "refuse", "reason": "a\x1b", "text": ""},
        {"m": "refuse", "reason": "x" * 33, "text": ""},
        {"m": "refuse", "reason": "x", "text": "x" * 1001},
        {"m": "bye"},
        {"m": "nonsense"},
        {},
        [],
        None,
    ],
)
def test_a_receivers_message_out_of_bounds_is_refused(raw: object) -> None:
    with pytest.raises(RemoteProtocolError):
        wire.decode_from_receiver(msgspec.msgpack.encode(raw))


def test_a_field_that_a_later_version_adds_is_passed_over() -> None:
    raw = msgspec.msgpack.encode({"m": "accept", "durable": 7, "colour": "blue"})
    assert wire.decode_from_receiver(raw) == wire.Accept(durable=7)


def test_deep_nesting_and_huge_messages_are_refused() -> None:
    for payload in (b"\x91" * 100_000, b"\x81\xa1m" * 10_000, bytes(600_000)):
        with pytest.raises(RemoteProtocolError):
            wire.decode_from_sender(payload)


def test_data_has_an_offset_and_at_least_a_byte() -> None:
    buffer = memoryview(bytearray(8))
    wire.encode_data_header_into(buffer, 1 << 40)
    position, content = wire.decode_data(memoryview(bytes(buffer) + b"x"))
    assert (position, bytes(content)) == (1 << 40, b"x")
    for short in (b"", b"1234567", bytes(buffer)):
        with pytest.raises(RemoteProtocolError):
            wire.decode_data(memoryview(short))


def test_the_largest_messages_fit_into_what_is_taken() -> None:
    digest = wire.Digest(999_999, (1 << 63) - 1, (1 << 63) - 1, bytes(32))
    ranges = wire.RangeEnd(start=0, end=1, digests=[digest] * wire.MAX_DIGESTS)
    assert wire.decode_from_sender(wire.encode(ranges)) == ranges
    finished = wire.FileResults(results=[wire.FileResult(999_999, bytes(32))] * wire.MAX_RESULTS)
    assert wire.decode_from_receiver(wire.encode(finished)) == finished


def test_a_reason_from_the_other_side_becomes_the_error_that_says_so_escaped() -> None:
    table: dict[str, type[MidairError]] = {
        "refused": PeerRefusedError,
        "source-changed": SourceChangedError,
        "incompatible": IncompatibleError,
        "disk-full": PeerFailedError,
        "whatever-comes-later": PeerFailedError,
    }
    for reason, expected in table.items():
        error = from_peer(reason, "no\x1b[2J\u202e", "sender")
        assert type(error) is expected
        assert error.message == "the sender says: no\\x1b[2J\\u202e"
        assert not isinstance(error, PeerFailedError) or error.remote_reason == reason


def test_an_error_of_the_program_tells_the_other_side_no_details() -> None:
    assert telling(KeyError("/home/me/secret")) == ("error", "an error in the program")


def test_runs_give_the_ordinary_hash_of_a_file_and_one_for_each_piece_after_a_gap() -> None:
    content = bytes(range(200))
    view = memoryview(content)
    runs = Runs()
    assert runs.feed(0, 0, view[:50], 100) is None
    assert runs.open_run() == wire.Digest(0, 0, 50, blake3(content[:50]).digest())
    assert runs.feed(0, 50, view[50:100], 100) == wire.Digest(0, 0, 100, blake3(content[:100]).digest())
    assert runs.open_run() is None
    assert runs.feed(1, 0, view[:10], 100) is None
    assert runs.feed(1, 20, view[20:30], 100) is None
    assert runs.open_run() == wire.Digest(1, 20, 30, blake3(content[20:30]).digest())
    assert runs.bytes_hashed == 120
