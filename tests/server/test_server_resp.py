"""What Redis answers, understood whole and in pieces; and what it is asked."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midair.server.shared.resp import MAX_DEPTH, MAX_REPLY_BYTES, Replies, Reply, ReplyError, RespError, encode_command


def encoded(reply: Reply) -> bytes:
    match reply:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % reply
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case list():
            return b"*%d\r\n" % len(reply) + b"".join(map(encoded, reply))
        case ReplyError():
            return b"-%b\r\n" % str(reply).encode()


def plain(reply: Reply) -> object:
    """Errors are not equal to each other."""
    if isinstance(reply, list):
        return [plain(item) for item in reply]
    return ("error", str(reply)) if isinstance(reply, ReplyError) else reply


replies = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=50) | st.builds(ReplyError, st.just("ERR no")),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(replies, max_size=5), st.integers(1, 30))
def test_replies_come_out_in_order_however_they_are_cut(sent: list[Reply], cut: int) -> None:
    parser, stream, arrived = Replies(), b"".join(map(encoded, sent)), []
    for at in range(0, len(stream), cut):
        arrived += parser.feed(stream[at : at + cut])
    assert [plain(reply) for reply in arrived] == [plain(reply) for reply in sent]


def test_a_simple_string_is_what_it_says_and_an_error_tells_its_kind() -> None:
    status, error, none = Replies().feed(b"+OK\r\n-NOSCRIPT No matching script.\r\n*-1\r\n")
    assert (status, none) == (b"OK", None)
    assert isinstance(error, ReplyError)
    assert error.kind == "NOSCRIPT"


def test_a_command_is_a_list_of_strings() -> None:
    assert encode_command("SET", b"\r\n", 1, 1.5, "ü") == (
        b"*5\r\n$3\r\nSET\r\n$2\r\n\r\n\r\n$1\r\n1\r\n$3\r\n1.5\r\n$2\r\n\xc3\xbc\r\n"
    )


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\n",
        b"$x\r\n",
        b":\r\n",
        b"*1\r\n" * (MAX_DEPTH + 1) + b":1\r\n",
        b"$%d\r\n" % (MAX_REPLY_BYTES + 1),
    ],
)
def test_what_is_no_reply_is_not_understood(said: bytes) -> None:
    with pytest.raises(RespError):
        Replies().feed(said)
