"""The main job through NATs, Linux' and the lab's own: the real commands in hosts of their own, with a real server in a
third."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from midair.lab import Lab
from support import Command, midair, serving, tree_digest

pytestmark = pytest.mark.lab

MIB = 1 << 20
NEAR = 0.01
"""Seconds one way, where the delay is not what a test is about."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Something with a large file, a small one, an empty one, and an empty folder."""
    root = tmp_path / "tree"
    (root / "deep" / "empty").mkdir(parents=True)
    (root / "large.bin").write_bytes(os.urandom(8 * MIB + 1))
    (root / "deep" / "small.txt").write_text("small")
    (root / "deep" / "nothing.txt").write_bytes(b"")
    return root


@contextlib.contextmanager
def sending(lab: Lab, *what: Any) -> Iterator[tuple[Command, Command, str]]:
    """A server and a sender in the lab; yields the sender, the server, and the server's address."""
    listen = f"{lab.server.address}:7420"
    with (
        serving(listen, spawner=lab.server.popen) as (address, server),
        midair("send", "--json", "--server", address, *what, spawner=lab.a.popen) as sender,
    ):
        yield sender, server, address


def transfer(lab: Lab, tree: Path, folder: Path, *receive_options: Any) -> tuple[Command, Command]:
    """The whole way, checked byte for byte; returns both ended commands."""
    with sending(lab, tree) as (sender, _, address):
        code = sender.event("code")["code"]
        arguments = ("receive", "--json", "--server", address, code, "-o", folder, "-y", *receive_options)
        with midair(*arguments, spawner=lab.b.popen) as receiver:
            assert receiver.wait() == 0, receiver.errors + sender.errors
            assert sender.wait() == 0, sender.errors
    assert tree_digest(folder / "tree") == tree_digest(tree)
    assert sender.done["bytes"] == receiver.done["bytes"] == 8 * MIB + 6
    return sender, receiver


@pytest.mark.parametrize(
    "topology",
    [
        "kernel:masquerade-drop x kernel:masquerade-drop",
        "kernel:masquerade-drop x kernel:masquerade-rst",
        "rst x drop",
        "none x kernel:masquerade-drop",
        "drop x none",
        "kernel:firewall-drop x drop",
        "drop x firewall",
        "none x symmetric",
    ],
)
def test_these_pairs_connect_directly(topology: str, tree: Path, folder: Path) -> None:
    with Lab(topology, delay=NEAR) as lab:
        sender, receiver = transfer(lab, tree, folder, "--path", "direct")
        for command in (sender, receiver):
            (path,) = command.of("path")
            assert path["path"] == command.done["path"] == "direct"
            assert path["how"] in ("dial", "accept")
            assert "reason" not in path
        assert receiver.of("path")[0]["remote"].startswith(f"{lab.a.outside}:")


def test_two_nats_that_answer_by_rst_connect_directly_because_the_syns_cross(tree: Path, folder: Path) -> None:
    """They cross when both sides start within the one-way delay, 50 ms here."""
    with Lab("rst x kernel:masquerade-rst") as lab:
        sender, receiver = transfer(lab, tree, folder, "--path", "direct")
        assert sender.done["path"] == receiver.done["path"] == "direct"


def test_two_nats_that_drop_are_through_in_under_a_second(tree: Path, folder: Path) -> None:
    """From both sides ready, which is when the start is agreed, to the chosen authenticated connection."""
    with Lab("drop x drop", delay=NEAR) as lab:
        sender, receiver = transfer(lab, tree, folder, "--path", "direct")
    assert sender.of("path")[0]["seconds"] < 1.0
    assert receiver.of("path")[0]["seconds"] < 1.0


def test_two_hosts_on_one_lan_connect_by_their_private_addresses(tree: Path, folder: Path) -> None:
    with Lab("(none + none) > drop", delay=NEAR) as lab:
        sender, receiver = transfer(lab, tree, folder)
        assert sender.of("path")[-1]["path"] == "direct"
        assert sender.of("path")[-1]["remote"].startswith(f"{lab.b.address}:")
        assert receiver.of("path")[-1]["remote"].startswith(f"{lab.a.address}:")


def test_two_symmetric_nats_go_through_the_relay_and_are_told_why(tree: Path, folder: Path) -> None:
    with Lab("symmetric x symmetric", delay=NEAR) as lab:
        sender, receiver = transfer(lab, tree, folder)
    for command in (sender, receiver):
        began, stayed = command.of("path")
        for path in (began, stayed):
            assert path["path"] == path["how"] == command.done["path"] == "relay"
        assert (began["searching"], began["later"]) == (True, False)
        assert (stayed["searching"], stayed["later"]) == (False, True)
        assert stayed["reason"]


def test_ipv6_through_two_firewalls_is_direct(tree: Path, folder: Path) -> None:
    with (
        Lab("symmetric x symmetric with ipv6", delay=NEAR) as lab,
        serving("[2001:db8:5::10]:7420", spawner=lab.server.popen) as (address, _),
        midair("send", "--json", "--server", address, tree, spawner=lab.a.popen) as sender,
    ):
        code = sender.event("code")["code"]
        arguments = ("receive", "--json", "--path", "direct", "--server", address, code, "-o", folder, "-y")
        with midair(*arguments, spawner=lab.b.popen) as receiver:
            assert receiver.wait() == 0
            assert sender.wait() == 0
    assert tree_digest(folder / "tree") == tree_digest(tree)
    assert receiver.done["path"] == "direct"
    assert receiver.of("path")[-1]["remote"].startswith("[2001:db8:a:1::2]:")


def test_a_direct_transfer_between_nats_goes_on_when_the_server_dies(tree: Path, folder: Path) -> None:
    with Lab("drop x drop", delay=NEAR) as lab, sending(lab, "--limit-rate", "4M", tree) as (sender, server, address):
        code = sender.event("code")["code"]
        arguments = ("receive", "--json", "--server", address, code, "-o", folder, "-y")
        with midair(*arguments, spawner=lab.b.popen) as receiver:
            receiver.event("path", lambda event: event["path"] == "direct")
            receiver.event("progress", lambda event: 0 < event["bytes"] < event["total"])
            server.signal(signal.SIGKILL)
            assert receiver.wait() == 0
            assert sender.wait() == 0
    assert tree_digest(folder / "tree") == tree_digest(tree)


def test_the_connection_that_breaks_in_mid_transfer_is_made_again(tree: Path, folder: Path) -> None:
    """The relay is cut off: both sides meet again by themselves, and only the rest is sent."""
    with (
        Lab("drop x drop", delay=NEAR) as lab,
        sending(lab, "--path", "relay", "--limit-rate", "4M", tree) as (sender, server, address),
    ):
        code = sender.event("code")["code"]
        arguments = ("receive", "--json", "--path", "relay", "--server", address, code, "-o", folder, "-y")
        with midair(*arguments, spawner=lab.b.popen) as receiver:
            receiver.event("progress", lambda event: 0 < event["bytes"] < event["total"])
            server.kill()
            receiver.event("lost")
            with serving(f"{lab.server.address}:7420", spawner=lab.server.popen):
                assert receiver.wait() == 0, receiver.errors
                assert sender.wait() == 0, sender.errors
                assert receiver.of("resumed")
    assert tree_digest(folder / "tree") == tree_digest(tree)
