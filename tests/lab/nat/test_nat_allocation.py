"""Where outside ports and addresses come from, and what happens when there are none left."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from nat_bench import Bench, Endpoint

from midair.lab.behaviour import Allocation, NatBehaviour, NatTimers, Pooling, PortRule
from midair.lab.nat.allocation import Allocator
from midair.lab.packet import UDP, address_bytes

POOL = [address_bytes(f"198.51.100.{number}") for number in (1, 2, 3)]
HOST = address_bytes("10.0.0.2")
REMOTE = address_bytes("192.0.2.10")
SMALL = {"low": 20000, "high": 20063}


def nobody(endpoint: tuple[bytes, int]) -> bool:
    return False


def bench(**options: Any) -> Bench:
    return Bench(replace(NatBehaviour(), allocation=Allocation(**options)))


def given(bench: Bench, count: int, *, hosts: int = 1, first: int = 5000) -> list[Endpoint]:
    """To so many mappings of inside ports 5000, 5001 and so on; those that are refused are left out."""
    found = []
    for number in range(count):
        host = number % hosts
        if outside := bench.first((bench.host(host), first + number), bench.remote(), protocol=UDP, host=host):
            found.append(outside)
    return found


@pytest.mark.parametrize("rule", [PortRule.SEQUENTIAL, PortRule.PARITY, PortRule.RANDOM])
def test_every_port_of_the_band_is_given_once_and_then_none(rule: PortRule) -> None:
    small = bench(rule=rule, **SMALL)
    assert sorted(port for _, port in given(small, 64)) == list(range(20000, 20064))
    assert given(small, 10, first=7000) == []
    small.wait(300)
    assert len(given(small, 64)) == 64, "they come back when their mappings are over"


def test_what_cannot_be_preserved_comes_from_the_band_in_order() -> None:
    small = bench(rule=PortRule.PRESERVING_UNTIL_CLASH, **SMALL)
    ports = []
    for number in range(70):
        outside = small.first((small.host(number), 5000), small.remote(), host=number)
        ports.append(outside[1] if outside else None)
    assert ports == [5000, *range(20000, 20064), *[None] * 5]


def test_a_clash_within_the_band_moves_to_the_next_free_port_and_around_its_end() -> None:
    small = bench(rule=PortRule.PRESERVING_UNTIL_CLASH, **SMALL)
    ports = [small.first((small.host(number), 20062), small.remote(), host=number) for number in range(4)]
    assert [port for _, port in filter(None, ports)] == [20062, 20063, 20000, 20001]


@pytest.mark.parametrize(("step", "count"), [(1, 64), (-1, 64), (5, 64), (-7, 64), (2, 32), (64, 1), (65, 64)])
def test_a_sequence_stays_within_the_band_and_ends_where_it_comes_round(step: int, count: int) -> None:
    ports = [port for _, port in given(bench(rule=PortRule.SEQUENTIAL, step=step, **SMALL), 100)]
    assert len(ports) == count
    assert all((later - earlier - step) % 64 == 0 for earlier, later in pairwise(ports))
    assert set(ports) <= set(range(20000, 20064))


def test_a_sequence_goes_on_from_the_last_port_whoever_asks() -> None:
    ports = [port for _, port in given(bench(rule=PortRule.SEQUENTIAL), 30, hosts=7)]
    assert ports == list(range(ports[0], ports[0] + 30))


def test_a_sequence_leaves_out_what_is_taken() -> None:
    small = bench(rule=PortRule.SEQUENTIAL, **SMALL)
    first = [port for _, port in given(small, 64)]
    small.wait(299)
    kept = first[1]
    assert small.first((small.host(), 5001), small.remote(), protocol=UDP) == ("198.51.100.1", kept)
    small.wait(1)
    again = [small.first((small.host(), 6000 + number), small.remote(), protocol=UDP) for number in range(63)]
    assert {port for _, port in filter(None, again)} == set(first) - {kept}


def test_parity_is_kept_until_its_half_of_the_band_is_used_up() -> None:
    small = bench(rule=PortRule.PARITY, low=20001, high=20010)
    for wanted, expected in ((1, {20001, 20003, 20005, 20007, 20009}), (0, {20002, 20004, 20006, 20008, 20010})):
        got = [small.first((small.host(), 6000 + 2 * n + wanted), small.remote()) for n in range(7)]
        assert {port for _, port in filter(None, got)} == expected
        assert got[5:] == [None, None]


def test_each_host_has_one_block_and_no_more() -> None:
    blocks = bench(rule=PortRule.BLOCKS, block=16, low=20000, high=20063)
    for host in range(4):
        got = [blocks.first((blocks.host(host), 5000 + n), blocks.remote(), host=host) for n in range(20)]
        ports = sorted(port for _, port in filter(None, got))
        assert ports == list(range(20000 + 16 * host, 20016 + 16 * host))
    assert blocks.first((blocks.host(4), 5000), blocks.remote(), host=4) is None, "there are four blocks"


def test_a_block_larger_than_the_band_is_the_band() -> None:
    assert len(given(bench(rule=PortRule.BLOCKS, block=512, **SMALL), 100)) == 64


def test_a_band_may_be_one_port() -> None:
    for rule in PortRule:
        expected = 10 if rule in (PortRule.PRESERVING, PortRule.PRESERVING_UNTIL_CLASH) else 1
        assert len(given(bench(rule=rule, low=20000, high=20000), 10)) == expected


@pytest.mark.parametrize("rule", [PortRule.RANDOM, PortRule.PARITY, PortRule.BLOCKS])
def test_random_ports_are_spread_evenly(rule: PortRule) -> None:
    counts: Counter[int] = Counter()
    allocator = Allocator(Allocation(rule=rule, low=1000, high=1079, block=80), POOL[:1], random.Random(7))
    for number in range(8000):
        endpoint = allocator.endpoint((HOST, number), REMOTE, nobody)
        assert endpoint is not None
        counts[endpoint[1]] += 1
    assert len(counts) == 80
    assert 50 < min(counts.values()) <= max(counts.values()) < 150


def test_the_same_seed_gives_the_same_ports_and_another_seed_others() -> None:
    def ports(seed: int) -> list[object]:
        allocator = Allocator(Allocation(rule=PortRule.RANDOM), POOL[:1], random.Random(seed))
        return [allocator.endpoint((HOST, number), REMOTE, nobody) for number in range(10)]

    assert ports(1) == ports(1) != ports(2)


def test_paired_hosts_are_dealt_to_the_addresses_in_turn_and_stay_there() -> None:
    pool = bench(addresses=3)
    for _ in range(2):
        for host in range(9):
            for remote in range(3):
                outside = pool.first((pool.host(host), 5000), pool.remote(remote), host=host)
                assert outside is not None
                assert outside[0] == f"198.51.100.{1 + host % 3}"
        pool.wait(10000)


def test_arbitrary_addresses_are_drawn_for_each_mapping_and_kept_by_it() -> None:
    pool = bench(addresses=3, pooling=Pooling.ARBITRARY)
    counts = Counter(address for address, _ in given(pool, 300))
    assert set(counts) == {"198.51.100.1", "198.51.100.2", "198.51.100.3"}
    assert min(counts.values()) > 60
    assert len({pool.first((pool.host(), 5000), pool.remote(number), protocol=UDP) for number in range(9)}) == 1


def test_the_same_port_can_be_kept_on_every_address() -> None:
    pool = bench(addresses=2)
    ports = [pool.first((pool.host(number), 5000), pool.remote(), host=number) for number in range(4)]
    assert ports == [
        ("198.51.100.1", 5000),
        ("198.51.100.2", 5000),
        ("198.51.100.1", 5001),
        ("198.51.100.2", 5001),
    ]


def test_a_refused_connection_leaves_nothing_behind() -> None:
    full = Bench(NatBehaviour(allocation=Allocation(rule=PortRule.RANDOM, low=9, high=9), timers=NatTimers(udp=10)))
    assert given(full, 3) == [("198.51.100.1", 9)]
    assert len(full.nat.entries(0)) == 1
