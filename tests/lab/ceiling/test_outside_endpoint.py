"""What can be known of the next outside endpoint behind NATs in a row."""

from __future__ import annotations

import pytest

from midair.lab import parse_topology
from midair.lab.ceiling.outside import Outside, outside_of
from midair.lab.ceiling.ways import ways


def of(side: str, *, held: bool = True) -> Outside:
    way = next(iter(ways(parse_topology(f"{side} x none"))))
    return outside_of(way.a, held=held)


@pytest.mark.parametrize("side", ["none", "firewall", "drop", "unpaired", "drop>carrier", "overloading", "restricted"])
def test_it_is_the_one_the_server_sees_when_all_map_independently_of_the_destination(side: str) -> None:
    assert of(side).known


@pytest.mark.parametrize(
    ("side", "ports", "counts"),
    [
        ("symmetric", 64512, False),
        ("symmetric-band", 251, False),
        ("symmetric-parity", 32256, False),
        ("symmetric-blocks", 512, False),
        ("symmetric-sequential", 1, True),
        ("drop>symmetric", 64512, False),
        ("symmetric>drop", 64512, False),
        ("symmetric-sequential>drop", 1, True),
        ("symmetric>symmetric-sequential", 1, True),
        ("symmetric-sequential>symmetric-band", 251, False),
        ("symmetric-sequential>carrier", 512, False),
    ],
)
def test_the_outermost_nat_that_does_not_keep_the_port_decides_where_it_is_from(
    side: str, ports: int, counts: bool
) -> None:
    outside = of(side)
    assert not outside.known
    assert (outside.counting is not None) == counts
    if not counts:
        assert outside.ports == ports


def test_a_mapping_for_each_destination_that_keeps_ports_finds_its_port_taken_by_the_server_s_connection() -> None:
    side = "drop,mapping=address-and-port-dependent"
    assert of(side).counting is not None
    assert of(side, held=False).known
    assert of(f"{side},rule=preserving").known


def test_lines_to_several_providers_have_different_addresses_for_different_destinations() -> None:
    outside = of("drop,addresses=3,pooling=by-destination")
    assert (outside.known, outside.ports, outside.choices) == (False, 1, 3)
