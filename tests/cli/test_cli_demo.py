"""The demonstration ends with one JSON line that others can rely on, in the lab and where there can be none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from midair.cli import demo
from support import Command, midair

KEYS = ["ok", "path", "bytes", "seconds", "rate_mb_s", "sender_blake3", "receiver_blake3", "nat_a", "nat_b"]


def checked(line: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(line)
    assert list(result) == KEYS
    assert result["ok"] is True
    assert result["sender_blake3"] == result["receiver_blake3"]
    assert len(result["sender_blake3"]) == 64
    assert result["bytes"] > 2 << 20
    assert result["rate_mb_s"] > 0
    return result


def last_line(command: Command) -> dict[str, Any]:
    assert command.wait() == 0, command.errors
    return checked(command.lines[-1])


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
    arguments = ("lab", "demo", "--nat-a", "symmetric", "--nat-b", "kernel:masquerade-random", "--size", "2")
    with midair(*arguments) as command:
        result = last_line(command)
        assert (result["path"], result["nat_a"], result["nat_b"]) == ("relay", "symmetric", "kernel:masquerade-random")
        assert "because" in "\n".join(command.lines)


def test_without_the_lab_it_goes_over_loopback_and_says_what_that_cannot_show(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "available_somehow", lambda: "there is none here")
    assert demo.demo_command(as_json=False, mebibytes=2) == 0
    first, second, *_, last = capsys.readouterr().out.splitlines()
    assert first == "Over loopback, because there is none here."
    assert "cannot show" in second
    assert checked(last)["path"] == "direct"
    assert checked(last)["nat_a"] == checked(last)["nat_b"] == "none"


def test_with_json_there_is_that_line_and_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "available_somehow", lambda: "there is none here")
    assert demo.demo_command(as_json=True, mebibytes=2) == 0
    (line,) = capsys.readouterr().out.splitlines()
    checked(line)


def test_a_nat_that_is_not_there_is_named_with_those_that_are() -> None:
    with midair("lab", "demo", "--nat-a", "magic") as command:
        assert command.wait() == 2
        assert "there are none, firewall" in command.errors
        assert "symmetric" in command.errors


@pytest.mark.lab
def test_on_one_lan_the_router_has_nothing_to_do() -> None:
    with midair("lab", "demo", "--nat-a", "drop", "--same-lan", "--size", "2") as command:
        assert last_line(command)["path"] == "direct"
        assert "NAT a: " in "\n".join(command.lines)
        assert "0 in, 0 turned away" in "\n".join(command.lines)
