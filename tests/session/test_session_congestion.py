"""Which congestion control a connection gets that content is sent over."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from channel_pairs import pair
from midair.channel import Channel
from midair.port import PathReading, congestion_control_of, congestion_controls, use_congestion_control
from midair.session import congestion as module
from midair.session.congestion import choose_congestion_control

needs_bbr = pytest.mark.skipif("bbr" not in congestion_controls(), reason="this system does not allow bbr")


@pytest.fixture
async def channel() -> AsyncIterator[Channel]:
    here, there = await pair()
    yield here
    here.abort()
    there.abort()


def reading(shortest: float) -> PathReading:
    """Of a path of 40 ms; ``shortest`` is what the kernel takes for the shortest round trip."""
    return PathReading(round_trip=0.04, shortest=shortest, segment=1448, acknowledged=100, repeated=0)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the other side were another computer, to which a connection was opened as usual."""
    monkeypatch.setattr(module, "is_own_address", lambda address: False)
    monkeypatch.setattr(module, "read_path", lambda sock: reading(0.038))


@pytest.fixture
def crossed(far: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it had come from crossing SYNs; tests/lab/test_crossing_round_trip.py has what the kernel does then."""
    monkeypatch.setattr(module, "read_path", lambda sock: reading(0.009))


@needs_bbr
@pytest.mark.parametrize("default", ["cubic", "reno"])
async def test_to_another_computer_bbr_takes_the_place_of_what_takes_losses_for_congestion(
    default: str, channel: Channel, far: None
) -> None:
    if not use_congestion_control(channel.sock, default):
        pytest.skip(f"no {default} here")
    told = choose_congestion_control(channel, None, background=False)
    assert (told.congestion_control, told.because) == ("bbr", "losses")
    assert congestion_control_of(channel.sock) == "bbr"


@needs_bbr
async def test_where_crossing_syns_have_misled_the_kernel_it_is_not_bbr(channel: Channel, crossed: None) -> None:
    assert use_congestion_control(channel.sock, "bbr")
    told = choose_congestion_control(channel, None, background=False)
    assert told.congestion_control in ("cubic", "reno")
    assert told.because == "crossing"
    told = choose_congestion_control(channel, None, background=False)
    assert told.because == "system"
    assert choose_congestion_control(channel, "bbr", background=False).congestion_control == "bbr"


async def test_within_this_computer_it_stays_as_it_is(channel: Channel) -> None:
    assert use_congestion_control(channel.sock, "reno")
    told = choose_congestion_control(channel, None, background=False)
    assert (told.congestion_control, told.because) == ("reno", "system")


async def test_where_bbr_is_not_allowed_it_is_not_taken_even_by_root(
    channel: Channel, far: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "congestion_controls", lambda: ("reno",))
    assert use_congestion_control(channel.sock, "reno")
    told = choose_congestion_control(channel, None, background=False)
    assert (told.congestion_control, told.because) == ("reno", "system")


@needs_bbr
async def test_what_somebody_has_chosen_is_used_and_not_another(channel: Channel, far: None) -> None:
    told = choose_congestion_control(channel, "reno", background=False)
    assert (told.congestion_control, told.because) == ("reno", "chosen")
    told = choose_congestion_control(channel, "bbr", background=True)
    assert (told.congestion_control, told.because, told.background) == ("bbr", "chosen", True)


@needs_bbr
async def test_in_the_background_losses_count(channel: Channel, far: None) -> None:
    assert use_congestion_control(channel.sock, "bbr")
    told = choose_congestion_control(channel, None, background=True)
    assert told.congestion_control in ("cubic", "reno")
    assert (told.because, told.background) == ("background", True)
    told = choose_congestion_control(channel, None, background=True)
    assert told.because == "system"
