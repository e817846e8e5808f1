"""The table of systems, and the probe that picks from it."""

from __future__ import annotations

import pytest

from midair.port.probe import choose_strategy, probe_strategy, works_here
from midair.port.rules import SYSTEMS, Strategy, rules_for


@pytest.mark.parametrize(
    ("platform", "strategies", "tried"),
    [
        ("linux", [Strategy.REUSEPORT, Strategy.BIND_FIRST, Strategy.EXCLUSIVE], True),
        ("darwin", [Strategy.REUSEPORT, Strategy.BIND_FIRST, Strategy.EXCLUSIVE], False),
        ("freebsd14", [Strategy.REUSEPORT, Strategy.BIND_FIRST, Strategy.EXCLUSIVE], False),
        ("win32", [Strategy.REUSEADDR, Strategy.EXCLUSIVE], False),
        ("plan9", [Strategy.REUSEPORT, Strategy.BIND_FIRST, Strategy.EXCLUSIVE], False),
    ],
)
def test_each_system_has_its_strategies_best_first(platform: str, strategies: list[Strategy], tried: bool) -> None:
    rules = rules_for(platform)
    assert list(rules.strategies) == strategies
    assert rules.tried is tried


def test_only_windows_needs_an_option_to_keep_a_port_for_itself() -> None:
    alone = {rules.platform: rules.alone_options for rules in SYSTEMS}
    assert alone.pop("win32") == ("SO_EXCLUSIVEADDRUSE",)
    assert set(alone.values()) == {("SO_REUSEADDR",)}


def test_no_strategy_uses_the_option_that_balances_load() -> None:
    assert {name for strategy in Strategy for name in strategy.options} == {"SO_REUSEADDR", "SO_REUSEPORT"}


def test_the_first_strategy_that_works_is_chosen() -> None:
    rules = rules_for("linux")
    assert choose_strategy(rules, lambda strategy: True) is Strategy.REUSEPORT
    assert choose_strategy(rules, lambda strategy: strategy is not Strategy.REUSEPORT) is Strategy.BIND_FIRST


def test_when_nothing_works_the_last_resort_is_taken_untried() -> None:
    asked: list[Strategy] = []

    def never(strategy: Strategy) -> bool:
        asked.append(strategy)
        return False

    assert choose_strategy(rules_for("win32"), never) is Strategy.EXCLUSIVE
    assert asked == [Strategy.REUSEADDR]


def test_here_the_probe_finds_reuseport_and_that_the_order_matters_without_it() -> None:
    assert probe_strategy() is Strategy.REUSEPORT
    assert works_here(Strategy.BIND_FIRST)
    assert not works_here(Strategy.REUSEADDR)  # the mail's error
    assert works_here(Strategy.EXCLUSIVE)
