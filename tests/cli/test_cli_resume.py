"""``kill -9`` in mid-transfer; the same command again finishes it, and sends only what was not durable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support import Command, midair

MIB = 1 << 20
SIZE = 48 * MIB
RATE = "16M"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "big.bin"
    path.write_bytes(os.urandom(SIZE))
    return path


def part_way(command: Command) -> int:
    """The durable bytes once some, and not all, are there."""
    return int(command.event("progress", lambda event: 0 < event["bytes"] < SIZE)["bytes"])


def check_rest(receiver: Command, durable: int) -> None:
    """What was durable was neither received nor hashed again."""
    resumed = receiver.of("resumed")[-1]["bytes"]
    assert durable <= resumed < SIZE
    assert receiver.done["bytes_sent"] == receiver.done["bytes_hashed"] == SIZE - resumed
    assert receiver.done["bytes"] == SIZE


def test_a_killed_receiver_goes_on_with_the_same_command(server: str, source: Path, folder: Path) -> None:
    with midair("send", "--json", "--server", server, "--limit-rate", RATE, source) as sender:
        code = sender.event("code")["code"]
        again = ("receive", "--json", "--server", server, code, "-o", folder, "-y")
        with midair(*again) as first:
            durable = part_way(first)
            first.kill()
        assert not (folder / "big.bin").exists()
        with midair(*again) as second:
            assert second.wait() == 0
            assert sender.wait() == 0
        check_rest(second, durable)
        sent_to_the_first = sender.done["bytes_sent"] - second.done["bytes_sent"]
        assert durable <= sent_to_the_first < SIZE
    assert (folder / "big.bin").read_bytes() == source.read_bytes()
    assert [path.name for path in folder.iterdir()] == ["big.bin"]


@pytest.mark.parametrize("given", [True, False], ids=["the old code", "a new code"])
def test_a_killed_sender_goes_on_with_the_same_command(server: str, source: Path, folder: Path, given: bool) -> None:
    send = ("send", "--json", "--server", server, "--limit-rate", RATE)
    with midair(*send, source) as first:
        code = first.event("code")["code"]
        receive = ("receive", "--json", "--server", server)
        with midair(*receive, code, "-o", folder, "-y") as receiver:
            durable = part_way(receiver)
            first.kill()
            receiver.event("lost")
            if given:
                # The receiver is still there: the restarted sender finds it under the old code.
                with midair(*send, "--code", code, source) as second:
                    assert receiver.wait() == 0
                    assert second.wait() == 0
                resumed = receiver.of("resumed")[-1]["bytes"]
                assert durable <= resumed < SIZE
                assert second.done["bytes_sent"] == second.done["bytes_hashed"] == SIZE - resumed
                assert receiver.done["bytes_hashed"] <= SIZE + 8 * MIB
            else:
                receiver.kill()
                with midair(*send, source) as second:
                    new = second.event("code")["code"]
                    with midair(*receive, new, "-o", folder, "-y") as again:
                        assert again.wait() == 0
                        assert second.wait() == 0
                    check_rest(again, durable)
                    assert second.done["bytes_sent"] == second.done["bytes_hashed"] == again.done["bytes_sent"]
    assert (folder / "big.bin").read_bytes() == source.read_bytes()
