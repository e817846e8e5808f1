"""What a person allows, from the command line to the wire: the packets of real commands in hosts behind NATs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from midair.lab import Lab
from midair.lab.capture import read_capture
from midair.lab.packet import ACK, SYN, TCP, address_text
from midair.relay.wire import ASKING_MAGIC, PREAMBLE_MAGIC
from support import Command, midair, serving

pytestmark = pytest.mark.lab

NEAR = 0.01
"""Seconds one way."""
CONFLICT_SECONDS = 4.0
"""A conflict of policies shows in the first message; the rest is the start of two commands."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(range(256)) * 4096)
    return path


@contextlib.contextmanager
def both(
    lab: Lab, source: Path, folder: Path, sends: list[str], receives: list[str]
) -> Iterator[tuple[Command, Command]]:
    """A server, a sender with these options and a receiver with those; nobody is waited for."""
    listen = f"{lab.server.address}:7420"
    with (
        serving(listen, spawner=lab.server.popen) as (address, _),
        midair("send", "--json", "--server", address, *sends, source, spawner=lab.a.popen) as sender,
    ):
        code = sender.event("code")["code"]
        arguments = ("receive", "--json", "--server", address, *receives, code, "-o", folder, "-y")
        with midair(*arguments, spawner=lab.b.popen) as receiver:
            yield sender, receiver


def syns(capture: Path) -> set[tuple[str, str, int]]:
    """Who dialled whom, on which port, as the two hosts sent it."""
    found = set()
    with capture.open("rb") as file:
        for record in read_capture(file):
            packet = record.packet
            if packet.protocol == TCP and packet.flags & (SYN | ACK) == SYN and record.node in ("a", "b"):
                found.add((record.node, address_text(packet.destination), packet.destination_port))
    return found


def to_the_relay(capture: Path) -> set[str]:
    """Who has asked the relay for a partner."""
    magics = (PREAMBLE_MAGIC, ASKING_MAGIC)
    with capture.open("rb") as file:
        return {record.node for record in read_capture(file) if bytes(record.packet.payload).startswith(magics)}


@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_relay_only_sends_nothing_to_the_other_side(side: str, source: Path, folder: Path, tmp_path: Path) -> None:
    """On either side, however willing the other is; two hosts on one LAN would find each other at once."""
    sends, receives = (["--relay-only"], []) if side == "sender" else ([], ["--relay-only"])
    with Lab("(none + none) > drop", delay=NEAR) as lab:
        with (
            lab.capture(tmp_path / "packets.pcapng"),
            both(lab, source, folder, sends, receives) as (sender, receiver),
        ):
            assert (receiver.wait(), sender.wait()) == (0, 0), receiver.errors + sender.errors
        server = lab.server.address
    assert sender.done["path"] == receiver.done["path"] == "relay"
    assert to_the_relay(tmp_path / "packets.pcapng") >= {"a", "b"}
    assert {(node, *where) for node, *where in syns(tmp_path / "packets.pcapng")} == {
        ("a", server, 7420),
        ("b", server, 7420),
    }
    ours, theirs = (sender, receiver) if side == "sender" else (receiver, sender)
    assert ours.of("path")[-1]["reason"] == "only the relay was allowed"
    assert ours.of("reflected") == []  # what it does not know of its own address it cannot tell
    assert theirs.of("path")[-1]["reason"] == "only the relay was allowed by the other side"


def test_direct_only_says_nothing_to_the_relay(source: Path, folder: Path, tmp_path: Path) -> None:
    """Not even while the other side, which allows it, waits there."""
    with (
        Lab("drop x drop", delay=NEAR) as lab,
        lab.capture(tmp_path / "packets.pcapng"),
        both(lab, source, folder, ["--direct-only"], []) as (sender, receiver),
    ):
        assert (receiver.wait(), sender.wait()) == (0, 0), receiver.errors + sender.errors
    assert {event["path"] for event in sender.of("path") + receiver.of("path")} == {"direct"}
    assert "a" not in to_the_relay(tmp_path / "packets.pcapng")


@pytest.mark.parametrize(("sends", "receives"), [("--direct-only", "--relay-only"), ("--relay-only", "--direct-only")])
def test_two_policies_that_exclude_each_other_are_named_on_both_sides_at_once(
    sends: str, receives: str, source: Path, folder: Path
) -> None:
    with Lab("drop x drop", delay=NEAR) as lab, both(lab, source, folder, [sends], [receives]) as (sender, receiver):
        receiver.event("met")
        met = time.monotonic()
        assert (receiver.wait(), sender.wait()) == (7, 7)
        assert time.monotonic() - met < CONFLICT_SECONDS
    for command, own in ((sender, sends), (receiver, receives)):
        assert command.done["reason"] == "no-path"
        ours, theirs = ("a direct one", "the relay") if own == "--direct-only" else ("the relay", "a direct one")
        assert f"only {ours} here, only {theirs} there" in command.errors
        assert "Traceback" not in command.errors
        assert len(command.errors.splitlines()) == 2
    assert list(folder.iterdir()) == []
