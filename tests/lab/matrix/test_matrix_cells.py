"""Which cells there are."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from enum import Enum

import pytest

from midair.lab import BOXES, KernelKind, NatBehaviour, Topology, parse_topology
from midair.lab.matrix import cells_like, full_cells, quick_cells

QUICK = quick_cells()
TOPOLOGIES = list(dict.fromkeys(cell.topology for cell in QUICK))


def boxes_of(topology: Topology) -> list[NatBehaviour | KernelKind]:
    sides = (topology.a, topology.b)
    chains = [topology.shared, *(side.boxes for side in sides), *(side.second or () for side in sides)]
    return [box.kind for chain in chains for box in chain]


def test_the_quick_matrix_has_over_a_hundred_pairs_with_linux_routers_and_with_the_lab_s_own_nats() -> None:
    kernel = {cell.topology for cell in QUICK if cell.is_kernel}
    assert len(kernel) > 30
    assert len(TOPOLOGIES) - len(kernel) > 100


def test_the_quick_matrix_has_every_box_of_the_catalogue_and_every_linux_router_at_least_twice() -> None:
    counts = Counter(kind for topology in TOPOLOGIES for kind in boxes_of(topology))
    assert {name for name, behaviour in BOXES.items() if counts[behaviour] < 2} == set()
    assert {kind for kind in KernelKind if counts[kind] < 2} == set()


def _values(behaviour: NatBehaviour) -> set[tuple[str, Enum]]:
    """Of its knobs that have names for values."""
    return {
        (field.name, value)
        for group in (behaviour, behaviour.allocation)
        for field in fields(group)
        if isinstance(value := getattr(group, field.name), Enum)
    }


def test_the_quick_matrix_has_every_value_of_every_knob() -> None:
    behaviours = [kind for topology in TOPOLOGIES for kind in boxes_of(topology) if isinstance(kind, NatBehaviour)]
    there = set().union(*map(_values, behaviours))
    possible = {(knob, value) for knob, default in _values(NatBehaviour()) for value in type(default)}
    assert possible - there == set()
    for name in ("rewrites_payload", "decrements_ttl", "only_ports", "only_addresses"):
        assert len({getattr(behaviour, name) for behaviour in behaviours}) > 1, name
    for group in ("timers", "limits"):
        assert len({getattr(behaviour, group) for behaviour in behaviours}) > 2, group


@pytest.mark.parametrize(
    "topology",
    [
        "drop>carrier x drop>carrier",
        "(none + none) > hairpin",
        "(drop + drop) > carrier",
        "(drop & mobile) x drop",
        "symmetric x symmetric with ipv6",
        "kernel:firewall-drop x kernel:firewall-drop with ipv6",
    ],
)
def test_there_are_rows_of_nats_shared_ones_several_interfaces_and_ipv6(topology: str) -> None:
    assert parse_topology(topology) in TOPOLOGIES


def test_each_cell_is_there_once_with_each_skew() -> None:
    assert len(set(map(str, QUICK))) == len(QUICK) == 2 * len(TOPOLOGIES)
    assert [cell.skew for cell in quick_cells((0.05,))] == [0.05] * len(TOPOLOGIES)


def test_the_full_matrix_has_all_pairs_of_all_boxes_and_what_the_quick_one_has_beyond_pairs() -> None:
    full = {cell.topology for cell in full_cells()}
    boxes = 1 + len(BOXES) + len(KernelKind)
    assert len(full) > boxes * (boxes + 1) // 2
    mirrored = {Topology(a=topology.b, b=topology.a) for topology in full}
    assert set(TOPOLOGIES) <= full | mirrored


def test_a_pattern_picks_cells_of_the_full_matrix() -> None:
    names = {str(cell.topology) for cell in cells_like("drop x kernel:*", (0.0,))}
    assert names == {f"drop x kernel:{kind}" for kind in KernelKind}


def test_a_topology_that_is_in_no_matrix_is_a_cell_of_its_own() -> None:
    (cell,) = cells_like("drop,opening=7 x rst>rst", (0.0,))
    assert str(cell.topology) == "drop,opening=7.0 x rst>rst"


def test_a_pattern_that_nothing_is_like_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match="no cell of the full matrix is like 'nonsense', and it is no topology"):
        cells_like("nonsense")
