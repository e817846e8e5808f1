"""Default gateways out of what the systems print."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midair.endpoint import Endpoint
from midair.nat.mapping.outcome import can_be_external, is_public
from midair.nat.mapping.routes import Gateway, from_linux_ipv4, from_linux_ipv6, from_route_get, from_route_print

LINUX_HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
LAN = "eth0\t0000010A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
BY_ETH = "eth0\t00000000\t0100010A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
BY_WIFI = "wlan0\t00000000\t0102010A\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
BY_TUNNEL = "tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0\n"
REJECTED = "*\t00000000\t00000000\t0201\t0\t0\t10\t00000000\t0\t0\t0\n"

IPV6_ROUTE = (
    "20010db8000a00000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000"
    " 00000100 00000001 00000000 00000001     eth0\n"
    "{default}"
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000"
    " ffffffff 00000001 00000000 00200200       lo\n"
)
IPV6_DEFAULT = (
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001"
    " 00000400 00000001 00000000 00000003     eth0\n"
)


def gateway(address: str, interface: str = "") -> Gateway:
    return Gateway(address=ip_address(address), interface=interface)


def test_linux_tells_the_default_route_with_the_lowest_metric() -> None:
    for routes in (LAN + BY_WIFI + BY_ETH, BY_ETH + BY_WIFI + LAN):
        assert from_linux_ipv4(LINUX_HEAD + routes) == gateway("10.1.0.1", "eth0")
    assert from_linux_ipv4(LINUX_HEAD + BY_WIFI + REJECTED) == gateway("10.1.2.1", "wlan0")


def test_a_default_route_without_a_router_has_nobody_to_ask() -> None:
    assert from_linux_ipv4(LINUX_HEAD + BY_ETH + BY_TUNNEL) is None
    assert from_linux_ipv4(LINUX_HEAD + LAN) is None
    assert from_linux_ipv4("") is None


def test_linux_tells_ipv6_gateways_with_their_interface() -> None:
    assert from_linux_ipv6(IPV6_ROUTE.format(default=IPV6_DEFAULT)) == gateway("fe80::1", "eth0")
    dearer = IPV6_DEFAULT.replace("00000400", "00000800").replace("eth0", "wlan0")
    for routes in (dearer + IPV6_DEFAULT, IPV6_DEFAULT + dearer):
        assert from_linux_ipv6(IPV6_ROUTE.format(default=routes)) == gateway("fe80::1", "eth0")
    assert from_linux_ipv6(IPV6_ROUTE.format(default="")) is None


def test_macos_and_freebsd_tell_it_by_route_get() -> None:
    text = (
        "   route to: default\ndestination: default\n       mask: default\n    gateway: 192.168.1.1\n  interface: en0\n"
    )
    assert from_route_get(text) == gateway("192.168.1.1", "en0")
    assert from_route_get(text.replace("192.168.1.1", "fe80::1%en0")) == gateway("fe80::1", "en0")
    assert from_route_get(text.replace("192.168.1.1", "link#17")) is None
    assert from_route_get("route: writing to routing socket: not in table\n") is None


def test_windows_tells_it_by_route_print() -> None:
    text = (
        "IPv4-Routentabelle\n"
        "          0.0.0.0          0.0.0.0      192.168.2.1     192.168.2.50     55\n"
        "          0.0.0.0          0.0.0.0      192.168.1.1     192.168.1.50     35\n"
        "        127.0.0.0        255.0.0.0   Auf Verbindung         127.0.0.1    331\n"
    )
    assert from_route_print(text, 4) == gateway("192.168.1.1")
    assert from_route_print(
        " 12    281 ::/0                     fe80::1\n  1    331 ::1/128   On-link\n", 6
    ) == gateway("fe80::1", "12")
    assert from_route_print("", 4) is None


@given(st.text(max_size=300))
def test_no_command_output_breaks_the_readers(text: str) -> None:
    for found in (from_route_get(text), from_route_print(text, 4), from_route_print(text, 6)):
        assert found is None or isinstance(found, Gateway)


@pytest.mark.parametrize("address", ["10.0.0.1", "172.31.0.1", "192.168.0.1", "100.64.0.1", "192.0.0.2", "fd00::1"])
def test_an_outside_address_that_is_not_the_internets_means_another_nat(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["203.0.113.1", "20.1.1.1", "172.32.0.1", "100.128.0.1", "2001:db8::1"])
def test_other_outside_addresses_are_the_internets(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::", "ff02::1", "::1"]
)
def test_a_mapping_cannot_be_at_an_address_that_is_no_hosts(address: str) -> None:
    assert not can_be_external(Endpoint(ip_address(address), 40000))


def test_a_mapping_has_a_port() -> None:
    assert can_be_external(Endpoint(ip_address("203.0.113.1"), 40000))
    assert not can_be_external(Endpoint(ip_address("203.0.113.1"), 0))
