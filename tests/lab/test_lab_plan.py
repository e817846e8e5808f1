"""What is drawn from a topology is a network in which every packet finds its way, and only the way it should."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midair.lab.addresses import MOST_PAIRS, PROXY_ADDRESSES, SERVER_ADDRESSES
from midair.lab.blueprint import HostPart, KernelPart, NatPart
from midair.lab.catalogue import parse_topology
from midair.lab.chart import Chart
from midair.lab.description import ACCESS_LINK, SERVER_LINK
from midair.lab.plan import INTERNET, PROXY, SERVER, draw

if TYPE_CHECKING:
    from midair.lab.blueprint import Blueprint, Interface, Route
    from midair.lab.chart import Mover

CHAINS = ["none", "drop", "firewall", "drop>carrier", "firewall>drop", "drop>firewall", "drop>drop>carrier"]
KERNEL_CHAINS = ["kernel:cone", "kernel:firewall-drop>kernel:masquerade-drop", "drop>kernel:cone"]
SHARED = ["drop", "carrier", "firewall", "drop>carrier", "kernel:cone", "kernel:firewall-rst"]

chain_texts = st.sampled_from([*CHAINS, *KERNEL_CHAINS])
side_texts = st.one_of(chain_texts, st.builds("({} & {})".format, chain_texts, chain_texts))
topology_texts = st.builds(
    "{}{}".format,
    st.one_of(
        st.builds("{} x {}".format, side_texts, side_texts),
        st.builds("({} + {}) > {}".format, side_texts, side_texts, st.sampled_from(SHARED)),
    ),
    st.sampled_from(["", " with ipv6"]),
)


def drawn(*texts: str, ordinary_addresses: bool = False) -> Blueprint:
    return draw([parse_topology(text) for text in texts], ordinary_addresses=ordinary_addresses)


def host(blueprint: Blueprint, name: str) -> HostPart:
    (found,) = (host for host in blueprint.hosts if host.name == name)
    return found


def nat(blueprint: Blueprint, name: str) -> NatPart:
    (found,) = (nat for nat in blueprint.nats if nat.name == name)
    return found


def own(interface: Interface) -> list[str]:
    return [str(ip_interface(address).ip) for address in interface.addresses]


class Walker:
    """Follows a packet that nobody translates or filters, by the routes alone."""

    def __init__(self, blueprint: Blueprint) -> None:
        self.far: dict[tuple[str, int], tuple[str, int]] = {}
        for cable in blueprint.cables:
            for one, other in (
                ((cable.node, cable.port), (cable.other_node, cable.other_port)),
                ((cable.other_node, cable.other_port), (cable.node, cable.port)),
            ):
                assert one not in self.far, "two cables in one port"
                self.far[one] = other
        self.addresses: dict[str, list[str]] = {host.name: [] for host in blueprint.hosts}
        for host_part in blueprint.hosts:
            for interface in host_part.interfaces:
                self.addresses[host_part.name] += own(interface)
        self.routes: dict[str, list[Route]] = {router.name: [*router.routes] for router in blueprint.routers}
        for nat_part in blueprint.nats:
            self.routes[nat_part.name] = [*nat_part.routes, ("0.0.0.0/0", 0), ("::/0", 0)]
            self.addresses[nat_part.name] = [*nat_part.outside]
        for kernel in blueprint.kernels:
            self.routes[kernel.name] = kernel_routes(kernel)
            self.addresses[kernel.name] = own(kernel.interfaces[0])
        assert {node for node, _ in self.far} == {*self.routes, *(host.name for host in blueprint.hosts)}

    def end(self, node: str, port: int, address: str) -> tuple[str, int]:
        """Where a packet ends that leaves by a port; ("", 0) when nobody knows where to."""
        for _ in range(20):
            node, port = self.far[node, port]
            if address in self.addresses.get(node, ()) or node not in self.routes:
                return node, port
            matching = [
                (ip_network(prefix).prefixlen, way)
                for prefix, way in self.routes[node]
                if ip_address(address) in ip_network(prefix)
            ]
            if not matching:
                return "", 0
            assert len(matching) == len(set(matching)), "two equal routes"
            port = max(matching)[1]
        return "goes round in circles", 0


def kernel_routes(kernel: KernelPart) -> list[Route]:
    """As Linux has them: those of the networks an interface is in, too."""
    return [
        (prefix, port)
        for port, interface in enumerate(kernel.interfaces)
        for prefix in (*interface.routes, *(str(ip_interface(address).network) for address in interface.addresses))
        if port == 0 or prefix not in (f"{address}/{bits}" for address in own(interface) for bits in (32, 128))
    ]


@settings(deadline=None)
@given(topology_texts)
def test_every_host_reaches_the_server_and_is_reached_at_its_own_and_its_outside_addresses(text: str) -> None:
    blueprint = drawn(text)
    walker = Walker(blueprint)
    translators = {nat.name for nat in blueprint.nats if nat.behaviour.translates}
    translators |= {kernel.name for kernel in blueprint.kernels if "firewall" not in kernel.kind}
    ipv6 = "ipv6" in text
    for place in (host(blueprint, "a"), host(blueprint, "b")):
        assert ip_address(place.outside).version == 4
        outside, _ = walker.end(SERVER, 0, place.outside)
        assert outside == place.name or outside in translators
        for port, interface in enumerate(place.interfaces):
            for address in (*SERVER_ADDRESSES, *PROXY_ADDRESSES):
                expected = SERVER if address in SERVER_ADDRESSES else PROXY
                if ipv6 or ":" not in address:
                    assert walker.end(place.name, port, address) == (expected, 0)
            # From the innermost box out, everybody who is in front of it knows the way in.
            for address in own(interface):
                box, box_port = walker.far[place.name, port]
                for _ in range(10):
                    assert walker.end(*walker.far[box, box_port], address) == (place.name, port)
                    if box == INTERNET or (box in translators and ":" not in address):
                        break
                    box, box_port = walker.far[box, 0]
            assert len(interface.addresses) == (2 if ipv6 else 1)


@settings(deadline=None)
@given(topology_texts, topology_texts)
def test_no_address_is_there_twice_within_a_pair_and_no_public_one_within_a_lab(one: str, other: str) -> None:
    blueprint = drawn(one, other)
    count: Counter[str] = Counter()
    public: Counter[str] = Counter()
    for place in blueprint.hosts:
        pair = place.name.lstrip("ab").partition(".")[0]
        for interface in place.interfaces:
            count.update(f"{pair} {address}" for address in own(interface))
            public.update(address for address in own(interface) if not private(address))
    for box in blueprint.nats:
        pair = box.name.lstrip("shared").partition(".")[0]
        count.update(f"{pair} {address}" for address in (*box.outside, *box.inside))
        public.update(address for address in (*box.outside, *box.inside) if not private(address))
    assert max(count.values()) == max(public.values()) == 1


@settings(deadline=None)
@given(topology_texts, st.sampled_from("ab"), st.integers(0, 1), st.integers(1, 40))
def test_a_host_that_moves_is_elsewhere_and_found_there(text: str, name: str, interface: int, times: int) -> None:
    before = drawn(text)
    interface = min(interface, len(host(before, name).interfaces) - 1)
    chart, after = Chart(before), before
    try:
        for _ in range(times):
            for part in chart.moved(name, interface):
                chart.update(part)
                after = with_part(after, part)
    except ValueError:
        assert "carrier" in text  # whose four addresses are more than half of a small network
        return
    old, new = host(before, name), host(after, name)
    walker = Walker(after)
    for port, (was, is_now) in enumerate(zip(old.interfaces, new.interfaces, strict=True)):
        assert len(is_now.addresses) == len(was.addresses)
        if port != interface:
            assert is_now == was
        elif times == 1:
            assert not set(own(is_now)) & set(own(was))
        for address in own(is_now):
            assert walker.end(*walker.far[walker.far[name, port]], address) == (name, port)
    assert walker.end(SERVER, 0, new.outside) == Walker(before).end(SERVER, 0, old.outside)
    assert Chart(after).addresses_from("b" if name == "a" else "a", name)[0] in (new.outside, own(new.interfaces[0])[0])


def with_part(blueprint: Blueprint, part: Mover) -> Blueprint:
    match part:
        case NatPart():
            return replace(blueprint, nats=tuple(part if old.name == part.name else old for old in blueprint.nats))
        case HostPart():
            return replace(blueprint, hosts=tuple(part if old.name == part.name else old for old in blueprint.hosts))
        case KernelPart():
            return replace(
                blueprint, kernels=tuple(part if old.name == part.name else old for old in blueprint.kernels)
            )


def private(address: str) -> bool:
    return address.startswith(("10.", "100."))


def test_a_home_nat_has_a_private_network_behind_it_and_a_carrier_one_of_rfc_6598() -> None:
    blueprint = drawn("drop x drop>carrier")
    assert host(blueprint, "a").interfaces[0].addresses == ("10.1.0.2/24",)
    assert host(blueprint, "b").interfaces[0].addresses == ("10.2.0.2/24",)
    assert nat(blueprint, "a.1").outside == ("198.51.100.2",)
    assert nat(blueprint, "b.1").outside == ("100.66.0.2",)
    assert nat(blueprint, "b.2").outside == tuple(f"203.0.113.{number}" for number in (2, 3, 4, 5))
    assert host(blueprint, "a").outside == "198.51.100.2"
    assert host(blueprint, "b").outside == "203.0.113.2"


def test_a_firewall_has_a_public_network_behind_it() -> None:
    blueprint = drawn("firewall x none")
    (address,) = own(host(blueprint, "a").interfaces[0])
    assert address == host(blueprint, "a").outside
    assert not private(address)
    assert address != nat(blueprint, "a.1").outside[0]


def test_hosts_on_one_lan_are_in_one_network() -> None:
    blueprint = drawn("(none + none) > drop with ipv6")
    a, b = (host(blueprint, name).interfaces[0] for name in "ab")
    for mine, theirs in zip(a.addresses, b.addresses, strict=True):
        assert ip_interface(mine).network == ip_interface(theirs).network
    assert host(blueprint, "a").outside == host(blueprint, "b").outside == "198.51.100.2"


def test_two_homes_behind_one_carrier_are_in_its_network() -> None:
    blueprint = drawn("(drop + drop) > carrier")
    one, other = nat(blueprint, "a.1").outside[0], nat(blueprint, "b.1").outside[0]
    assert one.startswith("100.65.0.")
    assert other.startswith("100.65.0.")
    assert Walker(blueprint).end("a.1", 0, other) == ("b.1", 0)


def test_a_second_interface_has_its_own_way_out() -> None:
    blueprint = drawn("(drop & mobile>carrier) x none")
    first, second = host(blueprint, "a").interfaces
    assert (first.name, second.name) == ("eth0", "eth1")
    walker = Walker(blueprint)
    assert walker.far["a", 0] == ("a.1", 1)
    assert walker.far["a", 1] == ("a.second.1", 1)
    assert walker.far["a.second.1", 0] == ("a.second.2", 1)
    assert walker.far["a.second.2", 0][0] == INTERNET


def test_a_side_s_link_is_outside_of_its_outermost_box_and_nothing_else_delays() -> None:
    blueprint = drawn("drop>carrier x none with a.delay=0.1")
    links = {(cable.node, cable.other_node): cable.there for cable in blueprint.cables}
    assert links["a.2", INTERNET].delay == 0.1
    assert links["b", INTERNET] == ACCESS_LINK
    assert links[SERVER, INTERNET] == links[PROXY, INTERNET] == SERVER_LINK
    assert {link.delay for ends, link in links.items() if INTERNET not in ends} == {0.0}


def test_behind_a_shared_box_the_links_of_the_sides_end_there() -> None:
    blueprint = drawn("(drop + none) > carrier with b.delay=0.3")
    links = {(cable.node, cable.other_node): cable.there.delay for cable in blueprint.cables}
    assert links["a.1", "shared.1"] == ACCESS_LINK.delay
    assert links["b", "shared.1"] == 0.3
    assert links["shared.1", INTERNET] == 0


def test_without_ipv6_nobody_has_any() -> None:
    assert "::" not in str(drawn("drop>carrier x kernel:cone"))


def test_several_pairs_are_numbered_and_share_the_server() -> None:
    blueprint = drawn("drop x none", "none x rst")
    assert [place.name for place in blueprint.hosts] == ["server", "proxy", "a0", "b0", "a1", "b1"]
    assert [box.name for box in blueprint.nats] == ["a0.1", "b1.1"]
    assert Walker(blueprint).end("a0", 0, host(blueprint, "b1").outside) == ("b1.1", 0)


def test_there_is_room_for_512_pairs_and_no_more() -> None:
    topology = parse_topology("drop x drop")
    blueprint = draw([topology] * MOST_PAIRS)
    outsides = {box.outside[0] for box in blueprint.nats}
    assert len(outsides) == 2 * MOST_PAIRS
    ranges = [ip_network(text) for text in ("198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15")]
    assert all(any(ip_address(outside) in network for network in ranges) for outside in outsides)
    with pytest.raises(ValueError, match="room for 512 pairs"):
        draw([topology] * (MOST_PAIRS + 1))


def test_ordinary_addresses_are_in_no_reserved_range() -> None:
    blueprint = drawn("drop x none", "none x drop", ordinary_addresses=True)
    for place in blueprint.hosts[2:]:
        assert ip_address(place.outside).is_global


def test_pairs_that_disagree_about_the_server_s_link_are_refused() -> None:
    with pytest.raises(ValueError, match="one server for all"):
        drawn("none x none", "none x none with server.delay=1")


def test_a_lab_without_topologies_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        draw([])


def test_what_has_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="four public networks"):
        drawn("firewall>firewall>firewall>firewall x none")
    with pytest.raises(ValueError, match="room for 13 outside addresses, not for 20"):
        drawn("(none + drop,addresses=20) > firewall")
