"""Each box, the lab's own as well as Linux', does what its name says to real sockets."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from typing import TYPE_CHECKING

import pytest
from lab_sockets import (
    QUIET_SECONDS,
    fate_of_a_syn,
    fates_of_syns,
    finish_dialling,
    listening,
    start_dialling,
    talk,
    tcp_socket,
)

from midair.lab import Host, Lab
from midair.lab.capture import read_capture
from midair.lab.network import Direction
from midair.lab.packet import ACK, RST, SYN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.lab

REACTIONS = {
    "firewall": "drop",
    "drop": "drop",
    "rst": "rst",
    "icmp": "icmp",
    "symmetric": "drop",
    "kernel:firewall-drop": "drop",
    "kernel:masquerade-drop": "drop",
    "kernel:masquerade-rst": "rst",
    "kernel:masquerade-reject-icmp": "icmp",
    "kernel:masquerade-fully-random": "drop",
}
BEHIND_A_BOX = list(REACTIONS)
BOXES = ["none", *BEHIND_A_BOX]
FIREWALLS = ["firewall", "kernel:firewall-drop"]
TRANSLATING = [box for box in BEHIND_A_BOX if box not in FIREWALLS]
SYMMETRIC = ["symmetric", "kernel:masquerade-fully-random"]
THAT_DROP = ["firewall", "drop", "kernel:masquerade-drop"]
THAT_RST = ["rst", "kernel:masquerade-rst"]


def outside_ports(host: Host, server: Host, local_port: int) -> list[int]:
    """The ports as which one local port appears to four listeners on two addresses."""
    ports = []
    with contextlib.ExitStack() as stack:
        for address in server.addresses:
            for server_port in (7001, 7002):
                listener = stack.enter_context(listening(server, address, server_port))
                dialler = stack.enter_context(tcp_socket(host, port=local_port))
                dialler.connect((address, server_port))
                accepted, peer = listener.accept()
                stack.enter_context(accepted)
                assert peer[0] == host.outside
                talk(dialler, accepted)
                ports.append(peer[1])
    return ports


@contextlib.contextmanager
def icmp_errors_at(host: Host) -> Iterator[socket.socket]:
    with host.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with sock:
        sock.setblocking(False)
        yield sock


def icmp_types(sock: socket.socket) -> list[tuple[int, int]]:
    """Type and code of each ICMP message that has arrived."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while packet := sock.recv(2000):
            header_bytes = (packet[0] & 15) * 4
            found.append(struct.unpack_from("!BB", packet, header_bytes))
    return found


def tcp_flags(capture: Path, node: str, port: int, direction: Direction) -> list[str]:
    """Of the packets that passed there and were SYN, SYN-ACK or RST, in order."""
    names = {SYN: "SYN", SYN | ACK: "SYN-ACK", RST: "RST", RST | ACK: "RST"}
    with capture.open("rb") as file:
        return [
            names[flags]
            for record in read_capture(file)
            if (record.node, record.port, record.direction) == (node, port, direction)
            and (flags := record.packet.flags & (SYN | ACK | RST)) in names
        ]


@pytest.fixture(scope="module")
def apart() -> Iterator[Lab]:
    """A pair for each box: one host behind it, the other with a public address."""
    with Lab([f"{box} x none" for box in BOXES], delay=0.002) as lab:
        yield lab


@pytest.fixture(scope="module")
def together() -> Iterator[Lab]:
    """A pair on one LAN behind each box."""
    with Lab([f"(none + none) > {box}" for box in BEHIND_A_BOX], delay=0.002) as lab:
        yield lab


@pytest.mark.parametrize("box", BOXES)
def test_the_outside_port_follows_the_mapping(apart: Lab, box: str) -> None:
    ports = outside_ports(apart.pairs[BOXES.index(box)].a, apart.server, 40001)
    if box in SYMMETRIC:
        assert len(set(ports)) > 1
        assert ports != [40001] * 4
    else:
        assert ports == [40001] * 4


