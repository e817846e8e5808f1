"""Both handshakes as dialogues: what we say, what the proxy says, in whole and in single bytes."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midair.proxy.handshake import Handshake, Refusal, RefusedError, host_name
from midair.proxy.http_connect import HttpConnect
from midair.proxy.socks5 import Socks5

NAME = b"\x05\x01\x00\x03\x0bexample.org\x1c\xfc"
"""The request for example.org, port 7420."""
OPEN = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"


def said(handshake: Handshake, *answers: bytes) -> list[bytes]:
    """What the client says to a proxy that says these, each in single bytes."""
    lines = [handshake.hello()]
    for answer in answers:
        assert not handshake.is_open
        lines.append(b"".join(handshake.receive(answer[at : at + 1]) for at in range(len(answer))))
    return lines


def hear(handshake: Handshake, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        handshake.receive(piece)


def refusal_of(handshake: Handshake, *answers: bytes) -> tuple[Refusal, str]:
    with pytest.raises(RefusedError) as caught:
        hear(handshake, answers)
    assert not handshake.is_open
    return caught.value.refusal, caught.value.text


def http(status: str, *headers: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *headers, "", "")).encode()


# -- SOCKS 5 --


def test_socks_without_a_login_asks_by_name() -> None:
    handshake = Socks5("example.org", 7420)
    assert said(handshake, b"\x05\x00", OPEN) == [b"\x05\x01\x00", NAME, b""]
    assert handshake.is_open


def test_socks_with_a_login_says_it_only_where_it_is_asked_for() -> None:
    login = b"\x01\x03ann\x04p\xc3\xa4s"
    handshake = Socks5("example.org", 7420, user="ann", password="päs")
    assert said(handshake, b"\x05\x02", b"\x01\x00", OPEN) == [b"\x05\x02\x00\x02", login, NAME, b""]
    assert handshake.is_open
    assert said(Socks5("example.org", 7420, user="ann", password="päs"), b"\x05\x00")[1] == NAME


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", b"\x01\xc0\x00\x02\x01"),
        ("2001:db8::1", b"\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01"),
        ("bücher.example", b"\x03\x15xn--bcher-kva.example"),
    ],
)
def test_socks_knows_three_kinds_of_address(host: str, address: bytes) -> None:
    assert said(Socks5(host, 443), b"\x05\x00")[1] == b"\x05\x01\x00" + address + b"\x01\xbb"


@pytest.mark.parametrize("bound", [b"\x01" + bytes(4), b"\x04" + bytes(16), b"\x03\x05proxy", b"\x03\x00"])
def test_socks_is_open_when_the_whole_answer_is_there(bound: bytes) -> None:
    handshake = Socks5("example.org", 7420)
    said(handshake, b"\x05\x00", b"\x05\x00\x00" + bound + b"\x04")
    assert not handshake.is_open
    handshake.receive(b"\x38")
    assert handshake.is_open


@pytest.mark.parametrize(
    ("answers", "user", "refusal", "text"),
    [
        ([b"\x05\xff"], "", Refusal.LOGIN_WANTED, ""),
        ([b"\x05\xff"], "ann", Refusal.LOGIN_UNKNOWN, ""),
        ([b"\x05\x02", b"\x01\x01"], "ann", Refusal.LOGIN_WRONG, ""),
        ([b"\x05\x02"], "", Refusal.NONSENSE, "it chose a login that it was not offered"),
        ([b"\x05\x01"], "ann", Refusal.NONSENSE, "it chose a login that it was not offered"),
        ([b"\x05\x00", b"\x05\x01"], "", Refusal.UNREACHABLE, "it says no more than that it failed"),
        ([b"\x05\x00", b"\x05\x02"], "", Refusal.FORBIDDEN, "its rules do not allow it"),
        ([b"\x05\x00", b"\x05\x05\x00\x01"], "", Refusal.UNREACHABLE, "connection refused"),
        ([b"\x05\x00", b"\x05\x63"], "", Refusal.NONSENSE, "its answer is number 99"),
        ([b"\x05\x00", b"\x05\x00\x00\x02\x00"], "", Refusal.NONSENSE, "it names an address of kind 2"),
        ([b"\x04"], "", Refusal.NONSENSE, ""),
        ([b"HTTP/1.1 400 Bad Request"], "", Refusal.NONSENSE, ""),
        ([b"\x05\x00\x00"], "", Refusal.NONSENSE, "it goes on talking"),
        ([b"\x05\x00", OPEN + b"!"], "", Refusal.NONSENSE, "it goes on talking"),
    ],
)
def test_socks_says_no_in_these_ways(answers: list[bytes], user: str, refusal: Refusal, text: str) -> None:
    assert refusal_of(Socks5("example.org", 7420, user=user), *answers) == (refusal, text)


# -- HTTP --


def test_http_asks_for_a_tunnel_and_looks_at_nothing_but_the_status() -> None:
    handshake = HttpConnect("example.org", 443)
    answer = http("200 Connection established", "Content-Length: 1000", "Via: somebody")
    assert said(handshake, answer) == [b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n", b""]
    assert handshake.is_open


def test_http_puts_ipv6_in_brackets() -> None:
    assert HttpConnect("2001:db8::1", 443).hello().startswith(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n")


def test_http_says_a_login_without_being_asked() -> None:
    credentials = base64.b64encode("ann:pä:s".encode()).decode()
    hello = HttpConnect("example.org", 443, user="ann", password="pä:s").hello().decode()
    assert f"\r\nProxy-Authorization: Basic {credentials}\r\n\r\n" in hello


@pytest.mark.parametrize("answer", [b"HTTP/1.0 200\r\n\r\n", b"HTTP/1.1 299 Any\n\n", http("204 No Content")])
def test_http_takes_any_success(answer: bytes) -> None:
    handshake = HttpConnect("example.org", 443)
    said(handshake, answer)
    assert handshake.is_open


@pytest.mark.parametrize(
    ("answer", "user", "refusal", "text"),
    [
        (http("407 Proxy Authentication Required"), "", Refusal.LOGIN_WANTED, ""),
        (http("407 No", 'Proxy-Authenticate: Basic realm="x"'), "ann", Refusal.LOGIN_WRONG, ""),
        (http("401 Unauthorized"), "ann", Refusal.LOGIN_WRONG, ""),
        (
            http("407 No", "Proxy-Authenticate: Negotiate", "proxy-authenticate: NTLM"),
            "ann",
            Refusal.LOGIN_UNKNOWN,
            "it has negotiate, ntlm",
        ),
        (http("407 No", "Proxy-Authenticate: NTLM", "Proxy-Authenticate: basic"), "", Refusal.LOGIN_WANTED, ""),
        (http("403 \x1b[2JForbidden"), "", Refusal.FORBIDDEN, "HTTP 403"),
        (http("405 Method Not Allowed"), "", Refusal.FORBIDDEN, "HTTP 405"),
        (http("302 Found", "Location: http://elsewhere/"), "", Refusal.FORBIDDEN, "HTTP 302"),
        (http("502 Bad Gateway"), "", Refusal.UNREACHABLE, "HTTP 502"),
        (http("503 Unavailable") + b"<html>a page</html>", "", Refusal.UNREACHABLE, "HTTP 503"),
        (http("200 OK") + b"x", "", Refusal.NONSENSE, "it goes on talking"),
        (http("999 What"), "", Refusal.NONSENSE, ""),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "", Refusal.NONSENSE, ""),
        (b"\x05", "", Refusal.NONSENSE, ""),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 4000, "", Refusal.NONSENSE, "its answer is too long"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 4000 + b"\r\n", "", Refusal.NONSENSE, "its answer is too long"),
    ],
)
def test_http_says_no_in_these_ways(answer: bytes, user: str, refusal: Refusal, text: str) -> None:
    assert refusal_of(HttpConnect("example.org", 443, user=user), answer) == (refusal, text)


# -- both --


@pytest.mark.parametrize("kind", [Socks5, HttpConnect])
@pytest.mark.parametrize("host", ["", "a b", "a\r\nHost: b", "x" * 300, "a/b", "[", "-" * 70, ".."])
def test_a_host_that_has_no_hosts_name_is_never_said(kind: Callable[[str, int], Handshake], host: str) -> None:
    with pytest.raises(RefusedError) as caught:
        kind(host, 443)
    assert caught.value.refusal is Refusal.UNREACHABLE


def test_names_are_said_as_they_are() -> None:
    assert [host_name(name) for name in ("a", "under_score.example.", "::1")] == [b"a", b"under_score.example.", b"::1"]


@pytest.mark.parametrize("kind", [Socks5, HttpConnect])
@given(pieces=st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"\x05\x00", OPEN, http("200 OK")]))))
def test_nothing_that_a_proxy_says_does_more_than_be_refused_in_words_fit_to_be_shown(
    kind: Callable[[str, int], Handshake], pieces: list[bytes]
) -> None:
    handshake = kind("example.org", 443)
    text = ""
    try:
        hear(handshake, pieces)
    except RefusedError as error:
        text = error.text
    assert text.isprintable()
