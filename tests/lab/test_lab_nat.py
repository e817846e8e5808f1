"""Each kind of NAT does what its description says, measured with real sockets."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from typing import TYPE_CHECKING

import pytest
from lab_sockets import (
    QUIET_SECONDS,
    eventually,
    fate_of_a_syn,
    finish_dialling,
    listening,
    start_dialling,
    talk,
    tcp_socket,
)

from midair.lab import Filtering, Host, Lab, Mapping, NatKind, Reaction, SynCounts

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

BEHIND_A_ROUTER = [kind for kind in NatKind if kind is not NatKind.NONE]
TRANSLATING = [kind for kind in NatKind if kind.translates]


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


@pytest.mark.parametrize("kind", NatKind)
def test_the_outside_port_follows_the_mapping(kind: NatKind) -> None:
    with Lab(kind, NatKind.NONE) as lab:
        ports = outside_ports(lab.a, lab.server, 40001)
    if kind.behaviour.mapping is Mapping.CONNECTION_DEPENDENT:
        assert len(set(ports)) > 1
        assert ports != [40001] * 4
    else:
        assert ports == [40001] * 4


@pytest.mark.parametrize("kind", NatKind)
def test_a_host_has_a_private_address_exactly_behind_a_translating_router(kind: NatKind) -> None:
    with Lab(NatKind.NONE, kind) as lab:
        assert lab.b.address.startswith("10.2.0.") == kind.translates
        assert (lab.b.address != lab.b.outside) == kind.translates
        assert (lab.nat_b is None) == (kind is NatKind.NONE)
        assert lab.nat_a is None


@pytest.mark.parametrize("kind", BEHIND_A_ROUTER)
def test_an_unsolicited_syn_meets_the_reaction_even_where_somebody_listens(kind: NatKind) -> None:
    with Lab(kind, NatKind.NONE) as lab, listening(lab.a, "0.0.0.0", 40001), icmp_errors_at(lab.server) as errors:
        fate = fate_of_a_syn(lab.server, lab.a.outside, 40001)
        icmp = icmp_types(errors)
        counts = lab.syn_counts()["a"]
    expected = {
        Reaction.DROP: ("silence", []),
        Reaction.RST: ("ECONNREFUSED", []),
        Reaction.ICMP: ("ECONNREFUSED", [(3, 3)]),
    }
    assert (fate, icmp) == expected[kind.behaviour.reaction]
    assert counts == SynCounts(outgoing=0, incoming=1, refused=1)


def test_a_public_host_is_reached_by_anybody_and_answers_for_itself() -> None:
    with Lab(NatKind.NONE, NatKind.NONE) as lab:
        with listening(lab.a, lab.a.address, 40001):
            assert fate_of_a_syn(lab.server, lab.a.outside, 40001) == "connected"
            assert fate_of_a_syn(lab.b, lab.a.outside, 40001) == "connected"
        assert fate_of_a_syn(lab.b, lab.a.outside, 40001) == "ECONNREFUSED"
        assert lab.syn_counts() == {}


@pytest.mark.parametrize("kind", BEHIND_A_ROUTER)
def test_a_mapping_lets_in_nobody_but_the_host_it_was_made_for(kind: NatKind) -> None:
    assert kind.behaviour.filtering is Filtering.ADDRESS_AND_PORT_DEPENDENT
    with (
        Lab(kind, NatKind.NONE) as lab,
        listening(lab.server, lab.server.address, 7001) as reflector,
        tcp_socket(lab.a, port=40001) as dialler,
        listening(lab.a, "0.0.0.0", 40001),
    ):
        dialler.connect((lab.server.address, 7001))
        accepted, (_, outside_port) = reflector.accept()
        with accepted:
            assert fate_of_a_syn(lab.server, lab.a.outside, outside_port) != "connected"
            assert fate_of_a_syn(lab.b, lab.a.outside, outside_port) != "connected"
            talk(dialler, accepted)


def test_every_syn_is_answered_by_icmp_however_fast_they_come() -> None:
    """The kernel's own limit, six and then one a second, is off."""
    with Lab(NatKind.ICMP, NatKind.NONE) as lab:
        assert all(fate_of_a_syn(lab.server, lab.a.outside, 40001) == "ECONNREFUSED" for _ in range(100))
        assert lab.syn_counts()["a"].refused == 100  # and none needed the kernel's retransmission


@pytest.mark.parametrize("kind", [NatKind.FIREWALL, NatKind.DROP])
@pytest.mark.parametrize("first", ["a", "b"])
def test_two_syns_from_fixed_ports_open_a_hole_through_two_that_drop(kind: NatKind, first: str) -> None:
    with (
        Lab(kind, NatKind.DROP) as lab,
        tcp_socket(lab.a, port=40001) as a,
        tcp_socket(lab.b, port=40002) as b,
    ):
        dials = {"a": (a, lab.b.outside, 40002), "b": (b, lab.a.outside, 40001)}
        second = "b" if first == "a" else "a"
        start_dialling(*dials[first])
        assert eventually(lambda: lab.syn_counts()[second].refused == 1)
        start_dialling(*dials[second])
        assert finish_dialling(a) == finish_dialling(b) == "connected"
        talk(a, b)
        assert lab.syn_counts()[first] == SynCounts(outgoing=1, incoming=1, refused=0)
        assert a.getpeername() == (lab.b.outside, 40002)
        assert b.getpeername() == (lab.a.outside, 40001)


