"""Which strategy works on this machine: tried on loopback, not guessed from the system's name."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable

from midair.port.matrix import socket_row
from midair.port.rules import Strategy, SystemRules, rules_for

__all__ = ["choose_strategy", "probe_strategy", "works_here"]

log = logging.getLogger("midair.port")


@functools.cache
def probe_strategy() -> Strategy:
    """The best strategy that works here. Asked once a process; takes about a millisecond, on 127.0.0.1 only."""
    return choose_strategy(rules_for(sys.platform), works_here)


def choose_strategy(rules: SystemRules, works: Callable[[Strategy], bool]) -> Strategy:
    """The first of a system's strategies that works; the last one is taken untried, there is nothing after it."""
    *preferred, last = rules.strategies
    for strategy in preferred:
        if works(strategy):
            return strategy
        log.debug("strategy %s does not work here", strategy.value)
    return last


def works_here(strategy: Strategy) -> bool:
    """Whether a port really listens and dials under this strategy."""
    if strategy is Strategy.EXCLUSIVE:
        return True
    row = socket_row(
        reuseaddr="SO_REUSEADDR" in strategy.options,
        reuseport="SO_REUSEPORT" in strategy.options,
        order="listen-then-bind" if strategy.any_order else "bind-then-listen",
    )
    return row.listen == row.connect == "ok"
