"""What is particular to some Linux routers, and what routers are asked."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest
from kernel_site import (
    Site,
    connected,
    eventually,
    fates,
    icmp_types,
    listening,
    outcomes,
    raw_socket,
    received,
    site,
    start_dialling,
    tcp_socket,
)

from midair.lab.blueprint import Interface, KernelPart
from midair.lab.description import KernelKind
from midair.lab.kernel import SynCounts, behaviour_of, configure, connection_table, evidence, read_syn_counts, router
from midair.lab.kernel.rules import ruleset
from midair.lab.namespace import Namespace

pytestmark = pytest.mark.lab


def segment_size_seen_outside(place: Site) -> int:
    """The MSS option of a SYN from inside."""
    with (
        listening(place.server, 7001) as listener,
        raw_socket(place.server, socket.IPPROTO_TCP) as arriving,
        tcp_socket(place.a) as dialler,
    ):
        accepted, _ = connected(dialler, listener, place.server.address)
        accepted.close()
        syn = next(packet for packet in received(arriving) if packet[33] == 0x02)
    assert syn[40:42] == b"\x02\x04"  # the option is the first one
    return int.from_bytes(syn[42:44], "big")


def ping(place: Namespace, address: str) -> bool:
    """Whether an echo request is answered."""
    request = struct.pack("!BBHHH", 8, 0, 0, 7, 1)
    checksum = ~sum(struct.unpack("!4H", request)) & 0xFFFF
    with raw_socket(place, socket.IPPROTO_ICMP) as sock:
        sock.sendto(request[:2] + struct.pack("!H", checksum) + request[4:], (address, 0))
        return eventually(lambda: (0, 0) in icmp_types(received(sock)))


def test_openwrt_drops_syns_beyond_its_limit_instead_of_refusing_them() -> None:
    with site(KernelKind.OPENWRT) as place:
        found = fates([(place.server, place.a.outside, 999)] * 200, ["silence"] * 200)
        assert place.counts().refused == 200
    refused = found.count("ECONNREFUSED")
    assert 50 <= refused < 75  # 50 at once, and 25 a second after that
    assert found.count("silence") == 200 - refused


def test_openwrt_cuts_the_segment_size_to_the_mtu_outside_and_others_do_not() -> None:
    for kind, expected in ((KernelKind.OPENWRT, 1360), (KernelKind.MASQUERADE_DROP, 1460)):
        with site(kind) as place:
            assert place.router.run(["ip", "link", "set", "wan", "mtu", "1400"]).returncode == 0
            assert segment_size_seen_outside(place) == expected


def test_openwrt_answers_an_echo_request() -> None:
    with site(KernelKind.OPENWRT) as place:
        assert ping(place.server, place.a.outside)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("kind", [KernelKind.MASQUERADE_REJECT_ICMP, KernelKind.FIREWALL_ICMP])
def test_every_syn_is_answered_by_icmp_however_fast_they_come(kind: KernelKind, version: int) -> None:
    """The kernel's own limit, six and then one a second, is off."""
    with site(kind) as place:
        address = place.a.outside if version == 4 else place.a.addresses6[0]
        expected = ["ECONNREFUSED"] * 100
        assert fates([(place.server, address, 999)] * 100, expected) == expected
        assert place.counts().refused == 100  # so none needed the kernel's repetition


def test_the_counters_tell_outgoing_incoming_and_refused_syns_apart() -> None:
    with site(KernelKind.MASQUERADE_DROP) as place:
        with listening(place.server, 7001) as listener, tcp_socket(place.a, 40001) as dialler:
            accepted, _ = connected(dialler, listener, place.server.address)
            accepted.close()
        assert fates([(place.server, place.a.outside, 999)] * 2, ["silence"] * 2) == ["silence"] * 2
        with tcp_socket(place.a, 40002) as a, tcp_socket(place.proxy, 40003) as proxy:
            start_dialling(a, place.proxy.address, 40003)
            start_dialling(proxy, place.a.outside, 40002)
            assert outcomes([a, proxy], ["connected"] * 2) == ["connected"] * 2
        assert place.counts() == SynCounts(outgoing=2, incoming=3, refused=2)


def test_setting_a_router_up_again_begins_anew() -> None:
    with site(KernelKind.CONE) as place:
        assert fates([(place.server, place.a.outside, 999)], ["silence"]) == ["silence"]
        assert place.counts().refused == 1
        configure(place.router, place.part)
        assert place.counts() == SynCounts(outgoing=0, incoming=0, refused=0)


def test_the_table_is_the_same_read_from_proc_and_through_conntrack(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        site(KernelKind.MASQUERADE_DROP) as place,
        listening(place.server, 7001) as listener,
        tcp_socket(place.a, 40001) as dialler,
    ):
        accepted, _ = connected(dialler, listener, place.server.address)
        accepted.close()
        tables = [connection_table(place.router)]
        monkeypatch.setattr(evidence, "_TABLE_FILE", "/proc/thread-self/net/not-there")
        tables.append(connection_table(place.router))
        monkeypatch.setattr(evidence, "find_program", lambda name: None)
        with pytest.raises(OSError, match="apt-get install conntrack"):
            connection_table(place.router)
    for table in tables:
        (entry,) = (line for line in table.splitlines() if "sport=40001" in line)
        assert f"src={place.a.address} dst={place.server.address} sport=40001 dport=7001" in entry
        assert f"src={place.server.address} dst={place.a.outside} sport=7001 dport=40001" in entry


def test_without_nft_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router, "find_program", lambda name: None)
    part = KernelPart(name="r", kind=KernelKind.CONE, interfaces=(Interface(name="wan", addresses=()),))
    with Namespace("r") as namespace, pytest.raises(OSError, match="apt-get install nftables"):
        configure(namespace, part)


def test_rules_that_nft_refuses_are_an_error_with_its_words() -> None:
    part = KernelPart(
        name="nat_a",
        kind=KernelKind.MASQUERADE_DROP,
        interfaces=(Interface(name='w"n', addresses=()), Interface(name="lan0", addresses=())),
    )
    with Namespace("r") as namespace, pytest.raises(OSError, match=r"rules of nat_a .*masquerade-drop.*syntax error"):
        configure(namespace, part)


def test_a_namespace_without_rules_has_no_counters() -> None:
    with Namespace("empty") as namespace, pytest.raises(OSError, match="counters of empty"):
        read_syn_counts(namespace)


def test_a_router_that_turns_packets_around_has_to_know_its_address() -> None:
    with pytest.raises(ValueError, match="outside address"):
        ruleset(KernelKind.CONE_HAIRPIN)


def test_every_kind_has_a_behaviour_and_only_firewalls_do_not_translate() -> None:
    plain = {kind for kind in KernelKind if not behaviour_of(kind).translates}
    assert plain == {kind for kind in KernelKind if kind.startswith("firewall")}


def test_conntrack_settings_are_the_kernels_where_the_kind_says_nothing() -> None:
    def setting(namespace: Namespace, name: str) -> int:
        with namespace.entered():
            return int(Path(f"/proc/sys/net/netfilter/nf_conntrack_{name}").read_text())

    with site(KernelKind.MASQUERADE_DROP) as plain, site(KernelKind.OPENWRT) as openwrt:
        for place in (plain, openwrt):
            assert setting(place.router, "tcp_be_liberal") == 0
            assert setting(place.router, "tcp_timeout_syn_sent") == 120
        assert setting(plain.router, "tcp_timeout_established") == 432000
        assert setting(openwrt.router, "tcp_timeout_established") == 7440