def test_no_hole_opens_to_a_symmetric_nat_at_the_port_a_server_saw() -> None:
    with (
        Lab(NatKind.SYMMETRIC, NatKind.DROP) as lab,
        tcp_socket(lab.a, port=40001) as a,
        tcp_socket(lab.b, port=40002) as b,
    ):
        (seen, *_) = outside_ports(lab.a, lab.server, 40001)
        start_dialling(a, lab.b.outside, 40002)
        start_dialling(b, lab.a.outside, seen)
        assert finish_dialling(a, seconds=QUIET_SECONDS) == "silence"
        assert finish_dialling(b, seconds=QUIET_SECONDS) == "silence"


def test_a_rst_ends_the_early_dial_and_the_next_pair_of_syns_connects() -> None:
    with (
        Lab(NatKind.DROP, NatKind.RST) as lab,
        tcp_socket(lab.a, port=40001) as early,
        tcp_socket(lab.b, port=40002) as b,
    ):
        start_dialling(early, lab.b.outside, 40002)
        assert finish_dialling(early) == "ECONNREFUSED"
        start_dialling(b, lab.a.outside, 40001)
        assert eventually(lambda: lab.syn_counts()["a"].refused == 1)  # the RST took the early dial's hole with it
        with tcp_socket(lab.a, port=40001) as again:
            start_dialling(again, lab.b.outside, 40002)
            assert finish_dialling(again) == finish_dialling(b) == "connected"
            talk(again, b)


@pytest.mark.parametrize("kind", BEHIND_A_ROUTER)
def test_hosts_on_one_lan_reach_each_other_by_their_own_addresses(kind: NatKind) -> None:
    with Lab(kind, kind, same_lan=True) as lab, listening(lab.b, lab.b.address, 40002) as listener:
        assert lab.nat_a is lab.nat_b
        with tcp_socket(lab.a) as dialler:
            dialler.connect((lab.b.address, 40002))
            accepted, peer = listener.accept()
            with accepted:
                assert peer[0] == lab.a.address
                talk(dialler, accepted)
        assert lab.syn_counts() == {"a": SynCounts(outgoing=0, incoming=0, refused=0)}


@pytest.mark.parametrize("kind", TRANSLATING)
def test_hosts_on_one_lan_share_the_outside_address_which_does_not_lead_back_in(kind: NatKind) -> None:
    with Lab(kind, kind, same_lan=True) as lab, listening(lab.b, "0.0.0.0", 40002):
        assert lab.a.outside == lab.b.outside
        assert outside_ports(lab.b, lab.server, 40002)
        assert fate_of_a_syn(lab.a, lab.b.outside, 40002) != "connected"


@pytest.mark.parametrize("kind", [NatKind.NONE, NatKind.FIREWALL, NatKind.SYMMETRIC])
def test_ipv6_is_filtered_like_ipv4_and_never_translated(kind: NatKind) -> None:
    with Lab(kind, NatKind.NONE, ipv6=True) as lab:
        (own,) = lab.a.addresses6
        (server,) = lab.server.addresses6
        with listening(lab.server, server, 7001) as listener, tcp_socket(lab.a, own, 40001) as dialler:
            dialler.connect((server, 7001))
            accepted, peer = listener.accept()
            with accepted:
                assert peer[:2] == (own, 40001)
                talk(dialler, accepted)
        with listening(lab.a, own, 40002):
            fate = fate_of_a_syn(lab.server, own, 40002)
        assert fate == ("connected" if kind is NatKind.NONE else "silence")


def test_without_ipv6_there_is_none_but_on_loopback() -> None:
    with Lab(NatKind.NONE, NatKind.DROP) as lab:
        for host in (lab.a, lab.b, lab.server):
            assert host.addresses6 == ()
            found = host.run(["ip", "-6", "-oneline", "address"]).stdout
            assert re.findall(r"inet6 (\S+)", found) == ["::1/128"]


def test_the_public_networks_know_no_private_one() -> None:
    with Lab(NatKind.DROP, NatKind.DROP) as lab:
        assert fate_of_a_syn(lab.server, lab.b.address, 40001) == "ENETUNREACH"
        assert fate_of_a_syn(lab.a, lab.b.address, 40001) == "ENETUNREACH"


def test_every_kind_is_described_in_one_line() -> None:
    descriptions = [kind.description for kind in NatKind]
    assert len(set(descriptions)) == len(NatKind)
    assert all(text and "\n" not in text for text in descriptions)


@pytest.mark.parametrize(("one", "other"), [(NatKind.DROP, NatKind.RST), (NatKind.NONE, NatKind.NONE)])
def test_one_lan_cannot_be_behind_two_nats_or_none(one: NatKind, other: NatKind) -> None:
    with pytest.raises(ValueError, match="one LAN"):
        Lab(one, other, same_lan=True)
