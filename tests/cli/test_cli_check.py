"""``midair check``, as a person and as a script see it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from midair.lab import Lab
from midair.nat.check.memory import recall
from midair.nat.check.report import Allocation
from midair.nat.told import understand
from support import midair, serving

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each of them keeps what it finds, in a folder of its own."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def lines(cache: Path) -> Iterator[list[list[str]]]:
    """What is said behind three NATs: to a person, and twice to a script."""
    with Lab(["drop x none", "symmetric-sequential x none", "firewall-rst x none"]) as lab:
        first, second = lab.server.addresses[:2]
        more = ["--listen", f"{first}:7421", "--listen", f"{second}:7420"]
        with serving(f"{first}:7420", *more, spawner=lab.server.popen), contextlib.ExitStack() as stack:
            commands = [
                stack.enter_context(
                    midair(
                        *("check", *options, "--server", f"ws://{first}:7420"),
                        spawner=pair.a.popen,
                        XDG_CACHE_HOME=str(cache / str(number)),
                    )
                )
                for number, (pair, options) in enumerate(zip(lab.pairs, ([], ["--json"], ["--json"]), strict=True))
            ]
            for command in commands:
                assert command.wait() == 0, command.errors
            yield [command.lines for command in commands]


@pytest.mark.lab
def test_what_was_found_is_kept_for_the_transfers_that_follow(lines: list[list[str]], cache: Path) -> None:
    found = json.loads(lines[1][0])["networks"][0]
    (kept,) = recall(cache / "1" / "midair" / "networks.json")
    assert found["local"].startswith(f"{kept.local}:")
    assert found["mapped"].startswith(f"{kept.mapped}:")
    assert understand(kept.told).report.allocation is Allocation.SEQUENTIAL


@pytest.mark.lab
def test_a_person_is_told_what_the_nat_does_and_what_that_means(lines: list[list[str]]) -> None:
    text = "\n".join(lines[0])
    for row in (
        "NATs on the way         one",
        "port outside            the same for everybody",
        "new ports outside       the same number as here",
        "lets in                 only whom it has dialled",
        "strangers who dial      get no answer",
        "dials that cross        pass",
        "lets out to             other ports than 80 and 443",
        "No router was found",
    ):
        assert row in text
    assert max(map(len, lines[0])) < 80
    end = " ".join(text.rpartition("\n\n")[2].split())
    assert "Direct connections work with nearly all other networks" in end
    assert "Turning on UPnP" in end


@pytest.mark.lab
def test_a_script_gets_the_same_as_json(lines: list[list[str]]) -> None:
    found = json.loads(lines[1][0])
    (network,) = found["networks"]
    assert (network["mapping"], network["allocation"], network["step"]) == (
        "address-and-port-dependent",
        "sequential",
        1,
    )
    assert (network["nats"], network["only_web"], network["opening"]) == (1, "no", "not measured")
    assert network["meaning"]
    assert (found["port_mapping"], found["troubles"]) == ([], [])
    (network,) = json.loads(lines[2][0])["networks"]
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
