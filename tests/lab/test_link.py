"""One direction of a link, as a schedule."""

from __future__ import annotations

from random import Random

import pytest

from midair.lab.behaviour import LinkBehaviour
from midair.lab.link import Link
from midair.lab.packet import ACK, RST, SYN, Packet, tcp_packet

HERE, THERE = b"\xc0\x00\x02\x01", b"\xc6\x33\x64\x01"


def packet(size: int = 40, flags: int = ACK) -> Packet:
    return tcp_packet(HERE, 1000, THERE, 2000, flags, data=bytes(size - 40))


def link(behaviour: LinkBehaviour | None = None, *, seed: int = 1) -> Link:
    return Link(behaviour or LinkBehaviour(), Random(seed))


def test_a_link_that_does_nothing_is_crossed_at_once() -> None:
    assert link().send(5.0, packet()) == 5.0


def test_a_delay_is_added() -> None:
    assert link(LinkBehaviour(delay=0.05)).send(5.0, packet()) == 5.05


def test_jitter_spreads_arrivals_over_its_whole_width_and_keeps_order() -> None:
    jittery = link(LinkBehaviour(delay=0.05, jitter=0.02))
    late = []
    previous = 0.0
    for number in range(500):
        arrival = jittery.send(float(number), packet())
        assert arrival is not None
        late.append(arrival - number)
        assert arrival >= previous
        previous = arrival
    assert 0.05 <= min(late) < 0.052
    assert 0.068 < max(late) <= 0.07


def test_what_is_sent_close_together_does_not_overtake() -> None:
    jittery = link(LinkBehaviour(jitter=0.02))
    arrivals = [jittery.send(number * 1e-4, packet()) for number in range(200)]
    assert arrivals == sorted(arrivals, key=lambda arrival: arrival or 0.0)
    assert len(set(arrivals)) > 1


def test_as_many_packets_are_lost_as_the_probability_says() -> None:
    seed = 7
    lossy = link(LinkBehaviour(loss=0.2), seed=seed)
    lost = sum(lossy.send(0.0, packet()) is None for _ in range(5000))
    assert 900 < lost < 1100, f"{lost} of 5000 with seed {seed}"


def test_exactly_the_syns_that_were_named_are_lost() -> None:
    picky = link(LinkBehaviour(lose_syns=(1, 3)))
    assert [picky.send(0.0, packet(flags=SYN)) for _ in range(4)] == [None, 0.0, None, 0.0]


def test_only_syns_without_ack_count_as_syns() -> None:
    picky = link(LinkBehaviour(lose_syns=(1, 2, 3)))
    for flags in (SYN | ACK, ACK, RST, SYN | RST):
        assert picky.send(0.0, packet(flags=flags)) == 0.0
    assert picky.send(0.0, packet(flags=SYN)) is None


def test_syns_are_counted_from_the_beginning_of_the_link_not_from_the_change() -> None:
    changed = link()
    changed.send(0.0, packet(flags=SYN))
    changed.behaviour = LinkBehaviour(lose_syns=(2,))
    assert changed.send(1.0, packet(flags=SYN)) is None
    assert changed.send(1.0, packet(flags=SYN)) == 1.0


def test_a_rate_makes_packets_wait_for_each_other() -> None:
    slow = link(LinkBehaviour(rate=8000.0, delay=0.1))  # 1000 bytes a second
    assert slow.send(0.0, packet(100)) == pytest.approx(0.2)
    assert slow.send(0.0, packet(100)) == pytest.approx(0.3)
    assert slow.send(10.0, packet(100)) == pytest.approx(10.2)


def test_what_does_not_fit_into_the_queue_is_lost() -> None:
    slow = link(LinkBehaviour(rate=8000.0, queue=250))
    assert [slow.send(0.0, packet(100)) is not None for _ in range(4)] == [True, True, False, False]
    assert slow.send(0.1, packet(100)) is not None  # one has left meanwhile


def test_a_packet_larger_than_the_queue_passes_an_idle_link() -> None:
    slow = link(LinkBehaviour(rate=8000.0, queue=50))
    assert slow.send(0.0, packet(1000)) == pytest.approx(1.0)
    assert slow.send(0.5, packet(100)) is None
    assert slow.send(1.0, packet(1000)) == pytest.approx(2.0)


def test_a_link_that_is_down_loses_everything_until_it_is_up_again() -> None:
    cut = link(LinkBehaviour(up=False))
    assert cut.send(0.0, packet()) is None
    cut.behaviour = LinkBehaviour()
    assert cut.send(0.0, packet()) == 0.0


def test_a_shorter_delay_does_not_let_packets_overtake_those_under_way() -> None:
    changed = link(LinkBehaviour(delay=1.0))
    assert changed.send(0.0, packet()) == 1.0
    changed.behaviour = LinkBehaviour()
    assert changed.send(0.1, packet()) == 1.0
    assert changed.send(2.0, packet()) == 2.0


def test_the_same_seed_gives_the_same_schedule() -> None:
    def schedule() -> list[float | None]:
        whimsical = link(LinkBehaviour(delay=0.01, jitter=0.05, loss=0.3), seed=3)
        return [whimsical.send(float(number), packet()) for number in range(100)]

    assert schedule() == schedule()
