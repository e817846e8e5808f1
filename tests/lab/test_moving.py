"""Transfers whose path changes on the way, by the real commands: onto a better one, and off one that dies."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from midair.lab import Lab
from midair.lab.capture import read_capture
from midair.lab.packet import address_text
from support import Command, midair, serving

pytestmark = pytest.mark.lab

MIB = 1 << 20
PORT = 7420
NEAR = 0.01
"""Seconds one way, where the delay is not what a test is about."""


class Between:
    """What stands between the two: their direct packets, and nobody else's, can be dropped at the router of ``a``."""

    def __init__(self, lab: Lab) -> None:
        self._router = lab.router("a.1")
        self._peer = lab.b.outside

    def close(self) -> None:
        dropped = f"ip daddr {self._peer} drop; ip saddr {self._peer} drop"
        self._nft(f"table ip between {{ chain passing {{ type filter hook forward priority -10; {dropped}; }}; }}")

    def open(self) -> None:
        self._nft("delete table ip between")

    def _nft(self, rules: str) -> None:
        done = self._router.run(["nft", "--file", "-"], input=rules)
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def transferring(lab: Lab, content: Path, folder: Path, rate: str) -> Iterator[tuple[Command, Command, Command]]:
    """The sender, the receiver and the server, once they run."""
    with (
        serving(f"{lab.server.address}:{PORT}", spawner=lab.server.popen) as (address, server),
        midair("send", "--json", "--limit-rate", rate, "--server", address, content, spawner=lab.a.popen) as sender,
    ):
        code = sender.event("code")["code"]
        arguments = ("receive", "--json", "--server", address, code, "-o", folder, "-y")
        with midair(*arguments, spawner=lab.b.popen) as receiver:
            yield sender, receiver, server


def some(folder: Path, size: int) -> Path:
    path = folder / "content.bin"
    path.write_bytes(os.urandom(size))
    return path


def paths(command: Command) -> list[str]:
    return [event["path"] for event in command.of("path")]


def ended_well(content: Path, folder: Path, *commands: Command) -> None:
    for command in commands:
        assert command.wait() == 0, (command.errors, command.events[-5:])
    assert (folder / content.name).read_bytes() == content.read_bytes()


def first_content(capture: Path, outsides: set[str]) -> float:
    """Seconds from both being ready, which is when both dial, to the first full packet ``b`` has from the relay."""
    ready: dict[str, int] = {}
    with capture.open("rb") as file:
        for record in read_capture(file):
            packet = record.packet
            if packet.is_syn and address_text(packet.destination) in outsides:
                ready.setdefault(record.node, record.time)
            elif len(ready) == 2 and record.node == "b" and packet.source_port == PORT and len(packet.payload) > 1000:
                return (record.time - max(ready.values())) / 1e9
    raise AssertionError("no content came through the relay")


def test_the_first_content_comes_through_the_relay_within_four_round_trips(tmp_path: Path) -> None:
    """They are 100 ms here; the offer and its answer are two of them. A machine that is busy has three tries."""
    content = some(tmp_path, 64 * 1024)
    found: list[float] = []
    with Lab("kernel:masquerade-drop x drop") as lab:
        Between(lab).close()
        while not found or (found[-1] >= 0.4 and len(found) < 3):
            folder, capture = tmp_path / f"received-{len(found)}", tmp_path / f"{len(found)}.pcapng"
            with (
                lab.capture(capture, nodes=["a", "b"]),
                transferring(lab, content, folder, "10M") as (sender, receiver, _),
            ):
                ended_well(content, folder, sender, receiver)
            found.append(first_content(capture, {lab.a.outside, lab.b.outside}))
    assert min(found) < 0.4, found


