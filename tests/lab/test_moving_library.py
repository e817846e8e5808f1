"""A stream of the library that begins on the relay and moves, between two programs behind real NATs."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_moving import NEAR, PORT, Between

from midair.lab import Lab
from support import Command, Spawner, serving

pytestmark = pytest.mark.lab

PROGRAM = Path(__file__).parent / "stream_program.py"


@contextlib.contextmanager
def program(*arguments: str, spawner: Spawner) -> Iterator[Command]:
    """Killed at the end if it still runs."""
    argv = [sys.executable, "-W", "error", str(PROGRAM), *arguments]
    command = Command(spawner(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    try:
        yield command
    finally:
        command.close()


@contextlib.contextmanager
def streaming(lab: Lab, path: str) -> Iterator[tuple[Command, Command]]:
    """Both write to each other until they go by ``path`` for good, and a megabyte more."""
    with (
        serving(f"{lab.server.address}:{PORT}", spawner=lab.server.popen) as (server, _),
        program(server, path, spawner=lab.a.popen) as host,
        program(server, path, host.event("code")["code"], spawner=lab.b.popen) as peer,
    ):
        yield host, peer


def ended_well(*commands: Command) -> None:
    for command in commands:
        assert command.wait() == 0, (command.errors, command.events[-5:])
    for one, other in (commands, commands[::-1]):
        (wrote,), (read,) = one.of("wrote"), other.of("read")
        assert (wrote["bytes"], wrote["digest"]) == (read["bytes"], read["digest"])


def test_a_stream_begins_on_the_relay_and_moves_when_the_punch_is_let_through() -> None:
    with Lab("kernel:masquerade-drop x drop", delay=NEAR) as lab:
        between = Between(lab)
        between.close()
        with streaming(lab, "direct") as (host, peer):
            for command in (host, peer):
                began = command.event("connected")
                assert (began["path"], began["searching"]) == ("relay", True)
                assert command.event("reading", lambda event: event["bytes"] > 0)["path"] == "relay"
            between.open()
            ended_well(host, peer)
        for command, remote in ((host, lab.b.outside), (peer, lab.a.outside)):
            assert [(event["path"], event["later"]) for event in command.of("path")] == [
                ("relay", False),
                ("direct", True),
            ]
            assert command.of("path")[-1]["remote"].split(":")[0] == remote
            assert command.of("done")[0]["path"] == "direct"
            assert command.of("done")[0]["story"][-1] == "path"
            assert command.of("read")[0]["bytes"] > 1 << 20
