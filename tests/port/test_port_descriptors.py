"""The limit of open descriptors, which a coverage can come near."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from midair.port.descriptors import RESERVE, make_room_for


@pytest.fixture(autouse=True)
def _limits_as_they_were() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def soften(limit: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def test_a_low_limit_is_raised_as_far_as_need_be() -> None:
    soften(512)
    assert make_room_for(1000) == 1000
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1000 + RESERVE


def test_a_limit_that_is_high_enough_is_left_alone() -> None:
    soften(2000)
    assert make_room_for(100) == 100
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 2000


def test_nobody_gets_more_than_the_hard_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (600, 600))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    assert make_room_for(1000) == 600 - RESERVE
