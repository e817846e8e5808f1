"""As much HTTP as a router gets to speak with us."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midair.nat.mapping import http
from midair.nat.mapping.http import HttpResponse, ResponseReader, Target
from midair.nat.mapping.outcome import MalformedError

ROUTER = IPv4Address("10.1.0.1")
HERE = Target(port=5000, path="/rootDesc.xml")


def read(data: bytes, *, piece: int = 7, ended: bool = False) -> HttpResponse | None:
    reader = ResponseReader()
    for start in range(0, len(data), piece):
        if (response := reader.feed(data[start : start + piece])) is not None:
            return response
    return reader.feed(b"") if ended else None


def test_a_request_asks_for_one_answer_and_the_end() -> None:
    assert http.encode_request("GET", ROUTER, HERE) == (
        b"GET /rootDesc.xml HTTP/1.1\r\nHost: 10.1.0.1:5000\r\nConnection: close\r\n\r\n"
    )
    request = http.encode_request("POST", ROUTER, HERE, headers={"A": "b"}, body=b"body")
    assert request.endswith(b"A: b\r\nContent-Length: 4\r\n\r\nbody")


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_a_response_is_whole_when_its_length_is_there(piece: int) -> None:
    data = b"HTTP/1.1 200 OK\r\nServer: x\r\nCONTENT-LENGTH: 5\r\n\r\nhello"
    assert read(data, piece=piece) == HttpResponse(200, b"hello")
    assert read(data[:-1], piece=piece) is None


def test_a_response_without_a_length_lasts_until_the_end() -> None:
    data = b"HTTP/1.0 500 Internal Server Error\r\nA: b\r\n\r\nhello"
    assert read(data) is None
    assert read(data, ended=True) == HttpResponse(500, b"hello")


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_a_response_in_chunks_is_put_together(piece: int) -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
    assert read(data, piece=piece) == HttpResponse(200, b"hello")


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n",
        b"",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 100,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc",
    ],
)
def test_what_is_no_response_or_is_cut_off_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        read(data, ended=True)


def test_a_chunk_that_is_not_as_long_as_it_says_is_noticed_at_once() -> None:
    with pytest.raises(MalformedError, match="size"):
        read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n")


def test_a_response_that_does_not_end_is_given_up() -> None:
    for endless in (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5000, b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n" + b"x" * 140_000):
        with pytest.raises(MalformedError, match="too long"):
            read(endless, piece=1000)
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"1000\r\n" + b"x" * 4096 + b"\r\n") * 17
    with pytest.raises(MalformedError, match="too long"):
        read(chunks, piece=5000)


@given(st.binary(max_size=400), st.booleans())
def test_no_bytes_make_the_http_reader_do_anything_but_read_or_refuse(data: bytes, chunked: bool) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"")
    for start in (b"", head):
        try:
            read(start + data, piece=50, ended=True)
        except MalformedError:
            continue
