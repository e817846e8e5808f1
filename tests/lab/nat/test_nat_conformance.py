"""Every knob of the NAT is seen from outside: what a check finds is what was set.

Mutation is the other half: a NAT with another setting is judged differently by the knob's own check.
"""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations

import pytest
from nat_bench import new_bench
from nat_checks import CHECKS, INVISIBLE, UDP_CHECKS, Check, knobs_of, setting, turned

from midair.lab.behaviour import (
    Allocation,
    Filtering,
    Hairpin,
    Mapping,
    NatBehaviour,
    NatTimers,
    Pooling,
    PortRule,
    Reaction,
    SequenceCheck,
    SimultaneousOpen,
    Unsolicited,
)

ALL_CHECKS = [*CHECKS.items(), *UDP_CHECKS.items()]
SETTINGS = [(knob, value, check) for knob, check in ALL_CHECKS for value in check.values]
PAIRS = [(knob, one, other) for knob, check in CHECKS.items() for one, other in combinations(check.values, 2)]
COMBINATIONS = 80


def expected(check: Check, knob: str, behaviour: NatBehaviour, ipv6: bool) -> object:
    return check.visible(behaviour, ipv6) if check.visible else setting(behaviour, knob)


def named(value: object) -> str | None:
    return None if isinstance(value, Check) else str(value)


@pytest.mark.parametrize("knob", knobs_of())
def test_every_knob_has_a_check(knob: str) -> None:
    assert knob in CHECKS
    assert len(CHECKS[knob].values) > 1


@pytest.mark.parametrize(("knob", "value", "check"), SETTINGS, ids=named)
def test_what_is_observed_is_what_was_set(knob: str, value: object, check: Check) -> None:
    behaviour = turned(check.base, knob, value)
    assert check.observe(new_bench(behaviour)) == expected(check, knob, behaviour, False)
    if check in CHECKS.values():
        assert expected(check, knob, behaviour, False) == value


@pytest.mark.parametrize(("knob", "one", "other"), PAIRS, ids=str)
def test_another_setting_is_judged_differently(knob: str, one: object, other: object) -> None:
    check = CHECKS[knob]
    found = [check.observe(new_bench(turned(check.base, knob, value), seed=3)) for value in (one, other)]
    assert found[0] != found[1]


def drawn(draw: random.Random) -> NatBehaviour:
    """Any NAT at all, but for limits and policies that would leave nothing to see."""
    rule = draw.choice(list(PortRule))
    wide, small, tiny = (1024, 65535), (30000, 30500), (20000, 20100)
    low, high = wide if rule is PortRule.BLOCKS else draw.choice([wide, wide, small, tiny, tiny])
    return NatBehaviour(
        mapping=draw.choice(list(Mapping)),
        filtering=draw.choice(list(Filtering)),
        allocation=Allocation(
            rule=rule,
            low=low,
            high=high,
            step=draw.choice([1, 1, 2, -1, 5]),
            block=draw.choice([64, 70]),
            addresses=draw.choice([1, 1, 2, 3]),
            pooling=draw.choice(list(Pooling)),
        ),
        unsolicited=draw.choice(list(Unsolicited)),
        simultaneous_open=draw.choice(list(SimultaneousOpen)),
        sequence_check=draw.choice(list(SequenceCheck)),
        on_rst=draw.choice(list(Reaction)),
        on_icmp=draw.choice(list(Reaction)),
        hairpin=draw.choice(list(Hairpin)),
        timers=NatTimers(
            opening=draw.uniform(10, 300),
            established=draw.uniform(10, 300),
            closing=draw.uniform(10, 300),
            udp=draw.uniform(10, 300),
        ),
        rewrites_payload=draw.random() < 0.5,
        decrements_ttl=draw.random() < 0.5,
    )


def turned_at_random(base: NatBehaviour, knob: str, check: Check, draw: random.Random) -> NatBehaviour:
    """The knob is one that ``drawn`` leaves alone, or it is drawn once more."""
    drawn_well = knob.startswith("timers") or knob in ("allocation.low", "allocation.high")
    return base if drawn_well else turned(base, knob, draw.choice(check.values))


@pytest.mark.parametrize("seed", range(COMBINATIONS))
def test_every_knob_is_seen_in_any_combination_with_the_others(seed: int) -> None:
    draw = random.Random(seed)
    base, ipv6 = drawn(draw), draw.random() < 0.2
    for knob, check in ALL_CHECKS:
        behaviour = turned_at_random(base, knob, check, draw)
        wanted = expected(check, knob, behaviour, ipv6)
        if wanted is INVISIBLE:
            continue
        found = check.observe(new_bench(behaviour, seed=seed, ipv6=ipv6))
        if isinstance(wanted, float):
            wanted = pytest.approx(wanted, abs=0.01)
        assert found == wanted, f"seed {seed}, {knob}, IPv6 {ipv6}, of {behaviour}"


def test_no_knob_is_hidden_in_most_combinations() -> None:
    """So that what the test above passes over is the exception; but a few knobs do nothing in most NATs."""
    seen: Counter[str] = Counter()
    for seed in range(COMBINATIONS):
        draw = random.Random(seed)
        base, ipv6 = drawn(draw), draw.random() < 0.2
        for knob, check in CHECKS.items():
            behaviour = turned_at_random(base, knob, check, draw)
            seen[knob] += expected(check, knob, behaviour, ipv6) is not INVISIBLE
    narrow = {"allocation.low", "allocation.high", "allocation.step", "allocation.block"}
    assert all(seen[knob] > 3 for knob in narrow), seen
    assert all(seen[knob] > COMBINATIONS / 3 for knob in seen.keys() - narrow), seen
