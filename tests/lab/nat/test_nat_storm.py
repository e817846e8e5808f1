"""Any packets at all, through any NAT at all: nothing is raised, and the table is never at odds with itself."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from nat_bench import Bench, Endpoint, datagram
from test_nat_conformance import drawn

from midair.lab.behaviour import NatBehaviour, NatLimits, NatTimers, SequenceCheck
from midair.lab.nat.connection import Phase
from midair.lab.node import INSIDE_PORT, OUTSIDE_PORT
from midair.lab.packet import ACK, FIN, ICMP, RST, SYN, TCP, UDP, IcmpReason, Packet, address_bytes, address_text

FLAGS = (SYN, SYN, SYN, SYN | ACK, SYN | ACK, ACK, ACK, RST, RST | ACK, FIN | ACK, FIN | SYN, 0)


@pytest.mark.parametrize("seed", range(40))
def test_a_storm_of_packets_leaves_the_table_in_order(seed: int) -> None:
    draw = random.Random(seed)
    bench = Bench(stormy(draw), seed=seed, ipv6=draw.random() < 0.2)
    places = [
        *((bench.host(number), port) for number in range(4) for port in (5000, 5001)),
        *(bench.remote(number, port) for number in range(3) for port in (443, 5000)),
        *((address, port) for address in ("198.51.100.1", "198.51.100.2") for port in (5000, 5001) if not bench.ipv6),
        ("fd00::1" if bench.ipv6 else "10.0.0.1", 80),
    ]
    forged = seed % 2 == 1
    """Packets may come from where their source address is not."""
    for _ in range(400):
        if draw.random() < 0.1:
            bench.wait(draw.uniform(0, 4))
        packet = any_packet(draw, bench, places)
        port = bench.port_of(address_text(packet.source)) if inside(packet.source) else OUTSIDE_PORT
        if forged and draw.random() < 0.1:
            port = draw.choice([OUTSIDE_PORT, INSIDE_PORT, INSIDE_PORT + 1])
        for where, each in bench.send(packet, port):
            assert forged or inside(each.destination) == (where != OUTSIDE_PORT)
            leaks = bench.behaviour.sequence_check is SequenceCheck.LEAK and each.flags & (SYN | ACK) == SYN | ACK
            if bench.behaviour.translates and not bench.ipv6 and where == OUTSIDE_PORT and not leaks:
                assert each.source in bench.outside_addresses
            if where == OUTSIDE_PORT != port and draw.random() < 0.5:  # somebody answers
                bench.send(answer_to(draw, each), OUTSIDE_PORT)
        in_order(bench)
    bench.wait(100)
    assert bench.nat.entries(bench.now) == []
    in_order(bench)


def inside(address: bytes) -> bool:
    return address[:3] == b"\x0a\0\0" or address[:2] == b"\xfd\0"


def stormy(draw: random.Random) -> NatBehaviour:
    """With timers and limits that are soon reached."""
    behaviour = drawn(draw)
    limits = NatLimits(
        entries=draw.choice([3, 20, 1000]),
        entries_per_host=draw.choice([2, 10, 1000]),
        half_open=draw.choice([1, 5, 1000]),
        new_per_second=draw.choice([0.5, 5, float("inf")]),
    )
    seconds = [draw.choice([0.25, 0.5, 5.0, 20.0]) for _ in range(4)]
    timers = NatTimers(opening=seconds[0], established=seconds[1], closing=seconds[2], udp=seconds[3])
    return replace(behaviour, limits=limits, timers=timers)


def any_packet(draw: random.Random, bench: Bench, places: list[Endpoint]) -> Packet:
    source, destination = draw.choice(places), draw.choice(places)
    protocol = draw.choice([TCP, TCP, TCP, UDP, ICMP])
    data = draw.choice([b"", address_bytes(source[0]), source[0].encode()])
    if protocol == ICMP and draw.random() < 0.7:
        about = bench.segment(destination, source, draw.choice(FLAGS), protocol=draw.choice([TCP, UDP]))
        error = bench.error_about(destination, source, draw.choice(list(IcmpReason)), sender=source[0])
        error.quoted, error.destination = about, address_bytes(destination[0])
        return error
    if protocol == ICMP:
        source, destination = draw.choice([(source, (destination[0], 0)), ((source[0], 0), destination)])
    if protocol != TCP:
        return datagram(source, destination, protocol=protocol, data=data, ttl=draw.choice([1, 2, 64]))
    return bench.segment(
        source,
        destination,
        draw.choice(FLAGS),
        sequence=draw.choice([1000, 1000, 2000]),
        data=data,
        ttl=draw.choice([1, 2, 64, 64]),
    )


def answer_to(draw: random.Random, packet: Packet) -> Packet:
    answer = packet.copy()
    answer.set_source(packet.destination, packet.destination_port)
    answer.set_destination(packet.source, packet.source_port)
    if answer.protocol == TCP:
        answer.raw, answer.flags = None, draw.choice(FLAGS)
    return answer


def in_order(bench: Bench) -> None:
    """What the parts of the table say of each other."""
    table, now = bench.nat._table, bench.now
    connections = list(table.inward.values())
    assert all(key == each.inward_key and each.alive for key, each in table.inward.items())
    assert table.outward == {each.outward_key: each for each in connections if not each.swallowed}
    assert table.half_open == sum(each.phase is Phase.OPENING for each in connections)
    assert table.hosts == Counter(each.inside for each in connections if not each.swallowed)
    limits = bench.behaviour.limits
    assert len(connections) <= limits.entries
    assert table.half_open <= limits.half_open
    assert all(count <= limits.entries_per_host for count in table.hosts.values())
    uses = Counter(id(each.binding) for each in connections if each.binding)
    bindings = {id(each.binding): each.binding for each in connections if each.binding}
    for number, binding in bindings.items():
        assert binding is not None
        assert binding.connections == uses[number]
    held = [binding for holders in table.bindings._by_outside.values() for binding in holders]
    assert {id(binding) for binding in held} <= bindings.keys()
    assert {id(binding) for binding in table.bindings._by_key.values()} <= bindings.keys()
    for holders in table.bindings._by_outside.values():
        assert len({binding.inside for binding in holders}) == 1
    scheduled = {(due, id(connection)) for due, _, connection in table._schedule}
    for each in connections:
        expires = each.last_seen + table._timeouts[each.phase]
        assert (each.scheduled, id(each)) in scheduled
        assert each.scheduled <= expires
        assert bench.nat.wake_at <= expires
        assert expires > now
