"""The NAT check is right about what it finds, and says what it has not measured.

One of each judgement is tried here; ``benchmarks/check.py`` tries every kind the lab has, ten times.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from midair.endpoint import Endpoint
from midair.lab import Lab
from midair.lab.kernel.names import MAPPED_DESTINATION, TABLE
from midair.lab.parts import Miniupnpd
from midair.nat.check import asking
from midair.nat.check.measure import measure
from midair.nat.check.report import Filtering, Mapping, NatReport, Opening, Pooling, YesNo
from midair.nat.check.routers import ask_routers
from midair.nat.check.survey import Survey, survey
from midair.nat.mapping import Outcome, Protocol
from midair.port import ConnectFailedError
from midair.trials.nat_checking import Finding, check_cases, endpoints_of, inside, serving
from midair.trials.nat_truth import Case, Served, truth_of

NETWORKS = [
    *(
        Case(f"{kind} x none")
        for kind in (
            "none",
            "firewall-rst",
            "drop",
            "rst",
            "icmp-host",
            "icmp-late",
            "exposed",
            "full-cone",
            "restricted",
            "symmetric-address",
            "symmetric-step2",
            "symmetric-band",
            "connection-dependent",
            "no-simopen-rst",
            "hairpin",
            "unpaired",
            "drop,addresses=2,pooling=by-destination",
            "drop>carrier",
            "firewall>drop",
            "proxy-only",
            "kernel:masquerade-reject-icmp",
            "kernel:masquerade-fully-random",
            "kernel:cone-hairpin",
        )
    ),
    Case("icmp x none with a.loss=0.03 a.jitter=0.01"),
    Case("firewall-icmp x none with ipv6", family=6),
    Case("https-only x none", Served.ON_THE_WEB),
    Case("drop x none", Served.ON_THE_WEB),
    *(Case(f"{kind} x none", Served.BY_ONE_PORT) for kind in ("none", "drop", "full-cone", "symmetric")),
]


@pytest.fixture(scope="module")
def findings() -> dict[Case, Finding]:
    """Of all, in one lab for each kind of server, at once: most of the time nothing happens."""
    groups = [group for served in Served if (group := [case for case in NETWORKS if case.served is served])]
    with ThreadPoolExecutor(len(groups)) as pool:
        return {found.case: found for group in pool.map(check_cases, groups) for found in group}


@pytest.mark.lab
@pytest.mark.timeout(60)
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_every_field_is_right_in_this_network(network: Case, findings: dict[Case, Finding]) -> None:
    assert findings[network].wrong == {}
    assert (findings[network].report is None) == (truth_of(network) is None)


@pytest.mark.lab
@pytest.mark.timeout(60)
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_what_was_not_measured_has_its_reason(network: Case, findings: dict[Case, Finding]) -> None:
    report = findings[network].report
    if report is None:
        return
    fields = [report.mapping, report.filtering, report.reaction, report.simultaneous_open, report.only_web]
    if report.mapping is not Mapping.NONE:  # nothing is translated, and these mean nothing
        fields += [report.allocation, report.hairpin, report.pooling]
    missing = sum(field.value == "not measured" for field in fields) + (report.nats is None)
    assert len(report.notes) >= missing


@pytest.mark.lab
@pytest.mark.timeout(60)
def test_a_server_on_all_addresses_of_its_machine_measures_with_each_of_them() -> None:
    with Lab("full-cone,unsolicited=rst x none") as lab, serving(lab.server, [Endpoint.of("0.0.0.0", 7420)]):
        report = inside(lab.a, lambda: measure(Endpoint.of(lab.server.address, 7420)))
    assert report.mapping is Mapping.ENDPOINT_INDEPENDENT
    assert report.filtering is Filtering.ENDPOINT_INDEPENDENT
    assert report.pooling is Pooling.ONE


@pytest.mark.lab
def test_a_server_that_does_not_know_its_own_public_address_measures_as_well() -> None:
    """As in most clouds: one private address, and a public one that is translated to it."""
    names = ("rst", "symmetric,unsolicited=rst")
    with Lab([f"{name} x exposed,decrements-ttl=no" for name in names]) as lab, contextlib.ExitStack() as stack:
        for pair in lab.pairs:
            stack.enter_context(serving(pair.b, [Endpoint.of("0.0.0.0", port) for port in (7420, 7421)]))
        pool = stack.enter_context(ThreadPoolExecutor(2))
        works = [partial(measure, Endpoint.of(pair.b.outside, 7420)) for pair in lab.pairs]
        keeps, changes = pool.map(inside, [pair.a for pair in lab.pairs], works)
    assert keeps.simultaneous_open is YesNo.YES
    assert keeps.filtering is Filtering.ADDRESS_AND_PORT_DEPENDENT
    assert changes.mapping is Mapping.ADDRESS_AND_PORT_DEPENDENT


@pytest.fixture
def home(request: pytest.FixtureRequest) -> Iterator[tuple[Lab, Endpoint]]:
    """``a`` is behind a router with a port mapping daemon, which it finds as its gateway; that in vain has no UPnP."""
    with (
        Lab("kernel:openwrt x none", ordinary_addresses=request.param != "refusing") as lab,
        Miniupnpd(lab.router("a.1"), upnp=request.param != "in vain"),
    ):
        lab.a.run(["ip", "route", "replace", "default", "via", "10.1.0.1", "dev", "eth0"])
        if request.param == "in vain":
            # A firewall that the daemon does not know of.
            rules = "add chain inet {0} wall {{ type filter hook prerouting priority raw; }}; add rule inet {0} wall"
            drop = "iifname wan tcp flags & (syn | ack) == syn drop"
            done = lab.router("a.1").run(["nft", f"{rules.format(TABLE)} {drop}"])
            assert done.returncode == 0, done.stderr
        endpoints = endpoints_of(lab, Served.BY_TWO_PORTS)
        with serving(lab.server, endpoints):
            yield lab, endpoints[0]


def surveyed(home: tuple[Lab, Endpoint]) -> Survey:
    lab, server = home
    return inside(lab.a, lambda: survey([server]))


@pytest.mark.lab
@pytest.mark.timeout(60)
@pytest.mark.parametrize("home", ["willing"], indirect=True)
def test_a_router_that_opens_ports_is_found_in_each_protocol_and_what_it_opens_is_dialled(
    home: tuple[Lab, Endpoint],
) -> None:
    found = surveyed(home)
    assert found.routers is not None
    assert {each.protocol for each in found.routers} == set(Protocol)
    for each in found.routers:
        assert (each.offered, each.outcome, each.lets_in) == (YesNo.YES, Outcome.MAPPED, YesNo.YES)
    (network,) = found.networks
    assert found.opening(network) is Opening.OPENED
    assert network.nats == 1
    rules = home[0].router("a.1").run(["nft", "list", "chain", "inet", TABLE, MAPPED_DESTINATION]).stdout
    assert "dnat" not in rules  # it is closed again


@pytest.mark.lab
@pytest.mark.timeout(60)
@pytest.mark.parametrize("home", ["refusing"], indirect=True)
def test_a_router_that_refuses_says_why(home: tuple[Lab, Endpoint]) -> None:
    found = surveyed(home)
    assert found.routers is not None
    for each in found.routers:
        assert (each.offered, each.outcome, each.lets_in) == (YesNo.YES, Outcome.REFUSED, YesNo.NOT_MEASURED)
        assert each.text
    assert found.opening(found.networks[0]) is Opening.REFUSED


@pytest.mark.lab
@pytest.mark.timeout(60)
@pytest.mark.parametrize("home", ["in vain"], indirect=True)
def test_a_router_that_opens_a_port_behind_a_wall_opens_it_in_vain(home: tuple[Lab, Endpoint]) -> None:
    lab, server = home
    routers = inside(lab.a, lambda: ask_routers([server]))
    assert {(each.protocol, each.offered, each.outcome, each.lets_in) for each in routers} == {
        (Protocol.PCP, YesNo.YES, Outcome.MAPPED, YesNo.NO),
        (Protocol.NAT_PMP, YesNo.YES, Outcome.MAPPED, YesNo.NO),
        (Protocol.UPNP, YesNo.NO, Outcome.SILENT, YesNo.NOT_MEASURED),
    }
    network = NatReport(family=4)
    assert Survey(networks=(network,), routers=routers, troubles=()).opening(network) is Opening.IN_VAIN


@pytest.mark.lab
@pytest.mark.parametrize("only_web", [YesNo.YES, YesNo.NOT_MEASURED])
def test_a_server_whose_port_is_closed_is_asked_at_the_ports_of_the_web(
    only_web: YesNo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence means a firewall; a refusal may be the server's, who has moved."""
    monkeypatch.setattr(asking, "CONNECT_SECONDS", 1.0)
    with Lab("firewall-rst x none") as lab:
        first = Endpoint.of(lab.server.address, 443)
        if only_web is YesNo.YES:
            rules = "add table inet wall; add chain inet wall in { type filter hook input priority 0; };"
            done = lab.server.run(["nft", f"{rules} add rule inet wall in tcp dport 7420 drop"])
            assert done.returncode == 0, done.stderr
        with serving(lab.server, [first]):
            found = inside(lab.a, lambda: survey([Endpoint(first.address, 7420)], routers=False))
    (network,) = found.networks
    assert network.only_web is only_web
    assert any("7420 cannot be reached, but its port 443 can" in note for note in network.notes)


async def test_a_server_that_is_not_there_is_said_not_to_be() -> None:
    with pytest.raises(ConnectFailedError):
        await measure(Endpoint.of("127.0.0.1", 9))
    found = await survey([Endpoint.of("127.0.0.1", 9)], routers=False)
    assert (found.networks, found.routers) == ((), None)
    assert "127.0.0.1:9" in found.troubles[0]
