"""What can be changed and seen while a lab is up: links, addresses, captures, tables; and what a lab has in it."""

from __future__ import annotations

import socket
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from lab_sockets import fate_of_a_syn, fates_of_syns, finish_dialling, listening, start_dialling, talk, tcp_socket

from midair.lab import Lab, LabUnavailable, LinkBehaviour
from midair.lab.capture import read_capture
from midair.lab.wire import WireError

if TYPE_CHECKING:
    from pathlib import Path

    from midair.lab import Host

pytestmark = pytest.mark.lab


def refused_after(host: Host, address: str) -> float:
    """Seconds until a dialling host is told that nobody listens; the best of three."""
    times = []
    for _ in range(3):
        started = time.monotonic()
        assert fate_of_a_syn(host, address, 9) == "ECONNREFUSED"
        times.append(time.monotonic() - started)
    return min(times)


def test_hosts_are_50_ms_apart_and_the_server_is_nearer() -> None:
    with Lab("none x none") as lab:
        assert 0.1 <= refused_after(lab.a, lab.b.address) < 0.15
        assert 0.06 <= refused_after(lab.b, lab.server.address) < 0.11


def test_a_link_changes_while_connections_are_open() -> None:
    with (
        Lab("drop x none", delay=0) as lab,
        listening(lab.b, lab.b.address, 7001) as listener,
        tcp_socket(lab.a) as dialler,
    ):
        dialler.connect((lab.b.address, 7001))
        accepted, _ = listener.accept()
        with accepted:
            assert refused_after(lab.a, lab.b.address) < 0.1
            lab.set_link("a", delay=0.06)
            assert 0.12 <= refused_after(lab.a, lab.b.address) < 0.2
            lab.set_link("a", there=LinkBehaviour(delay=0.0))  # only one direction; the other keeps its 60 ms
            assert 0.06 <= refused_after(lab.a, lab.b.address) < 0.12
            talk(dialler, accepted)


def test_a_link_that_is_cut_loses_everything_until_it_is_mended() -> None:
    with Lab("drop x none", delay=0.002) as lab:
        lab.cut("a")
        assert fates_of_syns([(lab.a, lab.server.address, 9), (lab.b, lab.server.address, 9)]) == [
            "silence",
            "ECONNREFUSED",
        ]
        lab.mend("a")
        assert refused_after(lab.a, lab.server.address) > 0.01  # with the delay that it had


@pytest.mark.parametrize("box", ["none", "drop", "drop>carrier", "kernel:masquerade-drop", "firewall"])
def test_a_host_that_moves_has_other_addresses_and_its_old_connections_are_silent(box: str) -> None:
    with (
        Lab(f"{box} x none with ipv6", delay=0.002) as lab,
        listening(lab.server, lab.server.address, 7001) as listener,
        tcp_socket(lab.a, port=40001) as dialler,
    ):
        old = lab.a.address, lab.a.outside, lab.a.addresses6
        dialler.connect((lab.server.address, 7001))
        accepted, _ = listener.accept()
        with accepted:
            talk(dialler, accepted)
            lab.move("a")
            new = lab.a.address, lab.a.outside, lab.a.addresses6
            assert all(before != after for before, after in zip(old, new, strict=True))
            for sender, receiver in ((dialler, accepted), (accepted, dialler)):
                sender.sendall(b"anybody?")
                receiver.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    receiver.recv(10)
            with tcp_socket(lab.a, lab.a.address, 40001) as again:
                again.connect((lab.server.address, 7001))
                accepted_again, peer = listener.accept()
                with accepted_again:
                    assert peer[0] == lab.a.outside
                    talk(again, accepted_again)
            (own,), (server,) = lab.a.addresses6, lab.server.addresses6
            with listening(lab.server, server, 7001) as listener6, tcp_socket(lab.a, own) as dialler6:
                dialler6.connect((server, 7001))
                accepted6, peer6 = listener6.accept()
                with accepted6:
                    assert peer6[0] == own


def test_a_host_can_move_again_and_again() -> None:
    with Lab("drop x none", delay=0) as lab:
        seen = set()
        for _ in range(40):
            seen.add((lab.a.address, lab.a.outside))
            lab.move("a")
        assert len(seen) == 40
        assert fate_of_a_syn(lab.a, lab.server.address, 9) == "ECONNREFUSED"
        with pytest.raises(ValueError, match="nowhere to move to"):
            lab.move("server")


def test_a_host_with_two_interfaces_leaves_by_the_one_whose_address_it_uses() -> None:
    with (
        Lab("(drop & symmetric) x none", delay=0.002) as lab,
        listening(lab.server, lab.server.address, 7001) as listener,
    ):
        seen = []
        for address in lab.a.addresses:
            with tcp_socket(lab.a, address, 40001) as dialler:
                dialler.connect((lab.server.address, 7001))
                accepted, peer = listener.accept()
                with accepted:
                    talk(dialler, accepted)
                seen.append(peer)
        assert seen[0] == (lab.a.outside, 40001)
        assert seen[1][0] != lab.a.outside
        lab.cut("a", interface=1)
        with tcp_socket(lab.a, lab.a.addresses[1]) as cut:
            start_dialling(cut, lab.server.address, 7001)
            assert finish_dialling(cut, seconds=0.2) == "silence"
        assert fate_of_a_syn(lab.a, lab.server.address, 7001) == "connected"


