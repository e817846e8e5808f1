"""What a person allows is what happens on the wire: families and ports, between real hosts behind NATs."""

from __future__ import annotations

import json

import pytest

from midair.config import TraversalOptions
from midair.endpoint import Endpoint
from midair.lab import Lab
from midair.trials.real import connect_all, serving

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]


def addresses(story: tuple[str, ...]) -> set[Endpoint]:
    """Every remote that was dialled or came, and the one that was chosen."""
    told = [json.loads(line.partition(" ")[2]) for line in story]
    return {Endpoint.parse(each["remote"]) for each in told if "remote" in each}


@pytest.mark.parametrize("families", [(4,), (6,)])
def test_only_addresses_of_the_wanted_family_are_used(families: tuple[int, ...]) -> None:
    options = TraversalOptions(families=(4,) if families == (4,) else (6,), policy="direct")
    with Lab("drop x drop with ipv6") as lab, serving(lab) as server:
        (result,) = connect_all(lab, server, lab.pairs, options=options)
    assert result.direct, result
    for side in (result.a, result.b):
        assert {each.family for each in addresses(side.story)} == set(families)


def test_both_sides_ports_are_in_the_range_they_were_given() -> None:
    options = TraversalOptions(local_port=(50_000, 50_009), policy="direct")
    with Lab("drop x rst") as lab, serving(lab) as server:
        (result,) = connect_all(lab, server, lab.pairs, options=options)
    assert result.direct, result
    for side in (result.a, result.b):
        # These NATs keep ports, so the other side's is seen as it is.
        assert {each.port for each in addresses(side.story)} == {50_000}
