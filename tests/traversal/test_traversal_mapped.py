"""A port asked of a real router: Linux with miniupnpd in the lab, and on the other side a NAT that nothing else gets
through at once, for it takes a random port for each connection."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from midair.config import ServerURL, TraversalOptions
from midair.lab.lab import Lab
from midair.lab.parts import Miniupnpd
from midair.traversal.late_dials import COVERAGE_AFTER
from midair.trials.real import connect_all, serving
from midair.trials.result import PairResult
from support import wait_until

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(60),
    pytest.mark.skipif(
        not shutil.which("miniupnpd", path="/usr/sbin:/usr/bin"),
        reason="no miniupnpd (scripts/system-packages.sh test)",
    ),
]

DIRECT = TraversalOptions(policy="direct", deadline=3.0)
GATEWAY = "10.1.0.1"
ASYMMETRIC = "kernel:masquerade-drop x symmetric"


@pytest.fixture(scope="module")
def lab() -> Iterator[tuple[Lab, ServerURL]]:
    """``a`` is behind a router that takes its address for a public one. The reflector is so far away that UPnP, which
    takes a tenth of a second, is not too late."""
    with Lab(ASYMMETRIC, delay=0.1, ordinary_addresses=True) as found, serving(found) as server:
        name_the_router(found)
        yield found, server


def name_the_router(lab: Lab) -> None:
    """Hosts of the lab send everything into their TUN, whoever is there; one at home knows its router's address."""
    done = lab.a.run(["ip", "route", "add", "default", "via", GATEWAY, "dev", "eth0", "onlink"])
    assert done.returncode == 0, done.stderr


def mapped(lab: Lab) -> list[str]:
    """What the router passes on, as its rules say."""
    text = lab.router("a.1").run(["nft", "list", "chain", "inet", "midair_lab", "mapped_destination"]).stdout
    return [line.strip() for line in text.splitlines() if "dnat" in line]


def path_of(story: tuple[str, ...]) -> dict[str, object]:
    """The PathChosen event of one side."""
    events = [json.loads(line.partition(" ")[2]) for line in story]
    (chosen,) = (each for each in events if "attempts" in each)
    assert isinstance(chosen, dict)
    return chosen


def connect(lab: Lab, server: ServerURL, options: TraversalOptions) -> PairResult:
    (result,) = connect_all(lab, server, lab.pairs, options=options)
    return result


@pytest.mark.parametrize("protocols", ["all", "pcp and nat-pmp", "upnp"])
def test_a_random_nat_is_met_at_the_port_the_other_sides_router_gave(
    lab: tuple[Lab, ServerURL], protocols: str
) -> None:
    the_lab, server = lab
    router = the_lab.router("a.1")
    with (
        Miniupnpd(router, upnp=protocols != "pcp and nat-pmp", pmp=protocols != "upnp"),
        ThreadPoolExecutor(max_workers=1) as pool,
    ):
        connecting = pool.submit(connect, the_lab, server, DIRECT)
        wait_until(lambda: bool(mapped(the_lab)), "a mapping in the router's rules")
        (rule,) = mapped(the_lab)
        result = connecting.result()
        assert result.direct, result
        assert (result.a.how, result.b.how) == ("accept", "dial")
        address, _, port = str(path_of(result.b.story)["remote"]).partition(":")
        assert address == the_lab.a.outside
        assert f"dport {port} " in rule, "what was met is the mapped port, not one that covering has found"
        assert mapped(the_lab) == [], "the port was given back"


def test_without_asking_the_router_ports_have_to_be_covered(lab: tuple[Lab, ServerURL]) -> None:
    """Which takes longer, and works by luck."""
    the_lab, server = lab
    with Miniupnpd(the_lab.router("a.1")):
        result = connect(the_lab, server, replace(DIRECT, port_mapping=False))
    assert not result.direct or result.b.seconds > COVERAGE_AFTER


def test_a_router_behind_another_nat_costs_no_time_and_the_pair_still_meets() -> None:
    """It maps nothing, for its outside address is a carrier's."""
    with (
        Lab("kernel:masquerade-drop>carrier x drop", ordinary_addresses=True) as lab,
        serving(lab) as server,
        Miniupnpd(lab.router("a.1")),
    ):
        name_the_router(lab)
        result = connect(lab, server, DIRECT)
    assert result.direct, result
    assert result.a.ready_seconds < 1.5
