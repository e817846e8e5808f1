"""What an agent sends when its peer, whose key is right, names whom it likes; seen on the wire outside its own NAT."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from midair.config import TraversalOptions
from midair.endpoint import Endpoint
from midair.errors import NoPathError
from midair.lab import Lab
from midair.lab.capture import read_capture
from midair.lab.packet import ACK, SYN, TCP, address_text
from midair.nat.forecast import COVERED_MAX, FAN_MAX, FIRST_PORT, Forecast
from midair.traversal import connect_peers
from midair.traversal.candidates import MAX_CANDIDATES
from midair.traversal.planning import MAX_FAR
from midair.traversal.sync import VERSION, Description, Go, Ping, Pong, WireCandidate, decode, encode
from midair.traversal.targets import EAGER_RATE, LATE_RATE
from midair.trials.real import SERVER_PORT, serving

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]

OUTSIDE = "198.51.100.2"
"""What the agent's own NAT looks like in this lab; behind it the agent is in 10.1.0.0/24."""
THIRD_PARTY = "203.0.113.77"
NOWHERE = [
    "127.0.0.1:22",
    "0.0.0.0:80",
    "255.255.255.255:80",
    "224.0.0.251:5353",
    "240.1.2.3:80",
    "169.254.169.254:80",
    "10.1.0.255:80",
    "192.168.1.1:80",
    "172.16.0.1:80",
    "100.64.0.1:80",
    "[::1]:22",
    "[::ffff:192.168.1.1]:80",
    "[fd00:1::1]:80",
    "[fe80::1]:80",
    "[ff02::1]:80",
]
"""Loopback, broadcast, multicast, link-local, and private ranges that the agent has no address in."""


@dataclass
class Dictated:
    """The exchange with a peer that sends this description and then behaves."""

    description: Description
    heard: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)

    async def send(self, message: bytes) -> None:
        match decode(message):
            case Description():
                self.heard.put_nowait(encode(self.description))
            case Ping():
                self.heard.put_nowait(encode(Pong()))
            case Go() | Pong():
                pass

    async def receive(self) -> bytes:
        return await self.heard.get()


def told(kind: str, *endpoints: str) -> list[WireCandidate]:
    return [WireCandidate(kind=kind, endpoint=text, priority=1 + number) for number, text in enumerate(endpoints)]


def dialled(
    folder: Path,
    candidates: Sequence[WireCandidate],
    *,
    forecast: Forecast | None = None,
    spare: int = 0,
    seconds: float = 1.5,
    delay: float = 0.05,
) -> list[tuple[float, Endpoint, int]]:
    """Every SYN that leaves the agent's host but to the server, within ``seconds`` of the start: when in seconds, where
    to, and from which port. ``delay`` is in seconds one way."""
    description = Description(
        version=VERSION,
        controlling=False,
        direct=True,
        relay=False,
        candidates=tuple(candidates),
        forecast=forecast,
        spare=spare,
    )
    options = TraversalOptions(policy="direct", deadline=seconds, port_mapping=False)
    with Lab("drop x none", delay=delay) as lab, serving(lab) as server:

        async def connect() -> None:
            with contextlib.suppress(NoPathError):
                await connect_peers(
                    Dictated(description),
                    session_key=bytes(32),
                    controlling=True,
                    server=server,
                    options=options,
                    on_event=lambda event: None,
                )

        def run() -> None:
            with lab.a.entered():
                asyncio.run(connect())

        with lab.capture(folder / "wire.pcapng"), ThreadPoolExecutor(1) as pool:
            pool.submit(run).result()
    found = []
    with open(folder / "wire.pcapng", "rb") as file:
        for record in read_capture(file):
            packet = record.packet
            if (record.node, record.direction) != ("a", "sent") or packet.protocol != TCP:
                continue
            if packet.flags & (SYN | ACK) == SYN and packet.destination_port != SERVER_PORT:
                remote = Endpoint.of(address_text(packet.destination), packet.destination_port)
                found.append((record.time / 1e9, remote, packet.source_port))
    return found


def test_no_syn_leaves_for_what_cannot_be_the_peers_whatever_it_is_called(tmp_path: Path) -> None:
    """Told as what a server has seen, and with one that says that the peer is behind our own NAT: both make private
    addresses possible."""
    syns = dialled(tmp_path, told("srflx", *NOWHERE, f"{OUTSIDE}:4000"))
    assert {str(remote) for _, remote, _ in syns} == {f"{OUTSIDE}:4000"}


def test_of_our_own_private_range_a_few_endpoints_are_dialled_and_of_our_own_network_all(tmp_path: Path) -> None:
    far = [f"10.{number}.9.9:22" for number in range(3, 13)]
    near = ["10.1.0.77:22", "10.1.0.78:22"]
    syns = dialled(tmp_path, [*told("host", *far, *near), *told("srflx", f"{OUTSIDE}:4000")])
    remotes = {str(remote) for _, remote, _ in syns}
    assert len(remotes & set(far)) == MAX_FAR
    assert remotes - set(far) == {*near, f"{OUTSIDE}:4000"}


def test_third_parties_that_refuse_get_no_more_than_400_syns_a_second_in_all(tmp_path: Path) -> None:
    """The lab's hosts refuse what they do not listen on; here they are near, and all candidates are ports of one."""
    syns = dialled(tmp_path, told("host", *(f"203.0.113.2:{port}" for port in range(5000, 5016))), delay=0.002)
    assert len({remote for _, remote, _ in syns}) == MAX_CANDIDATES
    assert 200 <= most_in_a_second(syns) <= EAGER_RATE * 1.1


def test_a_coverage_spares_the_ports_of_services_and_keeps_to_one_address_its_number_and_its_rate(
    tmp_path: Path,
) -> None:
    band = Forecast(low=1, high=65535)
    syns = dialled(tmp_path, told("srflx", f"{THIRD_PARTY}:4000"), forecast=band, spare=22, seconds=4.0)
    assert {str(remote.address) for _, remote, _ in syns} == {THIRD_PARTY}
    assert all(remote.port >= FIRST_PORT for _, remote, _ in syns)
    first = list({syn[1:]: syn for syn in reversed(syns)}.values())  # without what the kernel repeats
    assert COVERED_MAX < len(first) <= 2 * COVERED_MAX + FAN_MAX
    assert most_in_a_second(first) <= LATE_RATE * 1.1


def most_in_a_second(syns: Sequence[tuple[float, Endpoint, int]]) -> int:
    return max(Counter(int(at - syns[0][0]) for at, _, _ in syns).values(), default=0)
