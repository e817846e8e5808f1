"""Searching for a UPnP router: what is asked, and which answers are followed to where."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midair.nat.mapping import ssdp
from midair.nat.mapping.http import Target
from midair.nat.mapping.outcome import MalformedError

ROUTER = IPv4Address("10.1.0.1")
HERE = Target(port=5000, path="/rootDesc.xml")
IGD = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"


def answer(location: str = "http://10.1.0.1:5000/rootDesc.xml", target: str = IGD, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nCACHE-CONTROL: max-age=120\r\nst: {target}\r\nLocation:  {location} \r\n\r\n".encode()


def test_a_search_is_for_both_versions_of_a_router() -> None:
    first, second = ssdp.encode_search(ssdp.GROUP)
    assert first == (
        b'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\n'
        b"ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
    )
    assert second == first.replace(b"Device:1", b"Device:2")


def test_the_answer_tells_where_the_description_is() -> None:
    assert ssdp.decode_answer(answer(), ROUTER) == HERE
    assert ssdp.decode_answer(answer("http://10.1.0.1"), ROUTER) == Target(port=80, path="/")
    assert ssdp.decode_answer(answer("http://10.1.0.1/a?b=c#d", IGD[:-1] + "2"), ROUTER).path == "/a?b=c"


@pytest.mark.parametrize(
    "location",
    [
        "http://10.1.0.3:5000/rootDesc.xml",  # another host
        "http://router.lan:5000/rootDesc.xml",  # a name, which somebody else resolves
        "http://10.1.0.1.example.com/",
        "http://10.1.0.1@192.0.2.1/",
        "http://user@10.1.0.1/",
        "https://10.1.0.1/",
        "file:///etc/passwd",
        "http://[::ffff:10.1.0.1]/",
        "http://167837697/",  # 10.1.0.1 as a number
        "http://10.1.0.1:0/",
        "http://10.1.0.1:99999/",
        "http://10.1.0.1:x/",
        "http://[10.1.0.1/",
        "http://10.1.0.1/a b",
        "http://10.1.0.1/\x7f",
        "http://10.1.0.1/" + "a" * 2000,
        "//10.1.0.3/",
        "/rootDesc.xml",
        "",
    ],
)
def test_a_description_that_is_elsewhere_is_not_looked_at(location: str) -> None:
    with pytest.raises(MalformedError):
        ssdp.decode_answer(answer(location), ROUTER)


def test_a_header_cannot_be_smuggled_into_our_request_by_a_url() -> None:
    for path in ("/a\r\nX: y", "/a\nX: y", "/a\tb", "/a\u0085b"):
        with pytest.raises(MalformedError):
            ssdp.target_at(ROUTER, f"http://10.1.0.1{path}")
        with pytest.raises(MalformedError):
            ssdp.target_at(ROUTER, path, HERE)


@pytest.mark.parametrize(
    "data", [b"", b"NOTIFY * HTTP/1.1\r\n\r\n", answer(status="404 Not Found"), answer(target="upnp:rootdevice")]
)
def test_what_is_no_answer_of_a_router_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        ssdp.decode_answer(data, ROUTER)


def test_a_url_that_is_relative_but_for_its_host_leads_elsewhere() -> None:
    with pytest.raises(MalformedError):
        ssdp.target_at(ROUTER, "//10.1.0.3/ctl", HERE)


def test_a_relative_url_counts_from_where_the_description_was() -> None:
    base = Target(port=5000, path="/upnp/rootDesc.xml?x=/y")
    assert ssdp.target_at(ROUTER, "/ctl/IPConn", base) == Target(port=5000, path="/ctl/IPConn")
    assert ssdp.target_at(ROUTER, "ctl", base) == Target(port=5000, path="/upnp/ctl")
    assert ssdp.target_at(ROUTER, "?a=b", base).path.startswith("/")


@given(st.one_of(st.binary(max_size=2100), st.text(max_size=300).map(lambda text: answer(text))))
def test_no_answer_makes_the_search_do_anything_but_take_or_refuse_it(data: bytes) -> None:
    try:
        target = ssdp.decode_answer(data, ROUTER)
    except MalformedError:
        return
    assert target.path.startswith("/")
    assert 0 < target.port <= 65535
