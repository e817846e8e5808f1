"""What one packet of an established connection costs: reading it, and translating it, in microseconds of one processor.

The least of many rounds, which is what the code costs when nothing else has the processor. ``copy`` is how the bytes
get here, and part of ``read``.

    python benchmarks/lab_nat.py
"""

from __future__ import annotations

import random
import timeit
from collections.abc import Callable

from midair.lab.behaviour import Allocation, Mapping, NatBehaviour, PortRule
from midair.lab.blueprint import NatPart
from midair.lab.nat import Nat
from midair.lab.node import INSIDE_PORT, OUTSIDE_PORT
from midair.lab.packet import ACK, SYN, Packet, address_bytes, parse, tcp_packet

__all__: list[str] = []

_ROUNDS = 60
_PACKETS = 3000
_INSIDE = (address_bytes("10.0.0.2"), 5000)
_REMOTE = (address_bytes("192.0.2.10"), 443)
_KINDS = {
    "NAT": NatBehaviour(allocation=Allocation(rule=PortRule.RANDOM)),
    "NAT, rewriting payload": NatBehaviour(allocation=Allocation(rule=PortRule.RANDOM), rewrites_payload=True),
    "firewall": NatBehaviour(mapping=Mapping.NONE),
}


def main() -> None:
    """Prints a line for each kind of NAT and direction."""
    raw = bytes(tcp_packet(*_INSIDE, *_REMOTE, ACK, data=bytes(1400)).to_bytes())
    print(f"{'copy':40}{_microseconds(lambda: bytearray(raw)):8.2f}")
    print(f"{'read':40}{_microseconds(lambda: parse(bytearray(raw))):8.2f}")
    for name, behaviour in _KINDS.items():
        nat, outside = _opened(behaviour)
        for way, port, packet in (
            ("out", INSIDE_PORT, tcp_packet(*_INSIDE, *_REMOTE, ACK, data=bytes(1400))),
            ("in", OUTSIDE_PORT, tcp_packet(*_REMOTE, *outside, ACK, data=bytes(1400))),
        ):
            cost = _microseconds(_passage(nat, bytes(packet.to_bytes()), port))
            print(f"{f'read and {name}, {way}':40}{cost:8.2f}")


def _opened(behaviour: NatBehaviour) -> tuple[Nat, tuple[bytes, int]]:
    part = NatPart(
        name="nat",
        behaviour=behaviour,
        outside=("198.51.100.1",),
        inside=("10.0.0.1",),
        routes=(("10.0.0.0/24", INSIDE_PORT),),
    )
    nat = Nat(part, random.Random(1))
    [(_, syn)] = nat.receive(_reread(tcp_packet(*_INSIDE, *_REMOTE, SYN)), INSIDE_PORT, 0.0)
    outside = (syn.source, syn.source_port)
    nat.receive(_reread(tcp_packet(*_REMOTE, *outside, SYN | ACK)), OUTSIDE_PORT, 0.0)
    nat.receive(_reread(tcp_packet(*_INSIDE, *_REMOTE, ACK)), INSIDE_PORT, 0.0)
    return nat, outside


def _passage(nat: Nat, raw: bytes, port: int) -> Callable[[], object]:
    return lambda: nat.receive(parse(bytearray(raw)), port, 1.0)


def _reread(packet: Packet) -> Packet:
    return parse(packet.to_bytes())


def _microseconds(work: Callable[[], object]) -> float:
    return min(timeit.repeat(work, number=_PACKETS, repeat=_ROUNDS)) / _PACKETS * 1e6


if __name__ == "__main__":
    main()
