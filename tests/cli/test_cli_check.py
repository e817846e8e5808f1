"""``midair check``, as a person and as a script see it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from midair.lab import Lab
from support import midair, serving

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Lab, str]]:
    """Three hosts behind three NATs, and a server with two addresses and two ports."""
    with Lab(["drop x none", "symmetric-sequential x none", "firewall-rst x none"]) as lab:
        first, second = lab.server.addresses[:2]
        more = ["--listen", f"{first}:7421", "--listen", f"{second}:7420"]
        with serving(f"{first}:7420", *more, spawner=lab.server.popen):
            yield lab, f"ws://{first}:7420"


@pytest.mark.lab
def test_a_person_is_told_what_the_nat_does_and_what_that_means(site: tuple[Lab, str]) -> None:
    lab, address = site
    with midair("check", "--server", address, spawner=lab.pairs[0].a.popen) as command:
        assert command.wait() == 0, command.errors
    text = "\n".join(command.lines)
    for row in (
        "mapping             endpoint-independent",
        "ports               preserving",
        "lets in             address-and-port-dependent",
        "unsolicited SYN     dropped",
        "crossing SYNs pass  yes",
        "Direct connections work with nearly all other networks",
        "Turning on UPnP",
    ):
        assert row in text


@pytest.mark.lab
def test_a_script_gets_the_same_as_json(site: tuple[Lab, str]) -> None:
    lab, address = site
    with (
        midair("check", "--json", "--server", address, spawner=lab.pairs[1].a.popen) as counting,
        midair("check", "--json", "--server", address, spawner=lab.pairs[2].a.popen) as firewalled,
    ):
        assert counting.wait() == firewalled.wait() == 0, counting.errors + firewalled.errors
    (network,) = json.loads(counting.lines[0])["networks"]
    assert (network["mapping"], network["allocation"], network["step"]) == (
        "address-and-port-dependent",
        "sequential",
        1,
    )
    assert network["meaning"]
    (network,) = json.loads(firewalled.lines[0])["networks"]
    assert (network["mapping"], network["reaction"]) == ("no translation", "answered by RST")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "midair", *arguments], capture_output=True, text=True, timeout=30)


def test_without_a_server_it_says_what_to_do() -> None:
    ended = run("check")
    assert ended.returncode == 2
    assert "--server" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_server_that_is_not_there_is_said_not_to_be() -> None:
    ended = run("check", "--server", "127.0.0.1:9")
    assert ended.returncode != 0
    assert "127.0.0.1:9" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_sockets_table_needs_no_server() -> None:
    ended = run("check", "--sockets", "--json")
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["strategy"]
