"""How many pairs play at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from midair.trials.real import _Gate


def test_who_weighs_more_than_there_is_room_for_waits_until_both_sides_of_others_have_left() -> None:
    gate = _Gate(3)
    leave_first, leave_second = gate.enter(1, of=2), gate.enter(1, of=2)
    with ThreadPoolExecutor(1) as pool:
        heavy = pool.submit(gate.enter, 3, of=2)
        for leave in (leave_first, leave_first, leave_second):
            leave(None)
            with pytest.raises(TimeoutError):
                heavy.result(timeout=0.02)
        leave_second(None)
        leave_heavy = heavy.result(timeout=5)
        light = pool.submit(gate.enter, 1, of=2)
        with pytest.raises(TimeoutError):
            light.result(timeout=0.02)
        leave_heavy(None)
        leave_heavy(None)
        assert callable(light.result(timeout=5))
