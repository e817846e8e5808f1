"""One check for each knob: it finds the knob's value by sending packets, as NAT check software would.

A check switches the NAT on as often as it likes (``new()``), always the same one, so it can compare what becomes of a
packet with and without something else before it. It knows no more of the NAT than how long to wait.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Any, Final

from nat_bench import HOSTS, Bench, Endpoint, NewBench, ends

from midair.lab.behaviour import (
    Allocation,
    Filtering,
    Hairpin,
    Mapping,
    NatBehaviour,
    NatLimits,
    NatTimers,
    Pooling,
    PortRule,
    Reaction,
    SequenceCheck,
    SimultaneousOpen,
    Unsolicited,
)
from midair.lab.node import INSIDE_PORT, OUTSIDE_PORT
from midair.lab.packet import ACK, ICMP, RST, SYN, TCP, UDP, IcmpReason, address_bytes, address_text

__all__ = ["CHECKS", "INVISIBLE", "UDP_CHECKS", "Check", "knobs_of", "setting", "turned"]

INVISIBLE: Final = object()
"""What a check is expected to find when the other knobs hide this one."""


@dataclass(frozen=True)
class Check:
    """How one knob is observed."""

    observe: Callable[[NewBench], object]
    values: Sequence[Any]
    """Settings that it tells apart."""
    base: NatBehaviour = field(default_factory=NatBehaviour)
    """Where all of them are visible."""
    visible: Callable[[NatBehaviour, bool], object] | None = None
    """What it finds in a NAT that behaves so, over IPv6 if the second argument is true: by default what is set."""


def turned(behaviour: NatBehaviour, knob: str, value: Any) -> NatBehaviour:
    """The same NAT with one knob turned; ``timers.udp`` is the knob ``udp`` of the timers."""
    group, dot, name = knob.partition(".")
    if not dot:
        return dataclasses.replace(behaviour, **{knob: value})
    return dataclasses.replace(behaviour, **{group: dataclasses.replace(getattr(behaviour, group), **{name: value})})


def setting(behaviour: NatBehaviour, knob: str) -> object:
    """How a knob is set."""
    value: object = behaviour
    for name in knob.split("."):
        value = getattr(value, name)
    return value


def knobs_of(kind: type = NatBehaviour, prefix: str = "") -> list[str]:
    """Every field, those of the parts included."""
    parts = {"allocation": Allocation, "timers": NatTimers, "limits": NatLimits}
    names: list[str] = []
    for each in dataclasses.fields(kind):
        if not prefix and each.name in parts:
            names += knobs_of(parts[each.name], f"{each.name}.")
        else:
            names.append(prefix + each.name)
    return names


def translates(behaviour: NatBehaviour, ipv6: bool) -> bool:
    return behaviour.translates and not ipv6


# -- mapping and filtering --


def observe_mapping(new: NewBench, protocol: int = TCP) -> Mapping:
    bench = new()
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.first(inside, remote, protocol=protocol)
    if outside == inside:
        return Mapping.NONE
    if any(bench.first(inside, bench.remote(number), protocol=protocol) == outside for number in range(1, 24)):
        return Mapping.ENDPOINT_INDEPENDENT
    if bench.first(inside, bench.remote(port=444), protocol=protocol) == outside:
        return Mapping.ADDRESS_DEPENDENT
    if protocol == TCP:
        bench = new()
        bench.close(inside, remote, outside := bench.open(inside, remote))
        if bench.first(inside, remote) != outside:
            return Mapping.CONNECTION_DEPENDENT
    return Mapping.ADDRESS_AND_PORT_DEPENDENT


def visible_mapping(behaviour: NatBehaviour, ipv6: bool) -> Mapping:
    if not translates(behaviour, ipv6):
        return Mapping.NONE
    if behaviour.allocation.rule is PortRule.PRESERVING:
        return Mapping.ENDPOINT_INDEPENDENT
    return behaviour.mapping


def observe_filtering(new: NewBench, protocol: int = TCP) -> Filtering:
    bench = new()
    inside, remote, same_address = (bench.host(), 5000), bench.remote(), bench.remote(port=444)
    if lets_in(new, inside, remote, bench.remote(1), protocol):
        return Filtering.ENDPOINT_INDEPENDENT
    if lets_in(new, inside, remote, same_address, protocol):
        return Filtering.ADDRESS_DEPENDENT
    # The same endpoint again, when its connection is over but the mapping is still in use by another one.
    timers = bench.behaviour.timers
    if protocol == TCP:
        outside = bench.open(inside, remote)
        shared = bench.open(inside, same_address) == outside
        bench.close(inside, remote, outside)
        until, patience = timers.closing, timers.established
    else:
        first = bench.first(inside, remote, protocol=protocol)
        assert first is not None
        outside, shared = first, bench.first(inside, same_address, protocol=protocol) == first
        until, patience = timers.udp, timers.udp
    while bench.now <= until:
        bench.wait(min(patience / 2, until + 1 - bench.now))
        assert bench.leave(bench.segment(inside, same_address, ACK, protocol=protocol))
    if not shared or bench.call(remote, outside, protocol=protocol):
        return Filtering.ADDRESS_AND_PORT_DEPENDENT
    return Filtering.CONNECTION_DEPENDENT


def lets_in(new: NewBench, inside: Endpoint, remote: Endpoint, other: Endpoint, protocol: int) -> bool:
    """Whether ``other`` may begin a connection to where ``inside`` has spoken to ``remote`` from."""
    bench = new()
    outside = bench.first(inside, remote, protocol=protocol)
    assert outside is not None
    return bench.call(other, outside, protocol=protocol) is not None


def visible_filtering(behaviour: NatBehaviour, ipv6: bool) -> object:
    if behaviour.unsolicited is Unsolicited.PASS:
        return Filtering.ENDPOINT_INDEPENDENT
    one_connection_each = behaviour.mapping in (Mapping.ADDRESS_AND_PORT_DEPENDENT, Mapping.CONNECTION_DEPENDENT)
    remembers = (Filtering.ADDRESS_AND_PORT_DEPENDENT, Filtering.CONNECTION_DEPENDENT)
    if translates(behaviour, ipv6) and one_connection_each and behaviour.filtering in remembers:
        # Mapping and connection live equally long, so these are one behaviour.
        preserves = behaviour.allocation.rule is PortRule.PRESERVING
        return INVISIBLE if preserves else Filtering.ADDRESS_AND_PORT_DEPENDENT
    return behaviour.filtering


def visible_mapping_of_udp(behaviour: NatBehaviour, ipv6: bool) -> object:
    mapping = visible_mapping(behaviour, ipv6)
    one_connection_each = mapping is Mapping.CONNECTION_DEPENDENT  # nothing ends in UDP, to begin anew
    return Mapping.ADDRESS_AND_PORT_DEPENDENT if one_connection_each else mapping


# -- reactions --


def observe_unsolicited(new: NewBench) -> Unsolicited:
    bench = new()
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.first(inside, remote)
    assert outside is not None
    bench = new()
    syn = bench.segment(remote, outside, SYN, sequence=0xFFFFFFFF)
    emissions = bench.send(syn, OUTSIDE_PORT)
    assert len(emissions) <= 1
    for port, packet in emissions:
        if port != OUTSIDE_PORT:
            assert ends(packet) == (remote, (bench.host(), outside[1]))
            return Unsolicited.PASS
        if packet.flags & RST:
            assert ends(packet) == (outside, remote)
            assert (packet.flags, packet.sequence, packet.acknowledgement) == (RST | ACK, 0, 0)
            return Unsolicited.RST
        assert packet.source in bench.outside_addresses
        assert packet.quoted is not None
        assert ends(packet.quoted) == (remote, outside)
        return {
            IcmpReason.HOST_UNREACHABLE: Unsolicited.ICMP_HOST,
            IcmpReason.PORT_UNREACHABLE: Unsolicited.ICMP_PORT,
            IcmpReason.ADMIN_PROHIBITED: Unsolicited.ICMP_ADMIN,
        }[packet.reason or IcmpReason.TOO_BIG]
    bench.wait(5.9)
    assert not bench.spontaneous
    bench.wait(0.2)
    if bench.spontaneous:
        [(port, packet)] = bench.spontaneous
        assert port == OUTSIDE_PORT
        assert packet.reason is IcmpReason.PORT_UNREACHABLE
        assert packet.source in bench.outside_addresses
        return Unsolicited.ICMP_LATE
    bench = new()
    bench.send(syn, OUTSIDE_PORT)
    return Unsolicited.DROP if bench.first(inside, remote) == outside else Unsolicited.SILENT_DMZ


def visible_unsolicited(behaviour: NatBehaviour, ipv6: bool) -> Unsolicited:
    if behaviour.unsolicited is Unsolicited.SILENT_DMZ and (
        not translates(behaviour, ipv6) or behaviour.allocation.rule is PortRule.PRESERVING
    ):
        return Unsolicited.DROP  # the entry is in nobody's way, or is taken over
    return behaviour.unsolicited


def observe_simultaneous_open(new: NewBench) -> SimultaneousOpen:
    bench = new()
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.first(inside, remote, sequence=1000)
    assert outside is not None
    emissions = bench.send(bench.segment(remote, outside, SYN, sequence=9000), OUTSIDE_PORT)
    assert len(emissions) <= 1
    if not emissions:
        assert bench.answered(remote, outside, SYN | ACK), "an ordinary answer still passes"
        return SimultaneousOpen.DROPS
    [(port, packet)] = emissions
    if port == OUTSIDE_PORT:
        assert (packet.flags, packet.acknowledgement, ends(packet)) == (RST | ACK, 9001, (outside, remote))
        assert bench.answered(remote, outside, SYN | ACK), "an ordinary answer still passes"
        return SimultaneousOpen.RST
    assert ends(packet) == (remote, inside)
    answer = bench.leave(bench.segment(inside, remote, SYN | ACK, sequence=1000))
    assert answer is not None
    source, destination = ends(answer)
    assert destination == remote
    assert source[0] == outside[0]
    return SimultaneousOpen.PASSES if source == outside else SimultaneousOpen.MISTRANSLATES


def visible_simultaneous_open(behaviour: NatBehaviour, ipv6: bool) -> SimultaneousOpen:
    if behaviour.simultaneous_open is SimultaneousOpen.MISTRANSLATES and not translates(behaviour, ipv6):
        return SimultaneousOpen.PASSES
    return behaviour.simultaneous_open


def observe_sequence_check(new: NewBench) -> SequenceCheck:
    bench = new()
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.first(inside, remote, sequence=1000)
    assert outside is not None
    bench.call(remote, outside)
    answer = bench.leave(bench.segment(inside, remote, SYN | ACK, sequence=4711))
    if answer is None:
        return SequenceCheck.DROP
    assert (answer.sequence, ends(answer)[1]) == (4711, remote)
    return SequenceCheck.LEAK if ends(answer)[0] == inside != outside else SequenceCheck.NONE


def visible_sequence_check(behaviour: NatBehaviour, ipv6: bool) -> SequenceCheck:
    if behaviour.sequence_check is SequenceCheck.LEAK and not translates(behaviour, ipv6):
        return SequenceCheck.NONE
    return behaviour.sequence_check


def observe_on_rst(new: NewBench) -> Reaction:
    bench = new()
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.open(inside, remote)
    passes = bench.answered(remote, outside, RST)
    lives = bench.says(inside, remote, ACK)
    bench = new()
    outside = bench.open(inside, remote)
    assert bench.says(inside, remote, RST) == passes, "both directions are treated alike"
    assert bench.answered(remote, outside, ACK) == lives
    if passes:
        return Reaction.KEEPS if lives else Reaction.DELETES
    assert lives
    return Reaction.IGNORES


def observe_on_icmp(new: NewBench) -> Reaction:
    bench = new()
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.first(inside, remote)
    assert outside is not None
    error = bench.error_about(outside, remote, IcmpReason.HOST_UNREACHABLE, sender=bench.remote(5)[0])
    arrived = bench.arrive(error)
    lives = bench.answered(remote, outside, SYN | ACK)
    if arrived is None:
        assert lives
        return Reaction.IGNORES
    assert arrived.reason is IcmpReason.HOST_UNREACHABLE
    assert ends(arrived) == ((bench.remote(5)[0], 0), (inside[0], 0))
    assert arrived.quoted is not None
    assert ends(arrived.quoted) == (inside, remote)
    return Reaction.KEEPS if lives else Reaction.DELETES


# -- hairpins --


def observe_hairpin(new: NewBench) -> Hairpin:
    """First as a stranger, then as one who was spoken to."""
    bench = new()
    one, other, remote = (bench.host(0), 5000), (bench.host(1), 6000), bench.remote()
    target = bench.first(other, remote, host=1)
    assert target is not None
    found = turned_around(bench, one, target, other)
    if found is Hairpin.NONE:
        bench = new()
        source, target = bench.first(one, remote), bench.first(other, remote, host=1)
        assert source is not None
        assert target is not None
        bench.send(bench.segment(other, source, SYN), INSIDE_PORT + 1)
        found = turned_around(bench, one, target, other)
    return found


def turned_around(bench: Bench, source: Endpoint, target: Endpoint, other: Endpoint) -> Hairpin:
    emissions = bench.send(bench.segment(source, target, SYN), INSIDE_PORT)
    for port, packet in emissions:
        if port == INSIDE_PORT + 1:
            assert ends(packet)[1] == other
            return Hairpin.INTERNAL_SOURCE if ends(packet)[0] == source else Hairpin.EXTERNAL_SOURCE
    return Hairpin.NONE


def visible_hairpin(behaviour: NatBehaviour, ipv6: bool) -> object:
    if not translates(behaviour, ipv6) or behaviour.only_ports or behaviour.only_addresses:
        return INVISIBLE
    anybody = behaviour.filtering is Filtering.ENDPOINT_INDEPENDENT or behaviour.unsolicited is Unsolicited.PASS
    punched = (
        behaviour.mapping is Mapping.ENDPOINT_INDEPENDENT
        and behaviour.allocation.addresses == 1
        and behaviour.unsolicited in (Unsolicited.DROP, Unsolicited.ICMP_LATE)
        and behaviour.simultaneous_open in (SimultaneousOpen.PASSES, SimultaneousOpen.MISTRANSLATES)
    )
    return INVISIBLE if behaviour.hairpin is Hairpin.EXTERNAL_SOURCE and not anybody | punched else behaviour.hairpin


# -- allocation --


def outside_ports(bench: Bench, hosts: int, each: int, *, clash: bool = False) -> dict[tuple[int, int], Endpoint]:
    """By host and inside port, what new mappings got; those that got nothing are left out. Inside ports are odd and
    even, and all different unless they are to clash."""
    found = {}
    for turn in range(each):
        for host in range(hosts):
            port = 5000 + 3 * (turn if clash else turn * hosts + host)
            if outside := bench.first((bench.host(host), port), bench.remote(), host=host):
                found[host, port] = outside
    return found


def observe_rule(new: NewBench) -> PortRule:
    given = outside_ports(new(), 6, 12)
    wanted, got = [port for _, port in given], [port for _, port in given.values()]
    if wanted == got:
        clashing = outside_ports(new(), 6, 1, clash=True).values()
        return PortRule.PRESERVING if len(set(clashing)) < len(clashing) else PortRule.PRESERVING_UNTIL_CLASH
    [(_, times)] = Counter(later - earlier for earlier, later in pairwise(got)).most_common(1)
    if times >= len(got) - 5:  # but for where it wraps
        return PortRule.SEQUENTIAL
    if all(port % 2 == wish % 2 for wish, port in zip(wanted, got, strict=True)):
        return PortRule.PARITY
    ranges: dict[str, dict[int, list[int]]] = {}
    for (host, _), (address, port) in given.items():
        ranges.setdefault(address, {}).setdefault(host, []).append(port)
    apart = [
        max(one) < min(other) or max(other) < min(one)
        for hosts in ranges.values()
        for one, other in combinations(hosts.values(), 2)
    ]
    return PortRule.BLOCKS if all(apart) else PortRule.RANDOM


def only_translated(knob: str) -> Callable[[NatBehaviour, bool], object]:
    return lambda behaviour, ipv6: setting(behaviour, knob) if translates(behaviour, ipv6) else INVISIBLE


def visible_rule(behaviour: NatBehaviour, ipv6: bool) -> object:
    allocation = behaviour.allocation
    too_few = allocation.rule is PortRule.BLOCKS and allocation.high - allocation.low < 6 * allocation.block
    return INVISIBLE if too_few or not translates(behaviour, ipv6) else allocation.rule


def only_with(knob: str, *rules: PortRule) -> Callable[[NatBehaviour, bool], object]:
    def visible(behaviour: NatBehaviour, ipv6: bool) -> object:
        seen = translates(behaviour, ipv6) and behaviour.allocation.rule in rules
        return setting(behaviour, knob) if seen else INVISIBLE

    return visible


def observe_step(new: NewBench) -> int:
    got = [port for _, port in outside_ports(new(), 2, 20).values()]
    return Counter(later - earlier for earlier, later in pairwise(got)).most_common(1)[0][0]


def observe_block(new: NewBench) -> int:
    per_address = Counter(address for address, _ in outside_ports(new(), 1, 300).values())
    return max(per_address.values())


def band(new: NewBench) -> list[int]:
    """All ports that are given away, but for those that were kept."""
    given = outside_ports(new(), HOSTS, 2, clash=True)
    return sorted(port for (_, wish), (_, port) in given.items() if port != wish)


def observe_low(new: NewBench) -> int:
    return band(new)[0]


def observe_high(new: NewBench) -> int:
    return band(new)[-1]


def visible_band(knob: str) -> Callable[[NatBehaviour, bool], object]:
    def visible(behaviour: NatBehaviour, ipv6: bool) -> object:
        allocation = behaviour.allocation
        small = allocation.high - allocation.low < 110 and allocation.addresses == 1
        hides = allocation.rule is PortRule.PRESERVING or not translates(behaviour, ipv6)
        odd_end = allocation.rule is PortRule.BLOCKS or allocation.step not in (1, -1)
        return setting(behaviour, knob) if small and not hides and not odd_end else INVISIBLE

    return visible


def observe_addresses(new: NewBench) -> int:
    bench = new()
    seen = set()
    for number in range(24):
        for host in (number, 0):
            if outside := bench.first((bench.host(host), 5000 + number), bench.remote(number), host=host):
                seen.add(outside[0])
    return len(seen)


def observe_pooling(new: NewBench) -> Pooling:
    def addresses_of(bench: Bench, remotes: Sequence[Endpoint]) -> set[str]:
        given = (bench.first((bench.host(), 5000 + number), remote) for number, remote in enumerate(remotes))
        return {outside[0] for outside in given if outside}

    bench = new()
    if len(addresses_of(bench, [bench.remote()] * 14)) > 1:
        return Pooling.ARBITRARY
    bench = new()
    if len(addresses_of(bench, [bench.remote(number) for number in range(14)])) > 1:
        return Pooling.BY_DESTINATION
    return Pooling.PAIRED


def visible_pooling(behaviour: NatBehaviour, ipv6: bool) -> object:
    if not translates(behaviour, ipv6):
        return INVISIBLE
    return behaviour.allocation.pooling if behaviour.allocation.addresses > 1 else Pooling.PAIRED


# -- timers --


def lifetime(lives: Callable[[float], bool]) -> float:
    """The time without a packet at which something ends, to the millisecond."""
    alive, dead = 0.0, 0.25
    while lives(dead):
        alive, dead = dead, dead * 2
        assert dead < 1e6, "it never ends"
    while dead - alive > 0.001:
        middle = (alive + dead) / 2
        alive, dead = (middle, dead) if lives(middle) else (alive, middle)
    return round(dead, 2)


def observe_opening(new: NewBench) -> float:
    def lives(seconds: float) -> bool:
        bench = new()
        outside = bench.first((bench.host(), 5000), bench.remote())
        assert outside is not None
        bench.wait(seconds)
        return bench.answered(bench.remote(), outside, SYN | ACK)

    return lifetime(lives)


def observe_established(new: NewBench) -> float:
    def lives(seconds: float) -> bool:
        bench = new()
        outside = bench.open((bench.host(), 5000), bench.remote())
        bench.wait(seconds)
        return bench.answered(bench.remote(), outside, ACK)

    return lifetime(lives)


def observe_closing(new: NewBench) -> float:
    def lives(seconds: float) -> bool:
        bench = new()
        inside, remote = (bench.host(), 5000), bench.remote()
        outside = bench.open(inside, remote)
        bench.close(inside, remote, outside)
        bench.wait(seconds)
        return bench.answered(remote, outside, ACK)

    return lifetime(lives)


def observe_udp(new: NewBench) -> float:
    def lives(seconds: float) -> bool:
        bench = new()
        inside, remote = (bench.host(3), 5000), bench.remote()
        outside = bench.first(inside, remote, protocol=UDP, host=3)
        assert outside is not None
        bench.wait(seconds)
        packet = bench.call(remote, outside, protocol=UDP)
        return packet is not None and ends(packet)[1] == inside

    return lifetime(lives)


def visible_udp(behaviour: NatBehaviour, ipv6: bool) -> object:
    passes = behaviour.unsolicited is Unsolicited.PASS and not translates(behaviour, ipv6)
    return INVISIBLE if passes else behaviour.timers.udp


# -- limits --


def accepted(bench: Bench, protocol: int, *, hosts: int, at_most: int = 60, pause: float = 0.0) -> int:
    """New connections until one is refused."""
    for number in range(at_most):
        host, remote = number % hosts, bench.remote(port=0 if protocol == ICMP else 443)
        if bench.first((bench.host(host), 5000 + number), remote, protocol=protocol, host=host) is None:
            return number
        bench.wait(pause)
    return at_most


def observe_entries(new: NewBench) -> int:
    found = accepted(new(), UDP, hosts=HOSTS)
    assert accepted(new(), ICMP, hosts=HOSTS) == found
    return found


def observe_entries_per_host(new: NewBench) -> int:
    bench = new()
    found = accepted(bench, UDP, hosts=1)
    assert bench.first((bench.host(1), 5000), bench.remote(), protocol=UDP, host=1), "another host still may"
    return found


def observe_half_open(new: NewBench) -> int:
    bench = new()
    found = accepted(bench, TCP, hosts=HOSTS)
    assert bench.first((bench.host(70), 5000), bench.remote(), protocol=UDP, host=70), "UDP has no handshake"
    bench = new()
    for number in range(found + 1):  # what is complete does not count
        bench.open((bench.host(), 5000 + number), bench.remote())
    return found


def observe_new_per_second(new: NewBench) -> float:
    bench = new()
    burst = accepted(bench, UDP, hosts=HOSTS)
    if burst == 60:
        return float("inf")
    count, started = 0, bench.now
    while bench.now < started + 10:
        bench.wait(0.0625)
        inside = (bench.host(), 10000 + int(bench.now * 100))
        count += bench.first(inside, bench.remote(), protocol=UDP) is not None
    assert burst == max(1, int(count / 10))
    return count / 10


# -- the rest --


def observe_rewrites_payload(new: NewBench) -> bool:
    bench = new()
    inside, remote = (bench.host(), 5000), bench.remote()
    outside = bench.open(inside, remote)
    binary = b"before " + address_bytes(inside[0]) + b" after"
    packet = bench.leave(bench.segment(inside, remote, ACK, data=binary))
    assert packet is not None
    if packet.payload == binary:
        return False
    assert packet.payload == b"before " + address_bytes(outside[0]) + b" after"
    back = bench.arrive(bench.segment(remote, outside, ACK, data=packet.payload))
    assert back is not None
    assert back.payload == packet.payload, "inbound payload is left alone"
    return True


def observe_decrements_ttl(new: NewBench) -> bool:
    bench = new()
    inside, remote = (bench.host(), 5000), bench.remote()
    out = bench.leave(bench.segment(inside, remote, SYN, ttl=9))
    assert out is not None
    outside = ends(out)[0]
    back = bench.arrive(bench.segment(remote, outside, SYN | ACK, ttl=9))
    assert back is not None
    assert out.ttl == back.ttl
    assert out.ttl in (8, 9)
    answer = bench.reaction(bench.segment(remote, outside, ACK, ttl=1))
    last_hop = bench.reaction(bench.segment(inside, remote, ACK, ttl=1), INSIDE_PORT)
    assert (answer is None) == (last_hop is None) == (out.ttl == 9)
    if answer is not None and last_hop is not None:
        assert (answer.reason, last_hop.reason) == (IcmpReason.TIME_EXCEEDED, IcmpReason.TIME_EXCEEDED)
        assert answer.source in bench.outside_addresses
        assert address_text(last_hop.source) in ("10.0.0.1", "fd00::1")
    return out.ttl == 8


CANDIDATE_PORTS: Final = (22, 80, 443, 444, 5000, 8443)


def observe_only_ports(new: NewBench) -> tuple[int, ...]:
    bench = new()
    open_ports = tuple(port for port in CANDIDATE_PORTS if bench.first((bench.host(), 5000), bench.remote(port=port)))
    assert bench.first((bench.host(), 5000), bench.remote(port=22), protocol=UDP), "UDP is free"
    return () if open_ports == CANDIDATE_PORTS else open_ports


def observe_only_addresses(new: NewBench) -> tuple[str, ...]:
    bench = new()
    found = []
    for number in range(6):
        remote = bench.remote(number)
        passes = bench.first((bench.host(), 5000), remote) is not None
        assert (bench.first((bench.host(), 5000), remote, protocol=UDP) is not None) == passes
        if passes:
            found.append(remote[0])
    return () if len(found) == 6 else tuple(found)


def visible_only_addresses(behaviour: NatBehaviour, ipv6: bool) -> object:
    return INVISIBLE if ipv6 else behaviour.only_addresses


SMALL_BAND: Final = Allocation(rule=PortRule.RANDOM, low=20000, high=20063)

CHECKS: Final[dict[str, Check]] = {
    "mapping": Check(
        observe_mapping,
        tuple(Mapping),
        visible=visible_mapping,
    ),
    "filtering": Check(
        observe_filtering,
        tuple(Filtering),
        visible=visible_filtering,
    ),
    "allocation.rule": Check(
        observe_rule,
        tuple(PortRule),
        visible=visible_rule,
    ),
    "allocation.low": Check(
        observe_low,
        (20000, 20010, 20033),
        NatBehaviour(allocation=SMALL_BAND),
        visible_band("allocation.low"),
    ),
    "allocation.high": Check(
        observe_high,
        (20063, 20045, 20001),
        NatBehaviour(allocation=SMALL_BAND),
        visible_band("allocation.high"),
    ),
    "allocation.step": Check(
        observe_step,
        (1, 2, -1, 7, -16),
        NatBehaviour(allocation=Allocation(rule=PortRule.SEQUENTIAL)),
        only_with("allocation.step", PortRule.SEQUENTIAL),
    ),
    "allocation.block": Check(
        observe_block,
        (16, 64, 100),
        NatBehaviour(allocation=Allocation(rule=PortRule.BLOCKS)),
        only_with("allocation.block", PortRule.BLOCKS),
    ),
    "allocation.addresses": Check(
        observe_addresses,
        (1, 2, 5),
        visible=only_translated("allocation.addresses"),
    ),
    "allocation.pooling": Check(
        observe_pooling,
        tuple(Pooling),
        NatBehaviour(allocation=Allocation(addresses=3)),
        visible_pooling,
    ),
    "unsolicited": Check(
        observe_unsolicited,
        tuple(Unsolicited),
        visible=visible_unsolicited,
    ),
    "simultaneous_open": Check(
        observe_simultaneous_open,
        tuple(SimultaneousOpen),
        visible=visible_simultaneous_open,
    ),
    "sequence_check": Check(
        observe_sequence_check,
        tuple(SequenceCheck),
        visible=visible_sequence_check,
    ),
    "on_rst": Check(observe_on_rst, tuple(Reaction)),
    "on_icmp": Check(observe_on_icmp, tuple(Reaction)),
    "hairpin": Check(
        observe_hairpin,
        tuple(Hairpin),
        visible=visible_hairpin,
    ),
    "timers.opening": Check(observe_opening, (240.0, 20.0, 3.5)),
    "timers.established": Check(observe_established, (7440.0, 50.0, 432000.0)),
    "timers.closing": Check(observe_closing, (240.0, 10.0, 0.5)),
    "timers.udp": Check(
        observe_udp,
        (300.0, 30.0, 120.0),
        visible=visible_udp,
    ),
    "limits.entries": Check(observe_entries, (1, 7, 40)),
    "limits.entries_per_host": Check(observe_entries_per_host, (1, 7, 40)),
    "limits.half_open": Check(observe_half_open, (1, 7, 40)),
    "limits.new_per_second": Check(observe_new_per_second, (float("inf"), 5.0, 0.5, 1.0, 2.5)),
    "rewrites_payload": Check(
        observe_rewrites_payload,
        (False, True),
        visible=lambda behaviour, ipv6: behaviour.rewrites_payload and translates(behaviour, ipv6),
    ),
    "decrements_ttl": Check(observe_decrements_ttl, (True, False)),
    "only_ports": Check(observe_only_ports, ((), (443,), (80, 443, 444))),
    "only_addresses": Check(
        observe_only_addresses,
        ((), ("192.0.2.10",), ("192.0.3.10", "192.0.5.10")),
        visible=visible_only_addresses,
    ),
}

UDP_CHECKS: Final[dict[str, Check]] = {
    "mapping": Check(lambda new: observe_mapping(new, UDP), tuple(Mapping), visible=visible_mapping_of_udp),
    "filtering": Check(lambda new: observe_filtering(new, UDP), tuple(Filtering), visible=visible_filtering),
}
"""TCP is not the only one to be translated."""
