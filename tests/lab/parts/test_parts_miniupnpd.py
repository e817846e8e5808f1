"""The port mapping daemon of real home routers, in the lab's: what it maps is reached from outside."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from parts_clients import connect, listen, pcp_map, ssdp_search

from midair.lab.lab import Lab
from midair.lab.parts import Miniupnpd

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(
        not shutil.which("miniupnpd", path="/usr/sbin:/usr/bin"),
        reason="no miniupnpd (scripts/system-packages.sh test)",
    ),
]

GATEWAY = "10.1.0.1"
GATEWAY6 = "2001:db8:a:1::1"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """``a`` is behind a router that takes its address for a public one, ``b`` is on the internet."""
    with Lab("kernel:masquerade-drop x none with ipv6", delay=0.01, ordinary_addresses=True) as found:
        yield found


@pytest.fixture
def daemon(lab: Lab) -> Iterator[Miniupnpd]:
    with Miniupnpd(lab.router("a.1")) as found:
        yield found


def reaches(lab: Lab, port: int) -> bool:
    """Whether ``b`` can connect to that port of the router, and ends up at ``a``."""
    with listen(lab.a, port) as listener:
        try:
            dialler = connect(lab.b, lab.a.outside, port)
        except TimeoutError:
            return False
        with dialler:
            accepted, peer = listener.accept()
            with accepted:
                assert peer[0] == f"::ffff:{lab.b.address}"
                accepted.sendall(b"hello")
                return dialler.recv(100) == b"hello"


def mapped(lab: Lab) -> list[str]:
    """What the daemon has put into the router's rules."""
    text = lab.router("a.1").run(["nft", "list", "chain", "inet", "midair_lab", "mapped_destination"]).stdout
    return [line.strip() for line in text.splitlines() if "dnat" in line]


def test_a_port_mapped_by_nat_pmp_is_reached_from_outside(lab: Lab, daemon: Miniupnpd) -> None:
    done = lab.a.run(["natpmpc", "-g", GATEWAY, "-a", "40001", "40001", "tcp", "120"])
    assert f"Public IP address : {lab.a.outside}" in done.stdout
    assert "Mapped public port 40001 protocol TCP to local port 40001" in done.stdout
    assert reaches(lab, 40001)


def test_a_port_mapped_by_upnp_is_reached_from_outside(lab: Lab, daemon: Miniupnpd) -> None:
    description = f"http://{GATEWAY}:{daemon.http_port}/rootDesc.xml"
    arguments = ["-u", description, "-e", "test", "-a", lab.a.address, "40002", "40002", "tcp", "120"]
    done = lab.a.run(["upnpc", *arguments])
    assert f"ExternalIPAddress = {lab.a.outside}" in done.stdout
    assert "Found valid IGD" in done.stdout
    assert reaches(lab, 40002)


def test_upnp_is_found_by_multicast(lab: Lab, daemon: Miniupnpd) -> None:
    assert ssdp_search(lab.a) == f"http://{GATEWAY}:{daemon.http_port}/rootDesc.xml"


def test_a_port_mapped_by_pcp_is_reached_from_outside(lab: Lab, daemon: Miniupnpd) -> None:
    assert pcp_map(lab.a, lab.a.address, GATEWAY, 40003) == (0, lab.a.outside, 40003)
    assert reaches(lab, 40003)


def test_pcp_opens_the_firewall_for_ipv6(lab: Lab, daemon: Miniupnpd) -> None:
    (own,) = lab.a.addresses6
    with listen(lab.a, 40008):
        with pytest.raises(TimeoutError):
            connect(lab.b, own, 40008, seconds=0.2)
        assert pcp_map(lab.a, own, GATEWAY6, 40008) == (0, own, 40008)
        connect(lab.b, own, 40008).close()


def test_its_mappings_end_with_it(lab: Lab) -> None:
    with Miniupnpd(lab.router("a.1"), upnp=False) as daemon:
        assert pcp_map(lab.a, lab.a.address, GATEWAY, 40004)[0] == 0
        assert len(mapped(lab)) == 1
    assert not daemon.running
    assert mapped(lab) == []


def test_a_port_that_nobody_mapped_stays_closed(lab: Lab, daemon: Miniupnpd) -> None:
    lab.a.run(["natpmpc", "-g", GATEWAY, "-a", "40005", "40005", "tcp", "120"])
    with listen(lab.a, 40006), pytest.raises(TimeoutError):
        connect(lab.b, lab.a.outside, 40006, seconds=0.2)


@pytest.mark.parametrize(("upnp", "pmp"), [(True, False), (False, True)])
def test_each_protocol_can_be_off(lab: Lab, upnp: bool, pmp: bool) -> None:
    with Miniupnpd(lab.router("a.1"), upnp=upnp, pmp=pmp):
        if upnp:
            connect(lab.a, GATEWAY, Miniupnpd.http_port).close()
            with pytest.raises(ConnectionRefusedError):
                pcp_map(lab.a, lab.a.address, GATEWAY, 40007)
        else:
            assert pcp_map(lab.a, lab.a.address, GATEWAY, 40007)[0] == 0
            with pytest.raises(ConnectionRefusedError):
                connect(lab.a, GATEWAY, Miniupnpd.http_port)


def test_two_hosts_on_one_lan_share_it() -> None:
    with (
        Lab("(none + none) > kernel:openwrt", delay=0.01, ordinary_addresses=True) as lab,
        Miniupnpd(lab.router("shared.1"), lan=("lan0", "lan1")),
    ):
        for port, host in ((40001, lab.a), (40002, lab.b)):
            assert ssdp_search(host).startswith(f"http://{GATEWAY}:")
            assert pcp_map(host, host.address, GATEWAY, port) == (0, host.outside, port)
            with listen(host, port) as listener, connect(lab.server, host.outside, port):
                listener.accept()[0].close()


@pytest.mark.parametrize("topology", ["kernel:masquerade-drop x none", "kernel:masquerade-drop>carrier x none"])
def test_behind_a_reserved_address_it_refuses_by_every_protocol(topology: str) -> None:
    """One for documentation, and one of a carrier's network."""
    with Lab(topology, delay=0.01) as lab, Miniupnpd(lab.router("a.1")) as daemon:
        assert pcp_map(lab.a, lab.a.address, GATEWAY, 40001)[0] == 8  # NO_RESOURCES
        done = lab.a.run(["natpmpc", "-g", GATEWAY, "-a", "40001", "40001", "tcp", "120"])
        assert "returned -52 (FAILED)" in done.stdout  # result 3, as libnatpmp numbers it
        description = f"http://{GATEWAY}:{daemon.http_port}/rootDesc.xml"
        done = lab.a.run(["upnpc", "-u", description, "-i", "-a", lab.a.address, "40001", "40001", "tcp", "120"])
        assert "failed with code 501" in done.stdout
        assert mapped(lab) == []
        assert "Port forwarding is impossible" in daemon.log


def test_it_cannot_remove_the_pid_file_it_was_given(lab: Lab) -> None:
    """It is run as root and removes its pid file at the end, whatever that is."""
    with Miniupnpd(lab.router("a.1")) as daemon:
        pass
    assert "Failed to remove pidfile /proc/self/fd/" in daemon.log
    assert Path("/dev/null").is_char_device()
