"""What checks have found is kept, by network, for the transfers that follow."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from midair.endpoint import Endpoint
from midair.nat.check.memory import MAX_AGE_SECONDS, MAX_NETWORKS, recall, remember
from midair.nat.check.report import NatReport, Opening, Reaction
from midair.nat.told import understand


def report(local: str = "10.1.0.2", mapped: str = "198.51.100.2", reaction: Reaction = Reaction.RST) -> NatReport:
    return NatReport(family=4, local=Endpoint.of(local, 5000), mapped=Endpoint.of(mapped, 5000), reaction=reaction)


def test_what_was_found_is_recalled_with_where_and_when(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "networks.json"
    remember(file, [(report(), Opening.REFUSED)])
    (found,) = recall(file)
    assert (found.local, found.mapped) == ("10.1.0.2", "198.51.100.2")
    assert abs(found.found - time.time()) < 60
    known = understand(found.told)
    assert (known.report.reaction, known.opening) == (Reaction.RST, Opening.REFUSED)
    assert [each.name for each in file.parent.iterdir()] == ["networks.json"], "nothing is left beside it"


def test_the_same_network_is_kept_once_and_the_newest_comes_first(tmp_path: Path) -> None:
    file = tmp_path / "networks.json"
    remember(file, [(report(), Opening.OPENED)])
    remember(file, [(report(mapped="203.0.113.9"), Opening.OPENED)])
    remember(file, [(report(reaction=Reaction.DROP), Opening.OPENED)])
    assert [(each.mapped, understand(each.told).report.reaction) for each in recall(file)] == [
        ("198.51.100.2", Reaction.DROP),
        ("203.0.113.9", Reaction.RST),
    ]


def test_only_the_last_networks_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "networks.json"
    for number in range(MAX_NETWORKS + 5):
        remember(file, [(report(local=f"10.1.0.{number + 1}"), Opening.OPENED)])
    assert len(recall(file)) == MAX_NETWORKS
    assert recall(file)[0].local == f"10.1.0.{MAX_NETWORKS + 5}"


def test_a_report_without_an_outside_address_is_of_no_network(tmp_path: Path) -> None:
    remember(tmp_path / "it", [(NatReport(family=4), Opening.OPENED)])
    assert list(recall(tmp_path / "it")) == []


@pytest.mark.parametrize("seconds", [MAX_AGE_SECONDS + 60, -3600], ids=["a week ago", "in the future"])
def test_what_is_too_old_or_not_yet_true_is_not_recalled(tmp_path: Path, seconds: float) -> None:
    file = tmp_path / "networks.json"
    remember(file, [(report(), Opening.OPENED)])
    content = json.loads(file.read_text())
    content["networks"][0]["found"] -= seconds
    file.write_text(json.dumps(content))
    assert list(recall(file)) == []


def test_a_file_of_a_later_release_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "networks.json"
    remember(file, [(report(), Opening.OPENED)])
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 2}))
    assert list(recall(file)) == []


def _garbage(content: bytes) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(content)


@pytest.mark.parametrize(
    "made",
    [
        lambda file: None,
        lambda file: file.mkdir(),
        _garbage(b""),
        _garbage(b"\xff\xfe"),
        _garbage(b"[" * 60_000),
        _garbage(b'{"version":2,"networks":[]}'),
        _garbage(b'{"version":1,"networks":[{"found":1}]}'),
        _garbage(b'{"version":1,"networks":[' + b"{}," * 40_000),
    ],
    ids=["none", "folder", "empty", "bytes", "deep", "later", "incomplete", "huge"],
)
def test_a_file_that_cannot_be_read_or_understood_is_as_none(tmp_path: Path, made: Callable[[Path], object]) -> None:
    made(tmp_path / "networks.json")
    assert list(recall(tmp_path / "networks.json")) == []


def test_a_place_where_nothing_can_be_written_does_no_harm() -> None:
    remember(Path("/dev/null/midair/networks.json"), [(report(), Opening.OPENED)])