def test_the_table_of_every_box_can_be_seen() -> None:
    with (
        Lab("drop>carrier x kernel:masquerade-drop", delay=0) as lab,
        listening(lab.server, lab.server.address, 7001),
        tcp_socket(lab.a, port=40001) as one,
        tcp_socket(lab.b, port=40002) as other,
    ):
        one.connect((lab.server.address, 7001))
        other.connect((lab.server.address, 7001))
        (entry,) = lab.nat_entries("a.1")
        assert entry.inside == (lab.a.address, 40001)
        assert entry.outside == ("100.65.0.2", 40001)
        assert entry.remote == (lab.server.address, 7001)
        for box in (*lab.boxes("a"), *lab.boxes("b")):
            (line,) = lab.table(box)
            assert "7001" in line
        with pytest.raises(WireError):
            lab.nat_entries("b.1")
        with pytest.raises(ValueError, match=r"no Linux router 'a\.1'"):
            lab.router("a.1")


def test_a_capture_has_what_passed_the_nodes_that_were_named(tmp_path: Path) -> None:
    with Lab("drop x none", delay=0) as lab:
        with lab.capture(tmp_path / "capture", nodes=["a.1"]):
            for host in (lab.a, lab.b):
                assert fate_of_a_syn(host, lab.server.address, 9) == "ECONNREFUSED"
        assert fate_of_a_syn(lab.a, lab.server.address, 9) == "ECONNREFUSED"
    with (tmp_path / "capture").open("rb") as file:
        assert [(record.node, record.port) for record in read_capture(file)] == [
            ("a.1", 1),
            ("a.1", 0),
            ("a.1", 0),
            ("a.1", 1),
        ]


def test_pairs_have_numbers_and_all_reach_the_server_and_each_other() -> None:
    with Lab(["none x drop", "none x none"], delay=0) as lab:
        assert [host.name for host in lab.hosts] == ["server", "proxy", "a0", "b0", "a1", "b1"]
        assert lab.a is lab.pairs[0].a is lab.host("a0")
        assert lab.b is lab.host("b0")
        assert fate_of_a_syn(lab.b, lab.pairs[1].a.address, 9) == "ECONNREFUSED"
        assert lab.addresses_from("b0", "a0") == (lab.a.address,)
        names = lab.pairs[1].b.run(["getent", "hosts", "a1", "b1", "server"]).stdout
        assert [line.split()[1] for line in names.splitlines()] == ["a1", "b1", "server", "server"]
        assert lab.server.run(["getent", "hosts", "b0"]).stdout.split()[0] == lab.b.outside
        with pytest.raises(ValueError, match="no host 'a'; there are server, proxy, a0"):
            lab.host("a")


def test_a_name_leads_to_where_a_host_is_when_the_first_process_asks() -> None:
    with Lab("none x none", delay=0) as lab:
        lab.move("a")
        assert lab.b.run(["getent", "hosts", "a"]).stdout.split()[0] == lab.a.address


def test_ordinary_addresses_look_public_and_work() -> None:
    with Lab("drop x none", delay=0, ordinary_addresses=True) as lab:
        assert ip_address(lab.a.outside).is_global
        with listening(lab.b, lab.b.address, 7001) as listener, tcp_socket(lab.a) as dialler:
            dialler.connect((lab.b.address, 7001))
            accepted, peer = listener.accept()
            accepted.close()
            assert peer[0] == lab.a.outside


def test_a_lab_that_is_not_up_says_so() -> None:
    lab = Lab("drop x none")
    with pytest.raises(ValueError, match="not up"):
        lab.host("a")
    with pytest.raises(ValueError, match="not up"):
        lab.cut("a")
    with lab:
        assert lab.host("a") is lab.a
        with pytest.raises(RuntimeError, match="already up"):
            lab.__enter__()
        lab.move("a")
    with lab:  # and comes up again, as it was
        assert lab.a.outside == "198.51.100.2"
        assert fate_of_a_syn(lab.a, lab.server.address, 9) == "ECONNREFUSED"


def test_a_wire_that_dies_is_told_at_the_end() -> None:
    lab = Lab("none x none", delay=0)
    lab.__enter__()
    assert lab._wire is not None
    lab._wire._process.kill()
    lab._wire._process.wait(5)
    with pytest.raises(WireError, match="ended by itself"):
        lab.close()
    assert lab._places == {}


def test_vnet_needs_tun_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midair.lab.wire.interfaces.can_open_tun", lambda: False)
    with pytest.raises(LabUnavailable, match="/dev/net/tun"):
        Lab("none x none", vnet=True).__enter__()


def test_without_tun_there_is_a_lab_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midair.lab.wire.interfaces.can_open_tun", lambda: False)
    with Lab("drop x kernel:cone", delay=0) as lab:
        for host in (lab.a, lab.b):
            with listening(lab.server, lab.server.address, 7001) as listener, tcp_socket(host) as dialler:
                dialler.connect((lab.server.address, 7001))
                accepted, _ = listener.accept()
                with accepted:
                    talk(dialler, accepted)


def network_of(sock: socket.socket) -> bytes:
    so_netns_cookie = 71  # asm-generic/socket.h
    return sock.getsockopt(socket.SOL_SOCKET, so_netns_cookie, 8)


def test_a_socket_made_inside_stays_inside_and_others_outside() -> None:
    with Lab("none x none", delay=0) as lab, socket.socket() as before:
        with lab.a.entered():
            inside = socket.socket()
        with inside, tcp_socket(lab.a) as dialler, tcp_socket(lab.b) as other, socket.socket() as after:
            assert network_of(inside) == network_of(dialler)
            assert network_of(before) == network_of(after)
            assert len({network_of(sock) for sock in (inside, other, after)}) == 3
