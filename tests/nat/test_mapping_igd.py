"""A UPnP router's description, its replies, and what is asked after an error."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midair.nat.mapping import igd, xml
from midair.nat.mapping.http import HttpResponse, Target
from midair.nat.mapping.outcome import MalformedError

ROUTER = IPv4Address("10.1.0.1")
HERE = Target(port=5000, path="/rootDesc.xml")


def description(*services: tuple[str, str], base: str = "") -> bytes:
    inside = "".join(
        f"<service><serviceType>urn:schemas-upnp-org:service:{kind}</serviceType><controlURL>{url}</controlURL></service>"
        for kind, url in services
    )
    return (
        f'<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">{base}<device><deviceList><device>'
        f"<serviceList>{inside}</serviceList></device></deviceList></device></root>"
    ).encode()


def test_the_best_services_come_first() -> None:
    found = igd.decode_description(
        description(
            ("Layer3Forwarding:1", "/l3"),
            ("WANPPPConnection:1", "/ppp"),
            ("WANIPConnection:1", "/ip"),
            ("WANIPConnection:2", "http://10.1.0.1:5001/ip2"),
        ),
        ROUTER,
        HERE,
    )
    assert [service.control for service in found] == [
        Target(port=5001, path="/ip2"),
        Target(port=5000, path="/ip"),
        Target(port=5000, path="/ppp"),
    ]
    assert [service.picks_ports for service in found] == [True, False, False]


def test_a_base_counts_for_relative_control_urls() -> None:
    body = description(("WANIPConnection:1", "ctl"), base="<URLBase>http://10.1.0.1:49152/x/</URLBase>")
    (service,) = igd.decode_description(body, ROUTER, HERE)
    assert service.control == Target(port=49152, path="/x/ctl")


def test_control_urls_and_bases_that_lead_elsewhere_are_not_followed() -> None:
    mixed = description(("WANIPConnection:1", "http://192.0.2.1/ctl"), ("WANPPPConnection:1", "/ctl"))
    (service,) = igd.decode_description(mixed, ROUTER, HERE)
    assert service.type.endswith("WANPPPConnection:1")
    for body in (
        description(("WANIPConnection:1", "http://192.0.2.1/ctl")),
        description(("WANIPConnection:1", "/ctl"), base="<URLBase>http://192.0.2.1/</URLBase>"),
        description(("Layer3Forwarding:1", "/l3")),
        description(),
        b"<root/>",
    ):
        with pytest.raises(MalformedError):
            igd.decode_description(body, ROUTER, HERE)


def test_not_more_services_are_kept_than_are_tried() -> None:
    found = igd.decode_description(description(*[("WANIPConnection:1", f"/{n}") for n in range(50)]), ROUTER, HERE)
    assert [service.control.path for service in found] == ["/0", "/1", "/2", "/3"]


# -- actions --

SERVICE = igd.Service(type="urn:schemas-upnp-org:service:WANIPConnection:2", control=Target(port=5000, path="/ctl"))


def reply(inside: str, status: int = 200) -> HttpResponse:
    envelope = f'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>{inside}</s:Body></s:Envelope>'
    return HttpResponse(status, envelope.encode())


def fault(code: str) -> HttpResponse:
    error = f'<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>{code}</errorCode></UPnPError>'
    return reply(f"<s:Fault><faultcode>s:Client</faultcode><detail>{error}</detail></s:Fault>", 500)


def test_an_action_is_soap() -> None:
    arguments = igd.add_arguments(external_port=1, internal_port=2, client=ROUTER, lifetime=3)
    headers, body = igd.encode_action(SERVICE, "AddPortMapping", arguments)
    assert headers["SOAPAction"] == '"urn:schemas-upnp-org:service:WANIPConnection:2#AddPortMapping"'
    root = xml.parse(body)
    action = root.first("AddPortMapping")
    assert action is not None
    assert [(child.name, child.text) for child in action.children] == [
        ("NewRemoteHost", ""),
        ("NewExternalPort", "1"),
        ("NewProtocol", "TCP"),
        ("NewInternalPort", "2"),
        ("NewInternalClient", "10.1.0.1"),
        ("NewEnabled", "1"),
        ("NewPortMappingDescription", "midair"),
        ("NewLeaseDuration", "3"),
    ]


def test_an_argument_cannot_end_its_element() -> None:
    _, body = igd.encode_action(SERVICE, "X", {"A": "</A><B>&"})
    assert [element.text for element in xml.parse(body).every("A")] == ["</A><B>&"]


def test_replies_are_read() -> None:
    address = igd.decode_reply(
        reply('<u:XResponse xmlns:u="u"><NewExternalIPAddress>203.0.113.1</NewExternalIPAddress></u:XResponse>'), "X"
    )
    assert igd.external_address(address) == IPv4Address("203.0.113.1")
    port = igd.decode_reply(
        reply('<u:XResponse xmlns:u="u"><NewReservedPort>40001</NewReservedPort></u:XResponse>'), "X"
    )
    assert igd.reserved_port(port) == 40001


@pytest.mark.parametrize(("code", "expected"), [("718", 718), ("", 0), ("x", 0), ("99999", 0), ("²", 0)])
def test_faults_carry_their_code(code: str, expected: int) -> None:
    with pytest.raises(igd.Fault) as caught:
        igd.decode_reply(fault(code), "X")
    assert caught.value.code == expected


@pytest.mark.parametrize(
    "response",
    [
        HttpResponse(302, b"<x/>"),
        HttpResponse(401, b""),
        HttpResponse(200, b"<x/>"),
        HttpResponse(500, b"<html>Internal Server Error</html>"),
        reply('<u:YResponse xmlns:u="u"/>'),
        reply('<u:XResponse xmlns:u="u"/>', 500),
        reply('<u:XResponse xmlns:u="u"/>', 302),
    ],
)
def test_what_is_neither_a_reply_nor_a_fault_is_malformed(response: HttpResponse) -> None:
    with pytest.raises(MalformedError):
        igd.decode_reply(response, "X")


@pytest.mark.parametrize("value", ["", "0", "65536", "-1", "4e3", "٤", "999999"])
def test_a_reserved_port_is_a_port(value: str) -> None:
    element = igd.decode_reply(
        reply(f'<u:XResponse xmlns:u="u"><NewReservedPort>{value}</NewReservedPort></u:XResponse>'), "X"
    )
    with pytest.raises(MalformedError):
        igd.reserved_port(element)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("", igd.NotConnected),
        ("0.0.0.0", igd.NotConnected),
        ("router", MalformedError),
        ("::1", MalformedError),
        ("10.0.0.256", MalformedError),
    ],
)
def test_an_external_address_is_an_address(value: str, error: type[Exception]) -> None:
    element = igd.decode_reply(
        reply(f'<u:XResponse xmlns:u="u"><NewExternalIPAddress>{value}</NewExternalIPAddress></u:XResponse>'), "X"
    )
    with pytest.raises(error):
        igd.external_address(element)


# -- what to send after an error --


def negotiation(*, picks_ports: bool = False, wish: int | None = None, lifetime: int = 7200) -> igd.PortNegotiation:
    return igd.PortNegotiation(
        internal_port=40000, lifetime=lifetime, other_ports=[50001, 50002], picks_ports=picks_ports, wish=wish
    )


def test_a_router_without_leases_is_asked_for_a_mapping_without_one() -> None:
    for code in (725, 402):
        asked = negotiation()
        assert asked.refused(code)
        assert (asked.lifetime, asked.external_port, asked.action) == (0, 40000, "AddPortMapping")
        assert not asked.refused(code)


def test_a_taken_port_is_given_up_for_others_until_they_run_out() -> None:
    asked = negotiation()
    assert [(asked.refused(718), asked.external_port) for _ in range(3)] == [
        (True, 50001),
        (True, 50002),
        (False, 50002),
    ]


def test_a_router_that_wants_the_same_port_on_both_sides_gets_that_and_no_other() -> None:
    asked = negotiation(wish=50000)
    assert asked.refused(724)
    assert asked.external_port == 40000
    assert not asked.refused(718)
    assert not negotiation().refused(724)


def test_a_router_that_cannot_pick_a_port_is_asked_for_ours() -> None:
    asked = negotiation(picks_ports=True)
    assert asked.action == "AddAnyPortMapping"
    assert asked.refused(401)
    assert asked.action == "AddPortMapping"
    assert not asked.refused(401)
    assert not negotiation(picks_ports=True).refused(606)


@pytest.mark.parametrize("code", [606, 726, 727, 728, 501, 0])
def test_a_router_that_says_no_is_not_asked_again(code: int) -> None:
    assert not negotiation().refused(code)


@given(st.lists(st.sampled_from([401, 402, 501, 606, 718, 724, 725, 727, 729]), min_size=12), st.booleans())
def test_no_row_of_errors_goes_on_for_ever(codes: list[int], picks_ports: bool) -> None:
    asked = negotiation(picks_ports=picks_ports, wish=50000)
    assert False in {asked.refused(code) for code in codes}
