"""The demonstration ends with one JSON line that others can rely on, in the lab and where there can be none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support import Command, midair

KEYS = ["ok", "path", "bytes", "seconds", "rate_mb_s", "sender_blake3", "receiver_blake3", "nat_a", "nat_b"]


def last_line(command: Command) -> dict[str, Any]:
    assert command.wait() == 0, command.errors
    result: dict[str, Any] = json.loads(command.lines[-1])
    assert list(result) == KEYS
    assert result["ok"] is True
    assert result["sender_blake3"] == result["receiver_blake3"]
    assert len(result["sender_blake3"]) == 64
    assert result["bytes"] > 2 << 20
    assert result["rate_mb_s"] > 0
    return result


@pytest.mark.lab
def test_it_goes_directly_through_two_different_nats() -> None:
    with midair("demo", "--size", "2") as command:
        result = last_line(command)
        assert (result["path"], result["nat_a"], result["nat_b"]) == ("direct", "drop", "rst")
        told = "\n".join(command.lines[:-1])
        for word in ("is seen from outside as", "chose direct", "blake3", "SYNs out", "MB/s"):
            assert word in told


@pytest.mark.lab
def test_the_lab_takes_other_nats_and_says_why_it_was_not_direct() -> None:
    arguments = ("lab", "demo", "--nat-a", "symmetric", "--nat-b", "symmetric", "--size", "2")
    with midair(*arguments) as command:
        result = last_line(command)
        assert (result["path"], result["nat_a"], result["nat_b"]) == ("relay", "symmetric", "symmetric")
        assert "because" in "\n".join(command.lines)


def test_without_the_lab_s_tools_it_goes_over_loopback_and_says_what_that_cannot_show() -> None:
    with midair("demo", "--size", "2", PATH="/nonexistent") as command:
        result = last_line(command)
        assert (result["path"], result["nat_a"], result["nat_b"]) == ("direct", "none", "none")
        assert "cannot show" in command.lines[1]


def test_with_json_there_is_that_line_and_no_other() -> None:
    with midair("demo", "--json", "--size", "2", PATH="/nonexistent") as command:
        last_line(command)
        assert len(command.lines) == 1


def test_a_nat_that_is_not_there_is_named_with_those_that_are() -> None:
    with midair("lab", "demo", "--nat-a", "magic") as command:
        assert command.wait() == 2
        assert "symmetric" in command.errors
