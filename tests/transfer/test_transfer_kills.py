"""Kill -9 at random moments. ``make soak-transfer`` does it more often."""

from __future__ import annotations

import pytest
from kills import check_kills


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_after_a_kill_at_any_moment_on_either_side_the_same_commands_finish_it(seed: int) -> None:
    assert check_kills(seed, kills=3, mib=24) == 3
