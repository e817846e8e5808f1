"""What a person reads of the path, and of its changes."""

from __future__ import annotations

from typing import Any

from midair.cli.output import describe
from midair.events import PathChosen


def lines(**changes: Any) -> list[str]:
    settings = {"path": "relay", "how": "relay", "local": "10.0.0.2:1", "remote": "192.0.2.1:2"}
    return describe(PathChosen(**(settings | {"attempts": 3, "seconds": 0.1} | changes)), "files")


def test_a_beginning_on_the_relay_is_said_to_be_one() -> None:
    said = lines(searching=True)
    assert said[0].startswith("Connected: through the relay, 192.0.2.1:2")
    assert said[1:] == ["A direct connection is still being looked for."]


def test_the_move_and_the_reason_why_there_is_none_are_told() -> None:
    (moved,) = lines(path="direct", how="dial", remote="203.0.113.5:6", later=True)
    assert moved.startswith("Moved on: direct (dial), 203.0.113.5:6")
    assert lines(later=True, reason="nothing answers") == ["It stays on the relay. Why not direct: nothing answers"]


def test_where_nothing_can_change_the_reason_is_told_at_once() -> None:
    assert lines(reason="only the relay was allowed")[1:] == ["Why not direct: only the relay was allowed"]
