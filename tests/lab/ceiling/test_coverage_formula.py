"""Figures of the birthday formula that others have published, and its edges."""

from __future__ import annotations

import pytest

from midair.lab.ceiling.coverage import (
    Budget,
    both_sides_covered,
    nothing_in_between,
    one_side_covered,
    repeated,
)


@pytest.mark.parametrize(
    ("choices", "opened", "dialled", "percent"),
    [
        (64511, 256, 256, 63.9),
        (64511, 1024, 256, 98.3),
        (28232, 256, 256, 90.3),
        (28232, 512, 256, 99.1),
        (251, 64, 1, 25.5),
        (251, 64, 8, 90.5),
        (251, 64, 16, 99.1),
        (512, 64, 16, 88.2),
        (1024, 128, 32, 98.6),
        (2048, 256, 32, 98.6),
    ],
)
def test_opening_k_ports_and_dialling_from_m_gives_the_published_figures(
    choices: int, opened: int, dialled: int, percent: float
) -> None:
    assert 100 * one_side_covered(choices, opened, dialled) == pytest.approx(percent, abs=0.06)


def test_opening_every_port_is_certain_and_dialling_from_none_is_hopeless() -> None:
    assert one_side_covered(251, 251, 1) == one_side_covered(4, 64, 1) == 1
    assert one_side_covered(251, 64, 0) == one_side_covered(4, 64, 0) == 0


def test_two_random_sides_need_as_many_pairs_of_syns_as_there_are_pairs_of_ports() -> None:
    assert both_sides_covered(64512, 64512, 2000, 2000) < 0.002
    assert both_sides_covered(251, 251, 251, 251) == pytest.approx(0.632, abs=0.001)


def test_a_budget_is_used_in_as_many_rounds_as_syns_and_time_allow() -> None:
    assert Budget(sockets=64, syns=1024, seconds=100).rounds == 16
    assert Budget(sockets=64, syns=1024, seconds=5).rounds == 5
    assert Budget(sockets=64, syns=10, seconds=5).rounds == 1
    assert Budget(sockets=64, syns=10).capped(1000).sockets == 10
    assert repeated(0.5, 3) == 0.875


def test_strangers_are_a_poisson_number() -> None:
    assert nothing_in_between(0, 1) == 1
    assert nothing_in_between(1, 1) == pytest.approx(0.3679, abs=1e-4)
    assert nothing_in_between(1, 2) == pytest.approx(0.7358, abs=1e-4)
    assert nothing_in_between(1, 0) == 0
