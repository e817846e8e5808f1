"""The simulated net as a whole: its clock, its determinism, and connections over links that lose."""

from __future__ import annotations

import hashlib

import pytest

from midair.lab.behaviour import LinkBehaviour
from midair.lab.blueprint import Blueprint, Cable, HostPart, Interface
from midair.lab.catalogue import parse_topology
from midair.lab.packet import address_bytes
from midair.lab.plan import draw
from midair.lab.simulation import Accepted, Connection, Ended, Happening, Opened, Received, Simulation

B = (address_bytes("10.0.0.2"), 7420)


def two_hosts(link: LinkBehaviour) -> Blueprint:
    """On one cable."""

    def host(name: str, address: str) -> HostPart:
        return HostPart(name=name, interfaces=(Interface(name="eth0", addresses=(f"{address}/24",)),))

    return Blueprint(
        hosts=(host("a", "10.0.0.1"), host("b", "10.0.0.2")),
        cables=(Cable(node="a", port=0, other_node="b", other_port=0, there=link, back=link),),
    )


def transfer(link: LinkBehaviour, data: bytes, seed: int, until: float) -> tuple[bytes, bytes, float]:
    """What b gets of it and what comes back to a, who sends it to b, who sends it back; and when that was over."""
    simulation = Simulation(two_hosts(link), seed)
    at_b, at_a = bytearray(), bytearray()
    over = 0.0

    def echo(connection: Connection, happening: Happening, now: float) -> None:
        match happening:
            case Received(data=part):
                at_b.extend(part)
                connection.send(part, now)
            case Ended():
                connection.close(now)

    def send(connection: Connection, happening: Happening, now: float) -> None:
        nonlocal over
        match happening:
            case Opened():
                connection.send(data, now)
                connection.shutdown(now)
            case Received(data=part):
                at_a.extend(part)
            case Ended():
                over = now
                simulation.stop()

    simulation.host("b").listen(7420, echo)
    simulation.host("a").dial(B, send, now=0.0)
    simulation.run(until)
    return bytes(at_b), bytes(at_a), over


@pytest.mark.parametrize("seed", range(5))
def test_bytes_arrive_whole_and_in_order_over_links_that_lose_one_packet_in_ten(seed: int) -> None:
    data = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(4000))
    at_b, at_a, over = transfer(LinkBehaviour(delay=0.01, jitter=0.005, loss=0.1), data, seed, 600.0)
    assert at_b == at_a == data
    assert 0 < over < 60.0


def test_a_connection_opens_after_one_round_trip_and_a_lost_syn_costs_a_second() -> None:
    assert transfer(LinkBehaviour(delay=0.05), b"x", 1, 60.0)[2] == pytest.approx(0.2)
    assert transfer(LinkBehaviour(delay=0.05, lose_syns=(1,)), b"x", 1, 60.0)[2] == pytest.approx(1.2)


def test_segments_shrink_to_what_the_link_takes() -> None:
    data = bytes(range(256)) * 100
    assert transfer(LinkBehaviour(delay=0.01, mtu=600), data, 1, 60.0)[1] == data


def test_a_link_without_delay_is_no_endless_loop() -> None:
    data = bytes(200_000)
    at_b, at_a, over = transfer(LinkBehaviour(), data, 1, 60.0)
    assert (at_b, at_a, over) == (data, data, 0.0)


def test_the_same_seed_gives_the_same_story_and_another_one_another() -> None:
    link = LinkBehaviour(delay=0.01, jitter=0.01, loss=0.2)
    times = [transfer(link, bytes(20_000), seed, 600.0)[2] for seed in (1, 1, 2)]
    assert times[0] == times[1] != times[2]


def test_calls_come_in_order_of_time_also_between_packets() -> None:
    simulation = Simulation(two_hosts(LinkBehaviour(delay=0.05)), 1)
    story: list[tuple[float, str]] = []

    def hear(connection: Connection, happening: Happening, now: float) -> None:
        story.append((now, type(happening).__name__))
        # Later than this instant, and just before the next packet.
        simulation.at(now + 0.049, lambda now: story.append((now, "called")))

    simulation.host("b").listen(7420, hear)
    simulation.at(1.0, lambda now: simulation.host("a").dial(B, hear, now=now))
    simulation.at(0.5, lambda now: story.append((now, "early")))
    simulation.run(0.7)
    assert simulation.now == 0.7
    simulation.run(2.0)
    assert [(round(at, 3), what) for at, what in story] == [
        (0.5, "early"),
        (1.1, "Opened"),
        (1.149, "called"),
        (1.15, "Accepted"),
        (1.199, "called"),
    ]


def test_a_run_that_is_stopped_goes_on_from_there() -> None:
    simulation = Simulation(two_hosts(LinkBehaviour(delay=0.05)), 1)
    opened: list[float] = []

    def stop_when_open(connection: Connection, happening: Happening, now: float) -> None:
        opened.append(now)
        simulation.stop()

    accepted: list[Happening] = []
    simulation.host("b").listen(7420, lambda connection, happening, now: accepted.append(happening))
    simulation.host("a").dial(B, stop_when_open, now=0.0)
    simulation.run(10.0)
    assert (simulation.now, opened, accepted) == (0.1, [0.1], [])
    simulation.run(10.0)
    assert (simulation.now, accepted) == (10.0, [Accepted()])


def test_one_application_may_use_several_hosts_at_the_same_instant() -> None:
    """A referee starts both ends; the SYNs cross."""
    simulation = Simulation(two_hosts(LinkBehaviour(delay=0.05)), 1)
    a, b = simulation.host("a"), simulation.host("b")
    story: list[tuple[float, Happening]] = []

    def hear(connection: Connection, happening: Happening, now: float) -> None:
        story.append((now, happening))

    def start(now: float) -> None:
        a.dial(B, hear, now=now, number=5000)
        b.dial((address_bytes("10.0.0.1"), 5000), hear, now=now, number=7420)

    simulation.at(1.0, start)
    simulation.run(5.0)
    assert story == [(1.1, Opened()), (1.1, Opened())]


def test_a_linux_router_cannot_be_simulated() -> None:
    with pytest.raises(ValueError, match="only the wire"):
        Simulation(draw([parse_topology("kernel:masquerade-drop x drop")]))