def test_a_transfer_that_begins_on_the_relay_moves_and_nothing_is_sent_or_hashed_twice(
    tmp_path: Path, folder: Path
) -> None:
    """The punch is held back for five seconds."""
    size = 8 * MIB
    with Lab("kernel:masquerade-drop x drop") as lab:
        between = Between(lab)
        between.close()
        content = some(tmp_path, size)
        with transferring(lab, content, folder, "1M") as (sender, receiver, _):
            began = receiver.event("path")
            assert (began["path"], began["searching"]) == ("relay", True)
            receiver.event("progress", lambda event: event["time"] > began["time"] + 5)
            assert paths(receiver) == ["relay"]
            between.open()
            ended_well(content, folder, sender, receiver)
    for command in (sender, receiver):
        done = command.done
        assert done["bytes"] == done["bytes_sent"] == done["bytes_hashed"] == size
        assert (paths(command), done["path"]) == (["relay", "direct"], "direct")
        assert min(done["carried"].values()) > MIB // 2
        assert not command.of("lost")


def nothing_was_wasted(sender: Command, receiver: Command, size: int) -> None:
    """What was durable did not cross again, nor was it hashed again; more than that was on its way at most."""
    durable = receiver.of("resumed")[-1]["bytes"]
    assert 0 < durable < size
    assert receiver.done["bytes_sent"] - size == receiver.done["bytes_hashed"] - size < MIB
    assert sender.done["bytes_sent"] - size <= 2 * MIB


def test_a_direct_path_that_dies_in_silence_is_left_within_seconds_even_while_the_server_is_started_anew(
    tmp_path: Path, folder: Path
) -> None:
    with Lab("kernel:masquerade-drop x drop", delay=NEAR) as lab:
        between = Between(lab)
        content = some(tmp_path, 4 * MIB)
        with transferring(lab, content, folder, "2M") as (sender, receiver, server):
            receiver.event("path", lambda event: event["path"] == "direct")
            last = receiver.event("progress", lambda event: event["bytes"] > MIB)
            between.close()
            server.kill()
            lost = receiver.event("lost")
            assert lost["time"] - last["time"] < 10.0
            with serving(f"{lab.server.address}:{PORT}", spawner=lab.server.popen):
                ended_well(content, folder, sender, receiver)
    nothing_was_wasted(sender, receiver, 4 * MIB)
    assert paths(receiver)[-1] == "relay"


def test_a_computer_whose_address_changes_goes_on_from_the_new_one(tmp_path: Path, folder: Path) -> None:
    with Lab("kernel:masquerade-drop x drop", delay=NEAR) as lab:
        content = some(tmp_path, 4 * MIB)
        with transferring(lab, content, folder, "2M") as (sender, receiver, _):
            receiver.event("path", lambda event: event["path"] == "direct")
            receiver.event("progress", lambda event: event["bytes"] > MIB)
            lab.move("b")
            assert receiver.event("lost")["text"] == "the address of this computer has changed"
            noticed = time.monotonic()
            assert sender.event("lost")["text"] == "the other side has left this connection"
            assert time.monotonic() - noticed < 2.0, "it would have known by itself after four seconds more"
            ended_well(content, folder, sender, receiver)
    nothing_was_wasted(sender, receiver, 4 * MIB)
    assert sender.of("path")[-1]["remote"].split(":")[0] != sender.of("path")[0]["remote"].split(":")[0]


def test_a_relay_that_is_killed_while_a_direct_path_is_looked_for_costs_nothing(tmp_path: Path, folder: Path) -> None:
    with Lab("kernel:masquerade-drop x drop", delay=NEAR) as lab:
        Between(lab).close()
        content = some(tmp_path, 6 * MIB)
        with transferring(lab, content, folder, "2M") as (sender, receiver, server):
            receiver.event("progress", lambda event: event["bytes"] > MIB)
            server.kill()
            with serving(f"{lab.server.address}:{PORT}", spawner=lab.server.popen):
                ended_well(content, folder, sender, receiver)
    nothing_was_wasted(sender, receiver, 6 * MIB)
    assert [event["searching"] for event in receiver.of("path")] == [True, True, False]
    assert receiver.of("path")[-1]["reason"]
