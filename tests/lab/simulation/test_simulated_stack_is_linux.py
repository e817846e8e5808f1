"""A simulated host does what the kernel does. All scripts are played to the kernel at once, in one namespace."""

from __future__ import annotations

import pytest
from stack_script import play_simulated, play_to_kernel
from stack_scripts import SCRIPTS

from midair.lab.requirements import available
from midair.lab.wire.tun import TUN_DEVICE, can_open_tun

pytestmark = pytest.mark.lab

SLACK_SECONDS = 0.15
"""The kernel's timer wheel is coarse: 1 s is up to 1.03 s, and that adds up over four repetitions."""

Story = list[tuple[float, str]]


@pytest.fixture(scope="module")
def stories() -> dict[str, Story]:
    """What the kernel did, by script."""
    if lack := available():
        pytest.skip(lack)
    if not can_open_tun():
        pytest.skip(f"{TUN_DEVICE} cannot be opened")
    return dict(zip(SCRIPTS, play_to_kernel(list(SCRIPTS.values())), strict=True))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_simulated_host_does_what_the_kernel_does(name: str, stories: dict[str, Story]) -> None:
    story = play_simulated(SCRIPTS[name], list(SCRIPTS).index(name))
    expected = stories[name]
    if differences(story, expected):
        (expected,) = play_to_kernel([SCRIPTS[name]])  # once more, alone: a busy computer is late with its steps
        story = play_simulated(SCRIPTS[name])
    assert expected
    assert differences(story, expected) == []


def differences(story: Story, expected: Story) -> list[str]:
    """What is sent, and what the application hears: each in its order."""
    found = []
    for sent in (True, False):
        ours, theirs = ([line for line in each if line[1].startswith(">") is sent] for each in (story, expected))
        if [text for _, text in ours] != [text for _, text in theirs]:
            found.append(f"{ours} instead of {theirs}")
        elif any(abs(at - other) > SLACK_SECONDS for (at, _), (other, _) in zip(ours, theirs, strict=True)):
            found.append(f"{ours} at the times of {theirs}")
    return found