@pytest.mark.parametrize("box", BOXES)
def test_a_host_has_a_private_address_exactly_behind_a_translating_box(apart: Lab, box: str) -> None:
    pair = apart.pairs[BOXES.index(box)]
    assert pair.a.address.startswith("10.1.0.") == (box in TRANSLATING)
    assert (pair.a.address != pair.a.outside) == (box in TRANSLATING)
    assert len(apart.boxes(pair.a.name)) == (box != "none")
    assert apart.boxes(pair.b.name) == ()


@pytest.mark.parametrize("box", BEHIND_A_BOX)
def test_an_unsolicited_syn_meets_the_reaction_even_where_somebody_listens(
    apart: Lab, box: str, tmp_path: Path
) -> None:
    capture = tmp_path / "capture"
    host = apart.pairs[BOXES.index(box)].a
    with apart.capture(capture), listening(host, "0.0.0.0", 40002), icmp_errors_at(apart.server) as errors:
        fate = fate_of_a_syn(apart.server, host.outside, 40002)
        icmp = icmp_types(errors)
    assert (fate, icmp) == {
        "drop": ("silence", []),
        "rst": ("ECONNREFUSED", []),
        "icmp": ("ECONNREFUSED", [(3, 3)]),
    }[REACTIONS[box]]
    assert tcp_flags(capture, f"{host.name}.1", 0, Direction.RECEIVED) == ["SYN"]
    assert tcp_flags(capture, host.name, 0, Direction.RECEIVED) == []


def test_a_public_host_is_reached_by_anybody_and_answers_for_itself(apart: Lab) -> None:
    public, *others = (pair.b for pair in apart.pairs)
    with listening(public, public.address, 40003):
        assert fate_of_a_syn(apart.server, public.outside, 40003) == "connected"
        assert fate_of_a_syn(others[0], public.outside, 40003) == "connected"
    assert fate_of_a_syn(others[0], public.outside, 40003) == "ECONNREFUSED"


def test_a_mapping_lets_in_nobody_but_the_host_it_was_made_for(apart: Lab) -> None:
    with contextlib.ExitStack() as stack:
        reflector = stack.enter_context(listening(apart.server, apart.server.address, 7003))
        connections, dials = [], []
        for box, pair in zip(BOXES, apart.pairs, strict=True):
            if box != "none":
                dialler = stack.enter_context(tcp_socket(pair.a, port=40004))
                stack.enter_context(listening(pair.a, "0.0.0.0", 40004))
                dialler.connect((apart.server.address, 7003))
                accepted, (_, outside_port) = reflector.accept()
                connections.append((dialler, stack.enter_context(accepted)))
                dials += [(apart.server, pair.a.outside, outside_port), (pair.b, pair.a.outside, outside_port)]
        assert len(dials) == 2 * len(BEHIND_A_BOX)
        assert "connected" not in fates_of_syns(dials)
        for one, other in connections:
            talk(one, other)


@pytest.mark.parametrize("box", ["icmp", "kernel:masquerade-reject-icmp"])
def test_every_syn_is_answered_by_icmp_however_fast_they_come(box: str, tmp_path: Path) -> None:
    """The kernel's own limit, six and then one a second, is off."""
    capture = tmp_path / "capture"
    with Lab(f"{box} x none with server.delay=0", delay=0) as lab, lab.capture(capture):
        assert all(fate_of_a_syn(lab.server, lab.a.outside, 40001) == "ECONNREFUSED" for _ in range(100))
    # None needed the kernel's retransmission.
    assert tcp_flags(capture, "a.1", 0, Direction.RECEIVED) == ["SYN"] * 100


