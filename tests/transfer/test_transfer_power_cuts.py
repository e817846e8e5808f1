"""What a power cut may leave is always whole under its name, never vouched for wrongly, and gone on with.

Many more states are looked at by ``make soak-transfer``.
"""

from __future__ import annotations

import random

import pytest
from power_cuts import STORIES, check_states
from power_model import ROOT, Done, Inode, Linked, Moved, Synced, Unlinked, Wrote, left_over


@pytest.mark.parametrize("name", STORIES)
def test_whatever_a_power_cut_leaves_the_next_run_finishes(name: str) -> None:
    assert check_states(name, seed=3, states=25) >= 25


def names_left(*done: Done) -> set[frozenset[str]]:
    """The sets of names that a cut may leave in the folder."""
    before = {ROOT: Inode("folder")}
    return {frozenset(left_over(before, done, random.Random(seed))[ROOT].names) for seed in range(200)}


def contents_left(*done: Done) -> set[bytes]:
    before = {ROOT: Inode("folder", names={"x": 1}), 1: Inode("file", b"old")}
    return {left_over(before, done, random.Random(seed))[1].content for seed in range(200)}


def test_in_the_model_a_name_is_durable_when_its_folder_is_synced() -> None:
    made = Linked(ROOT, "x", 1, "file", 0o600)
    assert names_left(made) == {frozenset(), frozenset("x")}
    assert names_left(made, Synced(1)) == {frozenset(), frozenset("x")}, "syncing the file is not enough"
    assert names_left(made, Synced(ROOT)) == {frozenset("x")}
    assert names_left(made, Synced(None)) == {frozenset("x")}


def test_in_the_model_a_move_is_one_step_and_steps_of_different_names_come_in_any_order() -> None:
    made, moved = Linked(ROOT, "x", 1, "file", 0o600), Moved(ROOT, "x", ROOT, "y")
    assert names_left(made, Synced(ROOT), moved) == {frozenset("x"), frozenset("y")}
    assert names_left(made, moved) == {frozenset(), frozenset("x"), frozenset("y")}
    other = Linked(ROOT, "z", 2, "file", 0o600)
    assert names_left(made, Synced(ROOT), Unlinked(ROOT, "x", 1), other) == {
        frozenset(),
        frozenset("x"),
        frozenset("z"),
        frozenset("xz"),
    }


def test_in_the_model_content_is_dropped_torn_and_reordered_up_to_the_last_sync() -> None:
    first, second = Wrote(1, 0, b"1" * 512), Wrote(1, 512, b"2" * 512)
    assert contents_left(first, second, Synced(1)) == {b"1" * 512 + b"2" * 512}
    left = contents_left(first, second)
    assert {b"old", b"1" * 512 + b"2" * 512} < left
    assert b"old".ljust(512, b"\0") + b"2" * 512 in left, "the later write alone"
    assert any(content.endswith(bytes(512)) and len(content) == 1024 for content in left), "the size alone"
    assert {b"1" * 512, b"111"} < contents_left(first, Synced(1), Wrote(1, 3, None))
