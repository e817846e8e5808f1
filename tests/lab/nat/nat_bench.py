"""A NAT on a bench: hosts inside, an internet outside, a clock, and nothing that looks into it.

Every packet goes in as bytes and comes out as bytes, and every checksum that comes out is verified.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from packet_checks import verify

from midair.lab.behaviour import NatBehaviour
from midair.lab.blueprint import NatPart
from midair.lab.nat import Nat
from midair.lab.node import INSIDE_PORT, OUTSIDE_PORT, Emission
from midair.lab.packet import (
    ACK,
    FIN,
    ICMP,
    ICMP6,
    SYN,
    TCP,
    UDP,
    IcmpReason,
    Packet,
    address_bytes,
    address_text,
    icmp_error,
    parse,
    tcp_packet,
)

__all__ = ["HOSTS", "Bench", "Endpoint", "NewBench", "datagram", "ends", "new_bench"]

Endpoint = tuple[str, int]
NewBench = Callable[[], "Bench"]
"""Each call gives the same NAT, just switched on: what is random in it happens again."""

HOSTS: Final = 120
"""Inside hosts, half of them behind each of two inside ports."""


@dataclass
class Bench:
    """Hosts are numbered; host 0 has the first inside address."""

    behaviour: NatBehaviour
    seed: int = 1
    ipv6: bool = False
    now: float = 0.0

    def __post_init__(self) -> None:
        if self.ipv6:
            inside, routes = "fd00::1", (("fd00::/65", 1), ("fd00:0:0:0:8000::/65", 2))
        else:
            inside, routes = "10.0.0.1", (("10.0.0.0/25", 1), ("10.0.0.128/25", 2))
        pool = tuple(f"198.51.100.{number}" for number in range(1, self.behaviour.allocation.addresses + 1))
        outside = (*pool, "2001:db8:99::1")
        self.outside_addresses = {address_bytes(address) for address in outside}
        self.nat = Nat(
            NatPart(
                name="bench",
                behaviour=self.behaviour,
                outside=outside,
                inside=(inside,),
                routes=routes,
            ),
            random.Random(self.seed),
        )
        self.spontaneous: list[Emission] = []
        """What came without being asked for, while waiting."""

    # -- who is there --

    def host(self, number: int = 0) -> str:
        """Behind inside port 1 the even ones, behind 2 the odd ones."""
        half, behind = divmod(number, 2)
        if self.ipv6:
            return f"fd00::{'8000:0:0:' if behind else ''}{half + 2:x}"
        return f"10.0.0.{128 * behind + 2 + half}"

    def port_of(self, address: str) -> int:
        """The NAT's, behind which an inside address is."""
        behind = address_bytes(address)[8 if self.ipv6 else 3] // 128
        return INSIDE_PORT + behind

    def remote(self, number: int = 0, port: int = 443) -> Endpoint:
        """Somebody on the internet."""
        return (f"2001:db8:{number + 1}::10" if self.ipv6 else f"192.0.{number + 2}.10"), port

    # -- packets --

    def leave(self, packet: Packet, host: int = 0) -> Packet | None:
        """Sends from inside; what comes out at the internet, at most one packet."""
        return self._only(self.send(packet, INSIDE_PORT + host % 2), OUTSIDE_PORT)

    def arrive(self, packet: Packet) -> Packet | None:
        """Sends from the internet; what arrives inside, at most one packet."""
        inside = [emission for emission in self.send(packet, OUTSIDE_PORT) if emission[0] != OUTSIDE_PORT]
        assert len(inside) <= 1
        for port, each in inside:
            assert port == self.port_of(address_text(each.destination))
            return each
        return None

    def send(self, packet: Packet, port: int) -> list[Emission]:
        """What comes of it, as it is elsewhere."""
        emissions = self.nat.receive(parse(bytearray(packet.to_bytes())), port, self.now)
        assert self.nat.wake_at > self.now
        return [(where, reread(each)) for where, each in emissions]

    def wait(self, seconds: float) -> None:
        """Time passes, and the NAT is woken as it wishes."""
        until = self.now + seconds
        while (due := self.nat.wake_at) <= until:
            assert due >= self.now
            self.now = due
            self.spontaneous += [(port, reread(packet)) for port, packet in self.nat.tick(due)]
            assert self.nat.wake_at > due
        self.now = until

    @staticmethod
    def _only(emissions: list[Emission], port: int) -> Packet | None:
        out = [packet for where, packet in emissions if where == port]
        assert len(out) <= 1
        return out[0] if out else None

    # -- dialogues --

    def first(
        self, inside: Endpoint, remote: Endpoint, *, protocol: int = TCP, host: int = 0, sequence: int = 1000
    ) -> Endpoint | None:
        """The first packet of a connection from inside: the endpoint the internet sees, or None."""
        packet = self.leave(self.segment(inside, remote, SYN, protocol=protocol, sequence=sequence), host)
        if packet is None:
            return None
        assert packet.destination == address_bytes(remote[0])
        assert packet.destination_port == remote[1]
        return ends(packet)[0]

    def call(self, remote: Endpoint, outside: Endpoint, *, protocol: int = TCP, sequence: int = 9000) -> Packet | None:
        """The first packet of a connection from the internet: what arrives inside."""
        packet = self.arrive(self.segment(remote, outside, SYN, protocol=protocol, sequence=sequence))
        assert packet is None or ends(packet)[0] == remote
        return packet

    def open(self, inside: Endpoint, remote: Endpoint, *, host: int = 0) -> Endpoint:
        """A whole handshake; the outside endpoint."""
        outside = self.first(inside, remote, host=host)
        assert outside is not None
        assert self.answered(remote, outside, SYN | ACK)
        assert self.says(inside, remote, ACK, host=host)
        return outside

    def says(self, inside: Endpoint, remote: Endpoint, flags: int, *, host: int = 0, data: bytes = b"") -> bool:
        """Whether a segment from inside gets out."""
        return self.leave(self.segment(inside, remote, flags, data=data, sequence=1001), host) is not None

    def answered(self, remote: Endpoint, outside: Endpoint, flags: int) -> bool:
        """Whether a segment from the internet gets in."""
        return self.arrive(self.segment(remote, outside, flags, sequence=9000)) is not None

    def close(self, inside: Endpoint, remote: Endpoint, outside: Endpoint, *, host: int = 0) -> None:
        """FIN both ways."""
        assert self.says(inside, remote, FIN | ACK, host=host)
        assert self.answered(remote, outside, FIN | ACK)
        assert self.says(inside, remote, ACK, host=host)

    def reaction(self, packet: Packet, port: int = OUTSIDE_PORT) -> Packet | None:
        """What comes back to the sender at once."""
        return self._only(self.send(packet, port), port)

    def error_about(
        self, source: Endpoint, destination: Endpoint, reason: IcmpReason, *, sender: str, protocol: int = TCP
    ) -> Packet:
        """An ICMP error that quotes a packet."""
        about = self.segment(source, destination, SYN, protocol=protocol, sequence=1000)
        return icmp_error(reason, about, sender=address_bytes(sender))

    @staticmethod
    def segment(
        source: Endpoint,
        destination: Endpoint,
        flags: int,
        *,
        protocol: int = TCP,
        sequence: int = 0,
        data: bytes = b"",
        ttl: int = 64,
    ) -> Packet:
        """TCP; for other protocols the flags count for nothing."""
        if protocol == TCP:
            return tcp_packet(
                address_bytes(source[0]),
                source[1],
                address_bytes(destination[0]),
                destination[1],
                flags,
                sequence=sequence,
                acknowledgement=7 if flags & ACK else 0,
                data=data,
                ttl=ttl,
            )
        return datagram(source, destination, protocol=protocol, data=data, ttl=ttl)


def datagram(
    source: Endpoint, destination: Endpoint, *, protocol: int = UDP, data: bytes = b"", ttl: int = 64
) -> Packet:
    """UDP, or an ICMP echo when the protocol says so: a request from a port to port 0, a reply the other way round."""
    address = address_bytes(source[0])
    version = 4 if len(address) == 4 else 6
    if protocol in (ICMP, ICMP6):
        protocol = ICMP if version == 4 else ICMP6
    packet = Packet(version, address, address_bytes(destination[0]), protocol, ttl, source[1], destination[1])
    packet.data = data
    return packet


def reread(packet: Packet) -> Packet:
    raw = bytearray(packet.to_bytes())
    verify(raw)
    return parse(raw)


def ends(packet: Packet) -> tuple[Endpoint, Endpoint]:
    """Source and destination, for people."""
    return (
        (address_text(packet.source), packet.source_port),
        (address_text(packet.destination), packet.destination_port),
    )


def new_bench(behaviour: NatBehaviour, *, seed: int = 1, ipv6: bool = False) -> NewBench:
    """The NAT, to be switched on again and again."""
    return lambda: Bench(behaviour, seed=seed, ipv6=ipv6)