def test_syns_that_cross_in_mid_air_connect_both_ends_by_connect(tmp_path: Path) -> None:
    """RFC 9293 figure 8: SYN both ways, then SYN-ACK from both ends. What the NATs do to unsolicited SYNs is not seen,
    since neither SYN is unsolicited any more when it arrives."""
    capture = tmp_path / "capture"
    topologies = [f"{box} x {other}" for box in (*THAT_DROP, *THAT_RST, "icmp") for other in ("drop", "rst")]
    with Lab(topologies) as lab, lab.capture(capture), contextlib.ExitStack() as stack:
        dialling = [
            (stack.enter_context(tcp_socket(pair.a, port=40001)), stack.enter_context(tcp_socket(pair.b, port=40002)))
            for pair in lab.pairs
        ]
        for pair, (a, b) in zip(lab.pairs, dialling, strict=True):
            start_dialling(a, pair.b.outside, 40002)
            start_dialling(b, pair.a.outside, 40001)
        for pair, (a, b) in zip(lab.pairs, dialling, strict=True):
            assert finish_dialling(a) == finish_dialling(b) == "connected", pair
            talk(a, b)
            assert a.getpeername() == (pair.b.outside, 40002)
            assert b.getpeername() == (pair.a.outside, 40001)
    for name in (f"{letter}{number}" for letter in "ab" for number in range(len(topologies))):
        assert tcp_flags(capture, name, 0, Direction.SENT) == ["SYN", "SYN-ACK"], name
        assert tcp_flags(capture, name, 0, Direction.RECEIVED) == ["SYN", "SYN-ACK"], name


@pytest.mark.parametrize("first", ["a", "b"])
def test_through_two_that_drop_the_second_syn_connects_however_late_it_is(first: str, tmp_path: Path) -> None:
    capture = tmp_path / "capture"
    second = "b" if first == "a" else "a"
    with Lab([f"{box} x drop" for box in THAT_DROP]) as lab, lab.capture(capture), contextlib.ExitStack() as stack:
        dials = []
        for pair in lab.pairs:
            a = stack.enter_context(tcp_socket(pair.a, port=40001)), pair.b.outside, 40002
            b = stack.enter_context(tcp_socket(pair.b, port=40002)), pair.a.outside, 40001
            dials.append((a, b) if first == "a" else (b, a))
        for early, _ in dials:
            start_dialling(*early)
        for early, _ in dials:
            assert finish_dialling(early[0], seconds=QUIET_SECONDS) == "silence"  # it has been dropped by then
        for _, late in dials:
            start_dialling(*late)
        for early, late in dials:
            assert finish_dialling(early[0]) == finish_dialling(late[0]) == "connected"
            talk(early[0], late[0])
    for number in range(len(THAT_DROP)):
        assert tcp_flags(capture, f"{second}{number}.1", 0, Direction.RECEIVED)[0] == "SYN"
        assert tcp_flags(capture, f"{second}{number}", 0, Direction.RECEIVED)[0] == "SYN-ACK"


@pytest.mark.parametrize("box", THAT_RST)
def test_through_two_that_answer_by_rst_a_late_syn_meets_no_hole(box: str) -> None:
    """Each RST deletes the hole that it passes."""
    with Lab(f"{box} x rst", delay=0.01) as lab:
        for _ in range(3):
            for host, port, peer, peer_port in ((lab.a, 40001, lab.b, 40002), (lab.b, 40002, lab.a, 40001)):
                with tcp_socket(host, port=port) as dialler:
                    start_dialling(dialler, peer.outside, peer_port)
                    assert finish_dialling(dialler) == "ECONNREFUSED"


@pytest.mark.parametrize("box", SYMMETRIC)
def test_no_hole_opens_to_a_symmetric_nat_at_the_port_a_server_saw(box: str) -> None:
    with (
        Lab(f"{box} x drop", delay=0.01) as lab,
        tcp_socket(lab.a, port=40001) as a,
        tcp_socket(lab.b, port=40002) as b,
    ):
        (seen, *_) = outside_ports(lab.a, lab.server, 40001)
        start_dialling(a, lab.b.outside, 40002)
        start_dialling(b, lab.a.outside, seen)
        assert finish_dialling(a, seconds=QUIET_SECONDS) == "silence"
        assert finish_dialling(b, seconds=QUIET_SECONDS) == "silence"


@pytest.mark.parametrize(
    ("dropping", "refusing"),
    [("drop", "rst"), ("kernel:masquerade-drop", "rst"), ("drop", "kernel:masquerade-rst")],
)
def test_a_rst_ends_the_early_dial_and_the_next_pair_of_syns_connects(
    dropping: str, refusing: str, tmp_path: Path
) -> None:
    capture = tmp_path / "capture"
    with (
        Lab(f"{dropping} x {refusing}") as lab,
        lab.capture(capture),
        tcp_socket(lab.a, port=40001) as early,
        tcp_socket(lab.b, port=40002) as b,
    ):
        start_dialling(early, lab.b.outside, 40002)
        assert finish_dialling(early) == "ECONNREFUSED"
        start_dialling(b, lab.a.outside, 40001)
        assert finish_dialling(b, seconds=QUIET_SECONDS) == "silence"  # the RST took the early dial's hole with it
        with tcp_socket(lab.a, port=40001) as again:
            start_dialling(again, lab.b.outside, 40002)
            assert finish_dialling(again) == finish_dialling(b) == "connected"
            talk(again, b)
    assert tcp_flags(capture, "a.1", 0, Direction.RECEIVED)[:2] == ["RST", "SYN"]
    assert tcp_flags(capture, "a", 0, Direction.RECEIVED)[:2] == ["RST", "SYN-ACK"]


@pytest.mark.parametrize("box", BEHIND_A_BOX)
def test_hosts_on_one_lan_reach_each_other_by_their_own_addresses(together: Lab, box: str, tmp_path: Path) -> None:
    capture = tmp_path / "capture"
    pair = together.pairs[BEHIND_A_BOX.index(box)]
    ((shared,), also_shared) = together.boxes(pair.a.name), together.boxes(pair.b.name)
    assert also_shared == (shared,)
    with together.capture(capture), listening(pair.b, pair.b.address, 40001) as listener, tcp_socket(pair.a) as dialler:
        dialler.connect((pair.b.address, 40001))
        accepted, peer = listener.accept()
        with accepted:
            assert peer[0] == pair.a.address
            talk(dialler, accepted)
    assert tcp_flags(capture, shared, 1, Direction.RECEIVED) == ["SYN"]
    assert tcp_flags(capture, shared, 0, Direction.SENT) == []


def test_hosts_on_one_lan_share_the_outside_address_which_does_not_lead_back_in(together: Lab) -> None:
    with contextlib.ExitStack() as stack:
        dials = []
        for box, pair in zip(BEHIND_A_BOX, together.pairs, strict=True):
            if box in TRANSLATING:
                assert pair.a.outside == pair.b.outside
                stack.enter_context(listening(pair.b, "0.0.0.0", 40002))
                assert outside_ports(pair.b, together.server, 40002)
                dials.append((pair.a, pair.b.outside, 40002))
        assert len(dials) == len(TRANSLATING)
        assert "connected" not in fates_of_syns(dials)


def test_ipv6_is_filtered_like_ipv4_and_never_translated() -> None:
    boxes = ["none", *FIREWALLS, *SYMMETRIC]
    with Lab([f"{box} x none with ipv6" for box in boxes], delay=0.002) as lab, contextlib.ExitStack() as stack:
        (server,) = lab.server.addresses6
        listener = stack.enter_context(listening(lab.server, server, 7001))
        dials = []
        for pair in lab.pairs:
            (own,) = pair.a.addresses6
            dialler = stack.enter_context(tcp_socket(pair.a, own, 40001))
            dialler.connect((server, 7001))
            accepted, peer = listener.accept()
            with accepted:
                assert peer[:2] == (own, 40001)
                talk(dialler, accepted)
            stack.enter_context(listening(pair.a, own, 40002))
            dials.append((lab.server, own, 40002))
        assert fates_of_syns(dials) == ["connected", "silence", "silence", "silence", "silence"]


def test_without_ipv6_there_is_none_but_on_loopback() -> None:
    with Lab("none x kernel:cone") as lab:
        for place in (*lab.hosts, lab.router("b.1")):
            found = place.run(["ip", "-6", "-oneline", "address"]).stdout
            assert re.findall(r"inet6 (\S+)", found) == ["::1/128"]
        assert [host.addresses6 for host in lab.hosts] == [()] * 4


def test_the_public_networks_know_no_private_one(apart: Lab) -> None:
    for box, pair in zip(BOXES, apart.pairs, strict=True):
        if box in TRANSLATING:
            assert fate_of_a_syn(apart.server, pair.a.address, 40001) == "ENETUNREACH"
            assert fate_of_a_syn(pair.b, pair.a.address, 40001) == "ENETUNREACH"
